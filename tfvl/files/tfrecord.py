"""Reads and writes TFRecord files, framed and checked as in TensorFlow, with an index beside them for random access.

The index, `<file>.index`, is JSON: the size of the TFRecord file, and the ids and offsets of its records.
Source of the framing: tensorflow/core/lib/io/record_writer.h.
"""

import io
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import google_crc32c

from tfvl.files.reading import open_regular, parse_json, read_file

HEADER, CRC = struct.Struct("<QI"), struct.Struct("<I")
MAX_RECORD_BYTES = 1 << 28
MAX_INDEX_BYTES = 1 << 28
MAX_INDEX_VALUES = 1 << 23  # ids, offsets and other values of all records together
LEAST_BYTES_PER_VALUE = 4  # of the TFRecord file for each value of its index, which has a few values for each record


def index_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.index")


def framed(payload: bytes) -> bytes:
    """Frames a record as a TFRecord file holds it: length, checksums and payload."""
    length = struct.pack("<Q", len(payload))
    return length + CRC.pack(masked_crc(length)) + payload + CRC.pack(masked_crc(payload))


def masked_crc(content: bytes) -> int:
    """Computes the CRC-32C, rotated and with an offset, as the TFRecord format requires."""
    return masked(google_crc32c.value(content))


def masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_record(descriptor: int, offset: int, limit: int = MAX_RECORD_BYTES) -> bytes:
    """Reads the payload of the record at `offset` of an opened file, without moving its position.

    Raises:
        ValueError: the record is damaged, the file ends within it, or it has more than `limit` bytes.
    """
    rest = os.fstat(descriptor).st_size - offset - HEADER.size - CRC.size
    length = _length(os.pread(descriptor, HEADER.size, offset), min(limit, rest))
    return _payload(os.pread(descriptor, length + CRC.size, offset + HEADER.size), length)


def read_records(path: Path, limit: int = MAX_RECORD_BYTES) -> Iterator[bytes]:
    """Yields the payloads of a TFRecord file in order. Raises OSError, or ValueError as `read_record` does."""
    with open_regular(path) as raw, io.BufferedReader(raw) as file:
        size = os.fstat(raw.fileno()).st_size
        while header := file.read(HEADER.size):
            length = _length(header, limit)
            if length + CRC.size > size - file.tell():
                raise ValueError("the file ends within the record")
            yield _payload(file.read(length + CRC.size), length)


def _length(header: bytes, limit: int) -> int:
    if len(header) < HEADER.size:
        raise ValueError("the file ends within the record")
    length, crc = HEADER.unpack(header)
    if crc != masked_crc(header[:8]):
        raise ValueError("the record's length is damaged (its checksum does not fit)")
    if length > limit:
        raise ValueError(f"the record claims {length} bytes, at most {limit} are possible")
    return length


def _payload(content: bytes, length: int) -> bytes:
    if len(content) < length + CRC.size:
        raise ValueError("the file ends within the record")
    payload = content[:length]
    if CRC.unpack(content[length:])[0] != masked_crc(payload):
        raise ValueError("the record is damaged (its checksum does not fit)")
    return payload


def write_indexed(path: Path, index: Path, records: Iterable[tuple[str, bytes]], **more: Any) -> int:
    """Writes records with distinct ids, given as (id, payload), and their index; returns their number.

    Args:
        path, index: the files to be written.
        records: the records, in the order of the file.
        **more: other entries of the index, JSON values; they are read when all records are written.
    """
    ids, offsets = [], []
    with open(path, "wb") as file:
        for name, payload in records:
            ids.append(name)
            offsets.append(file.tell())
            file.write(framed(payload))
        size = file.tell()
    index.write_text(json.dumps({"size": size, "ids": ids, "offsets": offsets} | more))
    return len(ids)


def read_index(path: Path) -> Mapping[str, Any]:
    """Reads the index of a TFRecord file: `ids` (texts), `offsets`, and the other entries that were written.

    Raises:
        ValueError: the file or its index is missing, or the index is damaged or belongs to another file.
    """
    index = index_path(path)
    if not path.is_file() or not index.is_file():
        raise ValueError(f"{path} or its index {index.name} is missing; copy it too, or write the file again.")
    size, text = os.path.getsize(path), read_file(index, MAX_INDEX_BYTES)
    try:
        content = parse_json(text, max_values=min(size // LEAST_BYTES_PER_VALUE + 64, MAX_INDEX_VALUES))
        written, ids, offsets = content["size"], content["ids"], content["offsets"]
        sound = type(ids) is type(offsets) is list and len(ids) == len(offsets)
        sound = sound and all(isinstance(name, str) for name in ids)
        sound = sound and all(type(offset) is int and 0 <= offset < written for offset in offsets)
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise ValueError(f"{index}: damaged, or not an index; write the file again.")
    if written != size:
        raise ValueError(f"{path}: it has {size} bytes, its index was written for {written}: truncated or replaced.")
    return content

"""Checks the variables of a SavedModel against their index: whether all are there, and undamaged.

TensorFlow is not used to read them, because it trusts an index that was made to mislead. The index is a LevelDB table
of names and entries; an entry says in which file, at which offset, a tensor lies, and has a checksum of it.
Sources: tensorflow/core/lib/io/format.cc, block.cc; tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf import tensor_bundle_pb2

from tfvl.files.reading import open_regular, read_file
from tfvl.files.tfrecord import masked

INDEX = Path("variables") / "variables.index"
MAX_INDEX_BYTES = 1 << 26
READ_BYTES = 1 << 20
SHOWN = 3  # problems of one kind
_MAGIC, _FOOTER_BYTES, _TRAILER = 0xDB4775248B80FB57, 48, struct.Struct("<BI")
_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")


def problems(directory: Path, meta_graph: Message) -> list[str]:
    """Returns a sentence for each thing that is missing or damaged, but at most `SHOWN` of a kind."""
    needed = restored_names(meta_graph.graph_def)
    has_variables = bool(needed) or any(node.op in _VARIABLES for node in meta_graph.graph_def.node)
    try:
        entries = read_index(directory / INDEX)
        shards = tensor_bundle_pb2.BundleHeaderProto.FromString(entries.pop("", b"")).num_shards
    except FileNotFoundError:
        return [f"{directory / INDEX} is missing, but the graph has variables"] if has_variables else []
    except (OSError, ValueError, DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return [f"{directory / INDEX} is damaged ({reason})"]
    found = [f"{directory / INDEX} lacks the variable {name}" for name in sorted(needed - entries.keys())]
    return [*_few(found), *_few(_damaged(directory, entries, shards))]


def restored_names(graph: Message) -> set[str]:
    """Returns the names of the tensors that the graph restores from the variables' files."""
    names: set[str] = set()
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            if node.op == "Const" and node.name.endswith("RestoreV2/tensor_names"):
                names |= {name.decode("utf-8", "replace") for name in node.attr["value"].tensor.string_val}
    return names


def _few(found: list[str]) -> list[str]:
    more = len(found) - SHOWN
    return [*found[:SHOWN], *([f"and {more} more of that kind"] if more > 0 else [])]


def _damaged(directory: Path, entries: dict[str, bytes], shards: int) -> list[str]:
    """Returns a sentence for each variable whose content in the files does not match the index."""
    found, files = [], {}
    try:
        for name, value in entries.items():
            entry = tensor_bundle_pb2.BundleEntryProto.FromString(value)
            path = directory / INDEX.with_name(f"variables.data-{entry.shard_id:05d}-of-{shards:05d}")
            try:
                files[path] = files.get(path) or open_regular(path)
                _check_entry(files[path], entry)
            except FileNotFoundError:
                return [f"{path} is missing"]
            except (OSError, ValueError) as error:
                found.append(f"{path}, variable {name[:200]}: {error}")
    except DecodeError:
        found.append(f"{directory / INDEX} is damaged (an entry is none)")
    finally:
        for file in files.values():
            file.close()
    return found


def _check_entry(file, entry: Message) -> None:
    """Raises ValueError if the tensor in the file does not match its entry."""
    size = file.seek(0, 2)
    if entry.slices:  # the tensor is stored in parts, under other entries
        return
    if not 0 <= entry.offset <= entry.offset + entry.size <= size:
        raise ValueError(f"the file has {size} bytes, but it ends at {entry.offset + entry.size}")
    try:
        dtype = tf.as_dtype(entry.dtype)
    except TypeError:
        raise ValueError(f"of the unknown type {entry.dtype}") from None
    if dtype in (tf.variant, tf.resource):  # TensorFlow keeps no checksum of these that can be compared here
        return
    shape = [dim.size for dim in entry.shape.dim]
    count = math.prod(shape)
    if min(shape, default=0) < 0 or (dtype == tf.string and count > entry.size):
        raise ValueError(f"its shape {shape} does not fit its {entry.size} bytes")
    if dtype != tf.string and count * dtype.size != entry.size:
        raise ValueError(f"{dtype.name} {shape} has {count * dtype.size} bytes, but its entry says {entry.size}")
    file.seek(entry.offset)
    crc, left = _of_lengths(file, count, entry.size) if dtype == tf.string else (0, entry.size)
    while left > 0:
        content = file.read(min(left, READ_BYTES))
        if not content:
            raise ValueError("the file ends within it")
        crc, left = google_crc32c.extend(crc, content), left - len(content)
    if masked(crc) != entry.crc32c:
        raise ValueError("damaged (its checksum does not fit)")


def _of_lengths(file, count: int, size: int) -> tuple[int, int]:
    """Returns the checksum of the lengths that precede a tensor's strings, and the number of bytes that follow them."""
    start, crc, total = file.tell(), 0, 0
    content = file.read(size)  # the texts, of which a SavedModel has few
    position = 0
    for _ in range(count):
        length, position = _varint(content, position)
        crc = google_crc32c.extend(crc, struct.pack("<I" if length < 1 << 32 else "<Q", length))
        total += length
    stored = content[position : position + 4]
    if len(stored) < 4 or struct.unpack("<I", stored)[0] != masked(crc) or position + 4 + total != size:
        raise ValueError("damaged (the lengths of its texts)")
    file.seek(start + position + 4)
    return google_crc32c.extend(crc, stored), total


# --- the index -------------------------------------------------------------------------------------------------------


def read_index(path: Path) -> dict[str, bytes]:
    """Reads the entries of an index, serialised, by name; "" is its header.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    content = read_file(path, MAX_INDEX_BYTES)
    footer = content[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise ValueError("it does not end as one")
    _, position = _handle(footer, 0)
    root, _ = _handle(footer, position)
    entries: dict[str, bytes] = {}
    for _, handle in _block(content, *root):
        place, _ = _handle(handle, 0)
        entries |= {name.decode("utf-8", "replace"): value for name, value in _block(content, *place)}
    return entries


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the names and values of a block; a name is stored without the prefix that it shares with the last one."""
    block, trailer = content[offset : offset + size], content[offset + size : offset + size + _TRAILER.size]
    if len(block) < max(size, 4) or len(trailer) < _TRAILER.size:
        raise ValueError("a block ends after the file")
    compression, crc = _TRAILER.unpack(trailer)
    if compression or crc != masked(google_crc32c.value(block + trailer[:1])):
        raise ValueError("the checksum of a block does not fit")
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")  # where the list of full names begins
    position, name = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        rest, position = _varint(block, position)
        length, position = _varint(block, position)
        name = name[:shared] + block[position : position + rest]
        yield name, block[position + rest : position + rest + length]
        position += rest + length


def _handle(content: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Reads the offset and size of a block; returns them, and the position after them."""
    offset, position = _varint(content, position)
    size, position = _varint(content, position)
    return (offset, size), position


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(content):
            raise ValueError("a number ends after its block")
        byte = content[position]
        value, position = value | (byte & 0x7F) << shift, position + 1
        if byte < 0x80:
            return value, position
    raise ValueError("a number without an end")

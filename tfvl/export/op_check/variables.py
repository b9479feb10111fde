"""Checks the variables of a SavedModel against their index: whether all are there, and undamaged.

TensorFlow is not used to read them, because it trusts an index that was made to mislead. The index is a LevelDB table
of names and entries; an entry says in which file, at which offset, a tensor lies, and has a checksum of it.
Sources: tensorflow/core/lib/io/format.cc, block.cc; tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

import itertools
import math
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf import tensor_bundle_pb2

from tfvl.files.reading import bytes_in_holes, open_regular, read_file
from tfvl.files.tfrecord import masked

INDEX = Path("variables") / "variables.index"
MAX_INDEX_BYTES = 1 << 24
MAX_ENTRIES = 100_000  # a model of base size has some hundred
MAX_NAME_BYTES = 1 << 24  # of all names together, written out
MAX_HOLE_BYTES = 1 << 28  # of the files, which would have to be read as zeros
MAX_TEXTS = 1 << 21  # of all string tensors together
MAX_RANK = 254  # of a tensor of TensorFlow's
SHOWN_AXES = 4
READ_BYTES = 1 << 20
SHOWN = 3  # problems of one kind
UNCHECKED = (tf.variant, tf.resource)  # TensorFlow keeps no checksum of these that can be compared here
_MAGIC, _FOOTER_BYTES, _TRAILER = 0xDB4775248B80FB57, 48, struct.Struct("<BI")
_MAX_VARINT_BYTES = 10
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
    try:
        parsed = [(name, tensor_bundle_pb2.BundleEntryProto.FromString(value)) for name, value in entries.items()]
    except DecodeError:
        return [f"{directory / INDEX} is damaged (an entry is none)"]
    found, holes, texts = [], 0, 0
    stored = sorted((each for each in parsed if not each[1].slices), key=_place)  # the others are put together of these
    for shard, group in itertools.groupby(stored, key=lambda each: each[1].shard_id):
        path = directory / INDEX.with_name(f"variables.data-{shard:05d}-of-{shards:05d}")
        try:
            with open_regular(path) as file:
                holes += bytes_in_holes(file, MAX_HOLE_BYTES - holes)
                if holes > MAX_HOLE_BYTES:
                    return [f"{path} has more than {MAX_HOLE_BYTES} bytes that were never written"]
                end, size = 0, file.seek(0, 2)
                for name, entry in group:
                    if entry.size and entry.offset < end:  # else a small file could make any number of bytes to check
                        return [f"{directory / INDEX} is damaged ({name[:200]} lies within another variable)"]
                    end = max(end, entry.offset + entry.size)
                    try:
                        dtype, count = _type_and_count(entry, size)
                        texts += count if dtype == tf.string else 0
                        if texts > MAX_TEXTS:
                            return [f"{path} has more than {MAX_TEXTS} texts, which are not checked"]
                        _check_content(file, entry, dtype, count)
                    except (OSError, ValueError) as error:
                        found.append(f"{path}, variable {name[:200]}: {error}")
        except FileNotFoundError:
            return [f"{path} is missing"]
        except (OSError, ValueError) as error:
            found.append(f"{path}: {error}")
    return found


def _place(named: tuple[str, Message]) -> tuple[int, int, int]:
    return named[1].shard_id, named[1].offset, named[1].size


def _type_and_count(entry: Message, size: int) -> tuple[tf.DType, int]:
    """Returns a tensor's dtype and its number of values. Raises ValueError if it cannot lie in a file of this size."""
    if not 0 <= entry.offset <= entry.offset + entry.size <= size:
        raise ValueError(f"the file has {size} bytes, but it ends at {entry.offset + entry.size}")
    try:
        dtype = tf.as_dtype(entry.dtype)
    except TypeError:
        raise ValueError(f"of the unknown type {entry.dtype}") from None
    if len(entry.shape.dim) > MAX_RANK:
        raise ValueError(f"it has {len(entry.shape.dim)} axes, at most {MAX_RANK}")
    shape = [dim.size for dim in entry.shape.dim]
    count = math.prod(shape)
    fits = count <= entry.size if dtype == tf.string else dtype in UNCHECKED or count * dtype.size == entry.size
    if min(shape, default=0) < 0 or not fits:
        raise ValueError(f"{dtype.name} {shape[:SHOWN_AXES]} does not fit its {entry.size} bytes")
    return dtype, count


def _check_content(file, entry: Message, dtype: tf.DType, count: int) -> None:
    """Raises ValueError if the checksum of the tensor in the file is not that of its entry."""
    if dtype in UNCHECKED:
        return
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
    content = file.read(min(size, count * _MAX_VARINT_BYTES + 4))
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

    def stored() -> Iterator[tuple[bytes, bytes]]:
        end = 0
        for _, handle in _bounded(_block(content, *root)):
            (offset, size), _ = _handle(handle, 0)
            if offset < end:  # else one block could be read any number of times
                raise ValueError("its blocks do not lie one after the other")
            end = offset + size
            yield from _block(content, offset, size)

    return {name.decode("utf-8", "replace"): value for name, value in _bounded(stored())}


def _bounded(entries: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yields the entries. Raises ValueError where they are more than `MAX_ENTRIES`, or `MAX_NAME_BYTES` of names."""
    name_bytes = 0
    for number, (name, value) in enumerate(entries):
        name_bytes += len(name)
        if number == MAX_ENTRIES or name_bytes > MAX_NAME_BYTES:
            raise ValueError(f"it has more than {MAX_ENTRIES} entries, or {MAX_NAME_BYTES} bytes of names")
        yield name, value


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

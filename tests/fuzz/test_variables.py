"""Indexes of variables that once made `check` and loading work without bound; each is refused within limits."""

import struct

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf
from support.limited import refused
from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

from tfvl.export.op_check.variables import INDEX, read_index
from tfvl.files.tfrecord import masked

DATA = INDEX.with_name("variables.data-00000-of-00001")
HEADER = (0, b"", BundleHeaderProto(num_shards=1).SerializeToString())


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def block(entries) -> bytes:
    """Makes a block of entries, each the number of shared characters, the rest of the name, and the value."""
    each = (varint(shared) + varint(len(name)) + varint(len(value)) + name + value for shared, name, value in entries)
    return b"".join(each) + struct.pack("<II", 0, 1)


def table(entries, repeated: int = 1) -> bytes:
    """Makes an index of one block of entries, which is named `repeated` times."""
    ends = lambda content: content + b"\0" + struct.pack("<I", masked(google_crc32c.value(content + b"\0")))  # noqa: E731
    data = block([HEADER, *entries])
    root = block([(0, b"k%d" % number, varint(0) + varint(len(data))) for number in range(repeated)])
    place = varint(len(data) + 5) + varint(len(root))
    return ends(data) + ends(root) + (bytes(2) + place).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def entry(name: bytes, shape: tuple[int, ...], dtype=tf.float32, offset: int = 0, size: int | None = None) -> tuple:
    size = int(np.prod(shape, dtype=object)) * 4 if size is None else size
    made = BundleEntryProto(dtype=dtype.as_datatype_enum, offset=offset, size=size, crc32c=1)
    for each in shape:
        made.shape.dim.add(size=each)
    return 0, name, made.SerializeToString()


INDEXES = {
    "names that grow": (table([(n, b"a", b"") for n in range(100_000)]), 0, "16777216 bytes of names"),
    "many entries": (table([(0, b"", b"")] * 3_000_000), 0, "more than 100000 entries"),
    "one block again and again": (
        table([(0, b"%06d" % n, b"") for n in range(90_000)], 2000),
        0,
        "its blocks do not lie one after the other",
    ),
    "a hole": (table([entry(b"w", (100 << 30,))]), 400 << 30, "more than 268435456 bytes that were never written"),
    "the same bytes": (
        table([entry(b"%06d" % n, (1 << 24,)) for n in range(20_000)]),
        1 << 26,
        "000001 lies within another variable",
    ),
    "a text of the file's size": (table([entry(b"w", (1,), tf.string, size=1 << 28)]), 1 << 28, "damaged"),
    "many texts": (
        table([entry(b"%d" % n, (1 << 21,), tf.string, n << 21, 1 << 21) for n in range(100)]),
        100 << 21,
        "has more than 2097152 texts",
    ),
    "large axes": (table([entry(b"w", (1 << 62,) * 254, size=100)]), 100, "does not fit its 100 bytes"),
    "many axes": (table([entry(b"w", (1 << 40,) * 200_000, size=100)]), 100, "it has 200000 axes, at most 254"),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "1"
    module = tf.Module()
    module.value = tf.Variable(np.arange(6.0))
    module.function = tf.function(lambda x: x + module.value, input_signature=[tf.TensorSpec([], tf.float64)])
    tf.saved_model.save(module, str(directory), signatures=module.function)
    return directory


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_does_not_make_work_without_bound(worker, directory, name):
    content, nbytes, sentence = INDEXES[name]
    (directory / INDEX).write_bytes(content)
    with open(directory / DATA, "wb") as file:
        file.truncate(nbytes)
    refused(worker, "saved model", directory / "saved_model.pb", sentence)


def test_an_index_made_here_is_read(tmp_path):
    (tmp_path / "index").write_bytes(table([entry(b"abc", (2,)), (2, b"d", b"value")]))
    assert read_index(tmp_path / "index")["abd"] == b"value"

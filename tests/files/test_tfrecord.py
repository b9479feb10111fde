"""TFRecord files: framed as TensorFlow frames them, and no damage goes unnoticed."""

import json

import pytest
import tensorflow as tf

from tfvl.files.tfrecord import framed, index_path, read_index, read_records, write_indexed

RECORDS = {"a": b"first", "b": b"", "c": bytes(range(256)) * 9}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.tfrecord"
    assert write_indexed(path, index_path(path), RECORDS.items(), colours=["red"]) == 3
    return path


def test_tensorflow_writes_the_same_bytes(file, tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "again")) as writer:
        for payload in RECORDS.values():
            writer.write(payload)
    assert (tmp_path / "again").read_bytes() == file.read_bytes() == b"".join(map(framed, RECORDS.values()))
    assert list(read_records(file)) == list(RECORDS.values())


def test_every_flipped_or_missing_byte_is_noticed(file):
    content = file.read_bytes()
    for position in range(len(content)):
        file.write_bytes(content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :])
        with pytest.raises(ValueError, match="checksum does not fit"):
            list(read_records(file))
    ends = {0, len(framed(b"first")), len(framed(b"first")) + len(framed(b""))}  # between two records
    for length in set(range(len(content))) - ends:
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match="the file ends within the record"):
            list(read_records(file))


def test_a_record_longer_than_the_limit_is_not_read(file):
    with pytest.raises(ValueError, match="claims 2304 bytes, at most 2303 are possible"):
        list(read_records(file, 2303))
    assert len(list(read_records(file, 2304))) == 3


def test_an_index(file):
    index = read_index(file)
    assert (index["ids"], index["offsets"][0], index["colours"]) == (["a", "b", "c"], 0, ["red"])
    values = json.loads(index_path(file).read_text())
    for wrong in (
        {"ids": [1, 2, 3]},
        {"ids": ["a"]},
        {"ids": "abc"},
        {"offsets": [0, 1, 10**9]},
        {"offsets": [0, 1, 2.0]},
        {"size": ""},
    ):
        index_path(file).write_text(json.dumps(values | wrong))
        with pytest.raises(ValueError, match="damaged, or not an index; write the file again"):
            read_index(file)
    index_path(file).write_text(json.dumps(values | {"size": values["size"] + 1}))
    with pytest.raises(ValueError, match="truncated or replaced"):
        read_index(file)
    index_path(file).unlink()
    with pytest.raises(ValueError, match=r"or its index x\.tfrecord\.index is missing"):
        read_index(file)

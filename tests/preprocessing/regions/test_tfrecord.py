"""Regions in TFRecords: TensorFlow reads and frames them alike, and no damage to records or index goes unnoticed."""

import numpy as np
import pytest
import tensorflow as tf
from support.regions import SIZE, fails, write_val

from tfvl.preprocessing.regions.reading import open_regions
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore, convert


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "val.tfrecord"
    convert(write_val(tmp_path), path)
    return path


def test_tf_data_reads_the_records(records):
    description = {
        "image_id": tf.io.FixedLenFeature([], tf.string),
        "features": tf.io.FixedLenFeature([], tf.string),
        "num_boxes": tf.io.FixedLenFeature([], tf.int64),
        "boxes": tf.io.FixedLenSequenceFeature([4], tf.float32, allow_missing=True),
        "objects_id": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True),
    }
    read = [tf.io.parse_single_example(record, description) for record in tf.data.TFRecordDataset(str(records))]
    assert len(read) == 9
    with RegionStore(records) as store:
        for row in read:
            regions = store[row["image_id"].numpy().decode()]
            features = tf.reshape(tf.io.decode_raw(row["features"], tf.float32), [row["num_boxes"], SIZE])
            np.testing.assert_array_equal(features, regions.features)
            np.testing.assert_array_equal(row["boxes"], regions.boxes)
            np.testing.assert_array_equal(row["objects_id"], regions.objects_id)


def test_the_framing_is_tensorflows_to_the_byte(records, tmp_path):
    again = tmp_path / "again.tfrecord"
    with tf.io.TFRecordWriter(str(again)) as writer:
        for record in tf.data.TFRecordDataset(str(records)):
            writer.write(record.numpy())
    assert again.read_bytes() == records.read_bytes()


def test_opening_reads_the_index_only(records):
    records.write_bytes(b"\0" * records.stat().st_size)
    with RegionStore(records) as store:
        assert len(store) == 9
        with fails(f"{records}, image 'COCO_val2014_000000000002': the record's length is damaged"):
            store["COCO_val2014_000000000002"]


def test_every_flipped_byte_of_a_record_is_noticed(tmp_path):
    path = tmp_path / "one.tfrecord"
    RegionStore.write(path, [Regions(np.ones((2, 3)), np.zeros((2, 4)), "a")])
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with RegionStore(path) as store, fails("checksum does not fit"):
            store["a"]


def test_a_damaged_record_is_told_and_the_rest_is_read(records):
    content = bytearray(records.read_bytes())
    content[len(content) // 2] ^= 255
    records.write_bytes(content)
    bad = []
    assert len(list(open_regions(records, on_error=bad.append))) == 8
    assert len(bad) == 1
    assert "the record is damaged" in bad[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path, index: index.unlink(), "its index val.tfrecord.index is missing"),
        (lambda path, index: index.write_text("{"), "damaged, or not an index"),
        (lambda path, index: index.write_text('{"size": 1}'), "damaged, or not an index"),
        (lambda path, index: index.write_text(index.read_text().replace('"offsets": [0', '"offsets": [-1')), "damaged"),
        (lambda path, index: path.write_bytes(path.read_bytes()[:-1]), "truncated or replaced"),
        (lambda path, index: index.write_text("[" * 100_000), "damaged, or not an index"),
    ],
)
def test_a_bad_index(records, change, sentence):
    change(records, records.with_name("val.tfrecord.index"))
    with fails(sentence):
        RegionStore(records)


def test_an_index_of_another_file_gives_no_wrong_image(records):
    index = records.with_name("val.tfrecord.index")
    index.write_text(index.read_text().replace("000000000001", "00000000000X"))
    with RegionStore(records) as store, fails("the record is of image 'COCO_val2014_000000000001'"):
        store["COCO_val2014_00000000000X"]

"""Images for training, from a folder or from TFRecords: how they are found, their sizes, and damage."""

import json

import pytest
import tensorflow as tf
from support import datasets

from tfvl.training.data.images import ImageFolder, ImageRecords, image_sizes, write_image_records


def test_a_folder_finds_images_by_path_or_last_part(tmp_path):
    datasets.write_images(tmp_path, ["a", "train/1/b", "train/2/b", "train/2/c"])
    folder = ImageFolder(tmp_path)
    assert folder.read("a") == (tmp_path / "a.jpg").read_bytes()
    assert folder.read("train/2/b") == (tmp_path / "train/2/b.jpg").read_bytes()
    assert folder.read("c") == folder.read("elsewhere/c") == (tmp_path / "train/2/c.jpg").read_bytes()
    assert "b" not in folder  # there are two
    assert "d" not in folder
    assert image_sizes(folder, ["a", "c", "d"]) == {"a": (64, 48), "c": (64, 48), "d": None}


def test_sizes_are_read_from_the_beginning_of_a_file(tmp_path, monkeypatch):
    datasets.write_images(tmp_path, ["plain"])
    picture = datasets.jpeg(0, 40, 24)
    profile = b"\xff\xe2\xff\xff" + bytes(0xFFFF - 2)  # a segment before the size
    (tmp_path / "profile.jpg").write_bytes(picture[:2] + profile + picture[2:])
    (tmp_path / "torn.jpg").write_bytes(picture[:20])
    folder, limits, read = ImageFolder(tmp_path), [], ImageFolder.read
    monkeypatch.setattr(ImageFolder, "read", lambda self, name, limit: limits.append(limit) or read(self, name, limit))
    assert image_sizes(folder, ["plain"]) == {"plain": (64, 48)}
    assert limits == [1 << 14]
    assert image_sizes(folder, ["profile", "torn"]) == {"profile": (24, 40), "torn": None}


def test_no_name_leads_out_of_a_folder(tmp_path):
    datasets.write_images(tmp_path / "in", ["a"])
    datasets.write_images(tmp_path, ["secret"])
    folder = ImageFolder(tmp_path / "in")
    for name in ("../secret", str(tmp_path / "secret"), "in/../../secret"):
        assert name not in folder
        with pytest.raises(ValueError, match="there is no image"):
            folder.read(name)


def test_records_hold_what_was_written(tmp_path):
    pictures = {f"{number}": datasets.jpeg(number) for number in range(5)}
    paths = [tmp_path / "0.tfrecord", tmp_path / "1.tfrecord"]
    assert write_image_records(paths[0], list(pictures.items())[:3]) == 3
    write_image_records(paths[1], list(pictures.items())[3:])
    records = ImageRecords(paths)
    assert {name: records.read(name) for name in pictures} == pictures
    assert records.read("3", 7) == pictures["3"][:7]
    assert "5" not in records
    assert image_sizes(records, ["0", "5"]) == {"0": (48, 64), "5": None}
    raw = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset([str(paths[1])])]
    assert [example.features.feature["image_id"].bytes_list.value[0] for example in raw] == [b"3", b"4"]
    with pytest.raises(ValueError, match=r"image '3' stands in .*1\.tfrecord as well"):
        ImageRecords([*paths, paths[1]])


def test_sizes_of_records_come_from_the_index(tmp_path, monkeypatch):
    """A data set is sorted by them before training starts, which must not read every image."""
    path = tmp_path / "0.tfrecord"
    write_image_records(path, [("a", datasets.jpeg(0, 40, 24)), ("torn", b"no image")])
    records = ImageRecords([path])
    monkeypatch.setattr(ImageRecords, "read", lambda self, name, limit: b"")
    assert image_sizes(records, ["a", "torn"]) == {"a": (24, 40), "torn": None}
    index = tmp_path / "0.tfrecord.index"
    values = json.loads(index.read_text())
    for sizes in ([[24, 40]], [[24, 0], None], ["ab", None], 3):
        datasets.dump(index, values | {"sizes": sizes})
        with pytest.raises(ValueError, match=r"damaged, or not an index|truncated or replaced"):
            ImageRecords([path])
    datasets.dump(index, {name: value for name, value in values.items() if name != "sizes"})  # of an earlier version
    assert ImageRecords([path]).sizes == {}


def test_damaged_records(tmp_path):
    path = tmp_path / "0.tfrecord"
    write_image_records(path, [("a", b"1234567890"), ("b", b"x")])
    content = bytearray(path.read_bytes())
    content[content.index(b"123")] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="image 'a': the record is damaged"):
        ImageRecords([path]).read("a")
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="truncated or replaced"):
        ImageRecords([path])
    with pytest.raises(ValueError, match="comes twice"):
        write_image_records(path, [("a", b"1"), ("a", b"2")])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.tfrecord", "0.tfrecord.index"]

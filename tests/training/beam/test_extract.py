"""The Beam pipeline of detected regions: the same as on one machine, files that cannot be used counted."""

import numpy as np
import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed (the extra beam)")

from tfvl import CheckpointError, RegionStore, shapes
from tfvl.detector import extract as one_machine
from tfvl.preprocessing.regions.store import convert
from tfvl.training.beam.extract import ExtractionSettings, extract

DETECTOR = "shapes-detector"


@pytest.fixture
def photos(tmp_path):
    """Writes five scenes and a torn image; returns their folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(5):
        shapes.draw_scene(seed).image().save(folder / f"scene-{seed}.png")
    (folder / "torn.png").write_bytes((folder / "scene-0.png").read_bytes()[:60])
    return folder


def test_shards_hold_what_one_machine_extracts(photos, tmp_path):
    report, _ = extract(ExtractionSettings((str(photos),), DETECTOR, shards=2), str(tmp_path / "shards"))
    assert report.counts == {"images that fail": 1}
    assert report.sentences[0].startswith("image 'torn': ")
    assert sorted(path.name for path in (tmp_path / "shards").glob("*.tfrecord")) == [
        "regions-00000-of-00002.tfrecord",
        "regions-00001-of-00002.tfrecord",
    ]
    assert convert(tmp_path / "shards", tmp_path / "shards.h5").images == 5
    one_machine.extract(one_machine.named_images([photos]), tmp_path / "one.h5", DETECTOR)
    with RegionStore(tmp_path / "shards.h5") as found, RegionStore(tmp_path / "one.h5") as expected:
        assert set(found) == set(expected)
        for name in expected:
            np.testing.assert_array_equal(found[name].features, expected[name].features)
            np.testing.assert_array_equal(found[name].boxes, expected[name].boxes)


def test_nothing_is_written_where_no_image_can_be_used(photos, tmp_path):
    with pytest.raises(ValueError, match="none of the 1 images could be used; the first: image 'torn': "):
        extract(ExtractionSettings((str(photos / "torn.png"),), DETECTOR), str(tmp_path / "shards"))
    assert not (tmp_path / "shards").exists()
    with pytest.raises(CheckpointError, match="nowhere/nothing: no such local directory"):
        extract(ExtractionSettings((str(photos),), "nowhere/nothing"), str(tmp_path / "shards"))
    with pytest.raises(ValueError, match="no such file or directory"):
        extract(ExtractionSettings((str(tmp_path / "nowhere"),), DETECTOR), str(tmp_path / "shards"))
    with pytest.raises(ValueError, match="shards is 0, expected at least 1"):
        ExtractionSettings((str(photos),), DETECTOR, shards=0)

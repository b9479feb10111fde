"""`shapes-detector`: what it finds in held-out scenes, what it weighs, and answers about pixels through it."""

import numpy as np
import pytest
import tensorflow as tf
from support.bundled import DETECTOR, DIRECTORY
from support.cli import scores

import tfvl
from tfvl import shapes
from tfvl.cli import app as cli
from tfvl.detector import ops

SCENES = 60
FOUND = 0.97  # of the objects; its card says 99.2 %
COVERED = 0.5  # overlap from which a region covers an object
MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def detector():
    return tfvl.RegionDetector.from_pretrained(DETECTOR)


def test_objects_of_held_out_scenes_are_found(detector):
    found = total = wrong = 0
    for scene in map(shapes.draw_scene, range(SCENES)):
        outputs = {name: value[0] for name, value in detector.detect(scene.image()).items() if value.ndim > 1}
        truth = tf.constant([thing.box for thing in scene.things], tf.float32)
        covers = ops.overlaps(truth, tf.constant(outputs["boxes"])).numpy() >= COVERED  # (things, regions)
        for thing, row in zip(scene.things, covers, strict=True):
            named = (outputs["obj_names"] == thing.shape) & (outputs["attr_names"] == thing.color)
            found += bool((row & named).any())
        total += len(scene.things)
        wrong += int(np.sum((outputs["obj_probs"] > 0.5) & ~covers.any(axis=0)))
    assert found / total >= FOUND
    assert wrong / SCENES < 0.1


def test_files_are_complete_and_small(detector):
    sizes = {path.name: path.stat().st_size for path in (DIRECTORY / DETECTOR).iterdir()}
    assert sizes.keys() == {
        "README.md", "config.yaml", "model.safetensors", "objects_vocab.txt", "attributes_vocab.txt",
    }  # fmt: skip
    assert sum(sizes.values()) <= MAX_BYTES
    assert detector.config.object_names == shapes.SHAPES
    assert detector.config.attribute_names == tuple(shapes.COLORS)
    assert "python tools/train/shapes_detector.py" in (DIRECTORY / DETECTOR / "README.md").read_text()


@pytest.mark.parametrize("model", ["shapes-lxmert", "shapes-visual-bert"])
def test_bundled_models_are_asked_about_a_picture(model, tmp_path, capsys):
    scene = shapes.draw_scene(7)
    scene.image().save(tmp_path / "scene.png")
    assert cli.main(["ask", str(tmp_path / "scene.png"), "how many objects are there?", "--model", model]) == 0
    answer, score = next(iter(scores(capsys.readouterr().out).items()))
    assert answer == str(len(scene.things))
    assert score > 0.5

"""The full detector against outputs of the reference implementation (`golden/frcnn_astronaut_416.npz`)."""

import numpy as np
import pytest
from support.detector import GOLDEN, save_golden

from tfvl.detector.model import RegionDetector

PIXELS = 1e-4  # of 255 levels: float32 rounds differently in another order of operations
RELATIVE = 1e-3  # of the largest value: what the issue asks for; about 1e-6 is measured
BOX_PIXELS = 0.05
PROBABILITY = 1e-4

PHOTOGRAPH = GOLDEN / "frcnn_astronaut.png"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "frcnn_astronaut_416.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return RegionDetector.from_pretrained(save_golden(tmp_path_factory.mktemp("detector")))


@pytest.fixture(scope="module")
def prepared(detector):
    return detector.processor(PHOTOGRAPH)


@pytest.fixture(scope="module")
def features(detector, prepared):
    return detector.features_of(prepared["pixel_values"][0])


def relative(values, expected) -> float:
    return np.abs(values - expected).max() / np.abs(expected).max()


def test_the_pixels_are_the_references(prepared, golden):
    assert prepared["image_sizes"].numpy().tolist() == golden["resized_hw"].tolist()
    pixels = prepared["pixel_values"].numpy()[0, ::16, ::16].transpose(2, 0, 1)
    np.testing.assert_allclose(pixels, golden["pixel_values"], atol=PIXELS, rtol=0)


def test_the_backbone_is_the_references(features, golden):
    assert relative(features.numpy()[0, :, :, ::32].transpose(2, 0, 1), golden["res4"]) < RELATIVE


def test_the_proposals_are_the_references_in_order(detector, features, prepared, golden):
    proposals, scores = detector.propose(features, prepared["image_sizes"][0])
    np.testing.assert_allclose(proposals, golden["proposals"], atol=BOX_PIXELS, rtol=0)
    assert (np.diff(scores) <= 0).all()


def test_features_and_logits_of_regions_are_the_references(detector, features, golden):
    pooled = detector.pool(features[0], golden["proposals"][:40])
    assert relative(pooled.numpy()[:, ::4], golden["proposal_features"]) < RELATIVE
    objects, attributes, _ = detector.box_predictor(pooled)
    assert relative(objects.numpy()[:, ::8], golden["obj_logits"]) < RELATIVE
    assert relative(attributes.numpy()[:, ::8], golden["attr_logits"]) < RELATIVE


@pytest.mark.slow
def test_the_detections_are_the_references(detector, golden):
    outputs = detector.detect([PHOTOGRAPH])
    for name in ("preds_per_image", "obj_ids", "attr_ids"):
        np.testing.assert_array_equal(outputs[name], golden[name])
    for name in ("obj_probs", "attr_probs"):
        np.testing.assert_allclose(outputs[name], golden[name], atol=PROBABILITY, rtol=0)
    np.testing.assert_allclose(outputs["boxes"], golden["boxes"], atol=BOX_PIXELS, rtol=0)
    np.testing.assert_allclose(outputs["normalized_boxes"], golden["normalized_boxes"], atol=BOX_PIXELS / 416, rtol=0)
    assert relative(outputs["roi_features"], golden["roi_features"]) < RELATIVE
    first = golden["obj_ids"][0, 0]
    names = (GOLDEN.parents[1] / "tfvl" / "detector" / "objects_vocab.txt").read_text().splitlines()
    assert outputs["obj_names"][0, 0] == names[first].split(",")[0]

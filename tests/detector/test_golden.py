"""The full detector against outputs of the reference implementation (`golden/frcnn_astronaut_416.npz`)."""

import numpy as np
import pytest
from support.detector import GOLDEN, save_golden
from support.rounding import rounding

from tfvl.detector.model import RegionDetector

pytestmark = pytest.mark.numeric

PIXELS = 1e-4  # of 255 levels: float32 rounds differently in another order of operations
RELATIVE = 1e-3  # of the largest value: what the issue asks for; about 1e-6 is measured
BOX_PIXELS = 0.05
PROBABILITY = 1e-4
# Scores of boxes up to 11, from a convolution of 3×3 cells of 1024 channels, and then one of 512.
SAME_SCORE = rounding(9 * 1024 + 512, scale=11)

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


def places_of(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns the index of each expected box among the found ones; asserts that each has exactly one partner."""
    assert found.shape == expected.shape
    distances = np.abs(found - expected[:, None]).max(-1)
    places = distances.argmin(1)
    assert sorted(places) == list(range(len(expected)))
    assert distances.min(1).max() < BOX_PIXELS
    return places


def test_the_pixels_are_the_references(prepared, golden):
    assert prepared["image_sizes"].numpy().tolist() == golden["resized_hw"].tolist()
    pixels = prepared["pixel_values"].numpy()[0, ::16, ::16].transpose(2, 0, 1)
    np.testing.assert_allclose(pixels, golden["pixel_values"], atol=PIXELS, rtol=0)


def test_the_backbone_is_the_references(features, golden):
    assert relative(features.numpy()[0, :, :, ::32].transpose(2, 0, 1), golden["res4"]) < RELATIVE


def test_the_proposals_are_the_references_in_order(detector, features, prepared, golden):
    """But for neighbours whose scores differ by rounding only: which of them comes first depends on the processor."""
    proposals, scores = map(np.asarray, detector.propose(features, prepared["image_sizes"][0]))
    places = places_of(proposals, golden["proposals"])
    assert (np.diff(scores) <= 0).all()
    assert np.diff(scores[places]).max() < SAME_SCORE


def test_features_and_logits_of_regions_are_the_references(detector, features, golden):
    pooled = detector.pool(features[0], golden["proposals"][:40])
    assert relative(pooled.numpy()[:, ::4], golden["proposal_features"]) < RELATIVE
    objects, attributes, _ = detector.box_predictor(pooled)
    assert relative(objects.numpy()[:, ::8], golden["obj_logits"]) < RELATIVE
    assert relative(attributes.numpy()[:, ::8], golden["attr_logits"]) < RELATIVE


@pytest.mark.slow
def test_the_detections_are_the_references(detector, golden):
    """In order, but for neighbours whose probabilities differ by rounding only."""
    outputs = detector.detect([PHOTOGRAPH])
    np.testing.assert_array_equal(outputs["preds_per_image"], golden["preds_per_image"])
    places = places_of(outputs["boxes"][0], golden["boxes"][0])
    assert np.diff(outputs["obj_probs"][0]).max() <= 0
    assert np.diff(outputs["obj_probs"][0, places]).max() < 2 * PROBABILITY  # each may be off by it
    found = {name: outputs[name][:, places] for name in golden.keys() & outputs.keys() if name != "preds_per_image"}
    for name in ("obj_ids", "attr_ids"):
        np.testing.assert_array_equal(found[name], golden[name])
    for name in ("obj_probs", "attr_probs"):
        np.testing.assert_allclose(found[name], golden[name], atol=PROBABILITY, rtol=0)
    np.testing.assert_allclose(found["normalized_boxes"], golden["normalized_boxes"], atol=BOX_PIXELS / 416, rtol=0)
    assert relative(found["roi_features"], golden["roi_features"]) < RELATIVE
    names = (GOLDEN.parents[1] / "tfvl" / "detector" / "objects_vocab.txt").read_text().splitlines()
    first = golden["obj_ids"][0, 0]
    assert outputs["obj_names"][0, places[0]] == names[first].split(",")[0]

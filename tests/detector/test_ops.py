"""Boxes, RoIPool and suppression against plain NumPy written after their definitions."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfvl.detector import ops
from tfvl.detector.processor import target_size

ROUNDING = 1e-4  # pixels: float32 in another order


def rounded(value: float) -> int:
    """Rounds as C's `round` does, for values from 0 on."""
    return math.floor(value) + (value - math.floor(value) >= 0.5)


def roi_pool(features: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """Pools regions as torchvision's `roi_pool` does, at 1/16, bin by bin."""
    height, width, channels = features.shape
    pooled = np.zeros((len(boxes), size, size, channels), np.float32)
    for row, box in enumerate(boxes):
        left, top, right, bottom = (rounded(float(value) / 16) for value in box)
        step_y, step_x = (np.float32(max(end - start + 1, 1)) / np.float32(size)
                          for start, end in ((top, bottom), (left, right)))  # fmt: skip
        for y in range(size):
            for x in range(size):
                y1, x1 = (
                    min(max(int(np.floor(np.float32(i) * step)) + start, 0), limit)
                    for i, step, start, limit in ((y, step_y, top, height), (x, step_x, left, width))
                )
                y2, x2 = (
                    min(max(int(np.ceil(np.float32(i + 1) * step)) + start, 0), limit)
                    for i, step, start, limit in ((y, step_y, top, height), (x, step_x, left, width))
                )
                if y2 > y1 and x2 > x1:
                    pooled[row, y, x] = features[y1:y2, x1:x2].max(axis=(0, 1))
    return pooled


def random_boxes(rng, count: int, height: float, width: float) -> np.ndarray:
    x, y = np.sort(rng.uniform(0, width, (count, 2))), np.sort(rng.uniform(0, height, (count, 2)))
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.float32)


@pytest.mark.parametrize(("height", "width", "size"), [(9, 13, 14), (40, 31, 3), (1, 1, 14), (1, 84, 7), (70, 2, 1)])
def test_roi_pool_takes_the_maximum_of_each_quantised_bin(height, width, size):
    rng = np.random.default_rng(height)
    features = rng.standard_normal((height, width, 5)).astype(np.float32)
    boxes = random_boxes(rng, 40, 16 * height, 16 * width)
    whole = [[0, 0, 16 * width, 16 * height], [0, 0, 0, 0], [8, 8, 8, 8], [7.9, 7.9, 8.1, 8.1], [24, 24, 40, 40]]
    edges = np.clip(whole, 0, [16 * width, 16 * height] * 2)
    boxes = np.concatenate([boxes, edges]).astype(np.float32)
    pooled = tf.function(lambda *inputs: ops.RegionPool(inputs[0], size)(inputs[1]))(features, boxes)
    np.testing.assert_array_equal(pooled, roi_pool(features, boxes, size))


def test_roi_pool_of_no_region_is_empty():
    assert ops.RegionPool(tf.zeros([3, 3, 2]), 4)(tf.zeros([0, 4])).shape == (0, 4, 4, 2)


def test_a_half_cell_is_rounded_up_and_a_bin_beyond_the_map_is_zero():
    features = -tf.ones([2, 2, 1])  # below zero: an empty bin cannot be taken for a maximum
    pooled = ops.RegionPool(features, 2)(tf.constant([[24.0, 0, 32, 16], [23.9, 0, 32, 16]]))
    assert pooled[0, :, :, 0].numpy().tolist() == [[0, 0], [0, 0]]  # from cell 2 on, of which there are two
    assert pooled[1, :, :, 0].numpy().tolist() == [[-1, 0], [-1, 0]]


def overlap(a, b) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def suppressed(boxes, scores, threshold, most) -> list[int]:
    kept = []
    for index in sorted(range(len(boxes)), key=lambda index: -scores[index]):  # stable: the earlier of equals first
        if all(overlap(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
    return kept[:most]


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_suppression_keeps_torchvisions_order_and_ties(threshold):
    rng = np.random.default_rng(3)
    boxes = random_boxes(rng, 60, 50, 50)
    scores = rng.integers(0, 6, 60).astype(np.float32)  # many ties
    kept = ops.suppress(tf.constant(boxes), tf.constant(scores), threshold, 20)
    assert kept.numpy().tolist() == suppressed(boxes, scores, threshold, 20)


def test_overlaps_are_intersections_over_unions():
    rng = np.random.default_rng(4)
    boxes, others = random_boxes(rng, 5, 30, 30), random_boxes(rng, 7, 30, 30)
    expected = [[overlap(a, b) for b in others] for a in boxes]
    np.testing.assert_allclose(ops.overlaps(boxes, others), expected, atol=1e-6)
    assert ops.overlaps(np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32)).numpy() == 0


def test_proposals_are_cut_filtered_and_at_most_as_many_as_asked_for():
    boxes = np.array([[-50, 5, -1, 9], [-5, -5, 5, 5], [10, 10, 60, 60], [11, 10, 60, 60], [3, 3, 3, 8]], np.float32)
    scores = np.array([9, 1, 5, 6, 7], np.float32)
    kept, kept_scores = ops.propose(boxes, scores, tf.constant([40, 50]), 5, 300, 0.7, 0)
    assert kept.numpy().tolist() == [[11, 10, 50, 40], [0, 0, 5, 5]]
    assert kept_scores.numpy().tolist() == [6, 1]
    assert ops.propose(boxes, scores, tf.constant([40, 50]), 2, 300, 0.7, 0)[0].shape[0] == 0  # the best two are empty
    assert ops.propose(boxes, scores, tf.constant([40, 50]), 5, 1, 0.7, 0)[0].shape[0] == 1


BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 6.5], [20, 20, 30, 30]], np.float32)
SCORES = np.array([0.9, 0.8, 0.7, 0.6], np.float32)


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (1, 4, [0, 3]),  # the first threshold suffices
        (3, 4, [0, 2, 3]),  # the second
        (3, 3, [0, 2, 3]),
        (2, 2, [0, 3]),
        (4, 4, [0, 2, 3]),  # none does: what there is, and not the image's before
    ],
)
def test_thresholds_are_tried_in_order_until_enough_is_left(least, most, expected):
    assert ops.choose(BOXES, SCORES, (0.5, 0.7, 0.8), least, most).numpy().tolist() == expected


def test_choosing_among_nothing_gives_nothing():
    assert ops.choose(tf.zeros([0, 4]), tf.zeros([0]), (0.5, 0.9), 2, 4).shape[0] == 0


def test_deltas_move_one_box_onto_another_and_are_clamped():
    rng = np.random.default_rng(5)
    boxes, targets = (random_boxes(rng, 9, 90, 90) + np.float32([0, 0, 5, 5]) for _ in range(2))
    deltas = ops.deltas_between(tf.constant(boxes), tf.constant(targets), (10, 10, 5, 5))
    np.testing.assert_allclose(ops.apply_deltas(tf.constant(boxes), deltas, (10, 10, 5, 5)), targets, atol=ROUNDING)
    huge = ops.apply_deltas(tf.constant([[0.0, 0, 16, 16]]), tf.constant([[0.0, 0, 99, 99]]), (1, 1, 1, 1))
    np.testing.assert_allclose(huge, [[-492, -492, 508, 508]], rtol=1e-5)


def test_anchors_stand_on_the_corners_of_cells():
    found = ops.anchors(tf.constant([[-8.0, -4, 8, 4], [-1, -1, 1, 1]]), tf.constant([2, 3]), 16, 0.0)
    assert found.shape == (12, 4)
    assert found[0].numpy().tolist() == [-8, -4, 8, 4]
    assert found[3].numpy().tolist() == [15, -1, 17, 1]  # second cell, second anchor
    assert found[6].numpy().tolist() == [-8, 12, 8, 20]  # second row
    assert ops.anchors(tf.zeros([1, 4]), tf.constant([1, 1]), 16, 0.5).numpy().tolist() == [[8, 8, 8, 8]]


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((480, 640), (800, 1333), (800, 1067)),
        ((640, 480), (600, 1000), (800, 600)),
        ((500, 2000), (800, 1333), (333, 1333)),
        ((512, 512), (416, 693), (416, 416)),
        ((1, 10000), (800, 1333), (1, 1333)),
        ((1, 1), (800, 1333), (800, 800)),
    ],
)
def test_images_are_resized_by_their_shortest_edge(size, limits, expected):
    assert tuple(target_size(tf.constant(size), *limits).numpy()) == expected

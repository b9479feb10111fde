"""Losses and metrics against their definitions in plain NumPy."""

import numpy as np
import pytest

from tfvl.modeling.losses import cross_entropy, soft_binary_cross_entropy, weighted_mean
from tfvl.modeling.metrics import HeadAccuracy, VqaScore

pytestmark = pytest.mark.numeric

FLOAT32 = {"rtol": 1e-5}  # logarithms and sums in float32
LOGITS = np.array(
    [[[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 1.5, -2.0]], [[-1.0, 0.0, 4.0], [2.0, 2.5, 0.0], [9.0, 0.0, 0.0]]],
    "float32",
)
LABELS = np.array([[0, 1, 2], [2, -100, 1]])


def reference_cross_entropy(sample_weight=None):
    total = weights = 0.0
    for row, position in np.ndindex(LABELS.shape):
        label = LABELS[row, position]
        if label == -100:
            continue
        weight = 1.0 if sample_weight is None else np.broadcast_to(sample_weight.T, LABELS.T.shape).T[row, position]
        scores = LOGITS[row, position].astype("float64")
        total += weight * (np.log(np.exp(scores).sum()) - scores[label])
        weights += weight
    return total / weights


@pytest.mark.parametrize("weight", [None, np.array([1.0, 3.0]), np.array([[1.0, 0.0, 2.0], [0.5, 1.0, 4.0]])])
def test_cross_entropy_leaves_out_minus_100_and_honours_weights(weight):
    loss = weighted_mean(*cross_entropy(LABELS, LOGITS), weight)
    np.testing.assert_allclose(loss, reference_cross_entropy(weight), **FLOAT32)


def test_a_batch_of_nothing_but_minus_100_costs_nothing():
    assert float(weighted_mean(*cross_entropy(np.full((2, 3), -100), LOGITS))) == 0.0


def test_soft_binary_cross_entropy_is_a_sum_over_answers():
    labels = np.array([[1.0, 0.3, 0.0], [0.0, 0.9, 0.6]])
    logits = np.array([[2.0, -1.0, 80.0], [-90.0, 0.0, 1.0]])  # beyond what exp() survives in float32
    stable = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    values, weights = soft_binary_cross_entropy(labels, logits.astype("float32"))
    np.testing.assert_allclose(values, stable.sum(-1), **FLOAT32)
    assert np.asarray(weights).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(None, 3 / 5), (np.array([1.0, 3.0]), 5 / 9), (np.array([[1.0, 0.0, 2.0], [0.5, 1.0, 4.0]]), 1.5 / 7.5)],
)
def test_accuracy_by_hand(weight, expected):
    """Right are both first words and the second of the first row; one position is ignored."""
    metric = HeadAccuracy()
    metric.update_state(LABELS, {"logits": LOGITS}, weight)
    np.testing.assert_allclose(metric.result(), expected, **FLOAT32)


def test_labels_of_one_column_are_labels_of_rows():
    metric = HeadAccuracy()
    metric.update_state(np.array([[0], [1]]), {"logits": LOGITS[:, 0]})
    assert float(metric.result()) == 0.5


def test_a_metric_of_a_label_that_is_not_given_stays_as_it_is():
    metric = HeadAccuracy("cross_relationship_score", "matched_label")
    metric.update_state({"labels": LABELS}, {"cross_relationship_score": LOGITS[:, 0]})
    assert float(metric.result()) == 0.0
    metric.update_state({"matched_label": np.array([0, 2])}, {"cross_relationship_score": LOGITS[:, 0]})
    assert float(metric.result()) == 1.0


def test_vqa_score_is_the_target_of_the_best_answer():
    metric = VqaScore()
    targets = np.array([[0.3, 1.0, 0.0], [0.0, 0.6, 0.9]], "float32")
    metric.update_state(targets, {"logits": LOGITS[:, 0]})  # the best answers are 0 and 2
    np.testing.assert_allclose(metric.result(), (0.3 + 0.9) / 2, **FLOAT32)
    metric.reset_state()
    metric.update_state(targets, {"logits": LOGITS[:, 0]}, np.array([1.0, 3.0]))
    np.testing.assert_allclose(metric.result(), (0.3 + 3 * 0.9) / 4, **FLOAT32)

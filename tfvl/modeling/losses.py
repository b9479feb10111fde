"""The papers' losses, as functions of labels and logits; each returns one value per example and its weight.

A batch's loss is `weighted_mean` of the two: a weight of zero leaves an example (or a position) out.
"""

from collections.abc import Sequence

import keras
from keras import ops

from tfvl.modeling.replicas import summed

IGNORED = -100  # upstream's (and PyTorch's) label of a position that does not count


def weighted_mean(values, weights, sample_weight=None):
    """Returns the mean of `values` (batch, …) weighted by `weights` (batch, …) and `sample_weight` (batch,).

    In a step over several replicas it returns a replica's share of the mean over all rows: the shares add up to it.
    """
    values, weights = ops.cast(values, "float32"), ops.cast(weights, "float32")
    if sample_weight is not None:
        weights = weights * broadcastable(sample_weight, weights)
    total = summed(ops.sum(weights))
    return ops.where(total > 0, ops.sum(values * weights) / ops.maximum(total, 1e-30), 0.0)


def without_ones(values, rank: int):
    """Removes axes of size 1, the last ones first and never the batch, until `values` have `rank` axes if possible."""
    for axis in reversed(range(1, len(values.shape))):
        if len(values.shape) > rank and values.shape[axis] == 1:
            values = ops.squeeze(values, axis)
    return values


def broadcastable(sample_weight, values):
    """Converts `sample_weight`, (batch,) or (batch, length), to float32, with trailing axes of 1 as `values` need.

    Raises:
        ValueError: it has more axes than `values`.
    """
    sample_weight = without_ones(ops.cast(sample_weight, "float32"), len(values.shape))
    if len(sample_weight.shape) > len(values.shape):
        raise ValueError(
            f"sample_weight has the shape {tuple(sample_weight.shape)}, expected a weight for each row of the batch, "
            f"or for each of {tuple(values.shape)}."
        )
    missing = len(values.shape) - len(sample_weight.shape)
    return ops.reshape(sample_weight, (*ops.shape(sample_weight), *[1] * missing))


def check_shapes(labels, logits, expected: Sequence[int | None]) -> None:
    """Raises ValueError unless the labels' shape is `expected`; a size of None is not known yet."""
    shape, expected = tuple(labels.shape), tuple(expected)
    pairs = zip(shape, expected, strict=False)
    if len(shape) != len(expected) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
        raise ValueError(f"labels have the shape {shape}, expected {expected} for logits of {tuple(logits.shape)}.")


def cross_entropy(labels, logits):
    """Cross-entropy of integer classes; positions labelled -100 weigh nothing.

    Args:
        labels: int (batch, …), classes from 0 on or -100; further axes of size 1 are dropped.
        logits: float (batch, …, classes).

    Returns:
        Loss and weight, both float32 (batch, …).

    Raises:
        ValueError: labels of another shape.
    """
    labels = without_ones(labels, len(logits.shape) - 1)
    check_shapes(labels, logits, logits.shape[:-1])
    counted = ops.not_equal(labels, IGNORED)
    classes = ops.where(counted, labels, 0)
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    chosen = ops.take_along_axis(log_probabilities, ops.cast(classes, "int32")[..., None], axis=-1)[..., 0]
    return -chosen, ops.cast(counted, "float32")


def smooth_l1(targets, predictions):
    """Huber's loss with a threshold of 1, mean over the last axis (upstream: `SmoothL1Loss`).

    Args:
        targets, predictions: float (batch, …, width).

    Returns:
        Loss and weight (ones), both float32 (batch, …).
    """
    distance = ops.abs(ops.cast(predictions, "float32") - ops.cast(targets, "float32"))
    losses = ops.mean(ops.where(distance < 1.0, 0.5 * ops.square(distance), distance - 0.5), axis=-1)  # (batch, …)
    return losses, ops.ones_like(losses)


def kl_divergence(labels, logits):
    """Kullback-Leibler divergence from soft targets, summed over all but the batch (PyTorch's `batchmean`).

    Args:
        labels: float (batch, …, classes), at least 0; axes of size 1 between the two are dropped.
        logits: float (batch, …, classes).

    Returns:
        Loss and weight (ones), both float32 (batch,).

    Raises:
        ValueError: labels of another shape.
    """
    labels = without_ones(labels, len(logits.shape))
    check_shapes(labels, logits, logits.shape)
    labels = ops.cast(labels, "float32")
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    entropies = labels * ops.log(ops.where(labels > 0, labels, 1.0))  # 0·log(0) is 0
    divergences = ops.sum(entropies - labels * log_probabilities, axis=tuple(range(1, len(logits.shape))))
    return divergences, ops.ones_like(divergences)


def soft_binary_cross_entropy(labels, logits):
    """Sum over the answers of the binary cross-entropy with soft targets, as VQA is trained (ViLT, appendix A).

    Args:
        labels: float (batch, answers), 0 … 1.
        logits: float (batch, answers).

    Returns:
        Loss and weight (ones), both float32 (batch,).

    Raises:
        ValueError: labels of another shape.
    """
    check_shapes(labels, logits, logits.shape)
    labels, logits = ops.cast(labels, "float32"), ops.cast(logits, "float32")
    losses = ops.maximum(logits, 0.0) - logits * labels + ops.log1p(ops.exp(-ops.abs(logits)))
    losses = ops.sum(losses, axis=-1)  # (batch,)
    return losses, ops.ones_like(losses)


def is_float(values) -> bool:
    """Returns whether the dtype of `values` is a floating-point one."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(values.dtype))


def are_soft_targets(labels, logits) -> bool:
    """Returns whether labels are soft targets (batch, answers), and not the indices of the right answers (batch,)."""
    if len(labels.shape) != len(logits.shape) or labels.shape[-1] != logits.shape[-1]:
        return False
    return logits.shape[-1] > 1 or is_float(labels)


def answers(labels, logits):
    """Computes `soft_binary_cross_entropy` for soft targets and `cross_entropy` for indices of right answers."""
    return (soft_binary_cross_entropy if are_soft_targets(labels, logits) else cross_entropy)(labels, logits)

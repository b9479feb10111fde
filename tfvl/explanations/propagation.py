"""Combines the attention maps of all layers into the share that each input position has in each output position.

`relevance` is that of Chefer, Gur & Wolf (ICCV 2021), equations 5 to 11; `rollout` that of Abnar & Zuidema (ACL 2020),
section 3.
"""

from collections.abc import Mapping

import tensorflow as tf

from tfvl.explanations.maps import Pass, Step

Shares = Mapping[tuple[str, str], tf.Tensor]  # by two streams: (batch, positions of the first, of the second)


def weighed(probabilities: tf.Tensor, gradient: tf.Tensor | None) -> tf.Tensor:
    """Weights a map (batch, heads, queries, keys) by the answer's gradient, and averages over heads (equation 5).

    The result is (batch, queries, keys); it is 0 if the answer does not depend on the map (`gradient` is None).
    """
    probabilities = tf.cast(probabilities, tf.float32)
    if gradient is None:
        return tf.zeros_like(probabilities[:, 0])
    return tf.reduce_mean(tf.nn.relu(tf.cast(gradient, tf.float32) * probabilities), axis=1)


def relevance(steps: Pass, lengths: Mapping[str, tf.Tensor]) -> Shares:
    """Computes the relevance of all positions (equations 6 to 11), minus the identity that the paper starts from.

    The identity is left out from the start, not subtracted at the end, since small shares would lose digits beside 1.

    Args:
        steps: the steps, with maps from `weighed`.
        lengths: the number of positions of each stream.
    """
    shares = zeros(steps, lengths)
    for step in steps:
        old = dict(shares)
        for (queries, keys), weights in step.items():
            if queries == keys:  # equations 6 and 7; the paper's R is I + D, so that A R is A + A D
                for stream in lengths:
                    shares[queries, stream] += tf.matmul(weights, old[keys, stream])
                shares[queries, queries] += weights
            else:
                left, right = normalized(old[queries, queries]), normalized(old[keys, keys])
                shares[queries, keys] += tf.matmul(left, tf.matmul(weights, right), transpose_a=True)  # 10
                shares[queries, queries] += tf.matmul(weights, old[keys, queries])  # 11
    return shares


def normalized(shares: tf.Tensor) -> tf.Tensor:
    """Normalises the rows of shares (R - I) to sum to 1, and adds the identity (equations 8 and 9); zeros stay zero."""
    rows = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=-1, keepdims=True))
    return rows + tf.eye(tf.shape(shares)[-1])


def rollout(steps: Pass, lengths: Mapping[str, tf.Tensor]) -> Shares:
    """Multiplies the maps of all layers, each averaged over heads and then averaged with the identity.

    Several streams count as one.

    Args:
        steps: the steps, with unweighted maps and all heads.
        lengths: the number of positions of each stream.
    """
    shares = zeros(steps, lengths)
    for stream, length in lengths.items():
        shares[stream, stream] += tf.eye(length)
    for step in steps:
        old = dict(shares)
        for (queries, keys), maps in step.items():
            for stream in lengths:
                attended = tf.matmul(mean_of_heads(maps), old[keys, stream])
                shares[queries, stream] = 0.5 * old[queries, stream] + 0.5 * attended
    return shares


def mean_of_heads(maps: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(maps, tf.float32), axis=1)


def zeros(steps: Pass, lengths: Mapping[str, tf.Tensor]) -> dict[tuple[str, str], tf.Tensor]:
    batch = tf.shape(any_map(steps))[0] if steps else 1
    return {(one, other): tf.zeros([batch, lengths[one], lengths[other]]) for one in lengths for other in lengths}


def any_map(steps: list[Step]) -> tf.Tensor:
    return next(iter(steps[0].values()))

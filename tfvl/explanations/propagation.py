"""How what attention maps say is carried through the layers, to each position's share in another one.

`relevance`: Chefer, Gur & Wolf (ICCV 2021), equations 5 to 11. `rollout`: Abnar & Zuidema (ACL 2020), section 3.
"""

from collections.abc import Mapping

import tensorflow as tf

from tfvl.explanations.maps import Pass, Step

Shares = Mapping[tuple[str, str], tf.Tensor]  # by the streams: (batch, positions of the first, positions of the second)


def weighed(probabilities: tf.Tensor, gradient: tf.Tensor | None) -> tf.Tensor:
    """Equation 5: (batch, heads, queries, keys) and the answer's gradient to (batch, queries, keys), the mean of heads.

    0 where the answer does not depend on the map.
    """
    probabilities = tf.cast(probabilities, tf.float32)
    if gradient is None:
        return tf.zeros_like(probabilities[:, 0])
    return tf.reduce_mean(tf.nn.relu(tf.cast(gradient, tf.float32) * probabilities), axis=1)


def relevance(steps: Pass, lengths: Mapping[str, tf.Tensor]) -> Shares:
    """Equations 6 to 11, without the identity that each stream starts as.

    The identity is left out from the start, not taken off at the end: beside its ones, small shares would lose digits.

    Args:
        steps: maps by `weighed`.
        lengths: of each stream, how many positions it has.
    """
    shares = zeros(steps, lengths)
    for step in steps:
        old = dict(shares)
        for (queries, keys), weights in step.items():
            if queries == keys:  # 6 and 7; R is I + D, so that A R is A + A D
                for stream in lengths:
                    shares[queries, stream] += tf.matmul(weights, old[keys, stream])
                shares[queries, queries] += weights
            else:
                left, right = normalized(old[queries, queries]), normalized(old[keys, keys])
                shares[queries, keys] += tf.matmul(left, tf.matmul(weights, right), transpose_a=True)  # 10
                shares[queries, queries] += tf.matmul(weights, old[keys, queries])  # 11
    return shares


def normalized(shares: tf.Tensor) -> tf.Tensor:
    """Equations 8 and 9, from R - I: rows that sum to 1 on top of the identity; rows of zeros stay the identity's."""
    rows = tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=-1, keepdims=True))
    return rows + tf.eye(tf.shape(shares)[-1])


def rollout(steps: Pass, lengths: Mapping[str, tf.Tensor]) -> Shares:
    """Half of each position is what it attends to, the mean over heads, and half itself, from the first layer on.

    Several streams count as one. Maps as they are, with their heads.
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

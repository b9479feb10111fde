"""Resizing that gives Pillow's exact pixels, in TensorFlow graph operations.

Pillow resamples in two passes, one per axis, and rounds to uint8 after each. A pass is a weighted sum per output pixel,
with weights in fixed point (22 fractional bits). All products and partial sums are integers small enough for the float
type that holds them, so matrix products compute them without error, in any order of summation.
Source: Pillow 13.0, `src/libImaging/Resample.c` and `Geometry.c`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

NEAREST, LANCZOS, BILINEAR, BICUBIC, BOX, HAMMING = range(6)

# The longer edge is bounded in the proportion of the training set's images (1333 to 800 in COCO).
LONGEST_TO_SHORTEST = 1333 / 800

PRECISION_BITS = 22
BLOCK = 8  # output pixels that share one window of input pixels
WINDOW_BUDGET = 2_000_000  # elements of the input windows held at once
LOW_BITS = 7
SPLIT_WINDOW = 800  # input pixels; up to this window every sum of `_multiply_split`, as an integer, is below 2**24


def target_size(height: tf.Tensor, width: tf.Tensor, shortest_edge: int, size_divisor: int) -> tf.Tensor:
    """Returns the (height, width), int32 (2,), to which an image is resized; an edge is 0 if it is too long and thin.

    The shorter edge becomes `shortest_edge`, unless the longer one would exceed 1333/800 of it; both are rounded, then
    floored to a multiple of `size_divisor`. The order of the float64 operations is upstream's
    (`get_resize_output_image_size`).
    """
    longest_edge = int(LONGEST_TO_SHORTEST * shortest_edge)
    shortest = tf.constant(shortest_edge, tf.float64)
    height, width = tf.cast(height, tf.float64), tf.cast(width, tf.float64)
    scale = shortest / tf.minimum(height, width)
    new_height = tf.where(height < width, shortest, scale * height)
    new_width = tf.where(height < width, scale * width, shortest)
    longer = tf.maximum(new_height, new_width)
    size = tf.stack([new_height, new_width])
    size = tf.where(longer > longest_edge, tf.constant(longest_edge, tf.float64) / longer * size, size)
    return tf.cast(size + 0.5, tf.int32) // size_divisor * size_divisor


def resize(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor, resample: int = BICUBIC) -> tf.Tensor:
    """Resizes an RGB image to exactly the pixels of `PIL.Image.resize((width, height), resample)`.

    Args:
        image: (H, W, 3) uint8. Sizes may be unknown when the graph is built.
        height, width: int32 scalars, at least 1.
        resample: a `PIL.Image.Resampling` value.

    Returns:
        (height, width, 3) uint8.

    Raises:
        ValueError: `resample` is not one of Pillow's filters.
    """
    if resample == NEAREST:
        return _resize_nearest(image, height, width)
    if resample not in FILTERS:
        raise ValueError(f"resample={resample!r} is not a Pillow filter; use one of 0 to 5 (3 is bicubic)")
    resampling = FILTERS[resample]
    old_height, old_width = tf.unstack(tf.shape(image)[:2])
    # Pillow begins with the axis that makes the passes cheaper; as it rounds between them, the order changes pixels.
    shrink_height, shrink_width = old_height - height, old_width - width
    vertical_first = (shrink_height > 0) & (shrink_height > 2 * shrink_width)
    image = tf.cond(vertical_first, lambda: _resize_rows(image, height, resampling), lambda: image)
    image = _resize_columns(image, width, resampling)
    image = tf.cond(vertical_first, lambda: image, lambda: _resize_rows(image, height, resampling))
    return tf.ensure_shape(image, [None, None, 3])


class Filter(NamedTuple):
    """A resampling kernel: its half width in output pixels, and its value as a function of the distance."""

    support: float
    weight: Callable[[tf.Tensor], tf.Tensor]


def _resize_rows(image: tf.Tensor, height: tf.Tensor, resampling: Filter) -> tf.Tensor:
    old_height, width = tf.unstack(tf.shape(image)[:2])
    rows = tf.reshape(image, [old_height, width * 3])
    return tf.reshape(_resample(rows, height, resampling), [height, width, 3])


def _resize_columns(image: tf.Tensor, width: tf.Tensor, resampling: Filter) -> tf.Tensor:
    height, old_width = tf.unstack(tf.shape(image)[:2])

    def resampled() -> tf.Tensor:
        # As (width, 3, height) both transpositions are of plain matrices, which is several times faster.
        columns = tf.transpose(tf.reshape(image, [height, old_width * 3]))
        columns = _resample(tf.reshape(columns, [old_width, 3 * height]), width, resampling)
        return tf.reshape(tf.transpose(tf.reshape(columns, [width * 3, height])), [height, width, 3])

    return tf.cond(tf.equal(width, old_width), lambda: image, resampled)


def _resample(lines: tf.Tensor, size: tf.Tensor, resampling: Filter) -> tf.Tensor:
    """Resamples (old size, M) uint8 along the first axis to (size, M) uint8; an axis that keeps its size is copied."""
    return tf.cond(tf.equal(size, tf.shape(lines)[0]), lambda: lines, lambda: _blocks(lines, size, resampling))


def _blocks(lines: tf.Tensor, size: tf.Tensor, resampling: Filter) -> tf.Tensor:
    """Computes each block of outputs as a small matrix times its window of inputs, since the weights form a band."""
    old_size, count = tf.unstack(tf.shape(lines))
    starts, weights = _fixed_point_weights(old_size, size, resampling)  # (blocks,), (blocks, BLOCK, window)
    window = tf.shape(weights)[2]
    positions = tf.minimum(starts[:, None] + tf.range(window), old_size - 1)  # (blocks, window)

    def multiply(positions: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        windows = tf.gather(lines, positions)  # (blocks, window, M)
        return tf.cond(
            window <= SPLIT_WINDOW, lambda: _multiply_split(weights, windows), lambda: _multiply(weights, windows)
        )

    # A large image goes through in groups of blocks, which bounds the memory; a small one in a single group.
    blocks = tf.shape(starts)[0]
    group = tf.clip_by_value(WINDOW_BUDGET // (window * count), 1, blocks)
    groups = -(-blocks // group)
    padding = [[0, groups * group - blocks]]
    positions = tf.reshape(tf.pad(positions, [*padding, [0, 0]]), [groups, group, window])
    weights = tf.reshape(tf.pad(weights, [*padding, [0, 0], [0, 0]]), [groups, group, BLOCK, window])
    output = tf.map_fn(
        lambda group: multiply(*group),
        (positions, weights),
        fn_output_signature=tf.TensorSpec([None, BLOCK, None], tf.uint8),
        parallel_iterations=2,
    )
    return tf.reshape(output, [-1, count])[:size]


def _multiply(weights: tf.Tensor, windows: tf.Tensor) -> tf.Tensor:
    """Computes clip((weights @ windows + 2**21) >> 22, 0, 255), (blocks, BLOCK, M) uint8."""
    sums = tf.matmul(weights, tf.cast(windows, tf.float64)) + 2.0 ** (PRECISION_BITS - 1)
    return _to_levels(sums * 2.0**-PRECISION_BITS)


def _multiply_split(weights: tf.Tensor, windows: tf.Tensor) -> tf.Tensor:
    """Computes the same in float32, four times as fast: high and low bits of the weights apart, so sums stay exact."""
    high = tf.floor(weights * 2.0**-LOW_BITS + 0.5)
    low = weights * 2.0**-LOW_BITS - high  # multiples of 2**-LOW_BITS in [-0.5, 0.5]
    windows = tf.cast(windows, tf.float32)
    high, low = (tf.matmul(tf.cast(part, tf.float32), windows) for part in (high, low))
    high_bits = PRECISION_BITS - LOW_BITS
    return _to_levels((high + tf.floor(low + 2.0 ** (high_bits - 1))) * 2.0**-high_bits)


def _to_levels(values: tf.Tensor) -> tf.Tensor:
    """Computes clip(floor(values), 0, 255) in uint8."""
    zero, full = (tf.constant(level, values.dtype) for level in (0, 255))
    return tf.cast(tf.raw_ops.ClipByValue(t=values, clip_value_min=zero, clip_value_max=full), tf.uint8)


def _fixed_point_weights(old_size: tf.Tensor, size: tf.Tensor, resampling: Filter) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes Pillow's weights, laid out per block of outputs.

    Returns:
        starts (blocks,) int32, the first input position of each block's window; weights (blocks, BLOCK, window)
        float64 holding integers. The last block repeats the last output pixel.
    """
    scale = tf.cast(old_size, tf.float64) / tf.cast(size, tf.float64)
    filter_scale = tf.maximum(scale, 1.0)
    support = resampling.support * filter_scale
    blocks = -(-size // BLOCK)
    outputs = tf.minimum(tf.reshape(tf.range(blocks * BLOCK), [blocks, BLOCK]), size - 1)
    centers = (tf.cast(outputs, tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(centers - support + 0.5, tf.int32), 0)
    last = tf.minimum(tf.cast(centers + support + 0.5, tf.int32), old_size)
    starts = first[:, 0]
    window = tf.reduce_max(last[:, -1] - starts)

    positions = starts[:, None, None] + tf.range(window)  # (blocks, 1, window)
    distances = (tf.cast(positions, tf.float64) - centers[:, :, None] + 0.5) * (1.0 / filter_scale)
    inside = (positions >= first[:, :, None]) & (positions < last[:, :, None])
    weights = tf.where(inside, resampling.weight(distances), tf.constant(0.0, tf.float64))
    # Pillow adds the weights up one after the other; cumsum does too, reduce_sum does not.
    weights /= tf.cumsum(weights, axis=-1)[..., -1:]
    fixed_point = weights * 2.0**PRECISION_BITS
    return starts, tf.where(fixed_point < 0, tf.math.ceil(fixed_point - 0.5), tf.floor(fixed_point + 0.5))


def _resize_nearest(image: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    def sources(old_size: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        step = tf.cast(old_size, tf.float64) / tf.cast(size, tf.float64)
        # Pillow adds up steps, and the rounding errors of its sums decide ties.
        steps = tf.concat([[step * 0.5], tf.fill([size - 1], step)], axis=0)
        return tf.minimum(tf.cast(tf.cumsum(steps), tf.int32), old_size - 1)

    old_height, old_width = tf.unstack(tf.shape(image)[:2])
    return tf.gather(tf.gather(image, sources(old_height, height)), sources(old_width, width), axis=1)


def _sinc(x: tf.Tensor) -> tf.Tensor:
    angle = x * math.pi
    return tf.where(tf.equal(x, 0), tf.ones_like(x), tf.sin(angle) / tf.where(tf.equal(x, 0), tf.ones_like(x), angle))


def _box(x: tf.Tensor) -> tf.Tensor:
    return tf.cast((x > -0.5) & (x <= 0.5), x.dtype)


def _bilinear(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(1.0 - tf.abs(x), 0.0)


def _hamming(x: tf.Tensor) -> tf.Tensor:
    x = tf.abs(x)
    a, b = np.array([0.54, 0.46], np.float32).tolist()  # Pillow's constants are single precision
    return tf.where(x < 1.0, _sinc(x) * (a + b * tf.cos(x * math.pi)), tf.zeros_like(x))


def _bicubic(x: tf.Tensor) -> tf.Tensor:
    a = -0.5
    x = tf.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, tf.zeros_like(x)))


def _lanczos(x: tf.Tensor) -> tf.Tensor:
    return tf.where((x >= -3.0) & (x < 3.0), _sinc(x) * _sinc(x / 3), tf.zeros_like(x))


FILTERS = {
    LANCZOS: Filter(3.0, _lanczos),
    BILINEAR: Filter(1.0, _bilinear),
    BICUBIC: Filter(2.0, _bicubic),
    BOX: Filter(0.5, _box),
    HAMMING: Filter(1.0, _hamming),
}

"""The operations of Faster R-CNN on one image, in TensorFlow's core ops: boxes, proposals, RoIPool, suppression.

Boxes are (n, 4) float32, the corners x1, y1, x2, y2 in pixels. No size needs to be known when the graph is built.
Source: Ren et al. 2015 (Faster R-CNN); Girshick 2015 (RoIPool); torchvision's `roi_pool` and `nms`, whose rounding and
order are kept.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

MAX_LOG_SCALE = math.log(1000 / 16)  # a box grows at most from 16 to 1000 pixels
LEVELS = 11  # windows of up to 1024 cells: enough for a map of 16384 pixels in one bin
SCALE = 1 / 16  # of the feature map


def apply_deltas(boxes: tf.Tensor, deltas: tf.Tensor, weights: Sequence[float]) -> tf.Tensor:
    """Moves and scales boxes (n, 4) by predicted deltas (n, 4), dx, dy, dw, dh, after dividing these by `weights`."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    centers = boxes[:, :2] + 0.5 * sizes
    deltas = deltas / tf.constant(weights, deltas.dtype)
    centers = deltas[:, :2] * sizes + centers
    sizes = tf.exp(tf.minimum(deltas[:, 2:], MAX_LOG_SCALE)) * sizes
    return tf.concat([centers - 0.5 * sizes, centers + 0.5 * sizes], axis=1)


def deltas_between(boxes: tf.Tensor, targets: tf.Tensor, weights: Sequence[float]) -> tf.Tensor:
    """Returns the deltas (n, 4) by which `apply_deltas` moves `boxes` onto `targets`; both must have an area."""
    sizes, target_sizes = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    shifts = (targets[:, :2] + 0.5 * target_sizes - boxes[:, :2] - 0.5 * sizes) / sizes
    return tf.concat([shifts, tf.math.log(target_sizes / sizes)], axis=1) * tf.constant(weights, boxes.dtype)


def clip(boxes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Clips boxes at the edges of an image of `size` (2,), its height and width."""
    height, width = tf.unstack(tf.cast(size, boxes.dtype))
    return tf.clip_by_value(boxes, 0.0, tf.stack([width, height, width, height]))


def overlaps(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Computes the intersection over union (n, m) of every box with every other; 0 where both are empty."""
    top_left = tf.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = tf.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = tf.reduce_prod(tf.maximum(bottom_right - top_left, 0.0), axis=2)
    areas, other_areas = (tf.reduce_prod(each[:, 2:] - each[:, :2], axis=1) for each in (boxes, others))
    return tf.math.divide_no_nan(shared, areas[:, None] + other_areas[None] - shared)


def anchors(cell_anchors: tf.Tensor, grid: tf.Tensor, stride: int, offset: float) -> tf.Tensor:
    """Returns the anchors (rows·columns·A, 4) of the cells of `grid` (2,), row-major, from those (A, 4) of one cell."""
    rows, columns = ((tf.range(tf.cast(grid[axis], tf.float32)) + offset) * stride for axis in (0, 1))
    y, x = tf.meshgrid(rows, columns, indexing="ij")
    shifts = tf.reshape(tf.stack([x, y, x, y], axis=2), [-1, 1, 4])
    return tf.reshape(shifts + cell_anchors, [-1, 4])


def suppress(boxes: tf.Tensor, scores: tf.Tensor, threshold: float, most: int) -> tf.Tensor:
    """Returns the indices of at most `most` boxes, best first, that overlap no better box by more than `threshold`.

    Of equal scores the earlier box is the better one, as in torchvision.
    """
    return tf.raw_ops.NonMaxSuppressionV3(
        boxes=boxes, scores=scores, max_output_size=most, iou_threshold=threshold, score_threshold=-math.inf
    )


def propose(
    boxes: tf.Tensor, scores: tf.Tensor, size: tf.Tensor, pre_nms: int, post_nms: int, threshold: float, min_size: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Selects the proposals (p, 4) of the RPN and their scores (p,), best first; p is at most `post_nms`, maybe 0.

    Args:
        boxes, scores: (n, 4) and (n,), of all anchors.
        size: (2,) height and width of the image.
        pre_nms, post_nms: the largest numbers of boxes before and after the suppression.
        threshold: the overlap above which the weaker of two boxes is suppressed.
        min_size: a proposal must be wider and higher than this, after it is cut at the edges.
    """
    scores, order = tf.math.top_k(scores, tf.minimum(pre_nms, tf.size(scores)))
    boxes = clip(tf.gather(boxes, order), size)
    large = tf.reduce_all(boxes[:, 2:] - boxes[:, :2] > min_size, axis=1)  # false for NaN
    boxes, scores = tf.boolean_mask(boxes, large), tf.boolean_mask(scores, large)
    kept = suppress(boxes, scores, threshold, post_nms)
    return tf.gather(boxes, kept), tf.gather(scores, kept)


def choose(boxes: tf.Tensor, scores: tf.Tensor, thresholds: Sequence[float], least: int, most: int) -> tf.Tensor:
    """Returns the indices of the detections, by the first of `thresholds` that leaves `least` boxes, or else the last.

    If none leaves enough, there are fewer; the reference then returns the previous image's detections.
    """
    tried = [
        tf.raw_ops.NonMaxSuppressionV4(
            boxes=boxes,
            scores=scores,
            max_output_size=most,
            iou_threshold=threshold,
            score_threshold=-math.inf,
            pad_to_max_output_size=True,
        )
        for threshold in thresholds
    ]
    counts = tf.stack([count for _, count in tried])
    enough = tf.concat([counts[:-1] >= least, [True]], axis=0)
    first = tf.argmax(enough)
    return tf.stack([indices for indices, _ in tried])[first][: counts[first]]


class RegionPool:
    """RoIPool from one feature map: the maximum over each of size × size quantised bins.

    A bin's cells are a rectangle, and a rectangle is covered by four windows whose sides are powers of two. The maxima
    over all such windows are computed once per image; then every bin of every region takes four look-ups.

    Args:
        features: (height, width, channels), the map of one image, values of any sign.
        size: bins per side.
    """

    def __init__(self, features: tf.Tensor, size: int):
        self.size = size
        self.grid = tf.shape(features)[:2]
        # no bin is longer than this: the regions lie inside the map, and may pass its edge by rounding
        longest = (tf.reduce_max(self.grid) + 1) // size + 2
        self.levels = tf.minimum(_level(longest) + 1, LEVELS)
        tables = tf.TensorArray(features.dtype, self.levels * self.levels, infer_shape=False)

        def add_row(level, rows, tables):
            def add(column_level, window, tables):
                tables = tables.write(level * self.levels + column_level, window)
                return column_level + 1, _doubled(window, column_level, axis=1), tables

            *_, tables = tf.while_loop(lambda level, *_: level < self.levels, add, [0, rows, tables])
            return level + 1, _doubled(rows, level, axis=0), tables

        *_, tables = tf.while_loop(lambda level, *_: level < self.levels, add_row, [0, features, tables])
        self.tables = tf.reshape(tables.concat(), [-1, features.shape[-1]])

    def __call__(self, boxes: tf.Tensor) -> tf.Tensor:
        """Pools the regions of boxes (n, 4), which must lie inside the image, to (n, size, size, channels)."""
        cells = tf.cast(_rounded(boxes * SCALE), tf.int32)
        top, top_end = self._bins(cells[:, 1], cells[:, 3], self.grid[0])  # (n, size)
        left, left_end = self._bins(cells[:, 0], cells[:, 2], self.grid[1])
        rows, columns = (self._windows(*ends) for ends in ((top, top_end), (left, left_end)))
        height, width = tf.unstack(self.grid)
        pooled = None
        for y in rows.starts:
            for x in columns.starts:
                table = (rows.level[:, :, None] * self.levels + columns.level[:, None, :]) * height
                index = (table + y[:, :, None]) * width + x[:, None, :]  # (n, size, size)
                window = tf.gather(self.tables, index)
                pooled = window if pooled is None else tf.maximum(pooled, window)
        filled = (rows.filled[:, :, None] & columns.filled[:, None, :])[..., None]
        return tf.where(filled, pooled, tf.zeros([], pooled.dtype))

    def _bins(self, start: tf.Tensor, end: tf.Tensor, limit: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the first cell of each bin of a region from `start` to `end`, and the cell after its last."""
        length = tf.cast(tf.maximum(end - start + 1, 1), tf.float32)
        # As a plain division, the graph optimiser would multiply by the rounded reciprocal.
        step = tf.math.divide_no_nan(length, tf.constant(float(self.size)))
        bins = tf.range(self.size, dtype=tf.float32)
        first = tf.cast(tf.floor(bins * step[:, None]), tf.int32) + start[:, None]
        last = tf.cast(tf.math.ceil((bins + 1) * step[:, None]), tf.int32) + start[:, None]
        return tf.clip_by_value(first, 0, limit), tf.clip_by_value(last, 0, limit)

    def _windows(self, first: tf.Tensor, last: tf.Tensor) -> "_Windows":
        """Returns two windows, whose side is a power of two, that cover the cells from `first` up to `last`."""
        length = tf.maximum(last - first, 1)
        level = tf.minimum(_level(length), self.levels - 1)
        second = tf.maximum(last - tf.bitwise.left_shift(1, level), 0)
        return _Windows(level, (tf.minimum(first, second), second), last > first)


class _Windows:
    def __init__(self, level: tf.Tensor, starts: tuple[tf.Tensor, tf.Tensor], filled: tf.Tensor):
        self.level, self.starts, self.filled = level, starts, filled


def _level(length: tf.Tensor) -> tf.Tensor:
    """Returns the exponent of the largest power of two that is not above `length`, at most `LEVELS`."""
    return tf.add_n([tf.cast(length >= 2**level, tf.int32) for level in range(1, LEVELS + 1)])


def _doubled(windows: tf.Tensor, level: tf.Tensor, axis: int) -> tf.Tensor:
    """Doubles the windows, of 2^level cells, over which maxima are taken; windows are cut at the edge."""
    shift = tf.minimum(tf.bitwise.left_shift(1, level), tf.shape(windows)[axis])
    moved = windows[shift:] if axis == 0 else windows[:, shift:]
    edge = windows[-1:] if axis == 0 else windows[:, -1:]
    repeats = [shift, 1, 1] if axis == 0 else [1, shift, 1]
    doubled = tf.maximum(windows, tf.concat([moved, tf.tile(edge, repeats)], axis=axis))
    return tf.ensure_shape(doubled, windows.shape)


def _rounded(values: tf.Tensor) -> tf.Tensor:
    """Rounds values from 0 on as C does: halves go up."""
    whole = tf.floor(values)
    return whole + tf.cast(values - whole >= 0.5, values.dtype)

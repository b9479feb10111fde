"""Batches of images that differ in size: flattens nested lists, nests the rows again, pads, and masks the padding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def flatten(images: Any) -> tuple[list, tuple[int, ...]]:
    """Flattens one image, a list, or a list of equally long lists.

    Returns the flat list and the shape of the nesting.
    """
    if isinstance(images, np.ndarray) and images.ndim > 3:
        leading = images.shape[:-3]
        return list(images.reshape(-1, *images.shape[-3:])), leading
    if not isinstance(images, (list, tuple)):
        return [images], (1,)
    if not any(isinstance(row, (list, tuple)) for row in images):
        return list(images), (len(images),)
    lengths = {len(row) if isinstance(row, (list, tuple)) else 0 for row in images}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError("images as a list of lists need the same number of images, at least one, in each")
    return [image for row in images for image in row], (len(images), lengths.pop())


def at_least_one(rows: tf.Tensor) -> tf.Tensor:
    """Replaces an empty batch by one blank row, since `tf.map_fn` cannot stack no rows; `nested` removes it again."""
    shape = tf.shape(rows)
    blank = tf.zeros(tf.concat([[tf.maximum(1 - shape[0], 0)], shape[1:]], axis=0), rows.dtype)
    return tf.concat([rows, blank], axis=0)


def nested(rows: tf.Tensor, leading: tf.Tensor) -> tf.Tensor:
    """Reshapes (rows, ...) to (*leading, ...)."""
    return tf.reshape(rows[: tf.reduce_prod(leading)], tf.concat([leading, tf.shape(rows)[1:]], axis=0))


def padded(images: Sequence[np.ndarray], value: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Pads N ≥ 1 images (h, w, channels) to float32 (N, H, W, channels); also returns a mask, int32 (N, H, W)."""
    height, width = np.max([image.shape[:2] for image in images], axis=0)
    values = np.full([len(images), height, width, images[0].shape[2]], value, np.float32)
    masks = np.zeros([len(images), height, width], np.int32)
    for row, image in enumerate(images):
        values[row, : image.shape[0], : image.shape[1]] = image
        masks[row, : image.shape[0], : image.shape[1]] = 1
    return values, masks


def mask(sizes: tf.Tensor, largest: tf.Tensor) -> tf.Tensor:
    """Returns a mask (N, H, W) int32 for sizes (N, 2): 1 inside the size of a row, 0 elsewhere."""
    rows, columns = (tf.sequence_mask(sizes[:, axis], largest[axis], tf.int32) for axis in (0, 1))
    return rows[:, :, None] * columns[:, None, :]

"""The detector's image processing: it resizes images, and subtracts the means of blue, green and red.

Images are resized as floats, bilinearly and without antialiasing, which is what the reference does with photographs.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tfvl.preprocessing.image import formats
from tfvl.preprocessing.image.batch import flatten
from tfvl.preprocessing.image.decode import to_levels


class DetectorImageProcessor:
    """Resizes, subtracts means and pads images for the detector (upstream: `Preprocess` in `processing_image.py`)."""

    def __init__(self, config: Any):
        self.config = config

    def __call__(self, images: Any) -> dict[str, tf.Tensor]:
        """Prepares one image or a list.

        Args:
            images: encoded bytes, paths, `PIL.Image.Image`s or arrays (see `preprocessing.image.decode`), RGB.

        Returns:
            `pixel_values` (N, H, W, 3) float32, blue first, padded with zeros right and below after the means are
            subtracted; `image_sizes` and `raw_sizes` (N, 2) int32, height and width after and before resizing.

        Raises:
            ValueError: an image cannot be used; the message names its place in the list.
        """
        return self.prepare_batch(self.levels(images))

    def prepare_batch(self, levels: list[np.ndarray]) -> dict[str, tf.Tensor]:
        """Prepares images given as levels (height, width, 3) uint8; returns what a call returns."""
        pixels = [self.prepare(tf.constant(each)) for each in levels]
        sizes = [each.shape[:2] for each in pixels]
        height, width = np.max(sizes, axis=0)
        padded = [
            tf.pad(each, [[0, height - rows], [0, width - columns], [0, 0]])
            for each, (rows, columns) in zip(pixels, sizes, strict=True)
        ]
        return {
            "pixel_values": tf.stack(padded),
            "image_sizes": tf.constant(sizes, tf.int32),
            "raw_sizes": tf.constant([each.shape[:2] for each in levels], tf.int32),
        }

    def levels(self, images: Any) -> list[np.ndarray]:
        """Converts images to levels (height, width, 3) uint8, red first; arguments and errors are those of a call."""
        flat, leading = flatten(images)
        if not flat or len(leading) != 1:
            raise ValueError("images must be one image or a list of at least one.")
        return [self._levels(image, f"images[{place}]") for place, image in enumerate(flat)]

    def _levels(self, image: Any, place: str) -> np.ndarray:
        try:
            levels = to_levels(image, self.config.max_pixels).levels
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        height, width = levels.shape[:2]
        if not 0 < height * width <= self.config.max_pixels:
            raise ValueError(
                f"{place}: {height} x {width} pixels, expected at least one and at most {self.config.max_pixels}."
            )
        return levels

    # --- in the graph -------------------------------------------------------------------------------------------------

    def prepare(self, levels: tf.Tensor) -> tf.Tensor:
        """Resizes levels (h, w, 3) uint8, red first, to (height, width, 3) float32, blue first, minus the means."""
        pixels = tf.cast(tf.reverse(levels, axis=[2]), tf.float32)
        size = target_size(tf.shape(levels)[:2], self.config.min_size, self.config.max_size)
        pixels = tf.image.resize(pixels, size, tf.image.ResizeMethod.BILINEAR)
        mean, std = (tf.constant(values, tf.float32) for values in (self.config.pixel_mean, self.config.pixel_std))
        return (tf.ensure_shape(pixels, [None, None, 3]) - mean) / std

    def read(self, contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Reads one encoded image, a tf.string scalar; a bad one gets a status instead of an error.

        Returns:
            pixels (height, width, 3) as from `prepare`, original size (2,) int32 and a status: "", or a sentence that
            says what is wrong with the image, which is then one black pixel.
        """
        levels, size = formats.read(contents, self.config.max_pixels)
        numbers = tf.strings.join([tf.strings.as_string(size[0]), " x ", tf.strings.as_string(size[1])])
        too_large = tf.strings.join(["image: ", numbers, f" pixels are more than max_pixels={self.config.max_pixels}"])
        status = tf.where(tf.reduce_prod(tf.maximum(size, 1)) > self.config.max_pixels, too_large, "")
        status = tf.where(tf.reduce_all(size > 0), status, formats.problem(contents, size))
        levels = tf.cond(tf.equal(status, ""), lambda: levels, lambda: tf.zeros([1, 1, 3], tf.uint8))
        levels = tf.ensure_shape(levels, [None, None, 3])
        return self.prepare(levels), tf.shape(levels)[:2], status


def target_size(size: tf.Tensor, shortest: int, longest: int) -> tf.Tensor:
    """Returns the size (2,) int32, at least 1 × 1, to which an image of `size` (2,) is resized.

    The order of the float64 operations is the reference's (`ResizeShortestEdge`), in which a very long image has no
    pixels left; here it keeps one row or column.
    """
    size = tf.cast(size, tf.float64)
    short = tf.constant(shortest, tf.float64)
    scale = short / tf.reduce_min(size)
    higher = size[0] >= size[1]
    resized = tf.stack([tf.where(higher, scale * size[0], short), tf.where(higher, short, scale * size[1])])
    longer = tf.reduce_max(resized)
    resized = tf.where(longer > longest, tf.constant(longest, tf.float64) / longer * resized, resized)
    return tf.maximum(tf.cast(resized + 0.5, tf.int32), 1)

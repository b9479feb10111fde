"""`RegionBatch`, and the checks of the regions that callers give to a `RegionProcessor`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class RegionBatch(NamedTuple):
    """The regions of N rows, padded to the largest number of regions in a row.

    Attributes:
        features: float32 (N, regions, feature_size).
        mask: int32 (N, regions), 1 for a region and 0 for padding.
        boxes: float32 (N, regions, 4), or None if the model does not read them.
        image: int32 (N, regions), 0 for regions of a row's first image and 1 for the second; None if rows have one.
    """

    features: tf.Tensor
    mask: tf.Tensor
    boxes: tf.Tensor | None = None
    image: tf.Tensor | None = None

    def in_a_row(self) -> "RegionBatch":
        """Concatenates the regions (N, 2, R, size) of pairs of images to (N, 2 R, size), and sets `image`."""
        rows, images, count = tf.unstack(tf.shape(self.mask))
        image = tf.range(images)[:, None] * tf.ones_like(self.mask)
        size = self.features.shape[-1] or tf.shape(self.features)[-1]
        mask, image = (tf.reshape(value, [rows, images * count]) for value in (self.mask, image))
        return RegionBatch(tf.reshape(self.features, [rows, images * count, size]), mask, image=image)


def refuse(wrong, sentence: str, values=None) -> None:
    """Raises ValueError that names the first region for which `wrong` is True; a graph raises when it runs.

    Args:
        wrong: bool (images,) or (images, regions).
        sentence: says what is wrong.
        values: (images, regions, …), of which the error shows those of that region.
    """
    if not tf.executing_eagerly():
        tf.debugging.assert_equal(tf.reduce_any(wrong), False, message=f"regions: {sentence}")
        return
    for place in np.argwhere(wrong)[:1].tolist():
        where = ", ".join(f"{name} {number}" for name, number in zip(("image", "region"), place, strict=False))
        shown = "" if values is None else f" ({', '.join(f'{value:g}' for value in np.asarray(values)[tuple(place)])})"
        raise ValueError(f"{where}{shown}: {sentence}")


def as_tensors(padded: dict[str, np.ndarray]) -> RegionBatch:
    return RegionBatch(**{name: tf.constant(value) for name, value in padded.items()})


def fields_of(regions: Mapping, where: str) -> tuple[Any, Any, Any]:
    """Returns `features`, `boxes` and `mask` of a dict from `pad_regions`; the last two are None if missing."""
    if "features" not in regions:
        raise ValueError(f"{where}: the dict has {', '.join(map(str, regions)) or 'no keys'}, but no features")
    return regions["features"], regions.get("boxes"), regions.get("mask")


def is_array(value) -> bool:
    return isinstance(value, np.ndarray) or tf.is_tensor(value)


def as_floats(name: str, value) -> tf.Tensor:
    """Converts to a float32 tensor. Raises ValueError for anything but numbers."""
    value = tf.convert_to_tensor(value)
    if not (value.dtype.is_floating or value.dtype.is_integer):
        raise ValueError(f"{name} are of type {value.dtype.name}, expected numbers")
    return tf.cast(value, tf.float32)


def as_shape(name: str, value: tf.Tensor, shape) -> tf.Tensor:
    """Sets the static shape of a tensor (None: any size). Raises ValueError if it has another shape."""
    if not value.shape.is_compatible_with(shape):
        raise ValueError(f"{name} have shape {value.shape}, expected {tf.TensorShape(shape)}")
    return tf.ensure_shape(value, shape)


def kind(value) -> str:
    return f"{value!r:.40}" if isinstance(value, (int, float, type(None))) else f"a {type(value).__name__}"

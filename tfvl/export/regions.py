"""Region features and boxes, as requests bring them or a detector finds them, to what VisualBERT and LXMERT take."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfvl.export.inputs import example_images, numbered, spec
from tfvl.export.rows import first_of_items, first_problem, once_each, only
from tfvl.preprocessing.regions.regions import BOX_TOLERANCE

_EXAMPLE_REGIONS = 36  # of the warm-up request: what the papers' detector finds in a photograph


class RegionInputs(NamedTuple):
    """What a signature takes for an image's regions: the image, where there is a detector, or else the regions.

    Attributes:
        raw: name to spec of the inputs.
        encode: from a dict as `raw` says to the features (N, [images,] R, feature_size), their mask and boxes (None
            where they are not asked for), and the status (N,) of the rows.
        example: one row of `raw`.
    """

    raw: dict[str, tf.TensorSpec]
    encode: Callable[[dict], tuple[tf.Tensor, tf.Tensor, tf.Tensor | None, tf.Tensor]]
    example: dict[str, np.ndarray]


def region_inputs(processor, feature_size: int, *images: int, boxes: bool = False) -> RegionInputs:
    """Regions of rows of one image, or of several (`images`); with boxes where the model reads them."""
    if processor.detector is None:
        return _given(feature_size, *images, boxes=boxes)
    return _detected(processor, *images, boxes=boxes)


def _detected(processor, *images: int, boxes: bool) -> RegionInputs:
    """`image` (N, [images]) encoded files."""

    def detect(files: tf.Tensor) -> tuple[tf.Tensor, ...]:
        outputs = processor.detector.detect_bytes(files)
        batch = processor.from_detector(outputs)
        return batch.features, batch.mask, *([batch.boxes] if boxes else ()), outputs["status"]

    def encode(raw: dict) -> tuple:
        features, mask, *placed, status = once_each(detect, raw["image"])
        return features, mask, placed[0] if boxes else None, numbered(status) if images else status

    return RegionInputs({"image": spec(tf.string, "image", *images)}, encode, {"image": example_images(*images)})


def _given(feature_size: int, *images: int, boxes: bool) -> RegionInputs:
    """`regions` (N, [images,] R, size) features, and maybe `boxes` (N, R, 4), x1, y1, x2, y2 in 0 … 1.

    A region whose features are all 0 is padding, for rows with fewer than R.
    """

    def encode(raw: dict) -> tuple:
        leading = tf.shape(raw["regions"])[:-2]
        every = tf.reshape(raw["regions"], tf.concat([[-1], tf.shape(raw["regions"])[-2:]], axis=0))
        features, mask, status = encode_regions(every, feature_size)
        if images:
            features = tf.reshape(features, tf.concat([leading, tf.shape(features)[1:]], axis=0))
            mask = tf.reshape(mask, tf.concat([leading, tf.shape(mask)[1:]], axis=0))
            return features, mask, None, first_of_items("regions", tf.reshape(status, leading))
        placed, box_status = (
            encode_boxes(raw["boxes"], raw["regions"], mask) if boxes else (None, tf.zeros_like(status))
        )
        return features, mask, placed, first_problem(status, box_status)

    raw = {"regions": spec(tf.float32, "regions", *images, None, None)}
    example = {"regions": example_regions(feature_size, *images)}
    if boxes:
        raw["boxes"], example["boxes"] = spec(tf.float32, "boxes", None, 4), example_boxes()
    return RegionInputs(raw, encode, example)


def encode_regions(regions: tf.Tensor, feature_size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Features, mask and status of rows of regions (N, R, any size); a region whose features are all 0 is padding.

    Returns:
        Features (N, R or 1, feature_size), zeros in rows with a status; int32 (N, R or 1), 1 for a region and 0 for
        padding and in rows with a status; the status (N,).
    """
    size = tf.shape(regions)[2]
    features = _resized(regions, tf.maximum(tf.shape(regions)[1], 1), feature_size)
    finite = tf.reduce_all(tf.math.is_finite(features), axis=2)  # (N, R)
    present = tf.reduce_any(features != 0, axis=2)  # (N, R)
    wrong_size = tf.strings.join(
        ["regions: features of size ", tf.strings.as_string(size), f", but the model takes {feature_size}"]
    )
    status = first_problem(
        tf.where(size == feature_size, "", tf.fill(tf.shape(regions)[:1], wrong_size)),
        first_of_items("regions", tf.where(finite, "", "regions: a feature is infinite or not a number")),
        tf.where(tf.reduce_any(present, axis=1), "", "regions: there are none, or all of their features are 0"),
    )
    good = status == ""
    mask = only(good, tf.cast(present, tf.int32))
    return tf.ensure_shape(only(good, features), [None, None, feature_size]), mask, status


def encode_boxes(boxes: tf.Tensor, regions: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes (N, R or 1, 4), zeros for padding and in rows with a status, and the status (N,).

    Args:
        boxes: (N, R, 4), the corners x1, y1, x2, y2 from 0 to 1 of each region. What stands for padding is not read.
        regions, mask: the raw regions, and what `encode_regions` says which of them are no padding.
    """
    count, expected = tf.shape(boxes)[1], tf.shape(regions)[1]
    boxes = _resized(boxes, tf.shape(mask)[1], 4)
    wrong_count = tf.strings.join(
        ["boxes: ", tf.strings.as_string(count), " of them for ", tf.strings.as_string(expected), " regions"]
    )
    inside = tf.reduce_all((boxes > -BOX_TOLERANCE) & (boxes < 1 + BOX_TOLERANCE), axis=2)  # false for NaN
    ordered = tf.reduce_all(boxes[..., 2:] >= boxes[..., :2] - BOX_TOLERANCE, axis=2)
    numbers = tf.strings.reduce_join(tf.strings.as_string(boxes, shortest=True), axis=2, separator=", ")
    wrong_box = tf.strings.join(["boxes: ", numbers, "; expected x1, y1, x2, y2 in 0 … 1 with x1 <= x2, y1 <= y2"])
    status = first_problem(
        tf.where(count == expected, "", tf.fill(tf.shape(mask)[:1], wrong_count)),
        first_of_items("boxes", tf.where((inside & ordered) | (mask == 0), "", wrong_box)),
    )
    return only((mask > 0) & (status == "")[:, None], boxes), status


def example_regions(feature_size: int, *items: int) -> np.ndarray:
    """One row of distinct features."""
    shape = (1, *items, _EXAMPLE_REGIONS, feature_size)
    return np.linspace(1, 0, np.prod(shape), endpoint=False, dtype=np.float32).reshape(shape)


def example_boxes() -> np.ndarray:
    return np.tile(np.array([0, 0, 1, 1], np.float32), (1, _EXAMPLE_REGIONS, 1))


def _resized(values: tf.Tensor, count: tf.Tensor, size: int) -> tf.Tensor:
    """(N, any, any) to (N, count, size), by cutting off or by zeros."""
    values = values[:, :count, :size]
    missing = [0, count - tf.shape(values)[1], size - tf.shape(values)[2]]
    return tf.ensure_shape(tf.pad(values, tf.stack([[0, 0, 0], missing], axis=1)), [None, None, size])

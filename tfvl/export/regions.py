"""The signature's input of regions, or of images in which a detector finds them, for models that take regions."""

import numpy as np
import tensorflow as tf

from tfvl.answers.rows import PAIR, REGION_BOXES
from tfvl.export.images import example_images, numbered
from tfvl.export.parts import ModelInput, Part, spec
from tfvl.export.rows import first_of_items, first_problem, once_each, only
from tfvl.preprocessing.regions.regions import BOX_TOLERANCE, CORNERS
from tfvl.processors.region_values import RegionBatch

_EXAMPLE_REGIONS = 36  # regions of the warm-up request, as many as the papers' detector finds in a photograph


def regions(head, config, processor) -> Part:
    """Describes the inputs `regions` (N, R, size) and maybe `boxes` (N, R, 4); with a detector, `image` (N,), files.

    A region whose features are all 0 is padding, for rows with fewer than R. Boxes are the corners x1, y1, x2, y2 in
    0 … 1. A head that takes the regions of two images with a text has `image` (N, 2) or `regions` (N, 2, R, size); the
    model gets those of both one after the other, with the number of its image for each. For a head whose answers are
    regions, `encode` also returns the boxes that the detector has found, as `REGION_BOXES`.
    """
    images, boxes = (PAIR,) if head.several else (), "boxes" in head.reads
    size, box_size = config.region_size("features"), config.region_size("boxes")
    if boxes and box_size != CORNERS:
        field = config.region_inputs["boxes"].size_field
        raise ValueError(f"config.{field} is {box_size}; an exported model takes boxes, of {CORNERS} numbers")
    if processor.detector is None:
        raw, find, example = _given(size, *images, boxes=boxes)
    else:
        raw, find, example = _detected(processor, *images)

    def encode(raw: dict, encoded: dict) -> tuple[dict, tf.Tensor]:
        batch, status = find(raw)
        placed = {REGION_BOXES: batch.boxes} if head.kind == "phrases" and batch.boxes is not None else {}
        return processor.model_inputs(batch.in_a_row() if images else batch) | placed, status

    tensors = {}
    for field, each in config.region_inputs.items():
        numbers = config.region_size(field)
        tensors[each.name] = (
            ModelInput(tf.float32, ("regions", numbers)) if numbers else ModelInput(tf.int32, ("regions",))
        )
    return Part(raw, tensors, encode, example)


def _detected(processor, *images: int) -> tuple:
    """Returns, for files `image` (N, [images]), specs, a function from them to regions and status, and a row."""

    def detect(files: tf.Tensor) -> tuple[tf.Tensor, ...]:
        outputs = processor.detector.detect_bytes(files)
        batch = processor.from_detector(outputs)
        return batch.features, batch.mask, tf.clip_by_value(outputs["normalized_boxes"], 0.0, 1.0), outputs["status"]

    def find(raw: dict) -> tuple[RegionBatch, tf.Tensor]:
        *batch, status = once_each(detect, raw["image"])
        return RegionBatch(*batch), numbered(status) if images else status

    return {"image": spec(tf.string, "image", *images)}, find, {"image": example_images(*images)}


def _given(size: int, *images: int, boxes: bool) -> tuple:
    """Returns the same for `regions` (N, [images,] R, size), features, and maybe `boxes` (N, R, 4)."""

    def find(raw: dict) -> tuple[RegionBatch, tf.Tensor]:
        leading = tf.shape(raw["regions"])[:-2]
        every = tf.reshape(raw["regions"], tf.concat([[-1], tf.shape(raw["regions"])[-2:]], axis=0))
        features, mask, status = encode_regions(every, size)
        if images:
            features = tf.reshape(features, tf.concat([leading, tf.shape(features)[1:]], axis=0))
            mask = tf.reshape(mask, tf.concat([leading, tf.shape(mask)[1:]], axis=0))
            return RegionBatch(features, mask), first_of_items("regions", tf.reshape(status, leading))
        placed, box_status = (
            encode_boxes(raw["boxes"], raw["regions"], mask) if boxes else (None, tf.zeros_like(status))
        )
        return RegionBatch(features, mask, placed), first_problem(status, box_status)

    raw = {"regions": spec(tf.float32, "regions", *images, None, None)}
    example = {"regions": example_regions(size, *images)}
    if boxes:
        raw["boxes"] = spec(tf.float32, "boxes", None, CORNERS)
        example["boxes"] = np.tile(np.array([0, 0, 1, 1], np.float32), (1, _EXAMPLE_REGIONS, 1))
    return raw, find, example


def encode_regions(regions: tf.Tensor, feature_size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Checks rows of regions (N, R, any size), in which a region whose features are all 0 is padding.

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
    """Returns boxes (N, R or 1, 4), zeros for padding and in rows with a status, and the status (N,).

    Args:
        boxes: (N, R, 4), the corners x1, y1, x2, y2 from 0 to 1 of each region. The boxes of padding are not read.
        regions, mask: the raw regions, and the mask that `encode_regions` returned for them.
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
    """Returns one row of distinct features."""
    shape = (1, *items, _EXAMPLE_REGIONS, feature_size)
    return np.linspace(1, 0, np.prod(shape), endpoint=False, dtype=np.float32).reshape(shape)


def _resized(values: tf.Tensor, count: tf.Tensor, size: int) -> tf.Tensor:
    """Brings (N, any, any) to (N, count, size), by cutting off or by appending zeros."""
    values = values[:, :count, :size]
    missing = [0, count - tf.shape(values)[1], size - tf.shape(values)[2]]
    return tf.ensure_shape(tf.pad(values, tf.stack([[0, 0, 0], missing], axis=1)), [None, None, size])

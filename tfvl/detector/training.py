"""Trains a detector by `fit` on boxes, objects and attributes of one's own, with the losses of Faster R-CNN.

Source: Ren et al. 2015; Anderson et al. 2018, section 3.1 (attributes: half the weight, given the true class).
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfvl.detector import ops
from tfvl.detector.model import RegionDetector, checked_boxes
from tfvl.detector.network import STRIDE
from tfvl.modeling.optimizer_state import StateBeforeSteps, make_state_at_compile

NONE = -1  # the object of padding, and the attribute of a region that has none
RPN_OVERLAPS = (0.3, 0.7)  # an anchor below is background, one above an object; in between it is ignored
ROI_OVERLAP = 0.5  # from this overlap on, a proposal gets the object that it overlaps most
ATTRIBUTE_WEIGHT = 0.5


class DetectorTraining(StateBeforeSteps, keras.Model):
    """A detector with its losses; `fit` changes the weights of `detector`.

        training = DetectorTraining(detector)
        training.compile(keras.optimizers.AdamW(1e-3))
        training.fit(batches)  # from `training_batch`

    Batch norm is frozen, as upstream's; all other weights are trained, unless their layer is not trainable, for
    instance by `detector.backbone.trainable = False`. The images of a batch are padded to one size.

    Args:
        detector: the detector that is trained.
        anchors, regions: numbers of anchors and of regions per image that enter the loss.
        anchor_objects, region_objects: the largest share of objects among these.
    """

    def __init__(
        self,
        detector: RegionDetector,
        *,
        anchors: int = 256,
        regions: int = 64,
        anchor_objects: float = 0.5,
        region_objects: float = 0.25,
    ):
        super().__init__(name="detector_training", dtype="float32")
        self.detector = detector
        self.anchors, self.anchor_objects = anchors, anchor_objects
        self.regions, self.region_objects = regions, region_objects
        self.trackers = {name: keras.metrics.Mean(name=name) for name in LOSSES}
        self.built = True

    def compile(self, *arguments, **options):
        """Compiles the model as `keras.Model.compile` does, and makes the optimizer's state at once."""
        super().compile(*arguments, **options)
        make_state_at_compile(self)

    @property
    def metrics(self):
        return [metric for metric in super().metrics if metric not in self.trackers.values()] + [
            *self.trackers.values()
        ]

    def call(self, inputs, training=None):
        """Computes the five terms of the loss, scalars by name, for a batch of `training_batch`."""
        features = self.detector.backbone(inputs["pixel_values"])
        logits, deltas = self.detector.rpn_head(features)
        batch = tf.shape(features)[0]
        logits, deltas = tf.reshape(logits, [batch, -1]), tf.reshape(deltas, [batch, -1, 4])
        truth = (inputs["boxes"], inputs["objects"], inputs["attributes"])
        found = self.proposal_losses(features, logits, deltas, inputs["image_sizes"], truth)
        return found | self.region_losses(features, logits, deltas, inputs["image_sizes"], truth)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        for name, value in y_pred.items():
            self.trackers[name].update_state(value)
        return tf.add_n([weight * y_pred[name] for name, weight in LOSSES.items()] + self.losses)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

    # --- proposals ----------------------------------------------------------------------------------------------------

    def proposal_losses(self, features, logits, deltas, sizes, truth) -> dict[str, tf.Tensor]:
        """Computes the RPN's losses: of scores, for objects against background, and of its boxes' deltas."""
        config = self.detector.config
        cells = self.detector.rpn_head.cell_anchors
        anchors = ops.anchors(cells, tf.shape(features)[1:3], STRIDE, config.anchor_offset)

        def targets(row):
            size, boxes, objects = row
            boxes = tf.boolean_mask(boxes, objects != NONE)
            overlaps = ops.overlaps(anchors, boxes)  # (anchors, boxes)
            best, label = best_of(overlaps)
            low, high = RPN_OVERLAPS
            # Every object gets the anchor that overlaps it most, however small the overlap is.
            nearest = tf.reduce_any((overlaps == tf.reduce_max(overlaps, axis=0)) & (overlaps > 0), axis=1)
            is_object = (best >= high) | nearest
            inside = tf.reduce_all(anchors[:, :2] < tf.cast(size[::-1], tf.float32), axis=1)  # not in the padding
            sample = sampled(is_object, ~is_object & (best < low) & inside, self.anchors, self.anchor_objects)
            chosen = tf.scatter_nd(sample[:, None], tf.ones_like(sample), [tf.shape(anchors)[0]]) > 0
            wanted = wanted_deltas(anchors, boxes, label, config.rpn_bbox_weights)
            return chosen, is_object, tf.where((chosen & is_object)[:, None], wanted, 0.0)

        signature = (tf.TensorSpec([None], tf.bool), tf.TensorSpec([None], tf.bool), tf.TensorSpec([None, 4]))
        chosen, is_object, wanted = tf.map_fn(targets, (sizes, *truth[:2]), fn_output_signature=signature)
        chosen, is_object = tf.cast(chosen, tf.float32), tf.cast(is_object, tf.float32)
        scores = tf.nn.sigmoid_cross_entropy_with_logits(is_object, logits)
        distances = tf.reduce_sum(tf.abs(deltas - wanted), axis=2)
        count = tf.reduce_sum(chosen)
        return {
            "rpn_score_loss": tf.math.divide_no_nan(tf.reduce_sum(chosen * scores), count),
            "rpn_box_loss": tf.math.divide_no_nan(tf.reduce_sum(chosen * is_object * distances), count),
        }

    # --- regions ------------------------------------------------------------------------------------------------------

    def region_losses(self, features, logits, deltas, sizes, truth) -> dict[str, tf.Tensor]:
        """Computes the losses of the classes and boxes of regions, which are sampled proposals and true boxes."""
        config = self.detector.config
        anchors = ops.anchors(
            self.detector.rpn_head.cell_anchors, tf.shape(features)[1:3], STRIDE, config.anchor_offset
        )
        limits = (config.rpn_pre_nms, config.rpn_post_nms, config.rpn_nms_threshold, config.rpn_min_size)

        def sample(row):
            scores, moves, size, boxes, objects, attributes = row
            real = objects != NONE
            boxes, objects, attributes = (tf.boolean_mask(each, real) for each in (boxes, objects, attributes))
            proposals = ops.apply_deltas(anchors, moves, config.rpn_bbox_weights)
            proposals = tf.concat([boxes, ops.propose(proposals, scores, size, *limits)[0]], axis=0)
            best, label = best_of(ops.overlaps(proposals, boxes))
            is_object = best >= ROI_OVERLAP
            kept = sampled(is_object, ~is_object, self.regions, self.region_objects)
            is_object, label, proposals = (tf.gather(each, kept) for each in (is_object, label, proposals))
            wanted = wanted_deltas(proposals, boxes, label, config.roi_bbox_weights)
            wanted = tf.where(is_object[:, None], wanted, 0.0)
            objects = tf.where(is_object, gathered(objects, label), config.num_objects)
            attributes = tf.where(is_object, gathered(attributes, label), NONE)
            missing = self.regions - tf.shape(kept)[0]  # above 0 if an image has too few proposals
            padding = [[0, missing]]
            return (
                tf.ensure_shape(tf.pad(proposals, [*padding, [0, 0]]), [self.regions, 4]),
                tf.ensure_shape(tf.pad(wanted, [*padding, [0, 0]]), [self.regions, 4]),
                tf.ensure_shape(tf.pad(objects, padding, constant_values=NONE), [self.regions]),
                tf.ensure_shape(tf.pad(attributes, padding, constant_values=NONE), [self.regions]),
            )

        rows = (tf.stop_gradient(logits), tf.stop_gradient(deltas), sizes, *truth)
        of_boxes, of_ids = tf.TensorSpec([self.regions, 4]), tf.TensorSpec([self.regions], tf.int32)
        boxes, *labels = tf.map_fn(sample, rows, fn_output_signature=(of_boxes, of_boxes, of_ids, of_ids))
        cells, channels = config.roi_size, features.shape[-1]
        regions = tf.map_fn(
            lambda row: ops.RegionPool(row[0], cells)(row[1]),
            (features, tf.stop_gradient(boxes)),
            fn_output_signature=tf.TensorSpec([self.regions, cells, cells, channels]),
        )  # (batch, regions, cells, cells, channels)
        regions = self.detector.res5(tf.reshape(regions, [-1, cells, cells, channels]))
        wanted, objects, attributes = (tf.reshape(each, [-1, *each.shape[2:]]) for each in labels)
        return self.classification_losses(tf.reduce_mean(regions, axis=[1, 2]), wanted, objects, attributes)

    def classification_losses(self, pooled, wanted, objects, attributes) -> dict[str, tf.Tensor]:
        """Computes the losses of the objects and attributes of regions (n, feature_size); object `NONE` is padding."""
        config = self.detector.config
        classes = tf.maximum(objects, 0)
        object_logits, attribute_logits, moves = self.detector.box_predictor(pooled, classes)
        real = tf.cast(objects != NONE, tf.float32)
        is_object = real * tf.cast(objects != config.num_objects, tf.float32)
        of_class = (
            tf.zeros_like(classes) if config.class_agnostic_boxes else tf.minimum(classes, config.num_objects - 1)
        )
        distances = tf.reduce_sum(tf.abs(tf.gather(moves, of_class, batch_dims=1) - wanted), axis=1)
        named = tf.cast(attributes != NONE, tf.float32)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
        object_losses = entropy(classes, object_logits)
        attribute_losses = entropy(tf.maximum(attributes, 0), attribute_logits[:, :-1])
        count = tf.reduce_sum(real)
        return {
            "object_loss": tf.math.divide_no_nan(tf.reduce_sum(real * object_losses), count),
            "box_loss": tf.math.divide_no_nan(tf.reduce_sum(is_object * distances), count),
            "attribute_loss": tf.math.divide_no_nan(tf.reduce_sum(named * attribute_losses), tf.reduce_sum(named)),
        }


# The terms of the loss and their weights.
LOSSES = {
    "rpn_score_loss": 1.0,
    "rpn_box_loss": 1.0,
    "object_loss": 1.0,
    "box_loss": 1.0,
    "attribute_loss": ATTRIBUTE_WEIGHT,
}


def training_batch(
    detector: RegionDetector,
    images: Any,
    boxes: Iterable[Any],
    objects: Iterable[Any],
    attributes: Iterable[Any] | None = None,
) -> dict[str, tf.Tensor]:
    """Makes a batch for `DetectorTraining`.

    Args:
        detector: the detector, whose image processing is used.
        images: images in the forms that `RegionDetector.detect` takes.
        boxes: for each image (n, 4), x1, y1, x2, y2 in its pixels.
        objects: for each image the class of each box, from 0 to `num_objects` - 1.
        attributes: for each image the attribute of each box, -1 for none; None: no box has one.

    Returns:
        `pixel_values` (N, H, W, 3) and `image_sizes` (N, 2) from the image processing, `boxes` (N, most, 4) float32 in
        resized pixels, `objects` and `attributes` (N, most) int32, -1 for padding.

    Raises:
        ValueError: a box is empty, the detector has no such class, or numbers of boxes and classes differ.
    """
    levels = detector.processor.levels(images)
    prepared = detector.processor.prepare_batch(levels)
    rows = list(boxes)
    ids = {"objects": list(objects), "attributes": [[NONE] * len(each) for each in rows]}
    if attributes is not None:
        ids["attributes"] = list(attributes)
    counts = {"boxes": len(rows)} | {name: len(each) for name, each in ids.items()}
    for name, count in counts.items():
        if count != len(levels):
            raise ValueError(f"there are {name} for {count} images, but {len(levels)} images.")
    most = max(1, *(len(each) for each in rows))
    batch = {"boxes": np.zeros((len(rows), most, 4), np.float32)}
    limits = {"objects": (0, detector.config.num_objects), "attributes": (NONE, detector.config.num_attributes)}
    for place, (image, each) in enumerate(zip(levels, rows, strict=True)):
        cut = checked_boxes(each, image, place)
        if (cut[:, :2] >= cut[:, 2:]).any():
            raise ValueError(f"boxes[{place}] hold an empty box, or one outside the image; leave it out.")
        scale = prepared["image_sizes"][place].numpy() / image.shape[:2]
        batch["boxes"][place, : len(cut)] = cut * [*scale[::-1], *scale[::-1]]
    for name, (least, end) in limits.items():
        batch[name] = np.full((len(rows), most), NONE, np.int32)
        for place, each in enumerate(ids[name]):
            each = np.asarray(each, np.int32).reshape(-1)
            if len(each) != len(rows[place]) or ((each < least) | (each >= end)).any():
                raise ValueError(
                    f"{name}[{place}] are {str(each.tolist())[:60]}, expected one of {least} to {end - 1} for each of "
                    f"{len(rows[place])} boxes."
                )
            batch[name][place, : len(each)] = each
    tensors = {name: tf.constant(values) for name, values in batch.items()}
    return {name: prepared[name] for name in ("pixel_values", "image_sizes")} | tensors


def best_of(overlaps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the largest overlap in each row of (n, boxes), and the index of its box.

    Both are 0 if there is no box.
    """
    overlaps = tf.pad(overlaps, [[0, 0], [0, tf.cast(tf.shape(overlaps)[1] == 0, tf.int32)]])
    return tf.reduce_max(overlaps, axis=1), tf.argmax(overlaps, axis=1, output_type=tf.int32)


def sampled(objects: tf.Tensor, background: tf.Tensor, count: int, share: float) -> tf.Tensor:
    """Draws the indices of at most `count`·`share` objects, and of background up to `count` indices in all."""
    chosen = tf.random.shuffle(tf.where(objects)[:, 0])[: int(count * share)]
    rest = tf.random.shuffle(tf.where(background)[:, 0])[: count - tf.size(chosen)]
    return tf.concat([chosen, rest], axis=0)


def gathered(values: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Gathers the ids at `indices`; an index behind the last id gives `NONE`."""
    return tf.gather(tf.concat([values, [NONE]], axis=0), indices)


def wanted_deltas(sources: tf.Tensor, boxes: tf.Tensor, label: tf.Tensor, weights) -> tf.Tensor:
    """Returns the deltas that move each source onto its box; they are arbitrary for sources without area or box."""
    sizes = tf.maximum(sources[:, 2:] - sources[:, :2], 1e-3)
    boxes = tf.concat([boxes, [[0.0, 0.0, 1.0, 1.0]]], axis=0)
    sources = tf.concat([sources[:, :2], sources[:, :2] + sizes], axis=1)
    return ops.deltas_between(sources, tf.gather(boxes, label), weights)

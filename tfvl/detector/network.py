"""The network, from one image over its feature map and proposals to detections, as a graph."""

import keras
import tensorflow as tf

from tfvl.detector import ops
from tfvl.detector.config import DetectorConfig
from tfvl.detector.layers import Backbone, BoxPredictor, ProposalHead, Stage
from tfvl.detector.weights import RULES

STRIDE = 16  # pixels per cell of the feature map
LEAST_SIDE = 16  # pixels; with fewer there would be no cell
REGIONS_AT_ONCE = 30  # in res5, which bounds the memory, and fits into the processor's caches


class FasterRCNN(keras.Model):
    """ResNet to res4, RPN, RoIPool, res5 and predictors (Ren et al. 2015), all in float32."""

    base_model_prefix = "detector"
    weight_rules = RULES

    def __init__(self, config: DetectorConfig, name: str | None = None):
        super().__init__(name=name, dtype="float32")
        self.config = config
        stride, dilation = (2, 1) if config.halve_res5 else (1, 2)
        self.backbone = Backbone(config, dtype="float32", name="backbone")
        self.rpn_head = ProposalHead(config, dtype="float32", name="rpn_head")
        self.res5 = Stage(config, 5, stride, dilation, dtype="float32", name="res5")
        self.box_predictor = BoxPredictor(config, dtype="float32", name="box_predictor")
        self.build()

    def build(self, input_shape=None):
        for layer in (self.backbone, self.rpn_head, self.res5, self.box_predictor):
            layer.build()

    def weight_names(self) -> dict[str, keras.Variable]:
        """Returns every weight under the name that the porting table uses, its path below this model."""
        return {variable.path.removeprefix(self.name + "/"): variable for variable in self.weights}

    def regions_of(
        self, pixels: tf.Tensor, raw_size: tf.Tensor, boxes: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Finds the regions of one image, without padding.

        Args:
            pixels: (height, width, 3) float32 as from `processor.prepare`.
            raw_size: (2,) int32, height and width of the original image.
            boxes: (n, 4), the regions to describe, in pixels of the original image and inside it; None: the detector
                finds them.
        """
        size = tf.shape(pixels)[:2]
        scale = tf.cast(tf.cast(raw_size, tf.float64) / tf.cast(size, tf.float64), tf.float32)
        scale = tf.stack([scale[1], scale[0], scale[1], scale[0]])
        features = self.features_of(pixels)
        proposals = ops.clip(boxes / scale, size) if boxes is not None else self.propose(features, size)[0]
        pooled = self.pool(features[0], proposals)
        objects, attributes, deltas = self.box_predictor(pooled)

        probabilities = tf.nn.softmax(objects)[:, :-1]  # the last one is the background
        obj_ids = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        obj_probs = tf.reduce_max(probabilities, axis=1)
        attribute_probs = tf.nn.softmax(attributes[:, :-1])
        found = {
            "obj_ids": obj_ids,
            "obj_probs": obj_probs,
            "attr_ids": tf.argmax(attribute_probs, axis=1, output_type=tf.int32),
            "attr_probs": tf.reduce_max(attribute_probs, axis=1),
            "boxes": boxes,
            "roi_features": pooled,
        }
        if boxes is None:
            placed = proposals
            if self.config.box_source == "regressed":
                of_class = tf.zeros_like(obj_ids) if self.config.class_agnostic_boxes else obj_ids
                deltas = tf.gather(deltas, of_class, batch_dims=1)  # (regions, 4)
                placed = ops.clip(ops.apply_deltas(proposals, deltas, self.config.roi_bbox_weights), size)
            limits = (self.config.nms_thresholds, self.config.min_detections, self.config.max_detections)
            kept = ops.choose(placed, obj_probs, *limits)
            found["boxes"] = placed * scale
            found = {name: tf.gather(values, kept) for name, values in found.items()}
        raw = tf.cast(raw_size, tf.float32)
        found["normalized_boxes"] = found["boxes"] / tf.stack([raw[1], raw[0], raw[1], raw[0]])
        return found | {"sizes": size}

    def features_of(self, pixels: tf.Tensor) -> tf.Tensor:
        """Computes the feature map (1, rows, columns, channels) of one image, padded to `LEAST_SIDE`."""
        missing = tf.maximum(LEAST_SIDE - tf.shape(pixels)[:2], 0)
        pixels = tf.pad(pixels, [[0, missing[0]], [0, missing[1]], [0, 0]])
        return self.backbone(pixels[None])

    def propose(self, features: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the proposals (p, 4), in pixels of an image of `size` (2,), and their scores (p,), best first."""
        config = self.config
        logits, deltas = self.rpn_head(features)
        boxes = ops.anchors(self.rpn_head.cell_anchors, tf.shape(features)[1:3], STRIDE, config.anchor_offset)
        boxes = ops.apply_deltas(boxes, tf.reshape(deltas, [-1, 4]), config.rpn_bbox_weights)
        limits = (config.rpn_pre_nms, config.rpn_post_nms, config.rpn_nms_threshold, config.rpn_min_size)
        return ops.propose(boxes, tf.reshape(logits, [-1]), size, *limits)

    def pool(self, features: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
        """Computes the features (n, feature_size) of regions (n, 4) from a feature map (rows, columns, channels).

        If n is 0 it works in a graph only.
        """
        pool = ops.RegionPool(features, self.config.roi_size)
        count = -(-tf.shape(boxes)[0] // REGIONS_AT_ONCE)
        shape = [None, self.config.feature_size]
        parts = tf.TensorArray(tf.float32, count, infer_shape=False, element_shape=shape)

        def describe(part, parts):
            regions = self.res5(pool(boxes[part * REGIONS_AT_ONCE : (part + 1) * REGIONS_AT_ONCE]))
            return part + 1, parts.write(part, tf.reduce_mean(regions, axis=[1, 2]))

        _, parts = tf.while_loop(lambda part, _: part < count, describe, [0, parts], parallel_iterations=1)
        return tf.ensure_shape(parts.concat(), shape)

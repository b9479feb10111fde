"""The region detector: Faster R-CNN with attributes (Anderson et al. 2018, "Bottom-Up and Top-Down Attention")."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfvl.detector.config import DetectorConfig
from tfvl.detector.network import FasterRCNN
from tfvl.detector.processor import DetectorImageProcessor
from tfvl.preprocessing.regions.regions import Regions, numbers

# The outputs for each region: element type, and the axes after that of regions.
FIELDS = {
    "obj_ids": (tf.int32, ()),
    "obj_probs": (tf.float32, ()),
    "attr_ids": (tf.int32, ()),
    "attr_probs": (tf.float32, ()),
    "boxes": (tf.float32, (4,)),
    "normalized_boxes": (tf.float32, (4,)),
    "roi_features": (tf.float32, ("feature_size",)),
}


@keras.saving.register_keras_serializable("tfvl")
class RegionDetector(FasterRCNN):
    """Finds the regions of an image that LXMERT and VisualBERT take (upstream: `GeneralizedRCNN`).

    It runs ResNet-101 to res4, proposals of an RPN, RoIPool, res5, a class and an attribute for each region, and
    suppression of overlapping regions, in the sizes of `config`. It computes in float32 and one image at a time, each
    at its own size, so an image's regions never depend on the others in its batch.

        detector = tfvl.RegionDetector.from_pretrained("unc-nlp/frcnn-vg-finetuned")
        outputs = detector.detect(["street.jpg"])

    Outputs (`max_detections`, 36, regions for each image, best first, zeros where there are fewer):
        obj_ids, attr_ids: int32 (batch, regions), the likeliest object and attribute.
        obj_probs, attr_probs: float32 (batch, regions), their probabilities.
        boxes: float32 (batch, regions, 4), x1, y1, x2, y2 in pixels of the original image.
        normalized_boxes: float32 (batch, regions, 4), the same from 0 to 1.
        roi_features: float32 (batch, regions, feature_size).
        preds_per_image: int32 (batch,), the number of regions that are not padding.
        sizes: int32 (batch, 2), height and width to which the image was resized.

    Args:
        config: sizes and options.
    """

    def __init__(self, config: DetectorConfig | None = None, name: str = "region_detector", dtype=None):
        super().__init__(config or DetectorConfig(), name=name)
        self.processor = DetectorImageProcessor(self.config)

    @property
    def feature_size(self) -> int:
        """The size of a region's feature vector."""
        return self.config.feature_size

    # --- files --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        src: str | os.PathLike,
        *,
        config: DetectorConfig | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        progress=None,
        **config_overrides,
    ) -> Self:
        """Loads a detector of the hub, of a directory, of a single weight file, or a bundled one.

        Args:
            src: hub id, bundled name, directory with `config.yaml` and weights (`model.safetensors` or
                `pytorch_model.bin`), or a weight file; the original's `.pkl` needs no `config.yaml` beside it.
            config: taken instead of the checkpoint's own `config.yaml`.
            revision, token, cache_dir, local_files_only, subfolder: as in huggingface_hub.
            progress: called with (bytes done, bytes in all) while weights are read.
            **config_overrides: fields that replace the configuration's, such as `box_source="proposal"` or those of
                `tfvl.detector.config.PRESETS`.

        Raises:
            CheckpointError: a file is missing, damaged, hostile or another model's; the message lists all wrong keys.
        """
        from tfvl.detector.files import open_weights, read_config
        from tfvl.modeling import upstream_arguments
        from tfvl.porting.hub import resolve
        from tfvl.porting.load import load_weights, uninitialised_variables

        upstream_arguments.refuse(config_overrides, f"{cls.__name__}.from_pretrained")
        hub: dict[str, Any] = {
            "revision": revision,
            "token": token,
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
        }
        hub["subfolder"] = subfolder
        path = resolve(src, **hub)
        checkpoint = open_weights(path)
        config = config.replace(**config_overrides) if config else read_config(path, config_overrides)
        with uninitialised_variables():
            model = cls(config)
        load_weights(model, checkpoint, progress=progress)
        return model

    def save_pretrained(self, directory: str | Path, *, max_shard_size: str | int = "5GB") -> None:
        """Writes `config.yaml`, `model.safetensors` with upstream's names, and the names of the classes.

        Args:
            directory: the directory, which is made if it is missing.
            max_shard_size: bytes, or a text such as "5GB"; a larger model is written in several files and an index.
        """
        from tfvl.porting.save import save_weights

        save_weights(self, Path(directory), max_shard_size=max_shard_size)
        self.config.save_pretrained(directory)

    def get_config(self):
        values = {name: getattr(self.config, name) for name in self.config.__dataclass_fields__}
        return {"config": values, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(DetectorConfig(**config["config"]), name=config["name"])

    # --- images in, arrays out ----------------------------------------------------------------------------------------

    def detect(self, images: Any, boxes: Sequence[Any] | None = None) -> dict[str, np.ndarray]:
        """Finds the regions of images.

        Args:
            images: one image or a list: encoded bytes, a path, a `PIL.Image.Image` or an array; RGB, any size.
            boxes: for each image the regions to describe, (n, 4) x1, y1, x2, y2 in its pixels, maybe none.
                They are cut at the image's edges, and returned in their order. None: the detector finds them.

        Returns:
            The outputs that the class describes, and `obj_names` and `attr_names` (batch, regions), "" for padding.
            With `boxes`, regions are padded to the image that has most of them.

        Raises:
            ValueError: an image or its boxes cannot be used; the message names its place in the list.
        """
        return self._detect_levels(self.processor.levels(images), boxes)

    def _detect_levels(self, levels: list[np.ndarray], boxes: Sequence[Any] | None) -> dict[str, np.ndarray]:
        if boxes is None:
            rows = [self._detect(tf.constant(each)) for each in levels]
            most = self.config.max_detections
        else:
            if len(boxes) != len(levels):
                raise ValueError(f"there are boxes for {len(boxes)} images, but {len(levels)} images.")
            pairs = list(zip(levels, boxes, strict=True))
            checked = [checked_boxes(each, image, place) for place, (image, each) in enumerate(pairs)]
            rows = [self._describe(tf.constant(image), each) for image, each in zip(levels, checked, strict=True)]
            most = max(len(each) for each in checked)
        outputs = {name: np.stack([_padded(row[name].numpy(), most) for row in rows]) for name in FIELDS}
        outputs["preds_per_image"] = np.array([len(row["obj_ids"]) for row in rows], np.int32)
        outputs["sizes"] = np.stack([row["sizes"].numpy() for row in rows])
        real = np.arange(most) < outputs["preds_per_image"][:, None]
        names = (("obj_names", "obj_ids", "object_names"), ("attr_names", "attr_ids", "attribute_names"))
        for name, ids, field in names:
            readable = np.array([each.split(",")[0] for each in getattr(self.config, field)])
            outputs[name] = np.where(real, readable[outputs[ids]], "")
        return outputs

    def regions(
        self, images: Any, image_ids: Sequence[str] | None = None, boxes: Sequence[Any] | None = None
    ) -> list[Regions]:
        """Finds the regions of images, as `detect` does, and returns a `Regions` for each image.

        Args:
            images, boxes: as for `detect`.
            image_ids: the id of each image; None: the regions have no ids.
        """
        levels = self.processor.levels(images)
        outputs = self._detect_levels(levels, boxes)
        names = [None] * len(levels) if image_ids is None else list(image_ids)
        if len(names) != len(levels):
            raise ValueError(f"there are {len(names)} image_ids for {len(levels)} images.")
        regions = []
        for row, (image, name) in enumerate(zip(levels, names, strict=True)):
            height, width = image.shape[:2]
            fields = {
                "objects_id": "obj_ids",
                "objects_conf": "obj_probs",
                "attrs_id": "attr_ids",
                "attrs_conf": "attr_probs",
                "features": "roi_features",
            }
            count = outputs["preds_per_image"][row]
            values = {field: outputs[output][row, :count] for field, output in fields.items()}
            normalized = np.clip(outputs["normalized_boxes"][row, :count], 0, 1)
            regions.append(Regions(boxes=normalized, image_id=name, width=width, height=height, **values))
        return regions

    @functools.cached_property
    def _detect(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
        def detect(levels):
            return self.regions_of(self.processor.prepare(levels), tf.shape(levels)[:2])

        return detect

    @functools.cached_property
    def _describe(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None, 4])])
        def describe(levels, boxes):
            return self.regions_of(self.processor.prepare(levels), tf.shape(levels)[:2], boxes)

        return describe

    # --- in the graph -------------------------------------------------------------------------------------------------

    def call(self, inputs, training=None):
        """Computes the outputs for a batch from `processor`: `pixel_values`, `image_sizes` and `raw_sizes`."""
        return self._detect_batch(*(inputs[name] for name in ("pixel_values", "image_sizes", "raw_sizes")))

    @functools.cached_property
    def _detect_batch(self):
        def one(row):
            pixels, size, raw_size = row
            return self._padded_row(self.regions_of(pixels[: size[0], : size[1]], raw_size))

        sizes = tf.TensorSpec([None, 2], tf.int32)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3]), sizes, sizes])
        def detect_batch(*rows):
            return tf.map_fn(one, rows, fn_output_signature=self.row_signature, parallel_iterations=1)

        return detect_batch

    def detect_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes the outputs for encoded images, in an exportable graph; a bad image never fails the batch.

        Args:
            image_bytes: tf.string (N,), JPEG, PNG, GIF (first frame) or BMP.

        Returns:
            The outputs, and `status` (N,) tf.string: "", or a sentence that says what is wrong with the image, which
            then has no regions.
        """
        return self._detect_bytes(image_bytes)

    @functools.cached_property
    def _detect_bytes(self):
        signature = self.row_signature | {"status": tf.TensorSpec([], tf.string)}

        def one(contents):
            pixels, raw_size, status = self.processor.read(contents)
            good = tf.equal(status, "")
            row = tf.cond(good, lambda: self._padded_row(self.regions_of(pixels, raw_size)), self._empty_row)
            return row | {"status": status}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def detect_bytes(image_bytes):
            return tf.map_fn(one, image_bytes, fn_output_signature=signature, parallel_iterations=1)

        return detect_bytes

    @property
    def row_signature(self) -> dict[str, tf.TensorSpec]:
        """The specs of the outputs for one image, by name."""
        most, width = self.config.max_detections, self.config.feature_size
        fields = {
            name: tf.TensorSpec([most, *(width if axis == "feature_size" else axis for axis in axes)], dtype)
            for name, (dtype, axes) in FIELDS.items()
        }
        return fields | {"preds_per_image": tf.TensorSpec([], tf.int32), "sizes": tf.TensorSpec([2], tf.int32)}

    def _padded_row(self, row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        count = tf.shape(row["obj_ids"])[0]
        after = self.config.max_detections - count
        padded = {name: tf.pad(row[name], [[0, after], *[[0, 0]] * (row[name].shape.rank - 1)]) for name in FIELDS} | {
            "preds_per_image": count,
            "sizes": row["sizes"],
        }
        return {name: tf.ensure_shape(padded[name], spec.shape) for name, spec in self.row_signature.items()}

    def _empty_row(self) -> dict[str, tf.Tensor]:
        return {name: tf.zeros(spec.shape, spec.dtype) for name, spec in self.row_signature.items()}


def checked_boxes(boxes: Any, image: np.ndarray, place: int) -> np.ndarray:
    """Clips boxes at the edges of their image; returns (n, 4) float32.

    Raises:
        ValueError: they have another shape, are not finite, or a box has its corners in the wrong order.
    """
    boxes = numbers(f"boxes[{place}]", boxes, np.float32)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes[{place}] have shape {boxes.shape}, expected (regions, 4).")
    bad = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, :2] <= boxes[:, 2:]).all(axis=1))
    if bad.any():
        row = int(np.argmax(bad))
        values = ", ".join(f"{value:g}" for value in boxes[row])
        raise ValueError(f"boxes[{place}], row {row} is ({values}), expected x1 <= x2 and y1 <= y2, in pixels.")
    height, width = image.shape[:2]
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def _padded(values: np.ndarray, most: int) -> np.ndarray:
    return np.pad(values, [(0, most - len(values)), *[(0, 0)] * (values.ndim - 1)])

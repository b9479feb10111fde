"""The base of VisualBERT's and LXMERT's processors, which turns texts and a detector's regions into tensors."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

from tfvl.preprocessing.image.batch import flatten
from tfvl.preprocessing.regions.reading import read_one
from tfvl.preprocessing.regions.regions import BOX_TOLERANCE, CORNERS, Regions, pad_regions, with_corners
from tfvl.preprocessing.text.tokenizer import BertTokenizer
from tfvl.processors.base import Processor, as_kind, match_rows
from tfvl.processors.region_values import (
    RegionBatch,
    as_floats,
    as_shape,
    as_tensors,
    fields_of,
    is_array,
    kind,
    refuse,
)

GRID_FEATURES = "grid_features.json"  # a directory with this file holds grid features
FORMS = (
    "expected Regions, an array (regions, feature_size), a dict with features and boxes, or an .npz or .npy file's path"
)
NO_REGIONS = "there are no regions; leave the image out, or lower the detector's threshold"
AS_SHARES = "expected x1, y1, x2, y2 in shares of width and height (tfvl.preprocessing.regions.regions.normalize_boxes)"


def has_grid_features(source) -> bool:
    """Returns whether `source` is a directory that `GridFeatures.save_pretrained` wrote."""
    return Path(source, GRID_FEATURES).is_file()


class RegionProcessor(Processor):
    """Joins `BertTokenizer` and region features, eagerly or inside a `tf.data` graph.

    A model may have been trained with each region's box appended to its features. If `feature_size` is four more than
    the size of given features, the boxes' corners x1, y1, x2, y2 from 0 to 1 are appended (`regions.with_corners`).

    Args:
        tokenizer: the `BertTokenizer`; its `model_max_length` is at most the number of positions of the model.
        feature_size: the size of a region's feature vector in the model's configuration; None: sizes are not checked.
        detector: the `RegionDetector` that finds the regions of images, or `GridFeatures` in its place, or the source
            of either for `from_pretrained`; None: regions are given.
    """

    sees = "regions"

    def __init__(self, tokenizer: BertTokenizer, feature_size: int | None = None, detector=None):
        if not isinstance(tokenizer, BertTokenizer):
            raise ValueError(f"{type(self).__name__} takes a BertTokenizer, got {type(tokenizer).__name__}")
        if feature_size is not None and (not isinstance(feature_size, int) or feature_size < 1):
            raise ValueError(f"feature_size is {feature_size!r}, expected a whole number, at least 1, or None")
        self.tokenizer = tokenizer
        self.feature_size = feature_size
        self.detector = None if detector is None else self.fitting_detector(detector)

    @classmethod
    def from_pretrained(cls, src: str | Path, *, detector=None, **options) -> Self:
        """Reads the vocabulary of a hub id, a directory or a bundled model, and the feature size of its config.json.

        A checkpoint without a vocabulary of its own whose config.json says 30,522 words, as those of uclanlp do, gets
        bert-base-uncased's, which it was trained with and which comes with tfvl.

        Args:
            src: the checkpoint.
            detector: a `RegionDetector`, or its source: `unc-nlp/frcnn-vg-finetuned`, a directory, `shapes-detector`;
                or `GridFeatures`, or their directory. None: the grid features that lie beside the checkpoint, if any.
            **options: those of the hub, as `subfolder`, for `src`; and those of `BertTokenizer`, in
                place of what its files say.

        Raises:
            CheckpointError: a file is missing or cannot be used; the message names it.
            ValueError: the detector's features are of another size than the model's, or an option is not known.
        """
        read = cls.read(src, ("detector",), **options)
        if detector is None and has_grid_features(read.directory):
            detector = read.directory
        feature_size = None if read.config is None else read.config.region_size("features")
        processor = cls(read.tokenizer, feature_size, detector)
        processor.positions = read.positions
        return processor

    @property
    def feature_size_field(self) -> str:
        """Name of the configuration's field that holds the feature size."""
        return self.config_class.region_inputs["features"].size_field

    @property
    def reads_boxes(self) -> bool:
        """Whether the model has an input for the regions' boxes."""
        return "boxes" in self.config_class.region_inputs

    @property
    def takes_pairs(self) -> bool:
        """Whether a row may have two images, because the model has an input that tells their regions apart."""
        return "image" in self.config_class.region_inputs

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes the tokenizer's files, and grid features; the feature size stands in the model's config.json.

        A `RegionDetector` is a checkpoint of its own, which `RegionDetector.save_pretrained` writes.
        """
        self.tokenizer.save_pretrained(directory)
        if self.detector is not None and not hasattr(self.detector, "config"):
            self.detector.save_pretrained(directory)

    def __call__(
        self, text=None, text_pair=None, regions=None, boxes=None, *, images=None, return_tensors=None, **options
    ) -> dict:
        """Prepares a batch, eagerly or inside a `tf.data` graph.

        Args:
            text: one text or a list of N. One text goes with every image, one image with every text.
            text_pair: second texts, as many as `text`.
            regions: one image or a list of N: `Regions`, an array (regions, feature_size), a dict with `features` and
                maybe `boxes`, or the path of an `.npz` or `.npy` file. Images with fewer regions than others are
                padded. Also an array or tensor (N, regions, feature_size), in which regions of nothing but zeros are
                padding; a RaggedTensor of that shape; or what `pad_regions` returns. Inside a graph only these last
                ones.
            boxes: where `regions` are arrays or tensors, the corners x1, y1, x2, y2 of each region from 0 to 1: an
                array (regions, 4) per image, or (N, regions, 4).
            images: in place of `regions`, for a processor with a detector: one image or a list of N, each encoded
                bytes, a path, a PIL image or an array; or a tf.string tensor (N,) of encoded images, also inside a
                graph. An image in which nothing is found gets regions that are all masked.
            return_tensors: "tf" (the default) or "np" for NumPy arrays.
            **options: the tokenizer's (`padding`, default True: the longest of the batch; `truncation`, default True:
                at `tokenizer.model_max_length`; False refuses a text that is longer; `max_length`, …).

        Returns:
            The model's inputs, named in the class's description; only those of the text or of the image where the
            other is not given.

        Raises:
            ValueError: neither text nor regions, counts that do not match, a text that is too long, an image without
                regions or without the boxes that the model needs, features of another size than `feature_size` or not
                finite, boxes outside 0…1, images without a detector or that cannot be read, or another kind of tensors.
                Values that a graph finds only when it runs are a `tf.errors.InvalidArgumentError`.
        """
        self.check_return_tensors(return_tensors)
        if text is None and regions is None and images is None:
            raise ValueError(f"{type(self).__name__} got neither text nor regions; give at least one of them")
        if images is not None and not (regions is None and boxes is None):
            raise ValueError(f"{type(self).__name__} got images and regions of them; give one of both")
        text_options, _ = self.split_options(options)
        visual = {}
        if images is not None:
            visual = self.model_inputs(self.detect(images))
        elif regions is not None:
            visual = self.model_inputs(self.encode_regions(regions, boxes))
        inputs = match_rows({} if text is None else self.encode_texts(text, text_pair, text_options), visual)
        return as_kind(inputs, return_tensors)

    def model_inputs(self, batch: RegionBatch) -> dict:
        """Renames the batch to the model's inputs; where each row has one image, `image` is 1."""
        if self.takes_pairs and batch.image is None:
            batch = batch._replace(image=tf.ones_like(batch.mask))
        return {each.name: getattr(batch, field) for field, each in self.config_class.region_inputs.items()}

    def parts(self) -> dict[str, str]:
        found_by = {} if self.detector is None else {"detector": type(self.detector).__name__}
        return super().parts() | {"feature_size": str(self.feature_size)} | found_by

    # --- images -------------------------------------------------------------------------------------------------------

    def fitting_detector(self, detector):
        """Returns the detector, loaded if it is a name.

        Raises ValueError if its features do not have the model's size.
        """
        from tfvl.detector.model import RegionDetector  # here, as few processors have one
        from tfvl.processors.grid_features import GridFeatures

        if isinstance(detector, (str, os.PathLike)):
            detector = (GridFeatures if has_grid_features(detector) else RegionDetector).from_pretrained(detector)
        if not isinstance(detector, (RegionDetector, GridFeatures)):
            raise ValueError(
                f"detector is {kind(detector)}, expected a RegionDetector, GridFeatures, or where to load one from"
            )
        size = detector.feature_size
        if self.feature_size not in (None, size, size + CORNERS):
            raise ValueError(
                f"the detector's features are of size {size}, but {self.feature_size_field} of the model's config is "
                f"{self.feature_size}; take the detector that the checkpoint was trained with"
            )
        return detector

    def detect(self, images) -> RegionBatch:
        """Finds the regions of images, padded to the detector's largest number; arguments and errors as `__call__`."""
        if self.detector is None:
            raise ValueError(
                f"{type(self).__name__} has no detector that finds the regions of images; make it with detector=, e.g. "
                'detector="unc-nlp/frcnn-vg-finetuned", or give regions'
            )
        if tf.is_tensor(images) and images.dtype == tf.string:
            outputs, leading = self.detector.detect_bytes(images), None
            tf.debugging.assert_equal(outputs["status"], "", message="an image cannot be used")
        else:
            images, leading = flatten(images)
            if len(leading) > (2 if self.takes_pairs else 1) or leading[1:] not in ((), (2,)):
                raise ValueError(f"images are nested as {leading}; give one for each text, or two for NLVR2")
            outputs = self.detector.detect(images)
        return self.from_detector(outputs, leading)

    def from_detector(self, outputs: Mapping, leading: tuple[int, ...] | None = None) -> RegionBatch:
        """Turns a detector's outputs into a batch of regions, in Python or in a graph.

        Args:
            outputs: the outputs of `RegionDetector`, with a row for each image.
            leading: (N, 2) if each text has two images.
        """
        features, boxes = (tf.convert_to_tensor(outputs[name]) for name in ("roi_features", "normalized_boxes"))
        mask = tf.sequence_mask(outputs["preds_per_image"], features.shape[1], tf.int32)
        values = features, tf.clip_by_value(boxes, 0.0, 1.0), mask
        if leading is not None:
            values = (tf.reshape(value, [*leading, *value.shape[1:]]) for value in values)
        return self._from_array(*values)

    # --- regions ------------------------------------------------------------------------------------------------------

    def encode_regions(self, regions, boxes=None) -> RegionBatch:
        """Converts regions of any kind to a padded, checked batch; arguments and errors are those of `__call__`."""
        mask = None
        if isinstance(regions, Mapping):
            regions, own_boxes, mask = fields_of(regions, "regions")
            boxes = own_boxes if boxes is None else boxes
        if isinstance(regions, tf.RaggedTensor):
            mask = tf.sequence_mask(regions.row_lengths())
            regions, boxes = (v.to_tensor() if isinstance(v, tf.RaggedTensor) else v for v in (regions, boxes))
        batch = self._from_array(regions, boxes, mask) if is_array(regions) else self._from_rows(regions, boxes)
        self._check_values(batch)
        return batch

    def _from_array(self, features, boxes, mask) -> RegionBatch:
        """Converts an array: (regions, size) of one image, (N, regions, size), or (N, 2, regions, size) of pairs."""
        features = as_floats("regions", features)
        wider = boxes is not None and features.shape[-1] == self.size_without_corners
        boxes = boxes if self.reads_boxes or wider else None
        rank = features.shape.rank
        if rank not in ((2, 3, 4) if self.takes_pairs else (2, 3)) or (rank == 4 and features.shape[1] != 2):
            pairs = " or (N, 2, regions, feature_size)" if self.takes_pairs else ""
            raise ValueError(
                f"regions have shape {features.shape}, expected (regions, feature_size) or (N, regions, feature_size)"
                f"{pairs}"
            )
        leading = features.shape[:-1]
        if mask is None:  # an image alone has no padding, and a batch is padded with zeros
            mask = tf.ones(tf.shape(features)[:1]) if rank == 2 else tf.reduce_any(features != 0, axis=-1)
        mask = as_shape("the mask of regions", tf.cast(mask, tf.int32), leading)
        boxes = None if boxes is None else as_shape("boxes", as_floats("boxes", boxes), [*leading, CORNERS])
        if wider:
            features = tf.where(mask[..., None] > 0, tf.concat([features, boxes], axis=-1), 0.0)
            boxes = boxes if self.reads_boxes else None
        self._check_size(features.shape[-1], "regions")
        features = tf.ensure_shape(features, [None] * (rank - 1) + [self.feature_size])
        if rank == 2:
            return RegionBatch(features[None], mask[None], None if boxes is None else boxes[None])
        if rank == 3:
            return RegionBatch(features, mask, boxes)
        return RegionBatch(features, mask).in_a_row()

    def _from_rows(self, regions, boxes) -> RegionBatch:
        """Converts one `Regions` or path, or a list of images, or of pairs of images."""
        if isinstance(regions, (Regions, str, os.PathLike)):
            regions, boxes = [regions], None if boxes is None else [boxes]
        if not isinstance(regions, (list, tuple)):
            raise ValueError(f"regions are {kind(regions)}; {FORMS}, or a list of these")
        if not regions:
            none = tf.zeros([0, 0], tf.int32)
            return RegionBatch(tf.zeros([0, 0, self.feature_size or 0]), none, tf.zeros([0, 0, 4]))
        boxes = [None] * len(regions) if boxes is None else boxes
        if len(boxes) != len(regions):
            raise ValueError(f"got boxes of {len(boxes)} images and regions of {len(regions)}; give as many")
        images_per_row = {len(row) if isinstance(row, (list, tuple)) else 1 for row in regions}
        if images_per_row == {2} and self.takes_pairs:
            return self._from_pairs(regions)
        if images_per_row != {1}:
            most = "one image a row, or two in all rows" if self.takes_pairs else "one image a row"
            raise ValueError(f"got {max(images_per_row)} images in a row of regions, expected {most}")
        numbered = enumerate(zip(regions, boxes, strict=True))
        padded = pad_regions([self._image(image, box, f"image {number}") for number, (image, box) in numbered])
        return as_tensors(padded)

    def _from_pairs(self, rows) -> RegionBatch:
        pairs = [
            [self._image(image, None, f"image {place} of row {number}").features for place, image in enumerate(pair)]
            for number, pair in enumerate(rows)
        ]
        padded = pad_regions([np.concatenate(pair) for pair in pairs])
        image = np.zeros_like(padded["mask"])
        for row, (first, second) in enumerate(pairs):
            image[row, len(first) : len(first) + len(second)] = 1
        return as_tensors(padded | {"image": image})

    def _image(self, image: Any, boxes, where: str) -> Regions:
        """Converts the regions of one image, in any form, to `Regions`, with boxes only if the model reads them."""
        if isinstance(image, (list, tuple)):
            (image,) = image
        if isinstance(image, Mapping):
            image, boxes, _ = fields_of(image, where)
        if isinstance(image, (str, os.PathLike)):
            image = read_one(image)
        if isinstance(image, Regions):
            if boxes is not None:
                raise ValueError(f"{where} brings its own boxes; give boxes only with arrays")
            boxes = image.boxes
            image = image.features
        if not is_array(image):
            raise ValueError(f"{where} is {kind(image)}; {FORMS}")
        if tf.is_symbolic_tensor(image):
            raise ValueError("inside a graph, regions are one tensor (N, regions, feature_size), padded with zeros")
        try:
            wider = boxes is not None and np.shape(image)[-1:] == (self.size_without_corners,)
            image = Regions(image, boxes if self.reads_boxes or wider else None)
            image = with_corners(image) if wider else image
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if not len(image):
            raise ValueError(f"{where}: {NO_REGIONS}")
        self._check_size(image.features.shape[1], where)
        self._check_boxes_given(image.boxes, where)
        return image

    @property
    def size_without_corners(self) -> int | None:
        """The size of features to which the corners of the box have to be appended for the model."""
        return self.feature_size and self.feature_size - CORNERS

    def _check_size(self, size: int | None, where: str) -> None:
        if None not in (size, self.feature_size) and size != self.feature_size:
            raise ValueError(
                f"{where}: the features are of size {size}, but {self.feature_size_field} of the model's config is "
                f"{self.feature_size}; take the features of the detector that the checkpoint was trained with"
            )

    def _check_boxes_given(self, boxes, where: str) -> None:
        if self.reads_boxes and boxes is None:
            raise ValueError(f"{where}: there are no boxes, and {type(self).__name__} needs each region's; {AS_SHARES}")

    def _check_values(self, batch: RegionBatch) -> None:
        real = tf.cast(batch.mask, tf.bool)
        refuse(~tf.reduce_any(real, axis=1), NO_REGIONS)
        finite = tf.reduce_all(tf.math.is_finite(batch.features), axis=-1)
        refuse(~finite, "the features are not finite (NaN or infinite)")
        self._check_boxes_given(batch.boxes, "regions")
        if batch.boxes is not None:
            inside = (batch.boxes > -BOX_TOLERANCE) & (batch.boxes < 1 + BOX_TOLERANCE)
            refuse(real & ~tf.reduce_all(inside, axis=-1), f"the box lies outside 0…1; {AS_SHARES}", batch.boxes)
            ordered = tf.reduce_all(batch.boxes[..., 2:] >= batch.boxes[..., :2] - BOX_TOLERANCE, axis=-1)
            refuse(real & ~ordered, f"the box has x2 < x1 or y2 < y1; {AS_SHARES}", batch.boxes)

"""Computes features of a grid of cells by any Keras image model, in place of a detector's regions."""

import difflib
import functools
import json
import math
import os
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfvl.errors import CheckpointError
from tfvl.files.json_file import read_json
from tfvl.files.whole import written_files
from tfvl.preprocessing.regions.regions import Regions
from tfvl.processors.grid_images import SCALINGS, GridImageProcessor, scaling_of
from tfvl.processors.pixel_model import PixelModel
from tfvl.processors.regions import GRID_FEATURES
from tfvl.processors.stored_backbone import load_backbone

MODEL_FILE = "grid_features.keras"  # beside `GRID_FEATURES`
IMAGE_SIZE = (224, 224)  # of images, for backbones that take any size
AT_ONCE = 32  # images whose features are computed at once


class GridFeatures(keras.Model):
    """Gives LXMERT and VisualBERT the cells of a grid over the picture as regions, each with its pooled features.

        backbone = keras.applications.MobileNetV2(include_top=False)
        processor = tfvl.LxmertProcessor.from_pretrained(src, detector=tfvl.GridFeatures(backbone))

    It can be used as a `RegionDetector` is: as `detector=` of a processor, in a `tf.data` graph, in exported artefacts.
    The model that reads the features must take `feature_size` of them (`visual_feat_dim`, `visual_embedding_dim`): load
    it with that field and `ignore_mismatched_sizes=True`, and fine-tune it; `in_front_of` trains the backbone as well.

    Args:
        keras_model: a model of `keras.applications`, a backbone of keras-hub or one's own; channels last, one input. It
            is a CNN, or a vision transformer whose tokens (batch, tokens, width) lie on a grid, with or without a class
            token before them.
        layer: name of the layer that gives the features; None is the last one with a two-dimensional map.
        grid: rows and columns. The map is averaged over each cell, as adaptive average pooling does.
        boxes: "cells", the place of each cell in the picture; or an array (rows · columns, 4) of one's own, the corners
            x1, y1, x2, y2 from 0 to 1.
        image_size: height and width to which images are resized; None: as `keras_model` was built, or 224 x 224.
        preprocess: how levels 0 … 255 are scaled for the backbone: "levels" (not at all), "unit" (0 … 1), "tf", "torch"
            or "caffe" (as in `keras.applications`), or a Keras layer. None: `grid_images.scaling_of` finds it.

    Raises:
        ValueError: there is no such layer, no map, the grid is larger than the map, the images are smaller than the
            backbone takes, or the preprocessing cannot be found.
    """

    def __init__(self, keras_model, layer=None, grid=(7, 7), boxes="cells", *, image_size=None, preprocess=None):
        super().__init__(name="grid_features")
        if not isinstance(keras_model, keras.Model):
            raise ValueError(f"keras_model is a {type(keras_model).__name__}, expected a keras.Model")
        self.grid = checked_pair("grid", grid)
        self.image_size = checked_size(keras_model, image_size)
        self.preprocess = scaling_of(keras_model) if preprocess is None else preprocess
        if isinstance(self.preprocess, str) and self.preprocess not in SCALINGS:
            raise ValueError(f"preprocess is {preprocess!r}, expected one of {', '.join(SCALINGS)}, or a Keras layer")
        self.scaling = SCALINGS[self.preprocess] if isinstance(self.preprocess, str) else self.preprocess
        self.backbone, self.layer = cut_at(keras_model, layer, self.image_size)
        rows, columns, self.feature_size, self.skipped = map_of(self.backbone, self.layer, self.image_size)
        if self.grid[0] > rows or self.grid[1] > columns:
            raise ValueError(
                f"grid is {self.grid}, but the feature map of {self.layer or keras_model.name} has {rows} x {columns} "
                f"places for images of {self.image_size[0]} x {self.image_size[1]} pixels; give a smaller grid or "
                "larger images"
            )
        self.map_size = rows, columns
        self.cells = (
            cell_boxes(self.grid) if isinstance(boxes, str) and boxes == "cells" else own_boxes(boxes, self.grid)
        )
        self.processor = GridImageProcessor(self.image_size)

    # --- pixels to features, on every backend ---

    def call(self, pixel_values, training=None):
        """Maps levels 0 … 255 (batch, height, width, 3), as from `pixel_values`, to features (batch, cells, size)."""
        maps = self.backbone(self.scaling(ops.cast(pixel_values, "float32")), training=training)
        maps = ops.cast(maps, "float32")
        if len(maps.shape) == 3:  # a transformer's tokens
            maps = ops.reshape(maps[:, self.skipped :], (-1, *self.map_size, self.feature_size))
        over_rows, over_columns = map(pooling, self.map_size, self.grid)  # (grid, map)
        pooled = ops.einsum("gh,bhwc->bgwc", over_rows, maps)  # (batch, rows, map columns, size)
        pooled = ops.einsum("gw,brwc->brgc", over_columns, pooled)  # (batch, rows, columns, size)
        return ops.reshape(pooled, (-1, math.prod(self.grid), self.feature_size))

    def in_front_of(self, model) -> PixelModel:
        """Returns a model with this one in front, which takes `pixel_values` instead of regions; `fit` trains both."""
        return PixelModel(self, model)

    # --- images, as a detector takes them ---

    def pixel_values(self, images: Any) -> tf.Tensor:
        """Converts images to what `call` takes: (N, height, width, 3) float32.

        Args:
            images: one image or a list, as for `RegionDetector.detect`; or a tf.string tensor (N,) of encoded ones,
                also in a graph.

        Raises:
            ValueError: an image cannot be read. In a graph it is a `tf.errors.InvalidArgumentError`.
        """
        if tf.is_tensor(images):
            pixels, status = self._read(images)
            tf.debugging.assert_equal(status, "", message="an image cannot be used")
            return pixels
        return tf.stack([self.processor.prepare(tf.constant(each)) for each in self.processor.levels(images)])

    def detect(self, images: Any) -> dict[str, np.ndarray]:
        """Returns `roi_features`, `normalized_boxes` and `preds_per_image` of images, as `RegionDetector.detect`."""
        pixels = self.pixel_values(images)
        parts = [self._features(pixels[start : start + AT_ONCE]) for start in range(0, len(pixels), AT_ONCE)]
        outputs = self._outputs(tf.concat(parts, axis=0), tf.ones([len(pixels)], tf.bool))
        return {name: value.numpy() for name, value in outputs.items()}

    def regions(self, images: Any, image_ids=None) -> list[Regions]:
        """Returns what `detect` finds as `Regions`, which the processors take and a `RegionStore` keeps."""
        features = self.detect(images)["roi_features"]
        names = [None] * len(features) if image_ids is None else image_ids
        return [Regions(each, self.cells, image_id=name) for each, name in zip(features, names, strict=True)]

    def detect_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Does what `detect` does for encoded images (N,) in a graph, and returns `status` (N,), which says what is
        wrong with an image that has no regions; see `RegionDetector.detect_bytes`."""
        pixels, status = self._read(image_bytes)
        return self._outputs(self._features(pixels), status == "") | {"status": status}

    def _read(self, image_bytes):
        def one(contents):
            pixels, _, status = self.processor.read(contents)
            return pixels, status

        kinds = (tf.TensorSpec([*self.image_size, 3]), tf.TensorSpec([], tf.string))
        return tf.map_fn(one, image_bytes, fn_output_signature=kinds)

    @functools.cached_property
    def _features(self):
        @tf.function(input_signature=[tf.TensorSpec([None, *self.image_size, 3])], autograph=False)
        def features(pixel_values):
            return self(pixel_values, training=False)

        return features

    def _outputs(self, features, good) -> dict[str, tf.Tensor]:
        count = math.prod(self.grid)
        boxes = tf.repeat(tf.constant(self.cells)[None], tf.shape(features)[0], axis=0)
        return {
            "roi_features": tf.where(good[:, None, None], features, 0.0),
            "normalized_boxes": boxes,
            "preds_per_image": tf.where(good, count, 0),
        }

    # --- files ---

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes `grid_features.json` and the backbone, `grid_features.keras`, into a directory that may hold more."""
        directory = Path(directory)
        named = isinstance(self.preprocess, str)
        values = {
            "layer": self.layer,
            "grid": self.grid,
            "boxes": self.cells.tolist(),
            "image_size": self.image_size,
            "preprocess": self.preprocess if named else keras.saving.serialize_keras_object(self.preprocess),
        }
        with written_files(directory / MODEL_FILE, directory / GRID_FEATURES) as (model, config):
            self.backbone.save(model)
            config.write_text(json.dumps(values, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike) -> Self:
        """Reads what `save_pretrained` wrote.

        Raises:
            CheckpointError: a file is missing or cannot be used.
        """
        directory = Path(directory)
        values, path = read_json(directory / GRID_FEATURES), directory / MODEL_FILE
        try:
            if not isinstance(values["preprocess"], str):
                values["preprocess"] = keras.saving.deserialize_keras_object(values["preprocess"])
            boxes = np.array(values.pop("boxes"), np.float32)
            return cls(load_backbone(path), boxes=boxes, **values)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{directory / GRID_FEATURES}: these grid features cannot be used: {error}") from None


def checked_pair(name: str, value) -> tuple[int, int]:
    """Returns a pair of whole numbers from 1 on. Raises ValueError if the value is none."""
    if not (isinstance(value, (tuple, list)) and len(value) == 2 and all(type(n) is int and n > 0 for n in value)):
        raise ValueError(f"{name} is {value!r}, expected two whole numbers, at least 1")
    return tuple(value)


def checked_size(keras_model, image_size) -> tuple[int, int]:
    """Returns the size of the images. Raises ValueError if the backbone takes other images."""
    built = getattr(keras_model, "input_shape", None) if keras_model.built else None
    if built is not None and (not isinstance(built, tuple) or len(built) != 4 or built[-1] not in (3, None)):
        raise ValueError(f"{keras_model.name} takes inputs of shape {built}, expected one of (batch, height, width, 3)")
    fixed = built[1:3] if built and None not in built[1:3] else None
    if image_size is None:
        return fixed or IMAGE_SIZE
    size = checked_pair("image_size", image_size)
    if fixed not in (None, size):
        raise ValueError(
            f"image_size is {size}, but {keras_model.name} was built for images of {fixed[0]} x {fixed[1]}"
        )
    return size


def cut_at(keras_model, layer: str | None, image_size) -> tuple[keras.Model, str | None]:
    """Returns the backbone up to a layer, or up to the last one that has a map, and that layer's name.

    A subclassed model has no graph that could be cut: it is used as a whole, and the name is None.

    Raises:
        ValueError: there is no such layer, or none with a map.
    """
    names = [each.name for each in keras_model.layers]
    functional = isinstance(keras_model, keras.Sequential) or hasattr(keras_model, "operations")
    if not functional or not keras_model.built:
        if layer is not None:
            raise ValueError(f"layer is {layer!r}, but {keras_model.name} is not a functional model; leave layer out")
        return keras_model, None
    if layer is not None and layer not in names:
        near = difflib.get_close_matches(str(layer), names, n=3, cutoff=0.3) or names[-3:]
        raise ValueError(f"{keras_model.name} has no layer {layer!r}; it has {len(names)}, such as {', '.join(near)}")
    for name in [layer] if layer is not None else reversed(names):
        try:
            cut = keras.Model(keras_model.inputs, keras_model.get_layer(name).output, name=keras_model.name)
            rows, columns, *_ = map_of(cut, name, image_size)
        except NotAMapError:
            if layer is not None:
                raise
            continue
        if layer is not None or min(rows, columns) > 1:
            return cut, name
    raise ValueError(
        f"{keras_model.name} has no layer with a two-dimensional feature map, which grid features are made of"
    )


class NotAMapError(ValueError):
    """A layer's output is not a two-dimensional feature map."""


def map_of(backbone, layer: str | None, image_size) -> tuple[int, int, int, int]:
    """Returns rows, columns and width of a backbone's feature map, and the number of tokens before it (0 or 1).

    Raises:
        ValueError: the images are too small for the backbone.
        NotAMapError: the backbone's output is not a feature map.
    """
    name = layer or backbone.name
    numbers = f"{image_size[0]} x {image_size[1]}"
    try:
        spec = backbone.compute_output_spec(keras.KerasTensor((1, *image_size, 3), "float32"))
    except Exception as error:  # Keras' layers raise whatever they meet
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{backbone.name} cannot take images of {numbers} pixels, give larger ones: {reason}"
        ) from None
    shape: Any = getattr(spec, "shape", ())
    if len(shape) == 4 and None not in shape[1:]:
        if min(shape[1:]) < 1:
            raise ValueError(f"nothing is left of images of {numbers} pixels at {name}; give larger ones")
        return *shape[1:], 0
    if len(shape) == 3 and None not in shape[1:]:
        for before in (0, 1):
            rows = math.sqrt((shape[1] - before) * image_size[0] / image_size[1])
            if rows >= 1 and rows == int(rows) and (shape[1] - before) % int(rows) == 0:
                return int(rows), (shape[1] - before) // int(rows), shape[2], before
    raise NotAMapError(f"{name} gives {tuple(shape) or type(spec).__name__}, which is no two-dimensional feature map")


def pooling(size: int, cells: int) -> np.ndarray:
    """Returns weights (cells, size) that average `size` places over `cells`, whose edges are rounded outwards."""
    starts = np.arange(cells) * size // cells
    ends = -(-(np.arange(cells) + 1) * size // cells)
    places = np.arange(size)
    inside = (places >= starts[:, None]) & (places < ends[:, None])
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def cell_boxes(grid: tuple[int, int]) -> np.ndarray:
    """Returns the corners x1, y1, x2, y2 from 0 to 1 of each cell, float32 (rows · columns, 4), row by row."""
    rows, columns = grid
    y, x = (each.ravel() for each in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    return np.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], axis=1).astype(np.float32)


def own_boxes(boxes, grid: tuple[int, int]) -> np.ndarray:
    """Returns the boxes that a user gives, after checking them. Raises ValueError if they are not boxes."""
    count = math.prod(grid)
    if isinstance(boxes, str) or np.shape(boxes) != (count, 4):
        given = repr(boxes) if isinstance(boxes, str) else f"of shape {np.shape(boxes)}"
        raise ValueError(f'boxes are {given}, expected "cells", or ({count}, 4) corners x1, y1, x2, y2 from 0 to 1')
    return Regions(np.ones((count, 1), np.float32), boxes).boxes  # which checks their values

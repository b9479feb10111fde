"""Makes batches of arrays from examples: their pictures or regions, their texts, and blanks where an image fails."""

import dataclasses
import functools
import os
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfvl.modeling.losses import IGNORED
from tfvl.preprocessing.regions.regions import Regions, pad_regions
from tfvl.training.data.examples import Example, Examples, Report
from tfvl.training.data.masking import WordMasker, example_generator

BLANK_SIZE = 32  # pixels; the side of the blank that replaces an image that cannot be read, in a row of weight 0


class Cache:
    """Keeps values that were read, up to a number of bytes; those that do not fit are read each time.

    Args:
        read: a function that reads the value of a name.
        size: a function that returns the bytes of a value.
        max_bytes: the number of bytes to keep; 0 keeps nothing.
    """

    def __init__(self, read: Callable[[str], Any], size: Callable[[Any], int], max_bytes: int = 0):
        self._read, self._size, self._left = read, size, max_bytes
        self._kept: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> Any:
        if name in self._kept:
            return self._kept[name]
        value = self._read(name)
        with self._lock:
            if name not in self._kept and self._size(value) <= self._left:
                self._left -= self._size(value)
                self._kept[name] = value
        return value


class Pictures:
    """Reads images for ViLT and makes `pixel_values` of them.

    Args:
        source: an `ImageFolder` or `ImageRecords`.
        image_processor: a `ViltImageProcessor`.
        cache_bytes: memory for decoded images.
    """

    def __init__(self, source: Any, image_processor, cache_bytes: int = 0):
        self.source, self.image_processor = source, image_processor
        self._levels = Cache(self._decode, lambda levels: levels.nbytes, cache_bytes)

    def __contains__(self, name: str) -> bool:
        return name in self.source

    def get(self, name: str) -> np.ndarray:
        """Returns the decoded image, uint8 (height, width, 3). Raises ValueError if it is missing or torn."""
        return self._levels(name)

    def content(self, name: str) -> bytes:
        """Returns the decoded levels, which tell an image from another; errors as in `get`."""
        return self.get(name).tobytes()

    def blank(self) -> np.ndarray:
        return np.zeros([BLANK_SIZE, BLANK_SIZE, 3], np.uint8)

    def inputs(self, rows: Sequence[Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
        """Returns `pixel_values` and `pixel_mask` of rows, each with one image or several."""
        pairs = [list(row) for row in rows]
        images = [row[0] for row in pairs] if len(pairs[0]) == 1 else pairs
        return {name: value.numpy() for name, value in self.image_processor(images).items()}

    def _decode(self, name: str) -> np.ndarray:
        try:
            return self.image_processor.to_levels(self.source.read(name)).levels
        except ValueError as error:
            raise ValueError(f"image {name!r}: {error}") from None


class StoredRegions:
    """Reads regions for VisualBERT and LXMERT from a `RegionStore`.

    Args:
        store: the store, whose ids are the names of the examples' images, or the last parts of these.
        processor: a `VisualBertProcessor` or `LxmertProcessor`.
        max_regions: of an image with more regions than this, only the first are taken.
        cache_bytes: memory for regions.
    """

    def __init__(self, store: Any, processor, max_regions: int | None = None, cache_bytes: int = 0):
        self.store, self.processor, self.max_regions = store, processor, max_regions
        self._regions = Cache(self._read, lambda regions: regions.features.nbytes, cache_bytes)

    def __contains__(self, name: str) -> bool:
        return self._id(name) in self.store

    def get(self, name: str) -> Regions:
        """Returns an image's regions. Raises ValueError if the image is not there, is damaged, or has no regions."""
        return self._regions(name)

    def content(self, name: str) -> bytes:
        """Returns the features, which tell an image from another; errors as in `get`."""
        return self.get(name).features.tobytes()

    def blank(self) -> Regions:
        nothing, size = np.zeros(1, np.float32), self.feature_size
        return Regions(
            np.zeros([1, size], np.float32),
            np.zeros([1, 4], np.float32),
            width=1,
            height=1,
            objects_id=nothing,
            objects_conf=nothing,
            attrs_id=nothing,
            attrs_conf=nothing,
        )

    def inputs(self, rows: Sequence[Sequence[Regions]]) -> dict[str, np.ndarray]:
        """Returns the model's visual inputs for rows of one image or two."""
        images: Any = [row[0] if len(row) == 1 else list(row) for row in rows]
        if all(len(row) == 1 for row in rows):
            images = pad_regions(images)
        return self.processor(regions=images, return_tensors="np")

    @functools.cached_property
    def feature_size(self) -> int:
        return self.processor.feature_size or self.store[next(iter(self.store))].features.shape[1]

    def _read(self, name: str) -> Regions:
        regions = self.store[self._id(name)]
        if not len(regions):
            raise ValueError(f"image {name!r} has no regions")
        if self.max_regions is None or len(regions) <= self.max_regions:
            return regions
        fields = {field.name: getattr(regions, field.name) for field in dataclasses.fields(regions)}
        arrays = (name for name, value in fields.items() if isinstance(value, np.ndarray))
        return Regions(**fields | {name: fields[name][: self.max_regions] for name in arrays})

    def _id(self, name: str) -> str:
        return stored_name(self.store, name)


def stored_name(store: Mapping, name: str) -> str:
    """Returns an image's id in a store of regions: its name or the last part of that, each without a suffix."""
    last = name.rpartition("/")[2]
    names = (name, last, os.path.splitext(name)[0], os.path.splitext(last)[0])
    return next((each for each in names if each in store), last)


@dataclasses.dataclass
class Batch:
    """The examples and images that a task turns into the inputs and labels of a batch.

    Attributes:
        loader: the loader of the data set.
        places: the examples' indices in the data set.
        epoch: the epoch, counted from 0.
        examples: the examples.
        visuals: each example's images, as uint8 arrays or `Regions`.
        pictures: the visual part of the inputs.
    """

    loader: "Loader"
    places: np.ndarray
    epoch: int
    examples: list[Example]
    visuals: list[list]
    pictures: dict[str, np.ndarray]

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """The inputs of a model that reads one text per example: the tokenizer's and the visual ones."""
        return self.texts([example.text for example in self.examples]) | self.pictures

    @property
    def labels(self) -> np.ndarray:
        """The examples' labels, int32 (N,); -100 if they are not published."""
        return np.array([IGNORED if example.label is None else example.label for example in self.examples], np.int32)

    def generator(self, row: int, purpose: str) -> np.random.Generator:
        return example_generator(self.loader.seed, self.epoch, int(self.places[row]), purpose)

    def texts(self, text: Sequence[str], text_pair: Sequence | None = None) -> dict[str, np.ndarray]:
        """Returns the tokenizer's part of the inputs for these texts, or pairs of texts."""
        return self.loader.processor(
            text=list(text), text_pair=text_pair, return_tensors="np", **self.loader.text_options
        )


class Loader:
    """Makes batches of one data set for one model.

    Args:
        examples: the data set.
        visual: reads the images, as `Pictures` or `StoredRegions`.
        processor: the model's processor.
        make: a function that returns the inputs and the labels of a `Batch`.
        label2id: the class of each answer, for question answering.
        num_labels: the number of classes.
        masker: hides words, for pre-training.
        seed: seeds masks and negatives.
        text_options: options of the tokenizer, for example {"pad_to_multiple_of": 8}.
        report: counts rows whose image fails while training; by default the examples' report.
        free_label_axes: for each labels array, by name ("labels" if there is only one), the axes, other than the first,
            whose size differs between batches.
    """

    def __init__(
        self,
        examples: Examples,
        visual: Pictures | StoredRegions,
        processor,
        make: Callable[[Batch], tuple[dict, Any]],
        *,
        label2id: Mapping[str, int] | None = None,
        num_labels: int | None = None,
        masker: WordMasker | None = None,
        seed: int = 0,
        text_options: Mapping[str, Any] | None = None,
        report: Report | None = None,
        free_label_axes: Mapping[str, Sequence[int]] = types.MappingProxyType({}),
    ):
        self.examples, self.visual, self.processor, self.make = examples, visual, processor, make
        self.label2id, self.num_labels = label2id or {}, num_labels
        self.masker, self.seed, self.text_options = masker, seed, dict(text_options or {})
        self.report, self.free_label_axes = report or examples.report, free_label_axes
        self._failed: set[str] = set()

    def __call__(self, places: np.ndarray, epoch: int) -> tuple[dict, Any, np.ndarray]:
        """Makes the inputs, labels and weights of a batch, as NumPy arrays.

        A row whose image is missing, torn or unusable gets a blank image and the weight 0, so that it changes neither
        the loss nor the other rows; it is reported once.

        Raises:
            ValueError: an image fails and the report is strict.
        """
        examples = [self.examples[int(place)] for place in places]
        visuals = [self._tried(example, self._visuals) for example in examples]
        try:
            pictures = self.visual.inputs(self._filled(examples, visuals))
        except ValueError:  # an image cannot be used: it is too thin to resize, or its features are not finite
            checked = zip(examples, visuals, strict=True)
            visuals = [images and self._tried(example, self._checked, images) for example, images in checked]
            pictures = self.visual.inputs(self._filled(examples, visuals))
        weights = np.array([images is not None for images in visuals], np.float32)
        batch = Batch(self, places, epoch, examples, self._filled(examples, visuals), pictures)
        return *self.make(batch), weights

    def _visuals(self, example: Example) -> list:
        return [self.visual.get(name) for name in example.images]

    def _checked(self, example: Example, images: list) -> list:
        self.visual.inputs([images])
        return images

    def _filled(self, examples: list[Example], visuals: list[list | None]) -> list[list]:
        """Returns the images of each example, with blanks for those that are None."""
        rows = zip(examples, visuals, strict=True)
        return [images or [self.visual.blank() for _ in example.images] for example, images in rows]

    def _tried(self, example: Example, step: Callable[..., list], *arguments: Any) -> list | None:
        """Returns the result of `step` for an example; None if it fails, which is reported once."""
        try:
            return step(example, *arguments)
        except ValueError as error:
            if example.id not in self._failed:
                self._failed.add(example.id)
                self.report.skip("images that fail", f"example {example.id}: {str(error).rstrip('.')}.")
            return None

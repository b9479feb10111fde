"""Reads data sets that `tfvl prepare` wrote: examples, images and regions of a split in a few TFRecord files.

The directory has a subdirectory for each split. Its files are `train/prepared.json`, which names the others and is
written last, `train/examples-00000-of-00016.tfrecord`, `train/images-….tfrecord` or `train/regions-….tfrecord` with
their indices, `train/answers.json` and `train/report.json`. An example is a `tf.train.Example` with the fields of
`Example` that are not empty, and its `number` in the published data set; examples are read in the order of the numbers.
"""

import heapq
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.files.reading import parse_json, read_file
from tfvl.files.tfrecord import read_records
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.training.data.examples import Example, Phrase
from tfvl.training.data.images import ImageRecords

DESCRIPTION, ANSWERS = "prepared.json", "answers.json"
FORMAT = 1
MAX_DESCRIPTION_BYTES = 1 << 22
MAX_EXAMPLE_BYTES = 1 << 24
MAX_FILES = 1 << 12  # of a split
SHOWN_CHARACTERS = 100  # of a name that stands in a sentence


@dataclass(frozen=True)
class Prepared:
    """A split of a prepared data set.

    Attributes:
        directory: the split's directory.
        task, split: the task and the split that were prepared.
        count: number of examples.
        examples, images, regions: names of the files; a split has either images or regions.
    """

    directory: Path
    task: str
    split: str
    count: int
    examples: tuple[str, ...]
    images: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    def read(self) -> Iterator[Example]:
        """Yields the examples, in the order of the published files.

        Raises:
            ValueError: a file is missing or damaged, or examples are missing.
        """
        count = 0
        shards = [_numbered(path) for path in self._files("examples")]
        for _, example in heapq.merge(*shards, key=lambda numbered: numbered[0]):
            count += 1
            yield example
        if count != self.count:
            expected = f"{self.directory / DESCRIPTION} says {self.count}"
            raise ValueError(f"{self.directory} has {count} examples of {self.count}; prepare it again ({expected}).")

    def paths(self, kind: str) -> list[Path]:
        """Returns the files of "images" or "regions". Raises ValueError if there are none, or one is missing."""
        if not getattr(self, kind):
            raise ValueError(f"{self.directory} was prepared without {kind}; prepare it again with --{kind}.")
        return self._files(kind)

    def _files(self, kind: str) -> list[Path]:
        paths = [self.directory / name for name in getattr(self, kind)]
        for path in paths:
            if not os.path.isfile(path):  # which a name too long for a file is not either
                name = path.name[:SHOWN_CHARACTERS]
                raise ValueError(
                    f"{self.directory / DESCRIPTION} names {name!r}, which is missing; prepare the data set again."
                )
        return paths


def find(directory: str | os.PathLike, split: str) -> Prepared | None:
    """Finds the prepared data set of a split, in a directory or in its subdirectory with the split's name.

    Returns: the data set, or None if there is none.

    Raises:
        ValueError: the description is damaged or of another format.
    """
    for path in (Path(directory) / split / DESCRIPTION, Path(directory) / DESCRIPTION):
        if path.is_file():
            found = _described(path)
            if found.split == split:
                return found
    return None


def open_images(directory: str | os.PathLike) -> ImageRecords | None:
    """Opens the images of all splits; returns None if the directory does not hold a prepared data set.

    Raises:
        ValueError: it was prepared without images, or a file is missing or damaged.
    """
    splits = _splits(directory)
    return ImageRecords([path for split in splits for path in split.paths("images")]) if splits else None


def open_regions(directory: str | os.PathLike) -> "RegionShards | None":
    """Opens the regions of all splits; result and errors as in `open_images`."""
    splits = _splits(directory)
    return RegionShards([path for split in splits for path in split.paths("regions")]) if splits else None


def _splits(directory: str | os.PathLike) -> list[Prepared]:
    here = Path(directory)
    return [_described(path) for path in sorted([*here.glob(DESCRIPTION), *here.glob(f"*/{DESCRIPTION}")])]


def _described(path: Path) -> Prepared:
    try:
        values = parse_json(read_file(path, MAX_DESCRIPTION_BYTES))
        names = {kind: tuple(values[kind]) for kind in ("examples", "images", "regions")}
        plain = all(isinstance(name, str) and name == os.path.basename(name) for kind in names for name in names[kind])
        listed = [name for kind in names for name in names[kind]]
        if len(listed) > MAX_FILES or len(set(listed)) < len(listed):  # each store is opened by a process
            raise ValueError("too many files, or one twice")
        known = values["format"] == FORMAT and isinstance(values["count"], int) and bool(names["examples"])
        found = Prepared(path.parent, str(values["task"]), str(values["split"]), values["count"], **names)
    except (ValueError, TypeError, KeyError):
        plain = known = False
    if not (plain and known):
        raise ValueError(f"{path} is damaged or of another version; prepare the data set again.")
    return found


class RegionShards(Mapping):
    """The regions of several `RegionStore` files as one mapping, by the ids of the images.

    Raises:
        ValueError: a file is missing or damaged, or two images have one id.
    """

    def __init__(self, paths: Iterable[Path]):
        self.stores = [RegionStore(path) for path in paths]
        self._store_of: dict[str, RegionStore] = {}
        for store in self.stores:
            for name in store:
                if self._store_of.setdefault(name, store) is not store:
                    raise ValueError(f"{store.path}: image {name!r} stands in {self._store_of[name].path} as well.")

    def __getitem__(self, name: str) -> Regions:
        if name not in self._store_of:
            raise ValueError(f"there is no image {name!r} among the {len(self)} of {len(self.stores)} files.")
        return self._store_of[name][name]

    def __contains__(self, name: object) -> bool:
        return name in self._store_of

    def __iter__(self) -> Iterator[str]:
        return iter(self._store_of)

    def __len__(self) -> int:
        return len(self._store_of)


# --- records --------------------------------------------------------------------------------------------------------


def encode(number: int, example: Example) -> bytes:
    """Serialises an example as a `tf.train.Example`; the same example always gives the same bytes."""
    import tensorflow as tf

    def texts(*values: str) -> tf.train.Feature:
        listed = [value.encode("utf-8", "surrogatepass") for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=listed))

    def ints(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    feature = {name: texts(getattr(example, name)) for name in ("id", "text", "group")}
    feature |= {name: texts(*values) for name in ("images", "choices", "answers") if (values := getattr(example, name))}
    feature["number"] = ints(number)
    if example.label is not None:
        feature["label"] = ints(example.label)
    if example.phrases:
        feature["phrase_words"] = ints(*(word for phrase in example.phrases for word in (phrase.first, phrase.last)))
        feature["phrase_box_counts"] = ints(*(len(phrase.boxes) for phrase in example.phrases))
        corners = [corner for phrase in example.phrases for box in phrase.boxes for corner in box]
        feature["phrase_boxes"] = tf.train.Feature(float_list=tf.train.FloatList(value=corners))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def decode(payload: bytes) -> tuple[int, Example]:
    """Parses a record into an example and its number.

    Raises:
        ValueError: the record is not an example.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        feature = tf.train.Example.FromString(payload).features.feature
        lists: dict[str, Any] = {
            name: tuple(value.decode("utf-8", "surrogatepass") for value in feature[name].bytes_list.value)
            for name in ("id", "text", "group", "images", "choices", "answers")
        }
        single = {name: lists.pop(name)[0] for name in ("id", "text", "group")}
        label = feature["label"].int64_list.value[0] if "label" in feature else None
        words = np.array(feature["phrase_words"].int64_list.value).reshape(-1, 2).tolist()
        boxes = [tuple(box) for box in np.array(feature["phrase_boxes"].float_list.value).reshape(-1, 4).tolist()]
        ends = np.cumsum(feature["phrase_box_counts"].int64_list.value, dtype=int).tolist()
        starts = [0, *ends[:-1]]
        phrases = tuple(
            Phrase(first, last, tuple(boxes[a:b]))
            for (first, last), a, b in zip(words, starts, ends, strict=bool(ends))
        )
        return feature["number"].int64_list.value[0], Example(**single, **lists, label=label, phrases=phrases)
    except (DecodeError, IndexError, ValueError) as error:
        raise ValueError(f"the record is no example ({error})") from None


def _numbered(path: Path) -> Iterator[tuple[int, Example]]:
    try:
        for payload in read_records(path, MAX_EXAMPLE_BYTES):
            yield decode(payload)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}; prepare the data set again.") from None

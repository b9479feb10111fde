"""The task of `prepare`, which writes the images or regions of a shard, and reports those that cannot be used."""

import dataclasses
import io
import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tfvl.preprocessing.image.processor import ViltImageProcessor
from tfvl.preprocessing.image.resize import target_size
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.training.beam.directories import new_files
from tfvl.training.beam.shards import Task
from tfvl.training.data.images import write_image_records


class WriteVisuals(Task):
    """Turns names of images into a file with those that can be used.

    The result of a shard is {"file": its name or None, "problems": {name: [reason, sentence]}}.

    Args:
        directory: the directory for the files.
        settings: what is read, and the number of files.
    """

    kind: str

    def __init__(self, directory: str, settings: Any):
        self.directory, self.settings = directory, settings

    @abstractmethod
    def reader(self) -> tuple[Any, Callable[[str], Any]]:
        """Returns the known names, and a function that reads one, or raises ValueError if it cannot be used."""

    @abstractmethod
    def write(self, path: Path, visuals: Iterator) -> None:
        """Writes into a file what the function of `reader` has read."""

    def open(self) -> Callable[[int, list[bytes]], dict]:
        known, read = self.reader()

        def work(shard: int, records: list[bytes]) -> dict:
            problems: dict[str, tuple[str, str]] = {}
            usable = read_usable(sorted(map(text, records)), known, read, problems)
            first = next(usable, None)
            if first is None:
                return {"file": None, "problems": problems}
            name = f"{self.kind}-{shard:05d}-of-{self.settings.shards:05d}.tfrecord"
            with new_files(self.directory) as directory:
                self.write(directory / name, itertools.chain([first], usable))
            return {"file": name, "problems": problems}

        return work


def text(record: bytes) -> str:
    return record.decode("utf-8", "surrogatepass")


def read_usable(names: Iterable[str], known, read: Callable[[str], Any], problems: dict) -> Iterator:
    """Yields what can be read; adds (reason, sentence) to `problems` for every other name."""
    for name in names:
        if name not in known:
            problems[name] = "missing images", f"there is no image {name!r}."
            continue
        try:
            yield read(name)
        except ValueError as error:
            problems[name] = "images that fail", f"image {name!r}: {str(error).rstrip('.')}."


class WriteImages(WriteVisuals):
    """Writes images of a folder: the bytes of their files, or smaller PNG files."""

    kind = "images"

    def reader(self):
        options, source = self.settings.processor, self.settings.open_source()
        processor = None if options is None else ViltImageProcessor.from_dict(options)
        return source, lambda name: (name, shrunk(source.read(name), processor))

    def write(self, path: Path, visuals: Iterator[tuple[str, bytes]]) -> None:
        write_image_records(path, visuals)


class WriteRegions(WriteVisuals):
    """Writes regions of a store, under the names that the examples have for them."""

    kind = "regions"

    def reader(self):
        source = ByLastPart(self.settings.open_source())
        return source, source.read

    def write(self, path: Path, visuals: Iterator[Regions]) -> None:
        RegionStore.write(path, visuals)


class ByLastPart:
    """A store in which an image is also found by the last part of its name: "FILM/FILM_03" as "FILM_03"."""

    def __init__(self, store):
        self.store = store

    def __contains__(self, name: str) -> bool:
        return name in self.store or name.rpartition("/")[2] in self.store

    def read(self, name: str) -> Regions:
        regions = self.store[name if name in self.store else name.rpartition("/")[2]]
        if not len(regions):
            raise ValueError("it has no regions")
        return dataclasses.replace(regions, image_id=name)


def shrunk(content: bytes, processor: ViltImageProcessor | None) -> bytes:
    """Returns an encoded image as it is, or, if the processor would make it smaller, a PNG of that smaller size.

    Raises:
        ValueError: the image cannot be decoded.
    """
    levels = (processor or ViltImageProcessor()).to_levels(content).levels
    if processor is None or not processor.do_resize:
        return content
    height, width = target(levels.shape, processor)
    smaller = 0 < height * width < levels.shape[0] * levels.shape[1]
    if not smaller or target((height, width), processor) != (height, width):
        return content
    file = io.BytesIO()
    Image.fromarray(levels).resize((width, height), Image.Resampling(processor.resample)).save(file, "PNG")
    return file.getvalue()


def target(shape: tuple[int, ...], processor: ViltImageProcessor) -> tuple[int, int]:
    """Returns the (height, width) to which the processor resizes an image of this shape."""
    size = target_size(shape[0], shape[1], processor.size["shortest_edge"], processor.size_divisor)
    return tuple(size.numpy().tolist())

"""The steps of the pipeline of `prepare` that write images and regions, a shard at a time."""

import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from tfvl.preprocessing.image.processor import ViltImageProcessor
from tfvl.preprocessing.image.resize import target_size
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.training.beam.steps import PROBLEMS, TaggedOutput, Written, written_at
from tfvl.training.data.images import write_image_records


class WriteVisuals(Written):
    """Names of images to a file with what can be used of them; for each of the others (name, (reason, sentence))."""

    def setup(self):
        self.source = self.settings.open_source()

    def process(self, element: tuple[int, Iterable[str]]) -> Iterator:
        shard, names = element
        problems: dict[str, tuple[str, str]] = {}
        usable = self.usable(sorted(names), problems)
        first = next(usable, None)
        if first is not None:
            with written_at(self.directory, self.name(shard)) as path:
                self.write(path, itertools.chain([first], usable))
            yield self.name(shard)
        yield from (TaggedOutput(PROBLEMS, item) for item in problems.items())

    def has(self, name: str) -> bool:
        return name in self.source

    def usable(self, names: list[str], problems: dict[str, tuple[str, str]]) -> Iterator:
        for name in names:
            if not self.has(name):
                problems[name] = "missing images", f"there is no image {name!r}."
                continue
            try:
                yield self.read(name)
            except ValueError as error:
                problems[name] = "images that fail", f"image {name!r}: {str(error).rstrip('.')}."


class WriteImages(WriteVisuals):
    """Images from a folder: their bytes, or a smaller PNG."""

    kind = "images"

    def setup(self):
        super().setup()
        options = self.settings.processor
        self.processor = None if options is None else ViltImageProcessor.from_dict(options)

    def read(self, name: str) -> tuple[str, bytes]:
        return name, shrunk(self.source.read(name), self.processor)

    @staticmethod
    def write(path: Path, images: Iterable[tuple[str, bytes]]) -> None:
        write_image_records(path, images)


class WriteRegions(WriteVisuals):
    """Regions from a store, under the names that the examples have for them."""

    kind = "regions"

    def has(self, name: str) -> bool:
        return name in self.source or name.rpartition("/")[2] in self.source

    def read(self, name: str) -> Regions:
        regions = self.source[name if name in self.source else name.rpartition("/")[2]]
        if not len(regions):
            raise ValueError("it has no regions")
        return dataclasses.replace(regions, image_id=name)

    @staticmethod
    def write(path: Path, regions: Iterable[Regions]) -> None:
        RegionStore.write(path, regions)


def shrunk(content: bytes, processor: ViltImageProcessor | None) -> bytes:
    """An encoded image, or where a processor would shrink it the PNG of what it makes of it.

    Raises:
        ValueError: it cannot be decoded.
    """
    levels = (processor or ViltImageProcessor()).to_levels(content).levels
    if processor is None or not processor.do_resize:
        return content
    height, width = target(levels.shape, processor)
    if not 0 < height * width < levels.shape[0] * levels.shape[1] or target((height, width), processor) != (
        height,
        width,
    ):
        return content
    file = io.BytesIO()
    Image.fromarray(levels).resize((width, height), Image.Resampling(processor.resample)).save(file, "PNG")
    return file.getvalue()


def target(shape: tuple[int, ...], processor: ViltImageProcessor) -> tuple[int, int]:
    """The (height, width) that an image is resized to."""
    size = target_size(*shape[:2], processor.size["shortest_edge"], processor.size_divisor)
    return tuple(size.numpy().tolist())

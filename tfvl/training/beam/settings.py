"""The settings and the result of the pipelines that read a data set."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tfvl.preprocessing.regions.store import RegionStore
from tfvl.training.data import prepared
from tfvl.training.data.examples import Report
from tfvl.training.data.images import ImageFolder, ImageRecords
from tfvl.training.tasks.table import TASKS
from tfvl.training.tasks.vocabulary import MIN_OCCURRENCES

REPORT = "report.json"


@dataclass(frozen=True)
class Settings:
    """The settings of a pipeline: what is read, and how it is written.

    Attributes:
        task: one of `TASKS`.
        data: directory with the files as published, or as `tfvl prepare` wrote them.
        split: name of the split in those files.
        images: folder of images, or directory of a prepared data set; None if regions are read.
        regions: file of a `RegionStore`, or directory of a prepared data set; None if images are read.
        processor: options of a `ViltImageProcessor`. Images that it would make smaller are written as PNG files of the
            smaller size, from which it makes the same pixels. None writes the bytes of the files unchanged.
        shards: number of files of each kind.
        min_answers: an answer comes into the vocabulary if it occurs so often.
        strict: whether a data set is refused if any of its examples or images cannot be used.

    Raises:
        ValueError: the task is unknown or reads no files, or `images` and `regions` are both given or both missing.
    """

    task: str
    data: str
    split: str
    images: str | None = None
    regions: str | None = None
    processor: Mapping | None = None
    shards: int = 32
    min_answers: int = MIN_OCCURRENCES
    strict: bool = False

    def __post_init__(self):
        known = [task.name for task in TASKS.values() if task.needs_data]
        if self.task not in known:
            raise ValueError(f"the task {self.task!r} has no files; those that have are {', '.join(known)}.")
        if (self.images is None) == (self.regions is None):
            raise ValueError("give either --images, a folder, or --regions, a file of region features.")
        check_shards(self.shards)

    def open_source(self) -> ImageFolder | ImageRecords | RegionStore | prepared.RegionShards:
        """Opens the images or regions. Raises ValueError if they cannot be opened."""
        if self.images is not None:
            return prepared.open_images(self.images) or ImageFolder(self.images)
        return prepared.open_regions(self.regions) or RegionStore(self.regions)


class Finished(NamedTuple):
    """A pipeline's result.

    Attributes:
        report: what could not be used.
        workers: how many shards each worker process ("host:process id") did.
    """

    report: Report
    workers: Counter[str]


def check_shards(shards: int) -> None:
    """Raises ValueError if there would be no files."""
    if shards < 1:
        raise ValueError(f"shards is {shards}, expected at least 1.")

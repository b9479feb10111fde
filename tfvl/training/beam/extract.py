"""Finds the regions of more images than one machine can, on the workers of an Apache Beam runner.

The shard of an image depends on its name only, and the images of a shard are sorted: every run writes the same files.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfvl.detector.extract import named_images
from tfvl.detector.model import RegionDetector
from tfvl.porting.hub import resolve
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.training.beam.directories import new_directory, write_json
from tfvl.training.beam.settings import REPORT, Finished, check_shards
from tfvl.training.beam.shards import map_shards, shard_of
from tfvl.training.beam.visuals import WriteVisuals
from tfvl.training.data.examples import Report


@dataclass(frozen=True)
class ExtractionSettings:
    """The settings of `extract`: what is read, and how it is written.

    Attributes:
        images: paths of images, and of folders of which all images are read.
        detector: hub id, directory or bundled name.
        overrides: fields of the detector's configuration and their values.
        dtype: the type in which features are stored, "float32" or "float16".
        shards: number of files.

    Raises:
        ValueError: `shards` is less than 1.
    """

    images: tuple[str, ...]
    detector: str
    overrides: tuple[tuple[str, Any], ...] = ()
    dtype: str = "float32"
    shards: int = 32

    def __post_init__(self):
        check_shards(self.shards)


def extract(settings: ExtractionSettings, out: str, flags: Iterable[str] = (), overwrite: bool = False) -> Finished:
    """Writes `out`/regions-….tfrecord, each a `RegionStore`, and report.json; `out` appears whole or not at all.

    Args:
        settings: what is read, and how it is written.
        out: directory to write; `tfvl regions OUT regions.h5` makes one file of it.
        flags: options of Beam, such as `--runner FlinkRunner`.
        overwrite: whether to replace a directory that exists.

    Raises:
        ValueError: there are no images, or none can be used.
        CheckpointError: the detector cannot be found.
        FileExistsError: `out` exists already and `overwrite` is false.
    """
    names = sorted(named_images(settings.images))
    resolve(settings.detector)  # a wrong one is found before any work
    with new_directory(out, REPORT, overwrite) as directory:
        records = ((shard_of(name, settings.shards), name.encode("utf-8", "surrogatepass")) for name in names)
        done = map_shards(WriteDetected(directory, settings), records, directory, flags)
        report = Report()
        for _, (reason, sentence) in sorted(item for value in done.values for item in value["problems"].items()):
            report.skip(reason, sentence)
        if report.counts.total() == len(names):
            raise ValueError(f"none of the {len(names)} images could be used; the first: {report.sentences[0]}")
        write_json(directory, REPORT, report.as_dict())
    return Finished(report, done.workers)


class WriteDetected(WriteVisuals):
    """Turns names of images into a file with the regions that the detector finds in them."""

    kind = "regions"
    settings: ExtractionSettings

    def reader(self) -> tuple[dict[str, Path], Callable[[str], Regions]]:
        images = named_images(self.settings.images)
        detector = RegionDetector.from_pretrained(self.settings.detector, **dict(self.settings.overrides))

        def read(name: str) -> Regions:
            try:
                (regions,) = detector.regions(images[name], [name])
            except ValueError as error:
                raise ValueError(str(error).removeprefix("images[0]: ")) from None
            return regions

        return images, read

    def write(self, path: Path, visuals: Iterator[Regions]) -> None:
        RegionStore.write(path, visuals, dtype=self.settings.dtype)

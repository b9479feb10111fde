"""An Apache Beam pipeline from images to their regions, for more images than one machine gets through.

Which shard an image is in depends on its name only, and shards are sorted: every run writes the same files. Workers
need the package, and see the images and the detector under the same paths.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfvl.detector.extract import loaded, named_images
from tfvl.porting.hub import resolve
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.training.beam.steps import PROBLEMS, REPORT, beam, dump_report, merged, read_report, run, with_shard
from tfvl.training.beam.visuals import WriteVisuals
from tfvl.training.data.examples import Report


@dataclass(frozen=True)
class ExtractionSettings:
    """What is read, and how it is written.

    Attributes:
        images: files, and folders with all images in them.
        detector: hub id, directory or bundled name.
        overrides: fields of the detector's configuration and their values.
        dtype: how features are stored, "float32" or "float16".
        shards: number of files.

    Raises:
        ValueError: there are no shards.
    """

    images: tuple[str, ...]
    detector: str
    overrides: tuple[tuple[str, Any], ...] = ()
    dtype: str = "float32"
    shards: int = 32

    def __post_init__(self):
        if self.shards < 1:
            raise ValueError(f"shards is {self.shards}, expected at least 1.")

    def open_source(self) -> dict[str, Path]:
        """Image id to file. Raises ValueError where there is none, or two files would be one image."""
        return named_images(self.images)


def extract(settings: ExtractionSettings, out: str, flags: Iterable[str] = (), overwrite: bool = False) -> Report:
    """Writes `out`/regions-….tfrecord, each a `RegionStore`, and report.json; whole or not at all.

    Args:
        out: directory to write; `tfvl regions OUT regions.h5` makes one file of it.
        flags, overwrite: as `steps.run` takes them.

    Returns: what could not be used.

    Raises:
        ValueError: no image can be used, or there are none.
        CheckpointError: there is no such detector.
        FileExistsError: it is there already and `overwrite` is false.
    """
    names = list(settings.open_source())
    resolve(settings.detector)  # a wrong one is found here and not by a worker
    return run(
        out,
        REPORT,
        lambda pipeline, directory: add_steps(pipeline, settings, names, directory),
        lambda directory: _checked(directory, len(names)),
        flags,
        overwrite,
    )


def _checked(directory: str, count: int) -> Report:
    report = read_report(directory)
    if sum(report.counts.values()) == count:
        raise ValueError(f"none of the {count} images could be used; the first: {report.sentences[0]}")
    return report


def add_steps(pipeline: beam.Pipeline, settings: ExtractionSettings, names: list[str], directory: str) -> None:
    by_shard = pipeline | beam.Create(names) | beam.Map(with_shard, settings.shards) | beam.GroupByKey()
    written = by_shard | beam.ParDo(WriteDetected(settings, directory)).with_outputs(PROBLEMS, main="files")
    problems = written[PROBLEMS] | beam.Map(counted) | beam.CombinePerKey(merged)
    sides = {"files": beam.pvalue.AsList(written.files), "problems": beam.pvalue.AsList(problems)}
    _ = pipeline | "once" >> beam.Create([directory]) | beam.Map(describe, **sides)


class WriteDetected(WriteVisuals):
    """Names of images to a file with the regions that the detector finds in them."""

    kind = "regions"

    def setup(self):
        super().setup()
        self.detector = loaded(self.settings.detector, self.settings.overrides)

    def read(self, name: str) -> Regions:
        try:
            (regions,) = self.detector.regions(self.source[name], [name])
        except ValueError as error:
            raise ValueError(str(error).removeprefix("images[0]: ")) from None
        return regions

    def write(self, path: Path, regions: Iterable[Regions]) -> None:
        RegionStore.write(path, regions, dtype=self.settings.dtype)


def counted(problem: tuple[str, tuple[str, str]]) -> tuple[str, tuple[int, list[str]]]:
    _, (reason, sentence) = problem
    return reason, (1, [sentence])


def describe(directory: str, files: list[str], problems: list) -> None:
    """Writes the report; when that is done, so are the `files`."""
    dump_report(directory, problems)

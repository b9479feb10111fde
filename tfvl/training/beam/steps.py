"""What the Apache Beam pipelines share: their settings, the step that reads a data set, and how files are written."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import apache_beam as beam
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.metrics import Metrics
    from apache_beam.ml.inference.base import ModelHandler, RunInference  # noqa: F401  # for `score`, so that one hint does
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.pvalue import TaggedOutput
except ImportError as error:
    raise ImportError("This runs on Apache Beam, which is missing: pip install 'tfvl[beam]'.") from error

from tfvl.files.whole import refuse_to_overwrite, written_whole
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.training.data import prepared
from tfvl.training.data.examples import Report
from tfvl.training.data.images import ImageFolder, ImageRecords
from tfvl.training.tasks.table import TASKS
from tfvl.training.tasks.vocabulary import MIN_OCCURRENCES

REPORT = "report.json"
REFUSED = "refused"  # the reason in a report for which nothing is written
PROBLEMS = "problems"  # the output of a step for (reason, (count, sentences))


@dataclass(frozen=True)
class Settings:
    """What is read, and how it is written.

    Attributes:
        task: one of `TASKS`.
        data: directory with the files as published, or prepared from them.
        split: as the files call it.
        images: folder of images, or directory of a prepared data set; None where regions are read.
        regions: file of a `RegionStore`, or directory of a prepared data set; None where images are read.
        processor: options of a `ViltImageProcessor`: larger images are written as PNGs of the size that it resizes to,
            which give the same pixels in training. None: the files' bytes as they are.
        shards: number of files of each kind.
        min_answers: how often an answer occurs that comes into the vocabulary.
        strict: refuse a data set with anything in it that cannot be used.

    Raises:
        ValueError: there is no such task, or not one of images and regions.
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
        if self.shards < 1:
            raise ValueError(f"shards is {self.shards}, expected at least 1.")

    def open_source(self) -> ImageFolder | ImageRecords | RegionStore | prepared.RegionShards:
        """What has the images or regions. Raises ValueError where it cannot be opened."""
        if self.images is not None:
            return prepared.open_images(self.images) or ImageFolder(self.images)
        return prepared.open_regions(self.regions) or RegionStore(self.regions)


def run(
    directory: str,
    last: str,
    add_steps: Callable[[beam.Pipeline, str], None],
    check: Callable[[str], Any],
    flags: Iterable[str],
    overwrite: bool,
) -> Any:
    """Runs a pipeline that writes a directory, which appears whole or not at all.

    On a remote file system ("gs://…") it is written in place, without its `last` file where `check` refuses it.

    Args:
        directory: where to.
        last: name of the file that is written last, without which a directory is none.
        add_steps: adds to a pipeline the steps that write into a directory.
        check: is called with that directory afterwards; raises ValueError where it shall not stay.
        flags: Beam's, such as `--runner FlinkRunner`.
        overwrite: replace what is there.

    Returns: what `check` gives.

    Raises:
        FileExistsError: there is something already and `overwrite` is false.
    """
    remote = is_remote(directory)
    if remote:
        _clear(FileSystems.join(directory, last), overwrite)
    else:
        refuse_to_overwrite(Path(directory), overwrite)
    with contextlib.nullcontext(directory) if remote else written_whole(directory) as place:
        with beam.Pipeline(options=PipelineOptions([*flags])) as pipeline:
            add_steps(pipeline, str(place))
        return check(str(place))


def _clear(file: str, overwrite: bool) -> None:
    """Deletes a remote directory's last file, so that it is none until it is written anew."""
    if FileSystems.exists(file):
        if not overwrite:
            raise FileExistsError(f"{file} exists already; choose another directory or pass --overwrite")
        FileSystems.delete([file])


def read_report(directory: str) -> Report:
    """The report that a pipeline wrote. Raises ValueError where the data set could not be read."""
    with FileSystems.open(FileSystems.join(directory, REPORT)) as file:
        found = json.loads(file.read())
    if REFUSED in found:
        raise ValueError(found[REFUSED]["sentences"][0])
    report = Report()
    report.counts.update({reason: entry["count"] for reason, entry in found.items()})
    report.sentences = [sentence for entry in found.values() for sentence in entry["sentences"]]
    return report


class ReadExamples(beam.DoFn):
    """Settings to the encoded examples of the split; and what could not be used."""

    def process(self, settings: Settings) -> Iterator:
        report, counter = Report(), Metrics.counter("tfvl", "examples read")
        try:
            examples = TASKS[settings.task].stream(settings.data, settings.split, report)
            for number, example in enumerate(examples):
                counter.inc()
                yield prepared.encode(number, example)
        except ValueError as error:  # of a whole file, not of a record
            yield TaggedOutput(PROBLEMS, (REFUSED, (1, [str(error)])))
        for number, (reason, count) in enumerate(report.counts.items()):
            Metrics.counter("tfvl", reason).inc(count)
            yield TaggedOutput(PROBLEMS, (reason, (count, [] if number else report.sentences)))


def with_shard(name: str, shards: int) -> tuple[int, str]:
    """A name with the number of its shard, which is always the same."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % shards, name


def merged(entries: Iterable[tuple[int, list[str]]]) -> tuple[int, list[str]]:
    """Counts added up, and the first sentences in the alphabet."""
    count, sentences = 0, []
    for more, said in entries:
        count, sentences = count + more, sorted({*sentences, *said})[: Report.SHOWN]
    return count, sentences


class Written(beam.DoFn):
    """What writes shards into a directory: (number, contents) to the name of a file."""

    kind: str
    suffix = "tfrecord"

    def __init__(self, settings: Settings, directory: str):
        self.settings, self.directory = settings, directory

    def name(self, shard: int) -> str:
        return f"{self.kind}-{shard:05d}-of-{self.settings.shards:05d}.{self.suffix}"


def dump(directory: str, name: str, value: Any) -> None:
    """Writes a JSON file."""
    with written_at(directory, name) as path:
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def dump_report(directory: str, problems: Iterable[tuple[str, tuple[int, list[str]]]]) -> dict:
    """Writes what could not be used, by reason, and returns it."""
    found = {reason: {"count": count, "sentences": said} for reason, (count, said) in sorted(problems)}
    dump(directory, REPORT, found)
    return found


@contextlib.contextmanager
def written_at(directory: str, name: str) -> Iterator[Path]:
    """A path to write a file to, and its index beside; on a remote file system they are copied when they are whole."""
    if not is_remote(directory):
        yield Path(directory, name)
        return
    with tempfile.TemporaryDirectory() as local:
        yield Path(local, name)
        for path in sorted(Path(local).iterdir()):
            with open(path, "rb") as source, FileSystems.create(FileSystems.join(directory, path.name)) as copy:
                shutil.copyfileobj(source, copy)


def is_remote(directory: str) -> bool:
    return "://" in os.fspath(directory)

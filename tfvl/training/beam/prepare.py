"""An Apache Beam pipeline from a published data set to the files that `tfvl.training.data.prepared` reads.

The annotation files are read by one worker, as they come; images or regions are checked, resized if wanted, and written
by all of them, a shard at a time. Which shard a thing is in depends on its name only, and shards are sorted, so that
every run writes the same bytes. Workers need the package, and see the data set under the same path.
"""

from collections.abc import Iterable, Iterator, Mapping

from tfvl.files.tfrecord import framed
from tfvl.training.beam.steps import (
    PROBLEMS,
    REFUSED,
    FileSystems,
    Metrics,
    ReadExamples,
    Settings,
    TaggedOutput,
    Written,
    beam,
    dump,
    dump_report,
    merged,
    read_report,
    run,
    with_shard,
    written_at,
)
from tfvl.training.beam.visuals import WriteImages, WriteRegions
from tfvl.training.data import prepared
from tfvl.training.data.examples import Report
from tfvl.training.tasks.table import TASKS
from tfvl.training.tasks.vocabulary import majority
from tfvl.training.tasks.vqa_answers import normalize_answer


def prepare(settings: Settings, out: str, flags: Iterable[str] = (), overwrite: bool = False) -> Report:
    """Write a split of a data set into `out`/<split>, whole or not at all.

    A directory on a remote file system ("gs://…") is written in place, `prepared.json` last, without which it is none.

    Args:
        out: directory of all splits.
        flags, overwrite: as `steps.run` takes them.

    Returns: what could not be used.

    Raises:
        ValueError: the data set cannot be read, no example of it can be used, or one cannot and `settings.strict`.
        FileExistsError: it is there already and `overwrite` is false.
    """
    settings.open_source()  # a wrong path is found here and not by a worker
    return run(
        FileSystems.join(out, settings.split),
        prepared.DESCRIPTION,
        lambda pipeline, directory: add_steps(pipeline, settings, directory),
        lambda directory: _checked(settings, directory),
        flags,
        overwrite,
    )


def _checked(settings: Settings, directory: str) -> Report:
    """The pipeline's report. Raises ValueError where it refused the data set."""
    report = read_report(directory)
    if settings.strict and report.sentences:
        raise ValueError(report.sentences[0])
    if not FileSystems.exists(FileSystems.join(directory, prepared.DESCRIPTION)):
        raise ValueError(f"split {settings.split!r} of {settings.data} is empty: no example can be used ({report}).")
    return report


def add_steps(pipeline: beam.Pipeline, settings: Settings, directory: str) -> None:
    """The steps that write a split into a directory."""
    start = pipeline | beam.Create([settings])
    read = start | "read" >> beam.ParDo(ReadExamples()).with_outputs(PROBLEMS, main="examples")
    images = read.examples | "names" >> beam.FlatMap(names_of) | beam.Distinct()
    by_shard = (
        images | "shards of images" >> beam.Map(with_shard, settings.shards) | "group images" >> beam.GroupByKey()
    )
    write = WriteImages if settings.images is not None else WriteRegions
    written = by_shard | "images" >> beam.ParDo(write(settings, directory)).with_outputs(PROBLEMS, main="files")
    kept = read.examples | "keep" >> beam.ParDo(LeaveOut(), beam.pvalue.AsDict(written[PROBLEMS])).with_outputs(
        PROBLEMS, main="examples"
    )
    numbered = kept.examples | "shards of examples" >> beam.Map(numbered_shard, settings.shards)
    files = numbered | "group examples" >> beam.GroupByKey() | beam.ParDo(WriteExamples(settings, directory))
    problems = (read[PROBLEMS], kept[PROBLEMS]) | beam.Flatten() | "count problems" >> beam.CombinePerKey(merged)
    answers = kept.examples | beam.FlatMap(best_answer) | beam.combiners.Count.PerElement()
    sides = {"files": files, "images": written.files, "problems": problems, "answers": answers}
    _ = start | beam.ParDo(Describe(directory), **{name: beam.pvalue.AsList(values) for name, values in sides.items()})


class LeaveOut(beam.DoFn):
    """The examples all of whose images were written; and what is wrong with the others."""

    def process(self, payload: bytes, problems: Mapping[str, tuple[str, str]]) -> Iterator:
        _, example = prepared.decode(payload)
        failing = [name for name in example.images if name in problems]
        if not failing:
            Metrics.counter("tfvl", "examples kept").inc()
            yield payload
            return
        reason, sentence = problems[failing[0]]
        Metrics.counter("tfvl", reason).inc()
        yield TaggedOutput(PROBLEMS, (reason, (1, [f"example {example.id}: {sentence}"])))


def names_of(payload: bytes) -> tuple[str, ...]:
    return prepared.decode(payload)[1].images


def numbered_shard(payload: bytes, shards: int) -> tuple[int, tuple[int, bytes]]:
    number, _ = prepared.decode(payload)
    return number % shards, (number, payload)


def best_answer(payload: bytes) -> list[str]:
    """The answer that most annotators gave, as vocabularies hold it; none where there are no answers."""
    _, example = prepared.decode(payload)
    return [normalize_answer(answer) for answer in majority([example])]


class WriteExamples(Written):
    """Gives besides the number of examples in the file."""

    kind = "examples"

    def process(self, element: tuple[int, Iterable[tuple[int, bytes]]]) -> Iterator[tuple[str, int]]:
        shard, rows = element
        ordered = sorted(rows)
        with written_at(self.directory, self.name(shard)) as path, open(path, "wb") as file:
            file.writelines(framed(payload) for _, payload in ordered)
        yield self.name(shard), len(ordered)


class Describe(beam.DoFn):
    """Writes the vocabulary, the report, and last the description, unless the data set is refused."""

    def __init__(self, directory: str):
        self.directory = directory

    def process(self, settings: Settings, files, images, problems, answers) -> None:
        found = dump_report(self.directory, problems)
        if not files or REFUSED in found or (settings.strict and found):
            return
        often = [(-count, answer) for answer, count in answers if count >= settings.min_answers]
        if TASKS[settings.task].answers and often:
            dump(self.directory, prepared.ANSWERS, [answer for _, answer in sorted(often)])
        kind = "images" if settings.images is not None else "regions"
        description = {
            "format": prepared.FORMAT,
            "task": settings.task,
            "split": settings.split,
            "count": sum(count for _, count in files),
            "examples": sorted(name for name, _ in files),
            "images": [],
            "regions": [],
        }
        dump(self.directory, prepared.DESCRIPTION, description | {kind: sorted(images)})

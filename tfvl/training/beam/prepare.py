"""Turns a published data set into the sharded files that `tfvl.training.data.prepared` reads.

The command itself reads the annotation files and writes the examples; the workers of an Apache Beam runner check the
images or regions, resize them if wanted, and write them. The shard of an image depends on its name only, that of an
example on its number, and both are sorted, so that every run writes the same bytes.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfvl.files.tfrecord import framed, read_records
from tfvl.training.beam.directories import join, new_directory, write_json
from tfvl.training.beam.settings import REPORT, Finished, Settings
from tfvl.training.beam.shards import map_shards, shard_of, write_shards
from tfvl.training.beam.visuals import WriteImages, WriteRegions
from tfvl.training.data import prepared
from tfvl.training.data.examples import Example, Report
from tfvl.training.tasks.table import TASKS
from tfvl.training.tasks.vocabulary import majority
from tfvl.training.tasks.vqa_answers import normalize_answer


def prepare(settings: Settings, out: str, flags: Iterable[str] = (), overwrite: bool = False) -> Finished:
    """Writes a split of a data set into the directory `out`/<split>, which appears whole or not at all.

    A directory on a remote file system ("gs://…") is written in place, and its `prepared.json` last; without that file
    nothing reads it.

    Args:
        settings: what is read, and how it is written.
        out: directory of all splits; workers see it under the same path.
        flags: options of Beam, such as `--runner FlinkRunner`.
        overwrite: whether to replace a directory that exists.

    Raises:
        ValueError: the data set cannot be read, no example of it can be used, or one cannot and `settings.strict`.
        FileExistsError: the directory exists already and `overwrite` is false.
    """
    settings.open_source()  # a wrong path is found before any work
    kind, write = ("images", WriteImages) if settings.images is not None else ("regions", WriteRegions)
    target = join(out, settings.split)
    with (
        new_directory(target, prepared.DESCRIPTION, overwrite) as directory,
        tempfile.TemporaryDirectory() as local,
    ):
        report, read = Report(settings.strict), Path(local, "examples")
        names = sorted(read_examples(settings, read, report))
        records = ((shard_of(name, settings.shards), name.encode("utf-8", "surrogatepass")) for name in names)
        done = map_shards(write(directory, settings), records, directory, flags)
        problems = {name: problem for value in done.values for name, problem in value["problems"].items()}
        files, count, answers = write_examples(settings, directory, usable(read, problems, report))
        if not count:
            split = f"split {settings.split!r} of {settings.data}"
            raise ValueError(f"{split} is empty: no example can be used ({report}).")
        often = [(-count, answer) for answer, count in answers.items() if count >= settings.min_answers]
        if TASKS[settings.task].answers and often:
            write_json(directory, prepared.ANSWERS, [answer for _, answer in sorted(often)])
        write_json(directory, REPORT, report.as_dict())
        description = {"format": prepared.FORMAT, "task": settings.task, "split": settings.split, "count": count}
        description |= {"examples": files, "images": [], "regions": []}
        description[kind] = [value["file"] for value in done.values if value["file"]]
        write_json(directory, prepared.DESCRIPTION, description)
    return Finished(report, done.workers)


def read_examples(settings: Settings, path: Path, report: Report) -> set[str]:
    """Writes the encoded examples of the published files into one TFRecord file; returns the names of their images."""
    names: set[str] = set()
    with open(path, "wb") as file:
        for number, example in enumerate(TASKS[settings.task].stream(settings.data, settings.split, report)):
            names.update(example.images)
            file.write(framed(prepared.encode(number, example)))
    return names


def usable(path: Path, problems: dict[str, tuple[str, str]], report: Report) -> Iterator[tuple[int, Example, bytes]]:
    """Yields the examples none of whose images has a problem, with their number and record; reports the others."""
    for record in read_records(path):
        number, example = prepared.decode(record)
        failing = [name for name in example.images if name in problems]
        if failing:
            reason, sentence = problems[failing[0]]
            report.skip(reason, f"example {example.id}: {sentence}")
        else:
            yield number, example, record


def write_examples(
    settings: Settings, directory: str, examples: Iterator[tuple[int, Example, bytes]]
) -> tuple[list[str], int, Counter[str]]:
    """Writes the files of examples.

    Returns: the names of the files, the number of examples, and how often each answer is the most frequent of its
        example.
    """
    count, answers = 0, Counter[str]()

    def records() -> Iterator[tuple[int, bytes]]:
        nonlocal count
        for number, example, record in examples:
            count += 1
            answers.update(map(normalize_answer, majority([example])))
            yield number % settings.shards, record

    name = f"examples-{{:05d}}-of-{settings.shards:05d}.tfrecord"
    files = [name.format(shard) for shard in write_shards(directory, records(), name)]
    return files, count, answers

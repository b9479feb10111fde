"""Asks an exported model about a data set, on the workers of an Apache Beam runner.

The files `predictions-00000-of-00032.jsonl`, … hold the rows of the task, each with the `score` of its answer and a
`status`, which is "" or says why there is no answer.
"""

import json
from collections.abc import Callable, Iterable, Iterator

from tfvl.training.beam.directories import new_directory, new_files, write_json
from tfvl.training.beam.settings import REPORT, Finished, Settings
from tfvl.training.beam.shards import Task, map_shards
from tfvl.training.data import prepared
from tfvl.training.data.examples import Report
from tfvl.training.evaluation.exported import ExportedModel, asked
from tfvl.training.tasks.table import TASKS

SUCCESS = "_SUCCESS"


def score(
    settings: Settings, model: str, out: str, flags: Iterable[str] = (), batch_size: int = 32, overwrite: bool = False
) -> Finished:
    """Writes an exported model's predictions for a split into the directory `out`, which appears whole or not at all.

    A directory on a remote file system is written in place, and its `_SUCCESS` last.

    Args:
        settings: what the model is asked about.
        model: directory of a SavedModel that tfvl exported; workers see it under the same path.
        out: directory to write.
        flags: options of Beam, such as `--runner FlinkRunner`.
        batch_size: the largest number of rows that the model answers at once. The batches are the same in every run.
        overwrite: whether to replace a directory that exists.

    Returns: the report on what could not be read and on rows without an answer, and the workers.

    Raises:
        ValueError: the model or the data set cannot be read, or they do not fit together.
        FileExistsError: `out` exists already and `overwrite` is false.
    """
    settings.open_source()  # a wrong path is found before any work
    loaded = ExportedModel(model)
    loaded.check(TASKS[settings.task])
    if getattr(settings, loaded.takes.visual) is None:
        raise ValueError(f"the model {model} takes {loaded.takes.visual}; give --{loaded.takes.visual}.")
    with new_directory(out, SUCCESS, overwrite) as directory:
        report = Report(settings.strict)
        done = map_shards(Answer(settings, model, batch_size, directory), records(settings, report), directory, flags)
        for example, status in sorted(unanswered for value in done.values for unanswered in value):
            report.skip("rows without an answer", f"example {example}: {status.rstrip('.')}.")
        write_json(directory, REPORT, report.as_dict())
        if done.values:
            with new_files(directory) as local:
                (local / SUCCESS).write_text("")
    return Finished(report, done.workers)


def records(settings: Settings, report: Report) -> Iterator[tuple[int, bytes]]:
    """Yields the encoded examples of the split with the numbers of their shards."""
    for number, example in enumerate(TASKS[settings.task].stream(settings.data, settings.split, report)):
        yield number % settings.shards, prepared.encode(number, example)


class Answer(Task):
    """Turns encoded examples into a file of predictions.

    The result of a shard is [[id, status], …] of the examples that were not answered.

    Args:
        settings: of which the images or regions, the task, and the number of files are read.
        model: directory of the exported model.
        batch_size: the largest number of rows that the model answers at once.
        directory: directory for the files.
    """

    def __init__(self, settings: Settings, model: str, batch_size: int, directory: str):
        self.settings, self.model, self.batch_size, self.directory = settings, model, batch_size, directory

    def open(self) -> Callable[[int, list[bytes]], list[tuple[str, str]]]:
        source, model, task = self.settings.open_source(), ExportedModel(self.model), TASKS[self.settings.task]

        def work(shard: int, records: list[bytes]) -> list[tuple[str, str]]:
            lines, unanswered = [], []
            for start in range(0, len(records), self.batch_size):
                examples = [prepared.decode(record)[1] for record in records[start : start + self.batch_size]]
                answered = model.answers(task, [asked(example, source) for example in examples])
                for example, (prediction, score, status) in zip(examples, answered, strict=True):
                    lines.append(json_line(task.row(example, prediction), score, status))
                    if status:
                        unanswered.append((example.id, status))
            name = f"predictions-{shard:05d}-of-{self.settings.shards:05d}.jsonl"
            with new_files(self.directory) as directory:
                (directory / name).write_text("".join(lines), encoding="utf-8")
            return unanswered

        return work


def json_line(row: dict, score: float, status: str) -> str:
    return json.dumps(row | {"score": score, "status": status}, ensure_ascii=False) + "\n"

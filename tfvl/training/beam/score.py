"""An Apache Beam pipeline that asks an exported model about a data set, by RunInference.

It writes `predictions-00000-of-00032.jsonl`, …: the rows of the task with the answer's `score`, and the `status` of the
row: "", or why there is no answer.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from tfvl.training.beam.steps import (
    PROBLEMS,
    Metrics,
    ModelHandler,
    ReadExamples,
    RunInference,
    Settings,
    TaggedOutput,
    Written,
    beam,
    dump_report,
    merged,
    read_report,
    run,
    written_at,
)
from tfvl.training.data import prepared
from tfvl.training.data.examples import Report
from tfvl.training.evaluation.exported import Asked, ExportedModel, asked
from tfvl.training.tasks.table import TASKS

SUCCESS = "_SUCCESS"


def score(
    settings: Settings, model: str, out: str, flags: Iterable[str] = (), batch_size: int = 32, overwrite: bool = False
) -> Report:
    """Write an exported model's predictions for a split into the directory `out`, whole or not at all.

    A directory on a remote file system is written in place, `_SUCCESS` last.

    Args:
        settings: what is asked about.
        model: directory of a SavedModel that tfvl exported; workers load it from the same path.
        out: directory to write.
        flags, overwrite: as `steps.run` takes them.
        batch_size: rows that are answered at once, at most.

    Returns: what could not be read, and the rows without an answer.

    Raises:
        ValueError: the model or the data set cannot be read, or do not fit together.
        FileExistsError: it is there already and `overwrite` is false.
    """
    settings.open_source()  # a wrong path is found here and not by a worker
    loaded = ExportedModel(model)
    loaded.check(TASKS[settings.task])
    if getattr(settings, loaded.takes.visual) is None:
        raise ValueError(f"the model {model} takes {loaded.takes.visual}; give --{loaded.takes.visual}.")
    return run(
        out,
        SUCCESS,
        lambda pipeline, directory: add_steps(pipeline, settings, model, batch_size, directory),
        read_report,
        flags,
        overwrite,
    )


def add_steps(pipeline: beam.Pipeline, settings: Settings, model: str, batch_size: int, directory: str) -> None:
    """The steps that write predictions into a directory."""
    start = pipeline | beam.Create([settings])
    read = start | "read" >> beam.ParDo(ReadExamples()).with_outputs(PROBLEMS, main="examples")
    looked = read.examples | beam.Reshuffle() | "look" >> beam.ParDo(Look(settings))
    answered = looked | RunInference(ExportedHandler(model, settings.task, batch_size))
    rows = answered | "rows" >> beam.ParDo(ToRow(settings)).with_outputs(PROBLEMS, main="rows")
    files = rows.rows | beam.GroupByKey() | "write" >> beam.ParDo(WriteRows(settings, directory))
    problems = (read[PROBLEMS], rows[PROBLEMS]) | beam.Flatten() | "count problems" >> beam.CombinePerKey(merged)
    sides = {"files": files, "problems": problems}
    _ = start | beam.ParDo(Finish(directory), **{name: beam.pvalue.AsList(value) for name, value in sides.items()})


class ExportedHandler(ModelHandler):
    """What RunInference loads on each worker, and calls with batches of (number, `Asked`)."""

    def __init__(self, directory: str, task: str, batch_size: int):
        super().__init__()
        self.directory, self.task, self.batch_size = directory, task, batch_size

    def load_model(self) -> ExportedModel:
        return ExportedModel(self.directory)

    def run_inference(self, batch: Sequence[tuple[int, Asked]], model: ExportedModel, inference_args=None) -> list:
        scored = model.answers(TASKS[self.task], [row for _, row in batch])
        return [(number, row.example, one) for (number, row), one in zip(batch, scored, strict=True)]

    def batch_elements_kwargs(self) -> dict[str, int]:
        return {"min_batch_size": 1, "max_batch_size": self.batch_size}

    def get_metrics_namespace(self) -> str:
        return "tfvl"


class Look(beam.DoFn):
    """Encoded examples to (number, example with its images)."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def setup(self):
        self.source = self.settings.open_source()

    def process(self, payload: bytes) -> Iterator[tuple[int, Asked]]:
        number, example = prepared.decode(payload)
        yield number, asked(example, self.source)


class ToRow(beam.DoFn):
    """What the model said to (shard, (number, line)); and what is wrong with rows without an answer."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def process(self, element: tuple) -> Iterator:
        number, example, (prediction, score, status) = element
        row = TASKS[self.settings.task].row(example, prediction) | {"score": score, "status": status}
        yield number % self.settings.shards, (number, json.dumps(row, ensure_ascii=False))
        Metrics.counter("tfvl", "rows without an answer" if status else "rows answered").inc()
        if status:
            sentence = f"example {example.id}: {status.rstrip('.')}."
            yield TaggedOutput(PROBLEMS, ("rows without an answer", (1, [sentence])))


class WriteRows(Written):
    """(shard, lines) to a file."""

    kind, suffix = "predictions", "jsonl"

    def process(self, element: tuple[int, Iterable[tuple[int, str]]]) -> Iterator[str]:
        shard, rows = element
        with written_at(self.directory, self.name(shard)) as path, open(path, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for _, line in sorted(rows))
        yield self.name(shard)


class Finish(beam.DoFn):
    """Writes the report, and last the mark that everything is there."""

    def __init__(self, directory: str):
        self.directory = directory

    def process(self, settings: Settings, files: list[str], problems: list) -> None:
        dump_report(self.directory, problems)
        if files:
            with written_at(self.directory, SUCCESS) as path:
                path.write_text("")

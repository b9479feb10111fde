"""Computes a model's predictions for a split and their official metric, for validation and for `tfvl eval`."""

from pathlib import Path
from typing import Any, NamedTuple

from tfvl.files.whole import written_files
from tfvl.training.data.pipeline import BatchPipeline
from tfvl.training.tasks.table import TASKS
from tfvl.training.tasks.task import Progress, Task


class Evaluation(NamedTuple):
    """The result of `evaluate`.

    Attributes:
        metrics: values between 0 and 1, by name; empty if the split's truth is not published.
        predictions: a prediction for each of `examples`, in the form that the task's metric takes.
        examples: the examples that the model was asked about.
    """

    metrics: dict[str, float]
    predictions: Any
    examples: Any


def check_measured(name: str) -> None:
    """Raises ValueError if there is no task of that name, or it has no metric."""
    if name not in TASKS or TASKS[name].metric is None:
        measured = ", ".join(task.name for task in TASKS.values() if task.metric)
        raise ValueError(f"the task {name!r} cannot be evaluated; those with a metric are {measured}.")


def evaluate(model, pipeline: BatchPipeline, task: Task, progress: Progress = lambda done, total: None) -> Evaluation:
    """Runs a model on every example of a pipeline's first epoch and compares its predictions with the truth.

    An example whose image cannot be read counts as wrong.

    Args:
        model: a model of one of the task's classes.
        pipeline: yields the whole split, the last batch included, and is not sharded; the order does not matter.
        task: the task.
        progress: a function that is called with the number of steps that are done and their total.

    Raises:
        ValueError: the task has no metric, the model has another head, or an image fails and the report is strict.
    """
    check_measured(task.name)
    if type(model).__name__ not in task.models:
        raise ValueError(
            f"{type(model).__name__} does not do the task {task.name!r}; its models are {', '.join(task.models)}."
        )
    return measured(task, pipeline.loader.examples, task.predictions(model, pipeline, progress))


def write_predictions(path: Path, task: Task, evaluation: Evaluation) -> None:
    """Writes predictions in the form that the data set's evaluation server or script takes.

    That is a JSON list for VQA and GQA, CSV for NLVR2, else a JSON object per line. The file appears when it is whole.
    """
    with written_files(path) as (new,), open(new, "w", encoding="utf-8") as file:
        file.writelines(task.lines(task.rows(evaluation.examples, evaluation.predictions)))


def measured(task: Task, examples: Any, predictions) -> Evaluation:
    """Computes the metrics of predictions."""
    metrics = task.metric(predictions, examples) if any(map(task.has_truth, examples)) else {}
    return Evaluation(metrics, predictions, examples)

"""Predictions in the form that the data sets' evaluation servers and scripts take, where they have one."""

from pathlib import Path

from tfvl.files.whole import written_files
from tfvl.training.evaluation.evaluate import Evaluation
from tfvl.training.tasks.task import Task


def write_predictions(path: Path, task: Task, evaluation: Evaluation) -> None:
    """Writes what `evaluate` found: a JSON list for VQA and GQA, CSV for NLVR2, else a JSON object per line.

    The file appears under its name only when it is whole.
    """
    with written_files(path) as (new,), open(new, "w", encoding="utf-8") as file:
        file.writelines(task.lines(task.rows(evaluation.examples, evaluation.predictions)))

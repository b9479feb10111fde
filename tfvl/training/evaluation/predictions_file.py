"""Predictions in the form that the data sets' evaluation servers and scripts take, where they have one."""

import os
from pathlib import Path

from tfvl.training.evaluation.evaluate import Evaluation
from tfvl.training.tasks.task import Task


def write_predictions(path: Path, task: Task, evaluation: Evaluation) -> None:
    """Writes what `evaluate` found: a JSON list for VQA and GQA, CSV for NLVR2, else a JSON object per line.

    The file appears under its name only when it is whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(task.lines(task.rows(evaluation.examples, evaluation.predictions)))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

"""Evaluates an exported model on a data set, through the signature by which it is served."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tfvl.export.loaded import LoadedModel
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.requests import Request, Takes, arrays
from tfvl.training.data.examples import Example, Examples
from tfvl.training.data.loading import stored_name
from tfvl.training.evaluation.evaluate import Evaluation, measured
from tfvl.training.tasks.table import TASKS
from tfvl.training.tasks.task import Progress, Task

OUTPUTS = ("answers", "scores", "status")


class Asked(NamedTuple):
    """An example with its images, each an encoded file or `Regions`; or a status that says why they cannot be read."""

    example: Example
    visuals: tuple[bytes | Regions, ...]
    status: str = ""


class ExportedModel(LoadedModel):
    """A SavedModel that answers examples of a task."""

    def check(self, task: Task) -> None:
        """Raises ValueError if the model cannot do a task."""
        if task.from_exported is None:
            asked = ", ".join(each.name for each in TASKS.values() if each.from_exported)
            raise ValueError(f"exported models are asked about {asked}, not about {task.name!r}.")
        if not set(OUTPUTS) <= set(self.outputs):
            raise ValueError(
                f"the model does not do the task {task.name!r}; its outputs are {', '.join(self.outputs)}."
            )

    def answers(self, task: Task, rows: Sequence[Asked]) -> list[tuple[Any, float, str]]:
        """Runs the model on rows; returns, for each, the prediction that the task's metric takes, a score and a status.

        The score is the answer's, 0 to 1, or the logit for retrieval. A row that fails has a status that says what is
        wrong, and the prediction `task.unread`; it does not change other rows.

        Raises:
            ValueError: the model cannot do the task, or takes another number of images.
        """
        readable = [row for row in rows if not row.status]
        outputs = self(arrays(self._requests(task.name, readable), self.takes)) if readable else {}
        served = zip(*(outputs.get(name, ()) for name in OUTPUTS), strict=True)
        found = []
        for row in rows:
            answers, scores, status = ((), (), row.status.encode()) if row.status else next(served)
            if status:
                found.append((task.unread, 0.0, status.decode()))
            else:
                score = float(scores[0])
                found.append((task.from_exported(row.example, answers[0].decode(), score), score, ""))
        return found

    def _requests(self, task: str, rows: Sequence[Asked]) -> list[Request]:
        """Turns rows into requests with the inputs that the model takes."""
        option = self.takes.visual
        kind, wanted = ("regions", Regions) if option == "regions" else ("image", bytes)
        expected = self.takes.images or 1
        for row in rows:
            if len(row.visuals) != expected or not all(isinstance(visual, wanted) for visual in row.visuals):
                raise ValueError(
                    f"the model takes {kind} of {expected} image{'s' * (expected > 1)} with a text; that does not fit "
                    f"example {row.example.id} of the task {task!r}, which has {len(row.visuals)}; give --{option}."
                )
        requests = [Request(row.example.text, row.visuals, row.example.choices) for row in rows]
        held = Takes.all_of(requests).reads
        missing = [name for name in self.takes.reads if name not in held]
        if missing:
            raise ValueError(f"the model takes {', '.join(missing)}, which the task {task!r} has not got.")
        return requests


def evaluate_exported(
    model: ExportedModel,
    examples: Examples,
    source: Any,
    task: Task,
    batch_size: int,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Evaluates an exported model, as `evaluate.evaluate` does a checkpoint; `examples.report` counts rows that fail.

    Raises:
        ValueError: the task is evaluated from a checkpoint only, or the model cannot do it.
    """
    if task.checkpoint_only:
        raise ValueError(task.checkpoint_only)
    model.check(task)
    predictions = []
    for start in range(0, len(examples), batch_size):
        rows = [asked(examples[place], source) for place in range(start, min(start + batch_size, len(examples)))]
        for row, (prediction, _, status) in zip(rows, model.answers(task, rows), strict=True):
            if status:
                examples.report.skip("images that fail", f"example {row.example.id}: {status.rstrip('.')}.")
            predictions.append(prediction)
        progress(len(predictions), len(examples))
    return measured(task, examples, predictions)


def asked(example: Example, source) -> Asked:
    """Reads the images of an example; if one cannot be read, the status says so."""
    try:
        return Asked(example, tuple(visual(source, name) for name in example.images))
    except ValueError as error:
        return Asked(example, (), str(error))


def visual(source, name: str) -> bytes | Regions:
    """Reads an image's bytes or regions. Raises ValueError if the source does not have it, or it is damaged."""
    if hasattr(source, "read"):
        return source.read(name)
    return source[stored_name(source, name)]

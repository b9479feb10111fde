"""An exported model asked about examples of a data set: the artefact as it is served, a batch at a time."""

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
    """An example, and for each of its images the encoded file or its `Regions`; or a status, why there are none."""

    example: Example
    visuals: tuple[bytes | Regions, ...]
    status: str = ""


class ExportedModel(LoadedModel):
    """A SavedModel that is asked about the examples of a task."""

    def check(self, task: Task) -> None:
        """Raises ValueError where the model cannot be asked about a task."""
        if task.from_exported is None:
            asked = ", ".join(each.name for each in TASKS.values() if each.from_exported)
            raise ValueError(f"exported models are asked about {asked}, not about {task.name!r}.")
        if not set(OUTPUTS) <= set(self.outputs):
            raise ValueError(
                f"the model does not do the task {task.name!r}; its outputs are {', '.join(self.outputs)}."
            )

    def answers(self, task: Task, rows: Sequence[Asked]) -> list[tuple[Any, float, str]]:
        """What the model says about each row: its prediction, as the task's metric takes it, the score and the status.

        The score is the answer's, 0 to 1, of retrieval the logit. A row that fails has a status, which says what is
        wrong, and what stands for no answer; it changes no other.

        Raises:
            ValueError: the model is not one for the task, or takes other images.
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
        """The rows as what the model takes."""
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
    """As `evaluate.evaluate`, of an exported model; rows with a status are reported in `examples.report`.

    Raises:
        ValueError: the task is evaluated from a checkpoint only, or the model is not one for it.
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
    """An example with its images; where one cannot be read, with the status that says so."""
    try:
        return Asked(example, tuple(visual(source, name) for name in example.images))
    except ValueError as error:
        return Asked(example, (), str(error))


def visual(source, name: str) -> bytes | Regions:
    """An image's bytes or regions. Raises ValueError where the source has not got it, or it is damaged."""
    if hasattr(source, "read"):
        return source.read(name)
    return source[stored_name(source, name)]

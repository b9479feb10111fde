"""The base class of tasks, whose methods and attributes hold all that differs between VQA, NLVR2, retrieval, …"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from tfvl import auto
from tfvl.answers.rows import HEADS
from tfvl.training.data import prepared
from tfvl.training.data.examples import Example, Examples, Report
from tfvl.training.data.loading import Batch, Loader
from tfvl.training.data.masking import WordMasker
from tfvl.training.data.pipeline import BatchPipeline
from tfvl.training.data.tables import Table
from tfvl.training.tasks.predictions import json_lines
from tfvl.training.tasks.vocabulary import MIN_OCCURRENCES, answer_scores, build_vocabulary, majority

Progress = Callable[[int, int], None]


class Task(ABC):
    """A data set, its batches, its predictions and its metric. Each task is a subclass in a file of its own.

    Attributes:
        name: the task's name in `--task`.
        kinds, several, label: select the models that do the task: their heads (`tfvl.answers.rows`) give an answer of
            one of these kinds, read several images with a text (or one), and are trained with a label of this name.
        splits: the names of the training and validation split in the data set's files.
        needs_data: whether the task reads files.
        reads_json: whether its published files are read with ijson, which an extra installs.
        table: the user's table that is read in place of the published files, or None.
        prepared_for: the other tasks that read the same examples, so that data prepared for one serves all.
        answers: whether the labels are answers of a vocabulary.
        free_label_axes: for each labels array, by name ("labels" if there is only one), the axes, other than the first,
            whose size differs between batches.
        unread: the prediction for an example whose image cannot be read, which is never right; None: the prediction is
            the model's for a blank image.
        checkpoint_only: a sentence that says why exported models are not evaluated; "" if they can be.
        min_answers: an answer becomes a class if it occurs so often; a run's setting `min_answers` replaces it.
        names_from_rows: whether classes come from the rows even if the model has its own.
        pipeline_tag: the hub's name for the task; "" if it has none.
        metric: a function of (predictions, examples) that returns the official results, values between 0 and 1 by name;
            None: only the loss is measured.
        from_exported: a function of (example, an exported model's best answer, its score) that returns the prediction;
            None: exported models cannot do the task.
        joint: a function of (file of the predictions of the task before this one, examples, predictions) that returns
            joint results; None: no task comes before.
        lines: a function that turns rows of predictions into the lines of a file.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    several: ClassVar[bool] = False
    label: ClassVar[str] = "labels"
    splits: ClassVar[tuple[str, str]] = ("train", "val")
    needs_data: ClassVar[bool] = True
    reads_json: ClassVar[bool] = False
    table: Table | None = None
    prepared_for: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[bool] = False
    free_label_axes: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    unread: ClassVar[Any] = -1
    checkpoint_only: ClassVar[str] = ""
    min_answers: ClassVar[int] = MIN_OCCURRENCES
    names_from_rows: ClassVar[bool] = False
    pipeline_tag: ClassVar[str] = ""
    metric: Callable[[Sequence, Sequence[Example]], dict[str, float]] | None = None
    from_exported: Callable[[Example, str, float], Any] | None = None
    joint: Callable[[Path, Sequence[Example], Sequence], dict[str, float]] | None = None
    lines: Callable[[Iterable[dict]], Iterator[str]] = staticmethod(json_lines)

    @functools.cached_property
    def models(self) -> dict[str, type]:
        """The public model classes that can do the task, by name."""
        fitting = {name for name, head in HEADS.items() if head.kind in self.kinds and head.several == self.several}
        return {
            name: model_class
            for family in auto.FAMILIES.values()
            for name, model_class in family.models.items()
            if name in fitting and self.label in model_class.label_names
        }

    def configured(self, scenes: int, seed: int) -> Self:
        """Returns the task with these settings of a run, which matter only to tasks that draw their examples."""
        return self

    def vocabulary(self) -> tuple[str, ...]:
        """Returns the answers that are classes if the task fixes them; else ()."""
        return ()

    def class_names(self, examples: Iterable[Example], min_answers: int) -> tuple[str, ...]:
        """Returns the answers of examples that become classes. Raises ValueError if there are none."""
        return tuple(build_vocabulary(majority(examples), min_answers))

    # --- examples ---

    @abstractmethod
    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """Yields the examples of a split of the published files; what cannot be used is reported.

        Raises:
            ValueError: a file is missing or damaged as a whole.
        """

    def stream(self, directory: str | Path, split: str, report: Report) -> Iterator[Example]:
        """Yields the examples of a split, of the published files or of those that `tfvl prepare` wrote.

        Raises:
            ValueError: the directory was prepared for a task that reads other files.
        """
        found = prepared.find(directory, split) if self.needs_data else None
        if found is None:
            return self.read(Path(directory), split, report)
        if found.task not in (self.prepared_for or (self.name,)):
            raise ValueError(f"{found.directory} was prepared for the task {found.task!r}, not for {self.name!r}.")
        return found.read()

    def examples(
        self,
        directory: str | Path,
        split: str,
        *,
        images=None,
        label2id: Mapping[str, int] | None = None,
        strict: bool = False,
        limit: int | None = None,
    ) -> Examples:
        """Reads the examples of a split that can be used; the result's `report` counts the others.

        Args:
            directory: holds the files as published, or those prepared from them.
            split: its name in the files: "train", "val", "test", for NLVR2 "dev" and "test1", for GQA "testdev".
            images: the reader of images (`Pictures`, `StoredRegions`); examples whose images it lacks are left out.
            label2id: the class of each answer; examples without an answer that has one are left out, as in the papers'
                training. None for evaluation, where such examples count as wrong.
            strict: whether the first example that cannot be used is an error.
            limit: the largest number of examples to read.

        Raises:
            ValueError: files are missing or damaged, no example can be used, or one cannot and `strict`.
        """
        report = Report(strict)

        def usable(example: Example) -> tuple[str, str] | None:
            missing = [name for name in example.images if images is not None and name not in images]
            if missing:
                return "missing images", f"example {example.id}: there is no image {missing[0]!r}."
            if label2id is not None and not answer_scores(example.answers, label2id):
                said = ", ".join(sorted(set(example.answers))) or "none"
                return "answers outside the vocabulary", f"example {example.id}: no answer has a class (it has {said})."
            return None

        found = islice(self.stream(directory, split, report), limit)
        return Examples(found, usable, report, f"split {split!r} of {directory}")

    def visual(self, processor):
        """Returns the reader of images if the task draws them; None if they come from files."""
        return None

    # --- batches ---

    def collate(self, batch: Batch, model_class: type[Any]) -> tuple[dict[str, np.ndarray], Any]:
        """Returns the inputs and labels that a model class takes; here, one text per example, and its class."""
        return batch.inputs, batch.labels

    def loader(
        self, model_class: type[Any], examples: Examples, visual, processor, labels: Mapping[str, int], **options
    ) -> Loader:
        """Returns the loader that makes the batches of a model class.

        Args:
            model_class: the model's class.
            examples: the data set.
            visual: reads the images.
            processor: the model's processor.
            labels: the model's `config.label2id`.
            **options: options of `Loader`, and `whole_words`, whether words are hidden whole; by default as the model
                class's paper does.
        """
        whole_words = options.pop("whole_words", None)
        whole_words = model_class.masks_whole_words if whole_words is None else whole_words
        return Loader(
            examples,
            visual,
            processor,
            functools.partial(self.collate, model_class=model_class),
            label2id=labels if self.answers else None,
            num_labels=len(labels),
            masker=WordMasker.from_tokenizer(processor.tokenizer, whole_words=whole_words),
            free_label_axes=self.free_label_axes,
            **options,
        )

    # --- predictions ---

    def predictions(self, model, pipeline: BatchPipeline, progress: Progress) -> Sequence:
        """Runs a model on a pipeline's first epoch; returns its predictions in the order of the examples."""
        by_place = {}
        for step, (inputs, labels, weights) in enumerate(pipeline.dataset()):
            places = pipeline.plan.places(0, step).tolist()
            examples = [pipeline.loader.examples[place] for place in places]
            rows = self.predict(model, model.predict_on_batch(inputs), labels.numpy(), examples)
            for place, row, weight in zip(places, rows, weights.numpy().tolist(), strict=True):
                by_place[place] = row if weight or self.unread is None else self.unread
            progress(step + 1, pipeline.steps)
        return [by_place[place] for place in range(len(pipeline.loader.examples))]

    def predict(self, model, outputs: Mapping, labels: np.ndarray, examples: Sequence[Example]) -> list:
        """Returns the prediction that `metric` takes for each row of a batch; here, the best class or choice."""
        return np.argmax(logits_of(model, outputs), axis=-1).tolist()

    def has_truth(self, example: Example) -> bool:
        """Returns whether the truth about the example is published."""
        return bool(example.answers or example.label is not None or example.phrases)

    def row(self, example: Example, prediction) -> dict:
        """Returns the row of a prediction, with the keys that the data set's server or script reads."""
        return {"id": example.id, "answer": prediction}

    def rows(self, examples: Sequence[Example], predictions: Sequence) -> Iterator[dict]:
        """Yields the rows of a file of predictions."""
        return (self.row(*pair) for pair in zip(examples, predictions, strict=True))


def logits_of(model, outputs: Mapping) -> np.ndarray:
    """Returns the output from which the model's answer is made, as float32."""
    return np.asarray(outputs[HEADS[type(model).__name__].logits], np.float32)


def find_file(directory: Path, pattern: str) -> Path:
    """Finds the only file in a directory, or in a direct subdirectory, whose name matches a pattern.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = sorted(path for path in directory.rglob(pattern) if path.is_file())
    if len(found) != 1:
        named = f": {', '.join(path.name for path in found[:3])}" if found else ""
        raise ValueError(f"{directory} has {len(found)} files like {pattern}{named}; expected one.")
    return found[0]

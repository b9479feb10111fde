"""What a task is: all in which VQA, NLVR2, retrieval, … differ is asked of one of these."""

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
    """A data set and what is made of it. Each task is a subclass in a file of its own.

    Attributes:
        name: as `--task` takes it.
        kinds, several, label: its models are the heads that give an answer of one of these kinds, read several images
            with a text or one (`tfvl.answers.rows`), and are trained with a label of this name.
        splits: for training and validation, as the files call them.
        needs_data: whether it reads files.
        reads_json: whether its published files are read with ijson, which an extra brings.
        table: the rows of one's own that it reads; None: published files.
        prepared_for: the tasks that read the same examples, so that data prepared for one serves all; () is none else.
        answers: whether the labels are answers of a vocabulary.
        free_label_axes: of labels by their names (where there is one array, "labels"), the axes beside the first whose
            size differs between batches.
        unread: what stands for the prediction of an example whose image cannot be read; no truth is equal to it. None:
            what the model predicts for a blank image.
        checkpoint_only: why splits are not evaluated with an exported model; "" where they are.
        min_answers: how often an answer occurs that becomes a class, unless it is said.
        names_from_rows: whether the classes are those of the rows also where the model brings its own.
        pipeline_tag: the hub's name for what its models do; "" where it has none.
        metric: gives the official results of (predictions, examples), shares from 0 to 1 by name; None: only the loss.
        from_exported: gives the prediction of (example, an exported model's best answer, its score); None: exported
            models are not asked.
        joint: gives the results of (file of predictions of the task that comes before it, examples, predictions); None:
            there is no such task.
        lines: gives the lines of a file of predictions, of its rows.
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
        """The public model classes that do the task, by their names."""
        fitting = {name for name, head in HEADS.items() if head.kind in self.kinds and head.several == self.several}
        return {
            name: model_class
            for family in auto.FAMILIES.values()
            for name, model_class in family.models.items()
            if name in fitting and self.label in model_class.label_names
        }

    def configured(self, scenes: int, seed: int) -> Self:
        """The task with these settings of a run, which matter only where its examples are drawn."""
        return self

    def vocabulary(self) -> tuple[str, ...]:
        """The answers that are classes, where the task itself says them; else ()."""
        return ()

    def class_names(self, examples: Iterable[Example], min_answers: int) -> tuple[str, ...]:
        """The answers of examples that are classes. Raises ValueError where there are none."""
        return tuple(build_vocabulary(majority(examples), min_answers))

    # --- examples ---

    @abstractmethod
    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """The examples of a split of the published files; what cannot be used is reported.

        Raises:
            ValueError: a file is missing or damaged as a whole.
        """

    def stream(self, directory: str | Path, split: str, report: Report) -> Iterator[Example]:
        """As `read`, or where `tfvl prepare` wrote the directory, the examples of its files.

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
        """The examples of a split that can be used; the others are counted in the result's `report`.

        Args:
            directory: with the files as published, or prepared from them.
            split: as the files call it: "train", "val", "test", of NLVR2 "dev" and "test1", of GQA "testdev".
            images: what knows an image by its name (`Pictures`, `StoredRegions`); examples whose images it lacks are
                left out.
            label2id: examples none of whose answers has a class are left out, as for training in the papers; None for
                evaluation, where they count as wrong.
            strict: refuse the first example that cannot be used.
            limit: read so many examples at most.

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
        """What a model sees of an image's name, where the task draws the images; else None."""
        return None

    # --- batches ---

    def collate(self, batch: Batch, model_class: type[Any]) -> tuple[dict[str, np.ndarray], Any]:
        """The inputs of a batch, and its labels in the form that the model class takes: here one text, and a class."""
        return batch.inputs, batch.labels

    def loader(
        self, model_class: type[Any], examples: Examples, visual, processor, labels: Mapping[str, int], **options
    ) -> Loader:
        """What makes the batches of a model class.

        Args:
            labels: the model's `config.label2id`.
            **options: as `Loader` takes them, and `whole_words`, whether words are hidden whole; by default the way of
                the model class.
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
        """What a model predicts for each example, in their order, from a pipeline's first epoch."""
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
        """A prediction for each row of a batch, as `metric` takes it: the places of the best classes or choices."""
        return np.argmax(logits_of(model, outputs), axis=-1).tolist()

    def has_truth(self, example: Example) -> bool:
        """Whether what is right about the example is published."""
        return bool(example.answers or example.label is not None or example.phrases)

    def row(self, example: Example, prediction) -> dict:
        """What is written of a prediction, in the form that the data set's server or script takes."""
        return {"id": example.id, "answer": prediction}

    def rows(self, examples: Sequence[Example], predictions: Sequence) -> Iterator[dict]:
        """The rows of a file of predictions."""
        return (self.row(*pair) for pair in zip(examples, predictions, strict=True))


def logits_of(model, outputs: Mapping) -> np.ndarray:
    """The output that the model's answer is made of."""
    return np.asarray(outputs[HEADS[type(model).__name__].logits], np.float32)


def find_file(directory: Path, pattern: str) -> Path:
    """The one file of a directory, or of a directory below it, that fits a pattern.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = sorted(path for path in directory.rglob(pattern) if path.is_file())
    if len(found) != 1:
        named = f": {', '.join(path.name for path in found[:3])}" if found else ""
        raise ValueError(f"{directory} has {len(found)} files like {pattern}{named}; expected one.")
    return found[0]

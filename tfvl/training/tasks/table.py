"""The tasks that tfvl trains for, as data: where the files are, who reads them, which models, which metric."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfvl.training.data import prepared
from tfvl.training.data.examples import Example, Examples, Report
from tfvl.training.data.records import read_gqa, read_karpathy, read_nlvr2, read_vcr, read_vqa
from tfvl.training.tasks import batches as collate
from tfvl.training.tasks import measures as evaluation
from tfvl.training.tasks import shapes as drawn
from tfvl.training.tasks.entities import read_entities
from tfvl.training.tasks.vocabulary import answer_scores


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        read: gives the examples of (directory, split, report).
        models: name of a model class to what makes its batches.
        metric: gives the results of (predictions, examples), of the split's examples in order; None: only the loss.
        answers: whether the labels are answers of a vocabulary.
        whole_words: names of the model classes for which words are hidden whole.
    """

    read: Callable[[Path, str, Report], Iterator[Example]]
    models: Mapping[str, Callable]
    metric: Callable[[Sequence, Sequence[Example]], dict[str, float]] | None
    answers: bool = False
    whole_words: frozenset[str] = frozenset()


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


def _vqa(directory: Path, split: str, report: Report) -> Iterator[Example]:
    questions = find_file(directory, f"*{split}2*questions.json")
    annotations = None if split.startswith("test") else find_file(directory, f"*{split}2*annotations.json")
    return read_vqa(questions, annotations, report)


def _karpathy(directory: Path, split: str, report: Report) -> Iterator[Example]:
    return read_karpathy(find_file(directory, "dataset_*.json"), split, report)


def _captions_and_questions(directory: Path, split: str, report: Report) -> Iterator[Example]:
    return itertools.chain(_karpathy(directory, split, report), _vqa(directory, split, report))


def _vcr(part: str) -> Callable[[Path, str, Report], Iterator[Example]]:
    return lambda directory, split, report: read_vcr(find_file(directory, f"{split}.jsonl"), part, report)


# --- metrics of predictions -----------------------------------------------------------------------------------------


def vqa_metric(predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
    """`accuracy`, and that of each answer type, of predicted answers."""
    accuracies = evaluation.vqa_accuracies(predictions, [example.answers for example in examples])
    by_type = evaluation.mean_by_group(accuracies, [example.group or "other" for example in examples])
    return {"accuracy": float(accuracies.mean()), **{f"accuracy/{name}": value for name, value in by_type.items()}}


def gqa_metric(predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
    """`accuracy`, `binary` and `open`, of predicted answers."""
    answers = [example.answers[0] if example.answers else "" for example in examples]
    return evaluation.gqa_scores(predictions, answers, [example.group for example in examples])


def nlvr2_metric(predictions: Sequence[int], examples: Sequence[Example]) -> dict[str, float]:
    """`accuracy` and `consistency`, of predicted classes."""
    identifiers, labels = [example.id for example in examples], [example.label for example in examples]
    return evaluation.nlvr2_scores(identifiers, predictions, labels)


def choice_metric(predictions: Sequence[int], examples: Sequence[Example]) -> dict[str, float]:
    """`accuracy` of predicted places; `evaluation.vcr_scores` joins those of answers and rationales."""
    labels = [example.label for example in examples]
    return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(labels)))}


def retrieval_metric(predictions: np.ndarray, examples: Sequence[Example]) -> dict[str, float]:
    """Recalls of scores (images, texts), rows in the order in which the images first occur in `examples`."""
    rows: dict[tuple[str, ...], int] = {}
    return evaluation.retrieval_recalls(
        predictions, [rows.setdefault(example.images, len(rows)) for example in examples]
    )


def entities_metric(predictions: Sequence[tuple[np.ndarray, np.ndarray]], examples: Sequence) -> dict[str, float]:
    """Recalls and upper bound of pairs of scores and right regions, each (phrases, regions)."""
    return evaluation.entities_recalls([scores for scores, _ in predictions], [matches for _, matches in predictions])


def group_metric(predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
    """`accuracy`, and that of each kind of question, of predicted answers to questions with one answer."""
    right = np.array([said == example.answers[0] for said, example in zip(predictions, examples, strict=True)], float)
    kinds = evaluation.mean_by_group(right, [example.group for example in examples])
    return {"accuracy": float(right.mean()), **{f"accuracy/{name}": value for name, value in kinds.items()}}


ANSWERING = {
    "ViltForQuestionAnswering": collate.soft_answers,
    "VisualBertForQuestionAnswering": collate.soft_answers,
    "LxmertForQuestionAnswering": collate.single_answers,
}

TASKS: dict[str, Task] = {
    "vqa": Task(
        read=_vqa,
        models=ANSWERING,
        metric=vqa_metric,
        answers=True,
    ),
    "gqa": Task(
        read=lambda directory, split, report: read_gqa(find_file(directory, f"*{split}*questions.json"), report),
        models=ANSWERING,
        metric=gqa_metric,
        answers=True,
    ),
    "shapes": Task(
        read=drawn.read_task,
        models=ANSWERING,
        metric=group_metric,
        answers=True,
    ),
    "nlvr2": Task(
        read=lambda directory, split, report: read_nlvr2(find_file(directory, f"{split}.json*"), report),
        models={
            "ViltForImagesAndTextClassification": collate.classes,
            "VisualBertForVisualReasoning": collate.classes,
        },
        metric=nlvr2_metric,
    ),
    "retrieval": Task(
        read=_karpathy,
        models={"ViltForImageAndTextRetrieval": collate.ranking},
        metric=retrieval_metric,
    ),
    "vcr-answer": Task(
        read=_vcr("answer"), models={"VisualBertForMultipleChoice": collate.choices}, metric=choice_metric
    ),
    "vcr-rationale": Task(
        read=_vcr("rationale"), models={"VisualBertForMultipleChoice": collate.choices}, metric=choice_metric
    ),
    "entities": Task(
        read=read_entities,
        models={"VisualBertForRegionToPhraseAlignment": collate.alignment},
        metric=entities_metric,
    ),
    "pretraining": Task(
        read=_karpathy,
        models={
            "ViltForMaskedLM": collate.masked_words,
            "ViltForPreTraining": collate.vilt_pretraining,
            "VisualBertForPreTraining": collate.visual_bert_pretraining,
            "LxmertForPreTraining": collate.lxmert_pretraining,
        },
        metric=None,
        whole_words=frozenset({"ViltForMaskedLM", "ViltForPreTraining"}),
    ),
    "pretraining-questions": Task(  # LXMERT, section 3.1: half of its texts are questions, whose answers it predicts
        read=_captions_and_questions,
        models={"LxmertForPreTraining": collate.lxmert_pretraining},
        metric=None,
        answers=True,
    ),
}


def reader(task: str, directory: str | Path, split: str) -> Callable[[Path, str, Report], Iterator[Example]]:
    """What reads a split: the task's own reader, or where `tools/prepare.py` wrote the directory, that of its files.

    Raises:
        ValueError: the directory was prepared for a task that reads other files.
    """
    found = prepared.find(directory, split)
    if found is None:
        return TASKS[task].read
    if found.task not in TASKS or TASKS[found.task].read is not TASKS[task].read:
        raise ValueError(f"{found.directory} was prepared for the task {found.task!r}, not for {task!r}.")
    return lambda directory, split, report: found.read()


def open_examples(
    task: str,
    directory: str | Path,
    split: str,
    *,
    images=None,
    label2id: Mapping[str, int] | None = None,
    strict: bool = False,
    limit: int | None = None,
    read: Callable[[Path, str, Report], Iterator[Example]] | None = None,
) -> Examples:
    """The examples of a split that can be used; the others are counted in the result's `report`.

    Args:
        task: one of `TASKS`.
        directory: with the files as published, or prepared from them.
        split: as the files call it: "train", "val", "test", of NLVR2 "dev" and "test1", of GQA "testdev".
        images: what knows an image by its name (`Pictures`, `StoredRegions`); examples whose images it lacks are left
            out.
        label2id: examples none of whose answers has a class are left out, as for training in the papers; None for
            evaluation, where they count as wrong.
        strict: refuse the first example that cannot be used.
        limit: read so many examples at most.
        read: instead of the task's own.

    Raises:
        ValueError: there is no such task, its files are missing or damaged, no example can be used, or one cannot and
            `strict`.
    """
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}; there are {', '.join(TASKS)}.")
    report = Report(strict)

    def usable(example: Example) -> tuple[str, str] | None:
        missing = [name for name in example.images if images is not None and name not in images]
        if missing:
            return "missing images", f"example {example.id}: there is no image {missing[0]!r}."
        if label2id is not None and not answer_scores(example.answers, label2id):
            listed = ", ".join(sorted(set(example.answers))) or "none"
            return "answers outside the vocabulary", f"example {example.id}: no answer has a class (it has {listed})."
        return None

    read = read or reader(task, directory, split)
    found = itertools.islice(read(Path(directory), split, report), limit)
    return Examples(found, usable, report, f"split {split!r} of {directory}")

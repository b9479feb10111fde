"""A model's predictions for a split and the official metric of them: validation while training, and `tfvl eval`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfvl.training.data.examples import Example, Examples
from tfvl.training.data.pipeline import Pipeline
from tfvl.training.tasks.table import TASKS

TEXTS_AT_ONCE = 64  # that one image is scored with
TEXT_INPUTS = ("input_ids", "token_type_ids", "attention_mask")
LOWEST = np.float32(-1e30)  # the score of an image that cannot be read; twice that with the texts that describe it

Progress = Callable[[int, int], None]


class Chosen(Sequence):
    """Some of the `Examples`, each read when it is wanted."""

    def __init__(self, examples: Examples, places: Sequence[int]):
        self.examples, self.places = examples, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Example:
        return self.examples[int(self.places[number])]


class Evaluation(NamedTuple):
    """What `evaluate` found.

    Attributes:
        metrics: by name, shares from 0 to 1; empty where the split's truth is not published.
        predictions: of `examples`, in their order, as the task's metric takes them.
        examples: those that the model was asked, in the data set's order.
    """

    metrics: dict[str, float]
    predictions: Any
    examples: Sequence[Example]


def evaluate(model, pipeline: Pipeline, task: str, progress: Progress = lambda done, total: None) -> Evaluation:
    """Asks a model about every example of a pipeline's first epoch and compares the answers with the truth.

    An example whose image cannot be read counts as wrong.

    Args:
        model: of one of the task's classes.
        pipeline: of the split, as one machine sees it; batches may come in any order. With a plan that drops the
            remainder, that is not evaluated. For retrieval every image is scored with every text, whatever the plan.
        task: one of `TASKS`.
        progress: called with the number of steps that are done and their total.

    Raises:
        ValueError: there is no such task or it has no metric, the model's outputs are of another head, or an image
            fails and the report is strict.
    """
    if task not in TASKS or TASKS[task].metric is None:
        names = ", ".join(name for name, content in TASKS.items() if content.metric)
        raise ValueError(f"the task {task!r} cannot be evaluated; those with a metric are {names}.")
    if type(model).__name__ not in TASKS[task].models:
        raise ValueError(
            f"{type(model).__name__} does not do the task {task!r}; its models are {', '.join(TASKS[task].models)}."
        )
    places, predictions = (ranked if task == "retrieval" else predicted)(model, pipeline, task, progress)
    return measured(task, Chosen(pipeline.loader.examples, places), predictions)


def measured(task: str, examples: Sequence[Example], predictions) -> Evaluation:
    """Predictions with their metrics."""
    known = any(example.answers or example.label is not None or example.phrases for example in examples)
    metrics = TASKS[task].metric(predictions, examples) if known or task == "retrieval" else {}
    return Evaluation(metrics, predictions, examples)


# --- an answer for each example -------------------------------------------------------------------------------------


def predicted(model, pipeline: Pipeline, task: str, progress: Progress) -> tuple[np.ndarray, list]:
    """The places of the examples in ascending order, and what the model predicts for each."""
    by_place = {}
    for step, (inputs, labels, weights) in enumerate(pipeline.dataset()):
        places = pipeline.plan.places(0, step).tolist()
        examples = [pipeline.loader.examples[place] for place in places]
        rows = PREDICTIONS[task](model, model.predict_on_batch(inputs), labels.numpy(), examples)
        for place, row, weight in zip(places, rows, weights.numpy().tolist(), strict=True):
            by_place[place] = row if weight else UNSEEN.get(type(row), row)
        progress(step + 1, pipeline.steps)
    ordered = sorted(by_place)
    return np.array(ordered), [by_place[place] for place in ordered]


# What stands for the answer to an example whose image cannot be read; no truth is equal to it.
UNSEEN = {str: "", int: -1}


def answers(model, outputs: Mapping, labels: np.ndarray, examples: Sequence[Example]) -> list[str]:
    """The best answers, by the model's names for them."""
    logits = outputs["question_answering_score" if "question_answering_score" in outputs else "logits"]
    names = model.config.id2label
    if len(names) != logits.shape[-1]:
        raise ValueError(
            f"the model has {logits.shape[-1]} answers, but its configuration names {len(names)} in id2label; "
            "without their names it cannot be evaluated."
        )
    return [names[best] for best in np.argmax(logits, axis=-1).tolist()]


def places_of_best(model, outputs: Mapping, labels: np.ndarray, examples: Sequence[Example]) -> list[int]:
    """The best classes or choices."""
    return np.argmax(outputs["logits"], axis=-1).tolist()


def aligned(model, outputs: Mapping, labels: np.ndarray, examples: Sequence[Example]) -> list[tuple]:
    """For each example its phrases' scores and right regions, both (phrases, regions).

    A phrase that was cut off with the end of its sentence has no right region, so that it counts as not found.
    """
    counts = [len(example.phrases) for example in examples]
    logits = np.asarray(outputs["logits"], np.float32)
    return [(logits[row, :count], labels[row, :count] > 0) for row, count in enumerate(counts)]


# By task: from (model, its outputs, labels, examples) of a batch to a prediction for each row.
PREDICTIONS: dict[str, Callable[..., list]] = {
    "vqa": answers,
    "gqa": answers,
    "shapes": answers,
    "nlvr2": places_of_best,
    "vcr-answer": places_of_best,
    "vcr-rationale": places_of_best,
    "entities": aligned,
}

# --- every image with every text ------------------------------------------------------------------------------------


def ranked(model, pipeline: Pipeline, task: str, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """All places, and scores (images, texts), rows in the order in which the images first occur."""
    loader = pipeline.loader
    examples = loader.examples
    firsts = np.sort(examples.first_of_image)
    row_of_text = np.searchsorted(firsts, examples.first_of_image[examples.images])
    by_length = np.argsort(examples.lengths, kind="stable")
    chunks = [by_length[start : start + TEXTS_AT_ONCE] for start in range(0, len(by_length), TEXTS_AT_ONCE)]
    encoded = [_encoded(loader, [examples[int(place)].text for place in chunk]) for chunk in chunks]
    scores = np.empty([len(firsts), len(examples)], np.float32)
    for row, first in enumerate(firsts):
        inputs, _, (weight,) = loader(np.array([first]), 0)
        picture = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
        scores[row] = LOWEST * (1 + (row_of_text == row))
        if weight:
            for chunk, texts in zip(chunks, encoded, strict=True):
                scores[row, chunk] = np.asarray(model.predict_on_batch(texts | picture)["logits"])[0]
        progress(row + 1, len(firsts))
    return np.arange(len(examples)), scores


def _encoded(loader, texts: list[str]) -> dict[str, np.ndarray]:
    """The tokenizer's arrays, (1, texts, length)."""
    encoded = loader.processor(text=texts, return_tensors="np", **loader.text_options)
    return {name: value[None] for name, value in encoded.items()}

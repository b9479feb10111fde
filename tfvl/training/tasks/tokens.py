"""Token classification: a label for each word of a text about an image. No such data set is published."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from tfvl.modeling.losses import IGNORED
from tfvl.training.data.examples import Example, Report
from tfvl.training.data.loading import Batch
from tfvl.training.tasks.measures import check_lengths
from tfvl.training.tasks.task import Task, logits_of


class Tokens(Task):
    """Labels of words. An example's `answers` are the labels, one for each word of its text, split at white space.

    Predictions are lists of labels. A word that is cut off with the end of its text has no prediction, and is wrong.
    """

    name = "tokens"
    kinds = ("tokens",)
    answers = True
    unread = None
    free_label_axes: ClassVar = {"labels": (1,)}

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        raise ValueError(
            "the task 'tokens' has no published data set; give --data a CSV, JSONL or Parquet file with the columns "
            "image, text and labels."
        )

    def collate(self, batch: Batch, model_class: type) -> tuple[dict, np.ndarray]:
        """Returns inputs and labels, int32 (N, length): a word's label at its first token, -100 at all others."""
        inputs = batch.inputs
        labels = np.full(inputs["input_ids"].shape, IGNORED, np.int32)
        places = first_tokens(batch.loader.processor.tokenizer, [example.text for example in batch.examples], inputs)
        for row, (example, first) in enumerate(zip(batch.examples, places, strict=True)):
            ids = [batch.loader.label2id.get(label, IGNORED) for label in example.answers]
            labels[row, first] = ids[: len(first)]
        return inputs, labels

    def predict(self, model, outputs: Mapping, labels: np.ndarray, examples: Sequence[Example]) -> list[list[str]]:
        """Returns the best label of each word whose first token the model has read."""
        names, best = model.config.id2label, np.argmax(logits_of(model, outputs), axis=-1)
        return [[names[label] for label in row[given != IGNORED]] for row, given in zip(best, labels, strict=True)]

    def metric(self, predictions: Sequence[Sequence[str]], examples: Sequence[Example]) -> dict[str, float]:
        """Returns `accuracy`, the share of words with the right label."""
        check_lengths(predictions=predictions, examples=examples)
        words = sum(len(example.answers) for example in examples)
        pairs = zip(predictions, examples, strict=True)
        right = sum(a == b for said, example in pairs for a, b in zip(said, example.answers, strict=False))
        return {"accuracy": right / words}

    def row(self, example: Example, prediction: Sequence[str]) -> dict:
        return {"id": example.id, "labels": list(prediction)}


def first_tokens(tokenizer, texts: Sequence[str], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Returns, for each text, the index of each word's first token; words that `inputs` cut off are left out."""
    words = [text.split() for text in texts]
    flat = [word for row in words for word in row]
    encoded = tokenizer(flat, add_special_tokens=False, padding=False, return_length=True)
    counts = np.split(encoded["length"].numpy(), np.cumsum([len(row) for row in words])[:-1])
    mask = inputs["attention_mask"]
    starts, ends = mask.argmax(axis=1), mask.argmax(axis=1) + mask.sum(axis=1) - 1  # [CLS], [SEP]
    found = []
    for row, start, end in zip(counts, starts, ends, strict=True):
        first = start + 1 + np.cumsum(row) - row
        found.append(first[first < end])
    return found

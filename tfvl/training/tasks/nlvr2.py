"""NLVR2: whether a sentence is true of a pair of images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.training.data.examples import Example, Report
from tfvl.training.data.records import converted, numbered_lines, text_of
from tfvl.training.tasks.measures import check_lengths
from tfvl.training.tasks.predictions import csv_lines
from tfvl.training.tasks.task import Task, find_file

TRUTH = {"True": 1, "False": 0, "true": 1, "false": 0}
WRITTEN = {0: "False", 1: "True"}
CLASSES = {"false": 0, "true": 1, "label_0": 0, "label_1": 1}  # by the labels of models, in lower case


class Nlvr2(Task):
    """NLVR2. Predictions are classes, 1 for true, and are written as its `metrics.py` reads them."""

    name = "nlvr2"
    kinds = ("labels",)
    several = True
    splits = ("train", "dev")
    lines = staticmethod(csv_lines)

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """Yields the sentences of `train.json`, `dev.json` or `test1.json`, which hold one JSON object per line."""
        path = find_file(directory, f"{split}.json*")

        def convert(record):
            identifier = text_of(record["identifier"])
            pair = identifier.rpartition("-")[0]
            return Example(
                id=identifier,
                images=(f"{pair}-img0", f"{pair}-img1"),
                text=text_of(record["sentence"]),
                label=_truth(record["label"]) if "label" in record else None,
            )

        return converted(path, numbered_lines(path), convert, report)

    def metric(self, predictions: Sequence[int], examples: Sequence[Example]) -> dict[str, float]:
        """Returns `accuracy`, and `consistency`: the share of sentences that are judged right with all image pairs.

        Ids are "split-set-pair-sentence", for example "dev-850-0-1"; ids that differ only in the third part belong to
        the same sentence.

        Raises:
            ValueError: the lengths differ, or an id has another form.
        """
        check_lengths(predictions=predictions, examples=examples)
        sentences: dict[str, bool] = {}
        right = [said == example.label for said, example in zip(predictions, examples, strict=True)]
        for example, hit in zip(examples, right, strict=True):
            parts = example.id.split("-")
            if len(parts) != 4:
                raise ValueError(
                    f"the identifier {example.id!r} is not of the form split-set-pair-sentence (dev-850-0-1)"
                )
            sentence = "-".join((*parts[:2], parts[3]))
            sentences[sentence] = sentences.get(sentence, True) and hit
        return self.accuracy(predictions, examples) | {"consistency": float(np.mean(list(sentences.values())))}

    @staticmethod
    def accuracy(predictions: Sequence[int], examples: Sequence[Example]) -> dict[str, float]:
        """Returns `accuracy`, the share of examples whose class is right."""
        check_lengths(predictions=predictions, examples=examples)
        return {
            "accuracy": float(np.mean([said == each.label for said, each in zip(predictions, examples, strict=True)]))
        }

    def from_exported(self, example: Example, answer: str, score: float) -> int:
        return CLASSES.get(answer.lower(), self.unread)

    def row(self, example: Example, label: int) -> dict:
        """Returns a row of the file; the prediction is empty if the images could not be read."""
        return {"identifier": example.id, "prediction": WRITTEN.get(label, "")}


def _truth(value: Any) -> int:
    if value not in TRUTH:
        raise ValueError(f"the label {value!r:.60} is neither True nor False")
    return TRUTH[value]

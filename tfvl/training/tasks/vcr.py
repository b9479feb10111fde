"""VCR: choosing the answer to a question about people, and the rationale of the right answer."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfvl.training.data import json_stream
from tfvl.training.data.examples import Example, Report
from tfvl.training.data.loading import Batch
from tfvl.training.data.records import converted, numbered_lines, text_of
from tfvl.training.tasks.task import Task, find_file

# The names that VCR's authors and VisualBERT give to the people of an image, in the order in which they are mentioned.
PEOPLE = "Casey Riley Jessie Jackie Avery Jaime Peyton Kerry Jody Kendall Skyler Frankie Pat Quinn".split()


class Vcr(Task):
    """One of VCR's two parts. Predictions are the indices of choices.

    Attributes:
        part: "answer"; or "rationale", whose text is the question together with the right answer.
    """

    kinds = ("choices",)
    part: ClassVar[str]

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """Yields the questions of `train.jsonl`, `val.jsonl` or `test.jsonl`, with words in place of tags of objects.

        A person is called by one of `PEOPLE`, in the order of mention, any other object by its class. All choices call
        a person by the question's name. (VisualBERT's code counts from the beginning again in the choices, so that two
        people may share a name.)
        """
        path = find_file(directory, f"{split}.jsonl")

        def convert(record):
            objects, context = record["objects"], list(record["question"])
            listed, label = record[f"{self.part}_choices"], record.get(f"{self.part}_label")
            if label is not None and label not in range(len(listed)):
                raise ValueError(f"the label {label!r:.60} is no place of {len(listed)} choices")
            if self.part == "rationale":
                context += record["answer_choices"][record["answer_label"]]
            text, names = _spoken(context, objects, {})
            return Example(
                id=text_of(record["annot_id"]),
                images=(text_of(record["img_fn"]).rpartition(".")[0],),
                text=text,
                choices=tuple(_spoken(choice, objects, names)[0] for choice in listed),
                label=label,
            )

        return converted(path, numbered_lines(path), convert, report)

    def collate(self, batch: Batch, model_class: type[Any]) -> tuple[dict, np.ndarray]:
        """Returns inputs with texts (N, choices, length), and labels, int32 (N,), the index of the right choice."""
        texts = batch.texts(
            [example.text for example in batch.examples], [list(example.choices) for example in batch.examples]
        )
        return texts | batch.pictures, batch.labels

    def metric(self, predictions: Sequence[int], examples: Sequence[Example]) -> dict[str, float]:
        """Returns `accuracy`; `VcrRationale.joint` computes that of answers and rationales together."""
        labels = [example.label for example in examples]
        return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(labels)))}

    def from_exported(self, example: Example, answer: str, score: float) -> int:
        return example.choices.index(answer) if answer in example.choices else self.unread

    def row(self, example: Example, place: int) -> dict:
        """Returns the index of the prediction, -1 if the image could not be read, and of the right choice."""
        return {"annot_id": example.id, self.part: place, "label": example.label}


class VcrAnswer(Vcr):
    """VCR's Q->A: choosing the answer."""

    name, part = "vcr-answer", "answer"


class VcrRationale(Vcr):
    """VCR's QA->R: choosing the rationale of the right answer."""

    name, part = "vcr-rationale", "rationale"

    def joint(self, answers: Path, examples: Sequence[Example], predictions: Sequence[int]) -> dict[str, float]:
        """Returns VCR's three accuracies: of the answers `Q->A`, of the rationales `QA->R`, and of both `Q->AR`.

        Args:
            answers: file with the predictions of `VcrAnswer` for the same questions.
            examples, predictions: the examples and predictions of the rationales.

        Raises:
            ValueError: the file holds something else, or lacks a question.
        """
        right_of: dict[str, bool] = {}
        for number, row in json_stream.stream_lines(answers):
            try:
                right_of[row["annot_id"]] = row["answer"] == row["label"]
            except (TypeError, KeyError):
                raise ValueError(
                    f"{answers}, line {number}, is no answer; write it by eval --task vcr-answer."
                ) from None
        missing = next((example.id for example in examples if example.id not in right_of), None)
        if missing is not None:
            raise ValueError(f"{answers} has no answer to question {missing}; evaluate both tasks on the same split.")
        answered = np.array([right_of[example.id] for example in examples])
        justified = np.array([said == example.label for said, example in zip(predictions, examples, strict=True)])
        found = {"Q->A": answered, "QA->R": justified, "Q->AR": answered & justified}
        return {name: float(right.mean()) for name, right in found.items()}


def _spoken(tokens: list, objects: list[str], names: dict[int, str]) -> tuple[str, dict[int, str]]:
    """Joins tokens, words and lists of indices into `objects`, into a text; returns it and all names given so far."""
    names, words = dict(names), []
    people = sum(objects[place] == "person" for place in names)
    for token in tokens:
        for part in token if isinstance(token, list) else [token]:
            if isinstance(part, int):
                if part not in names:
                    is_person = objects[part] == "person"
                    names[part] = PEOPLE[people % len(PEOPLE)] if is_person else objects[part]
                    people += is_person
                part = names[part]
            words.append(text_of(part))
    return " ".join(words), names

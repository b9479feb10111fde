"""GQA: questions with one answer, made from scene graphs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfvl.training.data import json_stream
from tfvl.training.data.examples import Example, Report
from tfvl.training.data.records import converted, text_of
from tfvl.training.tasks.answering import Answering
from tfvl.training.tasks.measures import accuracies, check_lengths
from tfvl.training.tasks.predictions import json_list
from tfvl.training.tasks.task import find_file


class Gqa(Answering):
    """GQA. Predictions are written as its `eval.py` reads them."""

    name = "gqa"
    reads_json = True
    splits = ("train_balanced", "val_balanced")
    pipeline_tag = "visual-question-answering"
    lines = staticmethod(json_list)

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """Yields the questions of `*_questions.json`, an object whose keys are the questions' ids."""
        path = find_file(directory, f"*{split}*questions.json")

        def convert(item):
            key, question = item
            return Example(
                id=key,
                images=(text_of(question["imageId"]),),
                text=text_of(question["question"]),
                answers=(text_of(question["answer"]),) if "answer" in question else (),
                group=question.get("types", {}).get("structural", ""),
            )

        numbered = ((f"question {key}", (key, value)) for key, value in json_stream.stream_object(path))
        return converted(path, numbered, convert, report)

    def metric(self, predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """Returns `accuracy`, and that of `binary` and of `open` questions (whose structural type is "query").

        A prediction is right if it equals the answer exactly, as in the official `eval.py`.
        """
        check_lengths(predictions=predictions, examples=examples)
        answers = (example.answers[0] if example.answers else "" for example in examples)
        right = np.array([said == true for said, true in zip(predictions, answers, strict=True)], np.float64)
        kinds = ["open" if example.group == "query" else "binary" for example in examples]
        return accuracies(right, kinds, prefix="")

    def row(self, example: Example, answer: str) -> dict:
        return {"questionId": example.id, "prediction": answer}

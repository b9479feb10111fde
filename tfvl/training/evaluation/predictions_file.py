"""Predictions in the form that the data sets' evaluation servers and scripts take, where they have one."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.files.whole import written_files
from tfvl.training.data import json_stream
from tfvl.training.data.examples import Example
from tfvl.training.evaluation.evaluate import Evaluation
from tfvl.training.tasks.measures import vcr_scores

BEST = 10  # images of a text, and texts of an image, that are written down
TRUTH = {0: "False", 1: "True"}


def vqa(example: Example, answer: str) -> dict:
    """A result of VQA's evaluation server, whose ids are numbers."""
    return {"question_id": int(example.id) if example.id.isdecimal() else example.id, "answer": answer}


def gqa(example: Example, answer: str) -> dict:
    """An entry of GQA's `eval.py`."""
    return {"questionId": example.id, "prediction": answer}


def nlvr2(example: Example, label: int) -> dict:
    """A row of the file that NLVR2's `metrics.py` reads; no prediction where the images could not be read."""
    return {"identifier": example.id, "prediction": TRUTH.get(label, "")}


def answered(example: Example, answer: str) -> dict:
    return {"id": example.id, "answer": answer}


def chosen_answer(example: Example, place: int) -> dict:
    """VCR: the place of the choice, from 0, or -1 where the image could not be read; and of the right one."""
    return {"annot_id": example.id, "answer": place, "label": example.label}


def chosen_rationale(example: Example, place: int) -> dict:
    return {"annot_id": example.id, "rationale": place, "label": example.label}


def aligned(example: Example, prediction: tuple[np.ndarray, np.ndarray]) -> dict:
    """The best regions of each phrase, by their number in the image."""
    order = np.argsort(-prediction[0], axis=1, kind="stable")[:, :BEST]
    return {"id": example.id, "regions": order.tolist()}


def paired(example: Example, score: float) -> dict:
    """A text and an image that were scored together."""
    return {"id": example.id, "image": "/".join(example.images)}


# By task: from (example, prediction) to a row.
ROWS: dict[str, Callable[[Example, Any], dict]] = {
    "vqa": vqa,
    "gqa": gqa,
    "shapes": answered,
    "nlvr2": nlvr2,
    "vcr-answer": chosen_answer,
    "vcr-rationale": chosen_rationale,
    "entities": aligned,
    "retrieval": paired,
}


def ranking(examples: Iterable[Example], scores: np.ndarray) -> Iterator[dict]:
    """For each text its best images, and for each image its best texts."""
    examples = list(examples)
    names = list(dict.fromkeys(example.images for example in examples))
    for column, example in enumerate(examples):
        best = np.argsort(-scores[:, column], kind="stable")[:BEST]
        yield {"id": example.id, "images": ["/".join(names[row]) for row in best]}
    for row, name in enumerate(names):
        best = np.argsort(-scores[row], kind="stable")[:BEST]
        yield {"image": "/".join(name), "ids": [examples[column].id for column in best]}


def rows_of(task: str, evaluation: Evaluation) -> Iterator[dict]:
    if task == "retrieval":
        return ranking(evaluation.examples, evaluation.predictions)
    pairs = zip(evaluation.examples, evaluation.predictions, strict=True)
    return (ROWS[task](example, prediction) for example, prediction in pairs)


def joint_vcr(answers: Path, rationales: Evaluation) -> dict[str, float]:
    """VCR's three metrics, of the rationales that were chosen and a file of chosen answers to the same questions.

    Raises:
        ValueError: the file was not written by `write_predictions`, or lacks a question.
    """
    by_id: dict[str, tuple[int, int]] = {}
    for number, row in json_stream.stream_lines(answers):
        try:
            by_id[row["annot_id"]] = row["answer"], row["label"]
        except (TypeError, KeyError):
            raise ValueError(f"{answers}, line {number}, is no answer; write it by eval --task vcr-answer.") from None
    examples = rationales.examples
    missing = next((example.id for example in examples if example.id not in by_id), None)
    if missing is not None:
        raise ValueError(f"{answers} has no answer to question {missing}; evaluate both tasks on the same split.")
    said, labels = zip(*(by_id[example.id] for example in examples), strict=True)
    return vcr_scores(said, rationales.predictions, labels, [example.label for example in examples])


def write_predictions(path: Path, task: str, evaluation: Evaluation) -> None:
    """Writes what `evaluate` found: a JSON list for VQA and GQA, CSV for NLVR2, else a JSON object per line.

    The file appears under its name only when it is whole.
    """
    with written_files(path) as (new,), open(new, "w", encoding="utf-8") as file:
        file.writelines(LINES.get(task, json_lines)(rows_of(task, evaluation)))


def json_lines(rows: Iterable[dict]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def json_list(rows: Iterable[dict]) -> Iterator[str]:
    yield "["
    for number, row in enumerate(rows):
        yield (",\n" if number else "\n") + json.dumps(row, ensure_ascii=False)
    yield "\n]\n"


def csv_lines(rows: Iterable[dict]) -> Iterator[str]:
    return (",".join(row.values()) + "\n" for row in rows)


LINES: dict[str, Callable[[Iterable[dict]], Iterator[str]]] = {"vqa": json_list, "gqa": json_list, "nlvr2": csv_lines}

"""Tasks whose examples are rows of a user's table, a CSV, JSONL or Parquet file, in place of a published data set."""

import ast
import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfvl.training.data.examples import Example, Report
from tfvl.training.data.records import UnusableError, converted, text_of
from tfvl.training.data.tables import Table, column_name, split_name
from tfvl.training.tasks.nlvr2 import Nlvr2
from tfvl.training.tasks.predictions import json_lines
from tfvl.training.tasks.pretraining import Pretraining
from tfvl.training.tasks.retrieval import Retrieval
from tfvl.training.tasks.task import Task
from tfvl.training.tasks.tokens import Tokens
from tfvl.training.tasks.vocabulary import answer_shares, majority
from tfvl.training.tasks.vqa import Vqa
from tfvl.training.tasks.vqa_answers import normalize_answer

VALIDATION_SHARE = 0.1  # of the images are for validation if the rows have no split
MAX_CLASSES = 100_000
MAX_LITERAL = 1 << 16
TRUTH = {"true": 1, "false": 0, "1": 1, "0": 0, "yes": 1, "no": 0}
EVERYTHING = "all"


@dataclass(frozen=True)
class Columns:
    """The user's names of the columns, and how rows without a split are split.

    Attributes:
        image, image2, question, answer: the column of each part; None: a column with one of the task's own names.
        split: the column that says "train", "val" or "test".
        share: the share of the images whose rows are for validation if no row has a split.
        seed: seeds the choice of these images; the same rows and seed give the same splits.
    """

    image: str | None = None
    image2: str | None = None
    question: str | None = None
    answer: str | None = None
    split: str | None = None
    share: float = VALIDATION_SHARE
    seed: int = 0


class OwnRows(Task):
    """Reads the rows of a table as examples of a task; a mixin that comes before the task's class.

    Attributes:
        column_names: for each part of an example, the names that its column may have.
    """

    splits = ("train", "val")
    min_answers = 1
    names_from_rows = True
    column_names: ClassVar[Mapping[str, tuple[str, ...]]]

    def __init__(self, table: Table, columns: Columns | None = None):
        self.table, self.columns = table, columns or Columns()

    def example(self, number: str, row: Mapping[str, Any]) -> Example:
        """Makes an example of a row, a dict with the keys of `column_names`; without "answer" it has no truth."""
        raise NotImplementedError

    def stream(self, directory: str | Path, split: str, report: Report) -> Iterator[Example]:
        return self.read(Path(directory), split, report)

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """Yields the rows of a split, "train", "val" or "test" as the table's column or its files' names say, or "all".

        If neither says so, the share `columns.share` of the images is for validation and the rest for training.

        Raises:
            ValueError: the table lacks a column, or cannot be read.
        """
        split = split_name(split)
        names = self.found_columns(with_answers=split not in ("test", EVERYTHING))
        identifier = next((name for name in ("id", "question_id") if name in self.table.columns), None)
        splits_of = self.splits_of(names["image"])

        def wanted():
            for number, (place, of_file, row) in enumerate(self.table.rows(), start=1):
                if isinstance(row, Exception):
                    yield place, row
                elif split == EVERYTHING or splits_of(of_file, row) == split:
                    yield place, (number, row)

        def convert(numbered):
            number, row = numbered
            parts = {part: row[name] for part, name in names.items()}
            return self.example(cell(row.get(identifier)) or str(number), parts)

        return converted(Path(self.table.name), wanted(), convert, report)

    def found_columns(self, with_answers: bool = True) -> dict[str, str]:
        """Returns the column of each part. Raises ValueError if one is missing."""
        found, missing = {}, []
        for part, usual in self.column_names.items():
            given = getattr(self.columns, part)
            names = (column_name(given),) if given else usual
            name = next((name for name in names if name in self.table.columns), None)
            if name is not None:
                found[part] = name
            elif part != "answer" or with_answers:
                option = self.table.naming.format(part)
                missing.append(f"no column {' or '.join(map(repr, names))} (say another name by {option})")
        if missing:
            raise ValueError(
                f"{self.table.name} has {' and '.join(missing)}; its columns are {', '.join(self.table.columns)}."
            )
        return found

    def splits_of(self, image: str):
        """Returns a function that, from the split of a file and a row of it, tells the split of the row."""
        column = column_name(self.columns.split or "split")
        if self.columns.split and column not in self.table.columns:
            raise ValueError(
                f"{self.table.name} has no column {column!r}; its columns are {', '.join(self.table.columns)}."
            )
        if column in self.table.columns:
            return lambda of_file, row: split_name(row.get(column) or of_file)
        if all(split for _, split in self.table.files):
            return lambda of_file, row: of_file
        share, seed = self.columns.share, self.columns.seed
        bound = validation_bound(self.table, image, share, seed) if share else -1
        return lambda of_file, row: "val" if image_hash(row.get(image), seed) <= bound else "train"


class OwnQuestions(OwnRows, Vqa):
    """Question answering with columns `image`, `question`, and `answer` or `answers` (a list).

    Answers become classes exactly as they are written. The score of an answer is its count divided by the count of the
    most frequent one, so that a single answer, and each of several that are given once, is fully right.
    """

    column_names: ClassVar = {"image": ("image",), "question": ("question",), "answer": ("answers", "answer")}

    def example(self, number, row):
        answers = answers_of(row["answer"]) if "answer" in row else ()
        return Example(number, (image_of(row["image"]),), text_of(cell(row["question"])), answers=answers)

    def class_names(self, examples: Iterable[Example], min_answers: int) -> tuple[str, ...]:
        return frequent(majority(examples), min_answers)

    def metric(self, predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """Returns `accuracy`, the mean score of the predictions, normalised as the VQA evaluator does."""
        pairs = zip(predictions, examples, strict=True)
        return {"accuracy": float(np.mean([_score(said, example.answers) for said, example in pairs]))}


class OwnPairs(OwnRows, Nlvr2):
    """Reasoning over pairs of images with columns `image`, `image2`, `sentence`, `label` (true or false)."""

    column_names: ClassVar = {
        "image": ("image",),
        "image2": ("image2",),
        "question": ("sentence",),
        "answer": ("label",),
    }
    lines = staticmethod(json_lines)
    row: Any = Task.row
    metric = staticmethod(Nlvr2.accuracy)

    def example(self, number, row):
        images = (image_of(row["image"]), image_of(row["image2"]))
        label = _truth(row["answer"]) if "answer" in row else None
        return Example(number, images, text_of(cell(row["question"])), label=label)


class OwnCaptions(OwnRows, Retrieval):
    """Retrieval with columns `image`, `caption`; the rows with the same image are its captions."""

    column_names: ClassVar = {"image": ("image",), "question": ("caption",)}

    def example(self, number, row):
        return Example(number, (image_of(row["image"]),), text_of(cell(row["question"])))


class OwnPretraining(OwnRows, Pretraining):
    """Pre-training with columns `image`, `caption`."""

    column_names = OwnCaptions.column_names
    example = OwnCaptions.example


class OwnTokens(OwnRows, Tokens):
    """Token classification with columns `image`, `text`, `labels` (a list, or split at white space), one per word."""

    column_names: ClassVar = {"image": ("image",), "question": ("text",), "answer": ("labels",)}

    def example(self, number, row):
        text, labels = text_of(cell(row["question"])), ()
        if "answer" in row:
            given = _listed(row["answer"])
            labels = tuple(map(cell, given)) if isinstance(given, list) else tuple(cell(given).split())
            if not labels:
                raise UnusableError("empty answers", "there are no labels")
            if len(labels) != len(text.split()):
                raise ValueError(f"{len(labels)} labels for {len(text.split())} words")
        return Example(number, (image_of(row["image"]),), " ".join(text.split()), answers=labels)

    def class_names(self, examples: Iterable[Example], min_answers: int) -> tuple[str, ...]:
        return frequent((label for example in examples for label in example.answers), min_answers)


OWN: Mapping[str, type[OwnRows]] = {
    each.name: each for each in (OwnQuestions, OwnPairs, OwnCaptions, OwnPretraining, OwnTokens)
}


def own_task(name: str, table: Any, columns: Columns) -> OwnRows:
    """Returns the task of a name, reading a table's rows. Raises ValueError if it takes only the published files."""
    if name not in OWN:
        raise ValueError(f"the task {name!r} reads its published files; tables are read for {', '.join(OWN)}.")
    return OWN[name](table, columns)


# --- cells ------------------------------------------------------------------------------------------------------------


def cell(value: Any) -> str:
    """Turns a value into a text without needless white space; a missing one (None, NaN) becomes ""."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # readers turn a column of integers with gaps into floats
    return " ".join(str(value).split())


def image_of(value: Any) -> str:
    """Returns the path of an image. Raises ValueError if there is none."""
    if isinstance(value, Mapping) and value.get("path") and not value.get("bytes"):
        value = value["path"]
    if isinstance(value, (bytes, Mapping)):
        raise ValueError("its image is the bytes of a file; write them to files, or give the rows to tfvl.dataset")
    if not cell(value):
        raise UnusableError("missing images", "it names no image")
    return str(value).strip()


def answers_of(value: Any) -> tuple[str, ...]:
    """Returns a cell's answers: it holds a text, a list (in CSV as JSON or Python write it), or VQA's annotations."""
    value = _listed(value)
    listed = value if isinstance(value, list) else [value]
    answers = tuple(cell(each.get("answer") if isinstance(each, Mapping) else each) for each in listed)
    answers = tuple(text_of(answer) for answer in answers if answer)
    if not answers:
        raise UnusableError("empty answers", "there is no answer")
    return answers


def _listed(value: Any) -> Any:
    """Parses a cell that spells out a list, and turns arrays into lists; returns anything else as it is."""
    if isinstance(value, str) and value.strip().startswith("[") and len(value) <= MAX_LITERAL:
        try:
            return list(ast.literal_eval(value.strip()))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return value
    return list(value) if isinstance(value, (tuple, np.ndarray)) else value


def _truth(value: Any) -> int:
    said = cell(value).lower()
    if not said:
        raise UnusableError("empty answers", "there is no label")
    if said not in TRUTH:
        raise ValueError(f"the label {said!r:.60} is neither true nor false")
    return TRUTH[said]


def _score(said: str, answers: Sequence[str]) -> float:
    return answer_shares(map(normalize_answer, answers)).get(normalize_answer(said), 0.0)


def frequent(answers: Iterable[str], least: int) -> tuple[str, ...]:
    """Returns the answers that occur at least `least` times, in the order of their first occurrence.

    Raises:
        ValueError: there are none, or so many that they are free texts rather than classes.
    """
    counts: Counter[str] = Counter()
    for answer in answers:
        counts[answer] += 1
        if len(counts) > 10 * MAX_CLASSES:
            raise ValueError(f"there are more than {10 * MAX_CLASSES:,} different answers; classes need to recur.")
    found = tuple(answer for answer, count in counts.items() if count >= least)
    if not found:
        raise ValueError(f"none of {len(counts)} answers occurs {least} times; lower min_answers.")
    if len(found) > MAX_CLASSES:
        raise ValueError(f"{len(found):,} different answers are more than {MAX_CLASSES:,} classes; raise min_answers.")
    return found


# --- a share for validation -------------------------------------------------------------------------------------------


def image_hash(name: Any, seed: int) -> int:
    """Returns a 64-bit hash of an image's name and a seed."""
    text = f"{seed}\0{cell(name)}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@lru_cache(maxsize=4)
def validation_bound(table: Table, image: str, share: float, seed: int) -> int:
    """Returns the largest hash of an image that is for validation; -1 if there is only one image.

    The share of the images, and at least one, has a hash up to it. Takes 8 bytes for each row while it runs.
    """
    rows = (row for _, _, row in table.rows() if not isinstance(row, Exception))
    hashes = np.unique(np.frombuffer(array("Q", (image_hash(row.get(image), seed) for row in rows)), np.uint64))
    if len(hashes) < 2:
        return -1
    return int(hashes[max(1, round(share * len(hashes))) - 1])

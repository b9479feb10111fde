"""Helpers that write predictions: the forms of the files, and the part of a ranking that is written."""

import json
from collections.abc import Iterable, Iterator

import numpy as np

BEST = 10  # images of a text, texts of an image, and regions of a phrase that are written


def best_places(scores: np.ndarray) -> np.ndarray:
    """Returns the indices of the `BEST` highest scores along the last axis, the highest first, ties in their order."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :BEST]


def json_lines(rows: Iterable[dict]) -> Iterator[str]:
    """Yields lines with a JSON object each."""
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def json_list(rows: Iterable[dict]) -> Iterator[str]:
    """Yields the lines of a JSON list, with an object per line."""
    yield "["
    for number, row in enumerate(rows):
        yield (",\n" if number else "\n") + json.dumps(row, ensure_ascii=False)
    yield "\n]\n"


def csv_lines(rows: Iterable[dict]) -> Iterator[str]:
    """Yields lines with the values of a row each, separated by commas."""
    return (",".join(row.values()) + "\n" for row in rows)

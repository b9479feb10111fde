"""What files of predictions have in common: their forms, and how much of a ranking is written down."""

import json
from collections.abc import Iterable, Iterator

import numpy as np

BEST = 10  # images of a text, texts of an image, and regions of a phrase that are written down


def best_places(scores: np.ndarray) -> np.ndarray:
    """The places of the `BEST` highest scores along the last axis, the highest first; the first of equal ones."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :BEST]


def json_lines(rows: Iterable[dict]) -> Iterator[str]:
    """A JSON object per line."""
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def json_list(rows: Iterable[dict]) -> Iterator[str]:
    """A JSON list, an object per line."""
    yield "["
    for number, row in enumerate(rows):
        yield (",\n" if number else "\n") + json.dumps(row, ensure_ascii=False)
    yield "\n]\n"


def csv_lines(rows: Iterable[dict]) -> Iterator[str]:
    """The values of a row per line, with commas between them."""
    return (",".join(row.values()) + "\n" for row in rows)

"""Helpers of the readers of published data sets, which turn records into `Example`s, one at a time.

A reader takes a `Report`, which counts each record that cannot be used, with a sentence, or, if strict, raises it.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tfvl.files.reading import holds_half_surrogate
from tfvl.preprocessing.requests import too_long
from tfvl.training.data import json_stream
from tfvl.training.data.examples import Example, Report


class UnusableError(ValueError):
    """A record cannot be used, for a reason that the report counts separately."""

    def __init__(self, reason: str, sentence: str):
        super().__init__(sentence)
        self.reason = reason


UNUSABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError)  # raised when a record has another form


def converted(path: Path, records: Iterable[tuple[str, Any]], convert: Callable, report: Report) -> Iterator[Example]:
    """Yields the examples of records, given as pairs (name, record); those that cannot be converted are reported."""
    for name, record in records:
        try:
            if isinstance(record, Exception):
                raise record
            example = convert(record)
            if problem := too_long(example.text, example.choices):
                raise ValueError(problem)
        except UNUSABLE as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split()).rstrip(".")
            reason = getattr(error, "reason", "malformed records")
            report.skip(reason, f"{path}, {name}, cannot be used: {why}.")
        else:
            yield example


def numbered_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the records of a file with one JSON object per line, each with its line number as name."""
    return ((f"line {number}", record) for number, record in json_stream.stream_lines(path))


def text_of(value: Any) -> str:
    """Returns the value of a field that must be a text. Raises ValueError if it is not, or no tokenizer takes it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r:.60} is no text")
    if holds_half_surrogate(value):
        raise ValueError(f"{value!r:.60} holds half a surrogate pair")
    return value

"""What the readers of published data sets have in common: records in, `Example`s out, one at a time.

A reader takes a `Report`: a record that cannot be used is counted there with a sentence, or refused where it is strict.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tfvl.training.data import json_stream
from tfvl.training.data.examples import Example, Report


class UnusableError(ValueError):
    """A record cannot be used, for a reason that is counted by itself."""

    def __init__(self, reason: str, sentence: str):
        super().__init__(sentence)
        self.reason = reason


UNUSABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError)  # what a record of another form raises


def converted(path: Path, records: Iterable[tuple[str, Any]], convert: Callable, report: Report) -> Iterator[Example]:
    """The examples of records that come with a name each; those that cannot be converted are reported."""
    for name, record in records:
        try:
            if isinstance(record, Exception):
                raise record
            example = convert(record)
        except UNUSABLE as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split()).rstrip(".")
            reason = getattr(error, "reason", "malformed records")
            report.skip(reason, f"{path}, {name}, cannot be used: {why}.")
        else:
            yield example


def numbered_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The records of a file with one JSON object per line, each with its name for `converted`."""
    return ((f"line {number}", record) for number, record in json_stream.stream_lines(path))


def text_of(value: Any) -> str:
    """The value of a field that must be a text. Raises ValueError where it is none, or no tokenizer takes it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r:.60} is no text")
    if any("\ud800" <= letter <= "\udfff" for letter in value):  # JSON may spell them; no tokenizer takes them
        raise ValueError(f"{value!r:.60} holds half a surrogate pair")
    return value

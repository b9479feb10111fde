"""Reads JSON files that need not fit into memory, one record at a time, and joins two of them by a key.

The files of VQA, GQA and COCO are one JSON object with a list of a million records in it.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tfvl.files.extras import require

MAX_LINE_BYTES = 1 << 24


def stream_list(path: Path, name: str) -> Iterator[dict]:
    """Yields the records of the list `name` in the JSON object that a file holds.

    Raises:
        ValueError: there is no such file or list, it is empty, or the file is not valid JSON (a torn one breaks off at
            the damage, after the records before it).
    """
    records = _records(path, lambda file: _ijson().items(file, f"{name}.item", use_float=True))
    for number, record in enumerate(_checked(records, path, f"list {name!r}")):
        if not isinstance(record, dict):
            raise ValueError(f"{path}: entry {number} of {name!r} is {record!r:.40}, expected a JSON object.")
        yield record


def stream_object(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the keys and values of the JSON object that a file holds; errors as in `stream_list`."""
    return _checked(
        _records(path, lambda file: _ijson().kvitems(file, "", use_float=True)), path, "object with records"
    )


def stream_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the line numbers and values of a file with one JSON value per line; empty lines are left out.

    For a line that is not valid JSON, the value is a `ValueError`, so that the reader can go on.

    Raises:
        ValueError: there is no such file, or nothing in it.
    """
    return _checked(_lines(path), path, "line")


def find_value(path: Path, name: str) -> Any:
    """Returns the value of the key `name` in the JSON object that a file holds, or None; reads no further than that."""
    return next(_records(path, lambda file: _ijson().items(file, name, use_float=True)), None)


def join(records: Iterable[dict], others: Iterable[dict], key: str) -> Iterator[tuple[dict | None, dict | None]]:
    """Yields pairs of a record and the one of `others` with the same value of `key`, in the order of `records`.

    None stands in for a missing partner; `others` without a record come last. Two streams in the same order are joined
    as they come. What comes out of order waits on disk, in a temporary database that needs about 2 MB of memory.
    """
    waiting = _Waiting()
    others = iter(others)
    try:
        for record in records:
            wanted = str(record.get(key))
            found = waiting.take(wanted)
            while found is None and (other := next(others, None)) is not None:
                if str(other.get(key)) == wanted:
                    found = other
                else:
                    waiting.put(str(other.get(key)), other)
            yield record, found
        yield from ((None, other) for other in waiting.rest())
        yield from ((None, other) for other in others)
    finally:
        waiting.close()


class _Waiting:
    """Keeps records by their key in a database without a name, which SQLite puts on disk and deletes by itself."""

    def __init__(self):
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.execute("CREATE TABLE waiting (key TEXT, record TEXT)")
        self._database.execute("CREATE INDEX by_key ON waiting (key)")
        self._count = 0

    def put(self, key: str, record: dict) -> None:
        self._database.execute("INSERT INTO waiting VALUES (?, ?)", (key, json.dumps(record)))
        self._count += 1

    def take(self, key: str) -> dict | None:
        if not self._count:
            return None
        row = self._database.execute("SELECT rowid, record FROM waiting WHERE key = ? LIMIT 1", (key,)).fetchone()
        if row is None:
            return None
        self._database.execute("DELETE FROM waiting WHERE rowid = ?", row[:1])
        self._count -= 1
        return json.loads(row[1])

    def rest(self) -> Iterator[dict]:
        for (record,) in self._database.execute("SELECT record FROM waiting ORDER BY rowid"):
            yield json.loads(record)

    def close(self) -> None:
        self._database.close()


def _ijson():
    """Imports ijson only when it is needed: files of JSON lines and drawn scenes do without it."""
    require("ijson", extra="train", purpose="the published data sets are read with it")
    import ijson

    return ijson


def _records(path: Path, parse) -> Iterator:
    try:
        with open(path, "rb") as file:
            yield from parse(file)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except _ijson().JSONError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid JSON or torn ({reason:.120}); download or write it again.") from None


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise ValueError(
                        f"{path}, line {number}, is longer than {MAX_LINE_BYTES} bytes; it is no JSONL file."
                    )
                if line.strip():
                    yield number, _parsed(line)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return ValueError(f"it is not valid JSON ({error})")


def _checked(records: Iterator, path: Path, what: str) -> Iterator:
    """Yields the same records; raises ValueError if there are none."""
    empty = True
    for record in records:
        empty = False
        yield record
    if empty:
        raise ValueError(f"{path} has no {what}, or it is empty.")

"""Reads JSON files that need not fit into memory, one record at a time, and joins two of them by a key.

The files of VQA, GQA and COCO are one JSON object with a list of a million records in it. ijson builds whatever depth
and number of values a record has, so the bytes are counted before they come to it.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfvl.files.extras import require
from tfvl.files.reading import MAX_DEPTH, shown

MAX_LINE_BYTES = 1 << 24
MAX_RECORD_VALUES = 1 << 17  # of a record; the largest published ones have a few hundred
OTHERS = bytes(set(range(256)) - set(b'[]{},"'))  # all bytes but those that tell depth and number of values
STEPS = np.zeros(256, np.int8)  # by which a byte changes the depth
STEPS[list(b"[{")], STEPS[list(b"]}")] = 1, -1


def stream_list(path: Path, name: str) -> Iterator[dict]:
    """Yields the records of the list `name` in the JSON object that a file holds.

    Raises:
        ValueError: there is no such file or list, it is empty, the file is not valid JSON (a torn one breaks off at the
            damage, after the records before it), or a record is too deep or has too many values.
    """
    records = _records(path, lambda file: _ijson().items(file, f"{name}.item", use_float=True), between=2)
    for number, record in enumerate(_checked(records, path, f"list {name!r}")):
        if not isinstance(record, dict):
            raise ValueError(f"{path}: entry {number} of {name!r} is {shown(record, 40)}, expected a JSON object.")
        yield record


def stream_object(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the keys and values of the JSON object that a file holds; errors as in `stream_list`."""
    records = _records(path, lambda file: _ijson().kvitems(file, "", use_float=True), between=1)
    return _checked(records, path, "object with records")


def stream_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields the line numbers and values of a file with one JSON value per line; empty lines are left out.

    For a line that is not valid JSON, the value is a `ValueError`, so that the reader can go on.

    Raises:
        ValueError: there is no such file, or nothing in it.
    """
    return _checked(_lines(path), path, "line")


def find_value(path: Path, name: str) -> Any:
    """Returns the value of the key `name` in the JSON object that a file holds; reads no further than that.

    It is None if there is no such key, or its value is a list or an object, which is not built.
    """
    events = _records(path, lambda file: _ijson().parse(file, use_float=True), between=MAX_DEPTH)
    return next((value for place, _, value in events if place == name), None)


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


def _records(path: Path, parse: Callable[[Any], Iterable], between: int) -> Iterator:
    """Yields what `parse` reads from a file; `between` is the depth at which its records follow each other."""
    count = 0
    try:
        with open(path, "rb") as file:
            for record in parse(_Bounded(file, between)):
                count += 1
                yield record
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except _UnboundedError as error:
        raise ValueError(f"{path}, after {count} records, {error}.") from None
    except _ijson().JSONError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid JSON or torn ({reason:.120}); download or write it again.") from None


class _UnboundedError(Exception):
    """JSON is too deep or has too many values; the message goes on after the name of the file."""


class _Bounded:
    """A file of JSON whose reading fails just before it becomes too deep, or a record of it too large.

    Args:
        file: the file, open in binary mode.
        between: the depth at which records follow each other; the values of a record are deeper.
    """

    def __init__(self, file: IO[bytes], between: int):
        self._file, self._between = file, between
        self._place = _Place()
        self._rest = b""  # what was read from the file and not given out yet

    def read(self, size: int) -> bytes:
        chunk, self._rest = (self._rest, b"") if self._rest and size else (self._file.read(size), self._rest)
        while problem := (place := self._place.after(chunk, self._between)).problem():
            if len(chunk) == 1:
                raise _UnboundedError(problem)
            half = len(chunk) // 2  # so that the records before the problem are still read
            chunk, self._rest = chunk[:half], chunk[half:] + self._rest
        self._place = place
        return chunk


@dataclass(frozen=True)
class _Place:
    """Where in JSON the bytes that were read end.

    Attributes:
        depth: number of lists and objects that are open.
        values: number of values since the last place between two records.
        in_text: whether a text is open.
        escape: a backslash whose character is still to come.
        deepest: the largest depth in the last bytes.
    """

    depth: int = 0
    values: int = 0
    in_text: bool = False
    escape: bytes = b""
    deepest: int = 0

    def after(self, chunk: bytes, between: int) -> "_Place":
        """Returns the place after more bytes. Works on whole chunks, which takes a tenth of the time of parsing."""
        chunk = self.escape + chunk
        escape = chunk[-1:] if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2 else b""
        chunk = chunk[: len(chunk) - len(escape)].replace(b"\\\\", b"").replace(b'\\"', b"")
        # Most texts have no mark in them; without these, hardly a text is left to be split off.
        parts = chunk.translate(None, OTHERS).replace(b'""', b"").split(b'"')
        marks = b"".join(parts[self.in_text :: 2])  # every other part is inside a text
        depths = self.depth + np.cumsum(STEPS[np.frombuffer(marks, np.uint8)], dtype=np.int64)
        ends = np.flatnonzero(depths <= between)
        new = marks[ends[-1] + 1 :] if len(ends) else marks
        values = len(new) - new.count(b"]") - new.count(b"}")
        return _Place(
            depth=int(depths[-1]) if marks else self.depth,
            values=values if len(ends) else self.values + values,
            in_text=len(parts) % 2 == self.in_text,
            escape=escape,
            deepest=int(depths.max(initial=0)),
        )

    def problem(self) -> str:
        """Returns why the bytes up to here are refused, or ""."""
        if self.deepest > MAX_DEPTH:
            return f"is nested deeper than {MAX_DEPTH} levels, the most that are read"
        if self.values > MAX_RECORD_VALUES:
            return f"has a record of more than {MAX_RECORD_VALUES} values, the most that are read"
        return ""


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

"""Reads users' tables (CSV, JSON lines or Parquet) a row at a time, so that memory does not grow with the file.

Spreadsheets write many kinds of CSV: with commas, semicolons, tabs or bars, with a byte order mark, in UTF-16 or
Latin-1. All of them are read; a cell that is not UTF-8 is decoded as Latin-1.
"""

import codecs
import csv
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from tfvl.files.extras import require
from tfvl.files.reading import parse_json

DELIMITERS = ",;\t|"
MAX_LINE = 1 << 24  # bytes or characters; a longer line is not a row of a table
MAX_COLUMNS = 1 << 15  # of a CSV file; each row has a value for each of them
PARQUET_ROWS = 1024  # rows that are in memory at once, fewer where a value may be large
LEAST_PARQUET_ROWS = 16
PARQUET_BYTES = 1 << 26  # that the rows in memory may have, unless the least number of them has more
SPLITS = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}
SPLIT_IN_NAME = re.compile(r"(train|val|validation|valid|dev|test)(?=$|[-_.\d])", re.IGNORECASE)

Numbered = tuple[str, dict[str, Any] | Exception]


def split_name(value: Any) -> str:
    """Returns tfvl's name of a split: "validation", "valid" and "dev" become "val"."""
    name = str(value).strip().lower()
    return SPLITS.get(name, name)


def column_name(name: Any) -> str:
    """Normalises a column's name for comparison: lower case, without white space around it."""
    return str(name).strip().lower()


@dataclass(frozen=True)
class Table:
    """A table in one file, or in several with the same columns.

    Attributes:
        files: (path, split) of each file; the split is "" if the file's name does not begin with one.
        stamps: size and time of each file, so that a changed table does not equal the old one.
        naming: the option by which users name the column of a part of the example, for error messages.
    """

    naming: ClassVar[str] = "--{}-column"

    files: tuple[tuple[Path, str], ...]
    stamps: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, files: list[tuple[Path, str]]) -> "Table":
        found = [os.stat(path) for path, _ in files]
        return cls(tuple(files), tuple((each.st_size, each.st_mtime_ns) for each in found))

    @property
    def root(self) -> Path:
        """The directory that paths of images are relative to."""
        return self.files[0][0].parent

    @property
    def name(self) -> str:
        return ", ".join(str(path) for path, _ in self.files)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the first file's columns. Raises ValueError if it cannot be read or is empty."""
        path, _ = self.files[0]
        return READERS[path.suffix.lower()].columns(path)

    def rows(self) -> Iterator[tuple[str, str, dict[str, Any] | Exception]]:
        """Yields each row's origin ("my.csv, line 7"), its file's split, and its values by column.

        For a row that cannot be read, an exception takes the place of the values.

        Raises:
            ValueError: a file cannot be read.
        """
        for path, split in self.files:
            try:
                for place, row in READERS[path.suffix.lower()].rows(path):
                    yield f"{path.name}, {place}", split, row
            except OSError as error:
                raise ValueError(f"{path} cannot be read: {error.strerror}.") from None


def find(where: str | os.PathLike, wanted: str = "image") -> Table | None:
    """Finds the table that `--data` names, in a file or in a directory.

    Files of a directory whose names begin with a split ("train.csv", "val.csv") make up one table.

    Args:
        where: the file or directory.
        wanted: the column by which a table is recognised in a directory, where published data sets may have files of
            JSON lines, too.

    Returns: the table, or None for a directory without one.

    Raises:
        ValueError: the file is missing or of an unknown kind, or a directory has several that belong to no split.
    """
    where = Path(where)
    if not where.is_dir():
        if where.suffix.lower() not in READERS:
            known = ", ".join(READERS)
            raise ValueError(f"{where} is no directory, and no table of a known kind ({known}).")
        if not where.is_file():
            raise ValueError(f"there is no file {where}.")
        return Table.of([(where, "")])
    listed = sorted(path for path in where.iterdir() if path.suffix.lower() in READERS and path.is_file())
    found = [path for path in listed if column_name(wanted) in _columns_or_none(path)]
    if len(found) < 2:
        return Table.of([(path, "") for path in found]) if found else None
    splits = [SPLIT_IN_NAME.match(path.name) for path in found]
    if not all(splits):
        named = ", ".join(path.name for path in found[:5])
        raise ValueError(f"{where} has several tables: {named}; name one, or call them train, val and test.")
    return Table.of([(path, split_name(split[0])) for path, split in zip(found, splits, strict=True)])


def _columns_or_none(path: Path) -> tuple[str, ...]:
    try:
        return READERS[path.suffix.lower()].columns(path)
    except ValueError:
        return ()


# --- CSV --------------------------------------------------------------------------------------------------------------


def _csv_columns(path: Path) -> tuple[str, ...]:
    return _opened_csv(path)[1]


def _csv_rows(path: Path) -> Iterator[Numbered]:
    reader, names, lines = _opened_csv(path)
    while True:
        lines.characters = 0  # of the next row
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield f"line {reader.line_num}", ValueError(f"it is no row of CSV ({error}); is a quote left open?")
            continue
        if not any(cells):
            continue
        place = f"line {reader.line_num}"
        if len(cells) > len(names) and any(cells[len(names) :]):
            yield place, ValueError(f"it has {len(cells)} cells, but there are {len(names)} columns")
        else:
            yield place, dict(zip(names, map(utf8_or_latin1, cells), strict=False))


def _opened_csv(path: Path) -> tuple[Any, tuple[str, ...], "_RowLines"]:
    """Opens a CSV file and reads its header; returns a reader of the other lines, the columns' names, and its lines."""
    lines = _RowLines(path)
    reader = csv.reader(lines, delimiter=_delimiter_of(path))
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise ValueError(
            f"{path} has a first line that is no row of CSV ({error}); it should name the columns."
        ) from None
    if not header or not any(header):
        raise ValueError(f"{path} is empty; its first line should name the columns.")
    if len(header) > MAX_COLUMNS:
        raise ValueError(f"{path} has a first line of {len(header)} cells; at most {MAX_COLUMNS} columns are read.")
    return reader, tuple(column_name(utf8_or_latin1(name)) for name in header), lines


def _delimiter_of(path: Path) -> str:
    """Returns the one of `DELIMITERS` that splits the first line into the most columns; of ties, the first."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = next(_lines(path), "")
    return max(DELIMITERS, key=lambda each: _count_cells(first, each))


def _count_cells(line: str, delimiter: str) -> int:
    """Counts the cells of a line; there are none if a cell is too long, as it is with a delimiter that is not there."""
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:
        return 0


class _RowLines:
    """The lines of a file for `csv.reader`, which joins them where a quote is open; the lines of one row are bounded.

    Attributes:
        characters: how many were read of the row; whoever reads rows begins again with 0.
    """

    def __init__(self, path: Path):
        self._path, self._lines = path, _lines(path)
        self.characters = 0

    def __iter__(self) -> "_RowLines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.characters += len(line)
        if self.characters > MAX_LINE:
            raise ValueError(
                f"{self._path} has a row over several lines of more than {MAX_LINE} characters; is a quote left open?"
            )
        return line


def _lines(path: Path) -> Iterator[str]:
    """Yields the lines of a file, with bytes that are not UTF-8 as surrogates. Raises ValueError for an endless one."""
    with open(path, "rb") as file:
        start = file.read(4)
    wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "surrogateescape")
    with open(path, encoding=encoding, errors=errors, newline="") as file:
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise ValueError(f"{path} has a line of more than {MAX_LINE} characters; it is no CSV file.")
            yield line


def utf8_or_latin1(cell: str) -> str:
    """Decodes a cell, which was read with "surrogateescape", as Latin-1 if it has bytes that are not UTF-8."""
    if cell.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in cell):
        return cell
    return cell.encode("utf-8", "surrogateescape").decode("latin-1")


# --- JSON lines and Parquet -------------------------------------------------------------------------------------------


def _jsonl_columns(path: Path) -> tuple[str, ...]:
    rows = (row for _, row in _jsonl_rows(path) if isinstance(row, dict))
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{path} has no line with a JSON object; each line should be one.")
    return tuple({name: None for row in [first, *islice(rows, 99)] for name in row})


def _jsonl_rows(path: Path) -> Iterator[Numbered]:
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise ValueError(f"{path}, line {number}, is longer than {MAX_LINE} bytes; it is no JSONL file.")
            if line.strip():
                yield f"line {number}", _parsed(line.removeprefix(codecs.BOM_UTF8))


def _parsed(line: bytes) -> dict[str, Any] | Exception:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        text = line.decode("latin-1")
    try:
        row = parse_json(text)
    except ValueError as error:
        return ValueError(f"it is not valid JSON, or too large ({error})")
    if not isinstance(row, dict):
        return ValueError(f"it is {row!r:.40}, not a JSON object")
    return {column_name(name): value for name, value in row.items()}


def _parquet(path: Path):
    require("pyarrow", extra="parquet", purpose="Parquet files are read with it")
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except (ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is no Parquet file, or torn ({' '.join(str(error).split()):.120}).") from None


def _parquet_columns(path: Path) -> tuple[str, ...]:
    with _parquet(path) as file:
        return tuple(map(column_name, file.schema_arrow.names))


def _parquet_rows(path: Path) -> Iterator[Numbered]:
    with _parquet(path) as file:
        number = 0
        for batch in _parquet_batches(path, file):
            names = batch.schema.names
            columns = [_parquet_values(path, name, column) for name, column in zip(names, batch.columns, strict=True)]
            for row in zip(*columns, strict=True):
                number += 1
                yield f"row {number}", dict(zip(map(column_name, names), row, strict=True))


def _parquet_batches(path: Path, file: Any) -> Iterator[Any]:
    """Yields the rows of a Parquet file, a few at a time. Raises ValueError, with its name, where it is damaged.

    All rows may hold one text, which the file stores once. It is no larger than the file says of the group of rows, so
    this says how many rows at once are surely small.
    """
    from pyarrow import ArrowException

    try:
        for group in range(file.num_row_groups):
            size = max(1, file.metadata.row_group(group).total_byte_size)
            rows = min(PARQUET_ROWS, max(LEAST_PARQUET_ROWS, PARQUET_BYTES // size))
            yield from file.iter_batches(batch_size=rows, row_groups=[group])
    except (ArrowException, OSError, OverflowError) as error:
        raise ValueError(f"{path} is torn, or not read by pyarrow ({' '.join(str(error).split()):.120}).") from None


def _parquet_values(path: Path, name: str, column: Any) -> list:
    """Returns the values of a column. Raises ValueError, with the file's and its names, if Python has none for them."""
    try:
        return column.to_pylist()
    except (ArithmeticError, LookupError, TypeError, ValueError, ImportError, NotImplementedError) as error:
        why = " ".join(str(error).split())
        sentence = f"{path}, column {name:.60}: a value of type {column.type} cannot be read ({why:.120})."
        raise ValueError(sentence) from None


@dataclass(frozen=True)
class Reader:
    """The two functions that read a kind of file: the names of its columns, and its rows with their line numbers."""

    columns: Callable[[Path], tuple[str, ...]]
    rows: Callable[[Path], Iterator[Numbered]]


CSV = Reader(_csv_columns, _csv_rows)
READERS = {
    ".csv": CSV,
    ".tsv": CSV,
    ".jsonl": Reader(_jsonl_columns, _jsonl_rows),
    ".parquet": Reader(_parquet_columns, _parquet_rows),
}

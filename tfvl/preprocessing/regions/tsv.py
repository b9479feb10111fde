"""Reads the `.tsv` files of bottom-up-attention and LXMERT, in which each line is an image, with its arrays in base64.

A line of 36 regions is about 400 kB of base64, a file tens of GB. One line at a time is in memory; pybase64 decodes it
with vector instructions, so fast that reading the file takes the larger part of the time.
Source: github.com/peteanderson80/bottom-up-attention, README; github.com/airsplay/lxmert, src/utils.py.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pybase64

from tfvl.preprocessing.regions.regions import Regions, normalize_boxes, warn

BOTTOM_UP_COLUMNS = tuple("image_id image_w image_h num_boxes boxes features".split())
LXMERT_COLUMNS = tuple(
    "img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features".split()
)
KNOWN = {len(columns): columns for columns in (BOTTOM_UP_COLUMNS, LXMERT_COLUMNS)}
# bottom-up-attention's names of columns, and LXMERT's names of the same columns
SYNONYMS = {"image_id": "img_id", "image_w": "img_w", "image_h": "img_h"}
NEEDED = ("img_id", "img_w", "img_h", "num_boxes", "features")
ARRAYS = {"objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4"}  # (num_boxes,)

MAX_LINE_BYTES = 1 << 26  # a line of 100 regions of 2048 features has 1.1 MB
MAX_BAD_LINES = 10_000  # at the start of a file; one that is not TSV at all may have millions
READ_BYTES = 1 << 20


def read_tsv(
    path: str | os.PathLike,
    *,
    columns: Sequence[str] | None = None,
    feature_size: int | None = None,
    on_error: Callable[[str], None] = warn,
    on_progress: Callable[[float], None] | None = None,
) -> Iterator[Regions]:
    """Yields the images of a `.tsv` file in order, in memory that does not depend on the file's size.

    Args:
        path: the file, without a header line.
        columns: upstream's names of the columns; None: `LXMERT_COLUMNS` or `BOTTOM_UP_COLUMNS`, as the number of
            columns in the first sound line says.
        feature_size: values per region; None: as in the first sound line.
        on_error: called for every line that cannot be used with one sentence that names file and line; the other lines
            are read all the same. By default it warns; `list.append` collects.
        on_progress: called after each line with the share of the file that is read, 0 to 1.

    Yields:
        `Regions` with boxes from 0 to 1 (the file has pixels); their arrays are read-only.

    Raises:
        ValueError: there is no such file, `columns` lack one that is needed, or none of the first `MAX_BAD_LINES`
            lines could be used.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file.")
    if columns is not None:
        columns = _checked_columns(columns)
    total, number, usable, first_error = os.path.getsize(path), 0, False, None
    with open(path, "rb", buffering=READ_BYTES) as file:
        for number, line in enumerate(_lines(file), 1):
            regions = None
            try:
                if not line.isspace():
                    regions, columns = _parse(line, columns, feature_size)
            except ValueError as error:
                cut = " (the file ends within the line)" if file.tell() == total and not line.endswith(b"\n") else ""
                sentence = f"{path}, line {number}: {str(error).rstrip('.')}{cut}."
                first_error = first_error or sentence
                on_error(sentence)
            if not usable and regions is None and number == MAX_BAD_LINES:
                break
            if regions is not None:
                usable, feature_size = True, feature_size or regions.features.shape[1] or None
                yield regions
            if on_progress:
                on_progress(file.tell() / total)
    if not usable and (first_error or number == MAX_BAD_LINES):
        raise ValueError(f"no line could be used of {number}; the first: {first_error or f'{path}, line 1, is empty.'}")


def _lines(file) -> Iterator[bytes]:
    """Yields the lines of a file, each cut off after `MAX_LINE_BYTES`."""
    while line := file.readline(MAX_LINE_BYTES):
        yield line
        while line and not line.endswith(b"\n"):
            line = file.readline(READ_BYTES)


def _checked_columns(columns: Sequence[str]) -> tuple[str, ...]:
    columns = tuple(SYNONYMS.get(name, name) for name in columns)
    if missing := [name for name in NEEDED if name not in columns]:
        raise ValueError(f"columns lack {', '.join(missing)}; bottom-up-attention has {', '.join(BOTTOM_UP_COLUMNS)}.")
    return columns


def _parse(line: bytes, columns: tuple[str, ...] | None, size: int | None) -> tuple[Regions, tuple[str, ...]]:
    """Parses a line; returns its image, and the names of its columns."""
    if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
        raise ValueError(f"is longer than {MAX_LINE_BYTES} bytes")
    end = len(line) - (2 if line.endswith(b"\r\n") else line.endswith(b"\n"))
    last = line.rfind(b"\t") + 1
    # The last cell is nearly the whole line and is not copied: a view is all that pybase64 needs.
    cells: list[Any] = [*line[:last].split(b"\t")[:-1], memoryview(line)[last:end]]
    if columns is None and len(cells) not in KNOWN:
        known = " or ".join(map(str, KNOWN))
        raise ValueError(f"has {len(cells)} columns, expected {known}")
    columns = columns or _checked_columns(KNOWN[len(cells)])
    if len(cells) != len(columns):
        raise ValueError(f"has {len(cells)} columns, expected {len(columns)} ({', '.join(columns)})")
    row = dict(zip(columns, cells, strict=True))
    image_id = bytes(row["img_id"]).decode("utf-8", errors="replace")
    width, height, count = (_whole(row, name) for name in ("img_w", "img_h", "num_boxes"))
    per_region = {name: _array(row, name, dtype, count, 1)[:, 0] for name, dtype in ARRAYS.items() if name in row}
    boxes = normalize_boxes(_array(row, "boxes", "<f4", count, 4), width, height) if "boxes" in row else None
    features = _array(row, "features", "<f4", count, size)
    return Regions(features, boxes, image_id, width, height, **per_region), columns


def _whole(row: dict[str, bytes], name: str) -> int:
    text = bytes(row[name])
    if not text.isdigit() or len(text) > 9:
        raise ValueError(f"{name} is {_shown(text)}, expected a whole number")
    return int(text)


def _array(row: dict[str, bytes], name: str, dtype: str, count: int, size: int | None) -> np.ndarray:
    """Decodes a cell in base64 to an array (count, size); with size None, to as many columns as the bytes fill."""
    try:
        content = pybase64.b64decode(row[name], validate=True)
    except ValueError:
        raise ValueError(f"{name} is not base64 ({_shown(bytes(row[name][:100]))})") from None
    item = np.dtype(dtype).itemsize
    if size is None and count and len(content) and len(content) % (count * item) == 0:
        size = len(content) // (count * item)
    if len(content) != count * (size or 0) * item:
        expected = f"{count} × {'feature_size' if size is None else size} × {item}"
        raise ValueError(f"{name} has {len(content)} bytes, expected {expected} for {count} boxes")
    return np.frombuffer(content, dtype).reshape(count, size or 0)


def _shown(text: bytes) -> str:
    return repr(text[:30].decode("utf-8", errors="replace")) + ("…" if len(text) > 30 else "")

"""Turns the arguments of a call, in any of their forms, into requests."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.files.address import is_address
from tfvl.preprocessing.image.decode import encode_png, to_levels
from tfvl.preprocessing.regions.reading import READERS
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.requests import (
    ARRAY_AXES,
    TEXTS,
    Request,
    as_regions,
    checked_text,
    is_one,
    is_whole_number,
    listed,
    listed_texts,
    lists_of_texts,
    wrong_number,
)
from tfvl.preprocessing.visuals import GRAPH_FORMATS, MAX_PIXELS, read

# The names of arguments, several of which may mean the same, and the name that the code uses.
NAMES = {
    **dict.fromkeys(("image", "images"), "images"),
    **dict.fromkeys(("question", "questions", "text", "texts"), "text"),
    **{name: name for name in ("regions", "boxes", *TEXTS)},
}


@dataclass(frozen=True)
class Call:
    """The rows of a call.

    Attributes:
        rows: the requests; a ValueError takes the place of one that cannot be made.
        alone: whether a single image and text was given, and not a list.
    """

    rows: list[Request | ValueError]
    alone: bool


def named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that are not None, renamed by `NAMES`. Raises ValueError for unknown or repeated ones."""
    found = {}
    for name, value in given.items():
        if name not in NAMES:
            raise ValueError(f"{name!r} is no input of a pipeline; it takes {', '.join(NAMES)}")
        if value is None:
            continue
        if NAMES[name] in found:
            same = " or ".join(other for other in NAMES if NAMES[other] == NAMES[name])
            raise ValueError(f"{name} is given twice; give {same} once")
        found[NAMES[name]] = value
    return found


def calls_of(given: Mapping[str, Any]) -> Iterator[dict[str, Any]] | None:
    """Yields the arguments of each call if `image` is a stream of dicts, or some arguments are streams of values.

    Returns None if no argument is a stream.
    """
    first = given.get("image")
    if is_stream(first) and all(value is None for name, value in given.items() if name != "image"):
        return map(as_given, elements(first))
    streams = {name: elements(value) for name, value in given.items() if is_stream(value)}
    if not streams:
        return None
    rest = {name: value for name, value in given.items() if name not in streams}
    return (rest | row for row in together(streams))


def together(streams: Mapping[str, Iterable]) -> Iterator[dict[str, Any]]:
    """Yields an element of each stream by the stream's name. Raises ValueError if one ends before another."""
    ended = object()
    for number, row in enumerate(zip_longest(*streams.values(), fillvalue=ended)):
        short = [name for name, value in zip(streams, row, strict=True) if value is ended]
        if short:
            long = [name for name in streams if name not in short]
            raise ValueError(
                f"{' and '.join(short)} ended after {number} elements, but {' and '.join(long)} "
                "goes on; give streams of the same length"
            )
        yield dict(zip(streams, row, strict=True))


def as_given(item: Any) -> dict[str, Any]:
    """Returns the arguments of a call from an element of several calls: a dict of them, or an image."""
    return dict(item) if isinstance(item, Mapping) else {"image": item}


def is_stream(value: Any) -> bool:
    """Returns whether a value is a stream: a generator, another iterator, or a `tf.data.Dataset`."""
    return isinstance(value, Iterator) or hasattr(value, "as_numpy_iterator")


def elements(stream: Any) -> Iterable:
    return stream.as_numpy_iterator() if hasattr(stream, "as_numpy_iterator") else stream


def whole(value: Any) -> Any:
    """Returns all elements of a stream as a list; anything else as it is."""
    return list(elements(value)) if is_stream(value) else value


def checked_count(name: str, value: Any) -> int:
    """Returns a whole number from 1 on, also one of NumPy, as an int. Raises ValueError for any other value."""
    if not is_whole_number(value) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected a whole number from 1 on")
    return int(value)


def call_of(asked: Mapping[str, Any], images: int, needs_text: bool, name: str) -> Call:
    """Makes the rows of a call. One text goes with every image, one image with every text.

    Args:
        asked: the arguments, from `named`.
        images: number of images that the model reads with a text.
        needs_text: whether the model reads a text.
        name: the model's name in errors.

    Raises:
        ValueError: an argument is missing, or the numbers of images and texts do not match.
    """
    visual = "regions" if "regions" in asked else "images"
    if {"images", "regions"} <= asked.keys():
        raise ValueError("got images and regions; give one of both")
    if visual not in asked:
        raise ValueError(f"{name} takes an image, or its regions; give image= or regions=")
    if needs_text and "text" not in asked:
        raise ValueError(f"{name} takes a text with an image; give question= or text=")
    if not needs_text and asked.keys() != {"images"}:
        raise ValueError(f"{name} takes images alone; leave {', '.join(sorted(asked.keys() - {'images'}))} out")
    text = numpy(asked.get("text", "-"))
    seen = asked[visual] if isinstance(asked[visual], Mapping | Regions) else numpy(asked[visual])
    texts, shown = listed_texts(text), listed(seen, images, ARRAY_AXES[visual])
    boxes = asked.get("boxes")
    boxes = [boxes] if getattr(boxes, "ndim", None) == 2 else boxes
    if boxes is not None and len(boxes) != len(shown):
        raise ValueError(f"got {len(boxes)} arrays of boxes for {len(shown)} regions; give one for each")
    alone = isinstance(text, str | bytes) and is_one(seen, images, ARRAY_AXES[visual])
    count = max(len(texts), len(shown)) if texts and shown else 0
    if {len(texts), len(shown)} - {0, 1, count}:
        raise ValueError(
            f"got {len(texts)} texts and {len(shown)} {visual}; give as many of one as of the other, or one of either"
        )
    more = {
        each: lists_of_texts(asked[each], each, count) if count else [] for each in TEXTS if asked.get(each) is not None
    }
    read_visual = as_image if visual == "images" else as_regions
    found: list[list | ValueError] = []
    for number, row in enumerate(shown):
        if problem := wrong_number(row, number, images, name):
            found.append(ValueError(problem))
            continue
        box = () if boxes is None else (boxes[number],)
        try:
            found.append([read_visual(item, *box) for item in row])
        except (ValueError, OSError, TypeError) as error:
            found.append(ValueError(f"{visual}[{number}]: {error}" if not alone else str(error)))
    rows: list[Request | ValueError] = []
    for number in range(count):
        visuals = found[number % len(found)]
        try:
            if isinstance(visuals, ValueError):
                raise visuals
            words = checked_text(texts[number % len(texts)], number) if needs_text else ""
            rows.append(Request(words, visuals, **{each: lists[number] for each, lists in more.items()}))
        except ValueError as error:
            rows.append(error)
    return Call(rows, alone)


def numpy(value: Any) -> Any:
    """Turns tensors and arrays of strings into lists, and other tensors into arrays; returns anything else as it is."""
    value = value.numpy() if hasattr(value, "numpy") else value
    return value.tolist() if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "OSU" else value


def as_image(item: Any) -> bytes | Regions:
    """Turns an image into an encoded file that a graph can decode, or into regions.

    Args:
        item: a path (of an image or of a file of region features), an image's `http(s)` address, encoded
            bytes, a PIL image or an array.

    Raises:
        ValueError, OSError: it cannot be read.
    """
    item = numpy(item)
    if isinstance(item, Regions):
        return item
    if isinstance(item, str | os.PathLike):
        if is_address(item):
            return read(str(item))
        path = Path(item).expanduser()
        if path.is_file() or path.suffix.lower() in READERS:
            return read(path)
        raise ValueError(f"{item}: there is no such file")
    if isinstance(item, bytes | bytearray | memoryview):
        item = bytes(item)
        if item.startswith(GRAPH_FORMATS):
            return item
    return encode_png(to_levels(item, MAX_PIXELS).levels, compress_level=1)  # which is faster than Pillow's own

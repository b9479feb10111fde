"""From what a call is given, in any of its forms, to requests."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.files.address import is_address
from tfvl.preprocessing.image.decode import to_levels
from tfvl.preprocessing.regions.reading import READERS
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.requests import (
    ARRAY_AXES,
    TEXTS,
    Request,
    as_regions,
    checked_text,
    is_one,
    listed,
    listed_texts,
    lists_of_texts,
)
from tfvl.preprocessing.visuals import GRAPH_FORMATS, MAX_PIXELS, read

# Every name of an argument, and what it stands for.
NAMES = {
    **dict.fromkeys(("image", "images"), "images"),
    **dict.fromkeys(("question", "questions", "text", "texts"), "text"),
    **{name: name for name in ("regions", "boxes", *TEXTS)},
}


@dataclass(frozen=True)
class Call:
    """The rows of a call: each a request, or the ValueError that says why it is none.

    Attributes:
        alone: whether it was given one thing, and not a list.
    """

    rows: list[Request | ValueError]
    alone: bool


def named(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are not None, by the names of `NAMES`' values. Raises ValueError for others, or one twice."""
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
    """The calls of a stream: of a generator or `tf.data.Dataset` of dicts, or of arguments of which some are such.

    None where nothing of it is a stream.
    """
    first = given.get("image")
    if is_stream(first) and all(value is None for name, value in given.items() if name != "image"):
        return (dict(item) if isinstance(item, Mapping) else {"image": item} for item in elements(first))
    streams = {name: elements(value) for name, value in given.items() if is_stream(value)}
    if not streams:
        return None
    rest = {name: value for name, value in given.items() if name not in streams}
    return (rest | dict(zip(streams, row, strict=True)) for row in zip(*streams.values(), strict=True))


def is_stream(value: Any) -> bool:
    """Whether it gives its items one after the other: a generator, any other iterator, or a `tf.data.Dataset`."""
    return isinstance(value, Iterator) or hasattr(value, "as_numpy_iterator")


def elements(stream: Any) -> Iterable:
    return stream.as_numpy_iterator() if hasattr(stream, "as_numpy_iterator") else stream


def call_of(asked: Mapping[str, Any], images: int, needs_text: bool, name: str) -> Call:
    """The rows of a call: one text goes with every image, one image with every text.

    Args:
        asked: as `named` gives it.
        images: how many images go with a text.
        needs_text: whether there is a text.
        name: what errors call the model.

    Raises:
        ValueError: something is missing, or numbers do not match.
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
    """Tensors and arrays of strings as Python's objects, other tensors as arrays; everything else as it is."""
    value = value.numpy() if hasattr(value, "numpy") else value
    return value.tolist() if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "OSU" else value


def as_image(item: Any) -> bytes | Regions:
    """An image as a file that a graph can decode, or regions.

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
            return read(item)
        path = Path(item).expanduser()
        if path.is_file() or path.suffix.lower() in READERS:
            return read(path)
        raise ValueError(f"{item}: there is no such file")
    if isinstance(item, bytes | bytearray | memoryview):
        item = bytes(item)
        if item.startswith(GRAPH_FORMATS):
            return item
    return encoded(to_levels(item, MAX_PIXELS).levels)


def encoded(levels: np.ndarray) -> bytes:
    """An image (height, width, 3) uint8 as PNG, quickly rather than small."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG", compress_level=1)
    return file.getvalue()

"""Requests, each a text with images or regions and maybe choices or phrases, and the arrays of a signature from them.

The module needs NumPy only, for clients without TensorFlow.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tfvl.preprocessing.regions.regions import Regions, pad_regions

READ = ("image", "regions", "boxes", "choices", "phrases")  # the inputs that signatures have beside the text
TEXTS = READ[3:]
SPEC_AXES = {"image": 1, "regions": 3}  # number of axes of a signature's input, if a text has one image
ARRAY_AXES = {"images": 3, "regions": 2}  # number of axes of an array that is one image, or one image's regions

# The most that an exported model reads of a row, wherever it runs; a row with more gets a status that says so.
MAX_CHARACTERS = 2**18  # of all its texts; reading so many takes a quarter of a second
MAX_ITEMS = {"regions": 1024, "choices": 64, "phrases": 128}
MAX_CHOSEN_REGIONS = 4096  # choices times regions, since the model sees all regions with each choice


@dataclass(frozen=True)
class Request:
    """One row of inputs that a model is to answer.

    Attributes:
        text: the question, sentence or caption.
        visuals: the images that go with the text, each as an encoded file or as its `Regions`. The runner of a
            `.tflite` file takes images in other forms too.
        choices, phrases: more texts, for heads that take them.
        names: the names of the visuals in errors; by default "image 1", "image 2", …
    """

    text: Any  # str, or bytes in a server
    visuals: Sequence = ()
    choices: Sequence[Any] = ()
    phrases: Sequence[Any] = ()
    names: Sequence[str] = ()

    def __post_init__(self):
        numbered = [f"image {number}" for number in range(1, len(self.visuals) + 1)]
        object.__setattr__(self, "names", self.names or numbered)


@dataclass(frozen=True)
class Takes:
    """The inputs that a model takes with a text.

    Attributes:
        reads: their names, of `READ`; `boxes` are the boxes of the regions.
        images: the number of images, or of images with regions, of a text; None: one, without an axis for images.
    """

    reads: tuple[str, ...]
    images: int | None = None

    @property
    def visual(self) -> str:
        """The kind of visuals that the model takes: "images" or "regions"."""
        return "regions" if "regions" in self.reads else "images"

    @classmethod
    def of_signature(cls, inputs: Mapping[str, Any]) -> Self:
        """Reads it from the specs of a signature's inputs, each with a `shape` whose first axis is the rows.

        Raises:
            ValueError: the signature has no text, or other inputs than `READ`.
        """
        if "text" not in inputs or not inputs.keys() <= {"text", *READ}:
            raise ValueError(
                f"the model takes {', '.join(inputs) or 'nothing'}, expected text and of {', '.join(READ)} some"
            )
        shapes = {name: inputs[name].shape for name in SPEC_AXES if name in inputs}
        several = [shape[1] for name, shape in shapes.items() if len(shape) > SPEC_AXES[name]]
        return cls(tuple(name for name in READ if name in inputs), *several)

    @classmethod
    def all_of(cls, requests: Sequence[Request]) -> Self:
        """Returns the inputs that the requests hold, for a model whose signature is not known."""
        visuals = [visual for request in requests for visual in request.visuals]
        reads = [name for name in TEXTS if any(getattr(request, name) for request in requests)]
        if any(isinstance(visual, Regions) for visual in visuals):
            reads += ["regions", *["boxes"] * any(visual.boxes is not None for visual in visuals)]
        elif visuals:
            reads.append("image")
        count = len(requests[0].visuals)
        return cls(tuple(reads), count if count > 1 else None)


def arrays(requests: Sequence[Request], takes: Takes) -> dict[str, np.ndarray]:
    """Converts requests to the inputs of a signature, one row for each.

    Args:
        requests: at least one, with visuals of the kind that the model takes.
        takes: the inputs that the model takes.

    Returns:
        text (N,) strings, and those that the model takes of: image ([N, images]) encoded files; regions (N, [images,]
        R, size) and boxes (N, [images,] R, 4) float32, padded with zeros to the image with the most regions; choices
        and phrases (N, C), padded with "".

    Raises:
        ValueError: a request has more or fewer images than the model takes, or regions do not fit together or lack the
            boxes that the model reads.
    """
    expected = takes.images or int(not {"image", "regions"}.isdisjoint(takes.reads))
    for number, request in enumerate(requests):
        if len(request.visuals) != expected:
            raise ValueError(f"row {number} has {len(request.visuals)} images, expected {expected} with a text")
    made: dict[str, Any] = {"text": [request.text for request in requests]}
    made |= {name: padded(getattr(request, name) for request in requests) for name in TEXTS if name in takes.reads}
    visuals = [visual for request in requests for visual in request.visuals]
    if "image" in takes.reads:
        made["image"] = visuals
    made = {name: np.array(rows, object) for name, rows in made.items()}
    if takes.visual == "regions":
        made |= region_arrays(visuals, boxes="boxes" in takes.reads)
    if takes.images is None:
        return made
    shaped = made.keys() & {"image", "regions", "boxes"}
    return made | {name: made[name].reshape(len(requests), -1, *made[name].shape[1:]) for name in shaped}


def region_arrays(rows: Sequence[Regions], boxes: bool) -> dict[str, np.ndarray]:
    """Pads the regions of N images to (N, R, size) and, if wanted, their boxes to (N, R, 4); errors as `arrays`."""
    if not boxes:
        return {"regions": pad_regions([regions.features for regions in rows])["features"]}
    if all(regions.boxes is None for regions in rows):
        raise ValueError("there are no boxes, and the model needs the box of each region")
    made = pad_regions(rows)
    return {"regions": made["features"], "boxes": made["boxes"]}


def beyond_limits(sizes: Mapping[str, int]) -> str:
    """Returns a sentence if a row has too many regions, choices or phrases, by these numbers of each; else ""."""
    for name, most in MAX_ITEMS.items():
        if sizes.get(name, 0) > most:
            return f"{name}: there are {sizes[name]} of them, at most {most} are read"
    if sizes.get("choices", 0) * sizes.get("regions", 0) > MAX_CHOSEN_REGIONS:
        return (
            f"choices: there are {sizes['choices']} of them with {sizes['regions']} regions, at most "
            f"{MAX_CHOSEN_REGIONS} regions in all are read"
        )
    return ""


def count_characters(text: str, more: Sequence[str]) -> int:
    """Counts the characters read for a row: a text is read once alone, and once with each of its choices or phrases."""
    return len(text) * (1 + len(more)) + sum(map(len, more))


def empty(text: str) -> str:
    """Returns a sentence if a row's text is empty, or consists of white space; else ""."""
    return "" if text.strip() else "text: it is empty"


def too_long(text: str, more: Sequence[str] = ()) -> str:
    """Returns a sentence if there is too much to read of a row's text and its choices or phrases; else ""."""
    count = count_characters(text, more)
    return f"text: there are {count} characters to read, at most {MAX_CHARACTERS} are" if count > MAX_CHARACTERS else ""


def padded(rows: Iterable[Sequence[str | bytes]]) -> list[list[str | bytes]]:
    """Pads lists of texts to one length, with "" at the end."""
    rows = list(rows)
    most = max(map(len, rows), default=0)
    return [[*row, *[""] * (most - len(row))] for row in rows]


# --- from what a call is given to its rows ---------------------------------------------------------------------------


def for_each(values: Any, alone: bool, count: int, name: str, convert: Callable = lambda value: value) -> list:
    """Converts `values`, one for each of `count` texts; with `alone` it is a single one, converted once, for all texts.

    Raises:
        ValueError: there are not `count` values.
    """
    if alone:
        return [convert(values)] * count
    if len(values) != count:
        raise ValueError(f"got {len(values)} {name} for {count} texts; give one for each text, or one for all")
    return [convert(value) for value in values]


def requests_of(asked: Mapping[str, Any], takes: Takes, src: str | os.PathLike) -> list[Request]:
    """Builds a request for each row of a call; a single text goes with every image, a single image with every text.

    Args:
        asked: images, text, regions, boxes, choices and phrases, as `tfvl.lite.Runner` takes them; None: not given.
        takes: the inputs that the model takes.
        src: the model's name in errors.

    Raises:
        ValueError: the model takes other inputs, or the numbers of texts, visuals, choices or phrases do not match.
    """
    visual = takes.visual
    needed = {"text", visual, *(name for name in takes.reads if name in TEXTS)}
    possible = needed | ({"boxes"} & set(takes.reads))
    given = {name for name, value in asked.items() if value is not None}
    for name in sorted(given - possible):
        raise ValueError(f"{src} takes {' and '.join(sorted(possible))}, not {name}")
    for name in sorted(needed - given):
        raise ValueError(f"{src} takes {' and '.join(sorted(possible))}; {name} is missing")
    texts = listed_texts(asked["text"])
    shown = listed(asked[visual], takes.images or 1, ARRAY_AXES[visual])
    for number, row in enumerate(shown):
        if problem := wrong_number(row, number, takes.images or 1, src):
            raise ValueError(problem)
    count = max(len(texts), len(shown))
    if not (texts and shown) or {len(texts), len(shown)} - {1, count}:
        raise ValueError(
            f"got {len(texts)} texts and {len(shown)} {visual}; give as many of one as of the other, or one of either"
        )
    boxes = asked.get("boxes")
    boxes = [boxes] if getattr(boxes, "ndim", None) == 2 else boxes
    if boxes is not None and len(boxes) != len(shown):
        raise ValueError(f"got {len(boxes)} arrays of boxes for {len(shown)} regions; give one for each")
    if visual == "regions":
        shown = [
            [as_regions(item, None if boxes is None else boxes[number], f"regions[{number}]") for item in row]
            for number, row in enumerate(shown)
        ]
    more = {name: lists_of_texts(asked[name], name, count) for name in needed & set(TEXTS)}
    return [
        Request(
            checked_text(texts[number % len(texts)], number),
            shown[number % len(shown)],
            **{name: rows[number] for name, rows in more.items()},
        )
        for number in range(count)
    ]


def listed(values: Any, images: int, axes: int) -> list[list]:
    """Lists the images (or regions of images) of each row, of which a model takes `images` with a text.

    An array of more than `axes` axes holds several. The rows may have other numbers of images, see `wrong_number`.
    """
    many = isinstance(values, (list, tuple)) or getattr(values, "ndim", 0) > axes + (images > 1)
    rows = list(values) if many else [values]
    if images > 1 and rows and is_single(rows[0], axes):
        rows = [rows]
    return [[row] if is_single(row, axes if images > 1 else None) else list(row) for row in rows]


def is_single(value: Any, axes: int | None) -> bool:
    """Returns whether a value is no list, and no array of more than `axes` axes (None: of any number of them)."""
    return not isinstance(value, (list, tuple)) and (axes is None or getattr(value, "ndim", 0) <= axes)


def wrong_number(row: list, number: int, images: int, src: str | os.PathLike) -> str:
    """Returns a sentence if row `number` has more or fewer images than the `images` that `src` takes; else ""."""
    return "" if len(row) == images else f"row {number} has {len(row)} images, but {src} takes {images} with a text"


def is_whole_number(value: Any) -> bool:
    """Returns whether a value is a whole number, also one of NumPy; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_one(values: Any, images: int, axes: int) -> bool:
    """Returns whether `values` belong to one text: no list, or, if a text has several images, no list of lists."""
    if images > 1:
        values = values[0] if isinstance(values, (list, tuple)) and values else values
    return not isinstance(values, (list, tuple)) and getattr(values, "ndim", 0) <= axes


def listed_texts(text: Any) -> list:
    try:
        return [text] if isinstance(text, (str, bytes)) else list(text)
    except TypeError:
        raise ValueError(f"text is {text!r:.40}, expected a text, or a list of them") from None


def checked_text(text: Any, number: int) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"text[{number}] is {text!r:.40}, expected a text that is not empty")
    return text


def lists_of_texts(values: Any, name: str, count: int) -> list[list[str]]:
    """Returns a list of choices or phrases for each of `count` texts; a single list is for all texts."""
    rows = [values] if all(isinstance(value, str) for value in values) else list(values)
    if len(rows) not in (1, count) or not all(isinstance(text, str) and text.strip() for row in rows for text in row):
        raise ValueError(f"{name} need one list of texts for each text, none of them empty")
    for number, row in enumerate(rows):
        if not row:
            raise ValueError(f"{name}[{number}]: there are none")
    return [list(rows[number % len(rows)]) for number in range(count)]


def as_regions(item: Any, boxes: Any = None, where: str = "") -> Regions:
    """Converts the regions of one image, given in any form, to `Regions`.

    Args:
        item: `Regions`, an array (R, size), a dict with `features`, or the path of an `.npz` or `.npy` file.
        boxes: the boxes, (R, 4), of an array or a dict.
        where: the beginning of an error's message.

    Raises:
        ValueError: they cannot be used; the message begins with `where`.
    """
    try:
        if isinstance(item, Regions):
            return item
        if isinstance(item, (str, os.PathLike)):
            from tfvl.preprocessing.regions.reading import read_one

            return read_one(item)
        if isinstance(item, Mapping):
            if "features" not in item:
                raise ValueError(f"the dict has {', '.join(map(str, item)) or 'no keys'}, but no features")
            item, boxes = item["features"], item.get("boxes") if boxes is None else boxes
        return Regions(np.asarray(item, np.float32), None if boxes is None else np.asarray(boxes, np.float32))
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None

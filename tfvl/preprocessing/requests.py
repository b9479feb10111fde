"""A request: a text with images or regions, and maybe choices or phrases; and rows of requests as a signature's arrays.

NumPy only, for clients that ask without TensorFlow.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tfvl.preprocessing.regions.regions import Regions, pad_regions

READ = ("image", "regions", "boxes", "choices", "phrases")  # what models take beside the text, as signatures call it
TEXTS = READ[3:]
SPEC_AXES = {"image": 1, "regions": 3}  # of a signature's input, where one image goes with a text
ARRAY_AXES = {"images": 3, "regions": 2}  # of an array that is one image, or its regions

# What an exported model reads of a row at most, wherever it runs; more of anything is a status of the row.
MAX_CHARACTERS = 2**18  # of its texts; they are read in a quarter of a second
MAX_ITEMS = {"regions": 1024, "choices": 64, "phrases": 128}
MAX_CHOSEN_REGIONS = 4096  # choices times regions: the model sees all regions with each choice


@dataclass(frozen=True)
class Request:
    """One row of what a model is asked.

    Attributes:
        text: the question, sentence or caption.
        visuals: what goes with it: of each image the encoded file, or its `Regions`. The runner of a `.tflite` file
            takes images in other forms too.
        choices, phrases: more texts, for heads that take them.
        names: what errors call each of the visuals; "image 1", … without.
    """

    text: Any  # str, or bytes where a server asks
    visuals: Sequence = ()
    choices: Sequence[Any] = ()
    phrases: Sequence[Any] = ()
    names: Sequence[str] = ()

    def __post_init__(self):
        numbered = [f"image {number}" for number in range(1, len(self.visuals) + 1)]
        object.__setattr__(self, "names", self.names or numbered)


@dataclass(frozen=True)
class Takes:
    """What a model takes with a text.

    Attributes:
        reads: all that it takes of `READ`; boxes are those of the regions.
        images: how many images, or the regions of how many; None: of one, and the arrays have no axis for it.
    """

    reads: tuple[str, ...]
    images: int | None = None

    @property
    def visual(self) -> str:
        """Whether it sees "images" or "regions"."""
        return "regions" if "regions" in self.reads else "images"

    @classmethod
    def of_signature(cls, inputs: Mapping[str, Any]) -> Self:
        """From the specs of a signature's inputs, each with its `shape`, rows first.

        Raises:
            ValueError: it takes something else.
        """
        if "text" not in inputs or not inputs.keys() <= {"text", *READ}:
            raise ValueError(f"the model takes {', '.join(inputs)}, expected text and of {', '.join(READ)} some")
        shapes = {name: inputs[name].shape for name in SPEC_AXES if name in inputs}
        several = [shape[1] for name, shape in shapes.items() if len(shape) > SPEC_AXES[name]]
        return cls(tuple(name for name in inputs if name != "text"), *several)

    @classmethod
    def all_of(cls, requests: Sequence[Request]) -> Self:
        """All that requests hold, for a model whose signature is not known."""
        visuals = [visual for request in requests for visual in request.visuals]
        reads = [name for name in TEXTS if any(getattr(request, name) for request in requests)]
        if any(isinstance(visual, Regions) for visual in visuals):
            reads += ["regions", *["boxes"] * any(visual.boxes is not None for visual in visuals)]
        elif visuals:
            reads.append("image")
        count = len(requests[0].visuals)
        return cls(tuple(reads), count if count > 1 else None)


def arrays(requests: Sequence[Request], takes: Takes) -> dict[str, np.ndarray]:
    """Requests as the rows of a signature's inputs.

    Args:
        requests: at least one, with visuals of the kind that the model takes.
        takes: what it takes.

    Returns:
        text (N,) strings; image ([N, images]) encoded files, or regions (N, [images,] R, size) and boxes (N, R, 4)
        float32, zeros where an image has fewer regions than another; choices and phrases (N, C), "" where a row has
        fewer than another. Of these, text and what the model takes.

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
    """The regions of N images as arrays (N, R, size), and if wanted their boxes (N, R, 4); errors as `arrays`."""
    if not boxes:
        return {"regions": pad_regions([regions.features for regions in rows])["features"]}
    if all(regions.boxes is None for regions in rows):
        raise ValueError("there are no boxes, and the model needs the box of each region")
    made = pad_regions(rows)
    return {"regions": made["features"], "boxes": made["boxes"]}


def beyond_limits(sizes: Mapping[str, int]) -> str:
    """What is wrong with a row of so many regions, choices and phrases; "" where they are not too many."""
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
    """That are read for a row: a text is read once alone, and once with each of its choices or phrases."""
    return len(text) * (1 + len(more)) + sum(map(len, more))


def padded(rows: Iterable[Sequence[str | bytes]]) -> list[list[str | bytes]]:
    """Lists of texts, "" at the end of those that are shorter than another."""
    rows = list(rows)
    most = max(map(len, rows), default=0)
    return [[*row, *[""] * (most - len(row))] for row in rows]


# --- from what a call is given to its rows ---------------------------------------------------------------------------


def for_each(values: Any, alone: bool, count: int, name: str, convert: Callable = lambda value: value) -> list:
    """A value for each of `count` texts: from as many, or from one `alone` that is for all and is converted once.

    Raises:
        ValueError: there are fewer or more.
    """
    if alone:
        return [convert(values)] * count
    if len(values) != count:
        raise ValueError(f"got {len(values)} {name} for {count} texts; give one for each text, or one for all")
    return [convert(value) for value in values]


def requests_of(asked: Mapping[str, Any], takes: Takes, src: str | os.PathLike) -> list[Request]:
    """The rows of a call: one text goes with every image, one image with every text.

    Args:
        asked: images, text, regions, boxes, choices and phrases, as `tfvl.lite.Runner` takes them; None: not given.
        takes: what the model takes.
        src: what errors call the model.

    Raises:
        ValueError: the model takes something else, or numbers do not match.
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
    """Images, or regions, as a list of `images` for each row; an array of more than `axes` axes holds several."""
    many = isinstance(values, (list, tuple)) or getattr(values, "ndim", 0) > axes + (images > 1)
    rows = list(values) if many else [values]
    if images > 1 and rows and not isinstance(rows[0], (list, tuple)) and getattr(rows[0], "ndim", 0) <= axes:
        rows = [rows]
    rows = [row if images > 1 or isinstance(row, (list, tuple)) else [row] for row in rows]
    for number, row in enumerate(rows):
        if len(row) != images:
            raise ValueError(f"row {number} has {len(row)} images, but the file takes {images} with a text")
    return [list(row) for row in rows]


def is_one(values: Any, images: int, axes: int) -> bool:
    """Whether it is what goes with one text: no list, or for a model that takes several images, no list of lists."""
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
    """A list of choices or phrases for each of `count` texts; one alone is for all."""
    rows = [values] if all(isinstance(value, str) for value in values) else list(values)
    if len(rows) not in (1, count) or not all(isinstance(text, str) and text.strip() for row in rows for text in row):
        raise ValueError(f"{name} need one list of texts for each text, none of them empty")
    for number, row in enumerate(rows):
        if not row:
            raise ValueError(f"{name}[{number}]: there are none")
    return [list(rows[number % len(rows)]) for number in range(count)]


def as_regions(item: Any, boxes: Any = None, where: str = "") -> Regions:
    """The regions of one image: `Regions`, an array (R, size) and maybe one of boxes, a dict, or a file.

    Args:
        item: the regions, or the path of an `.npz` or `.npy` file.
        boxes: of an array.
        where: what an error begins with.

    Raises:
        ValueError: they cannot be used; begins with `where`.
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

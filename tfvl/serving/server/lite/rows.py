"""Turns rows of a request into arguments of `tfvl.lite.Runner`, and its answers into the SavedModel's tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfvl.answers.rows import STRING, Output
from tfvl.preprocessing.image.limits import BASE64_HINT, BASE64_IMAGE
from tfvl.preprocessing.requests import beyond_limits, empty, too_long
from tfvl.serving.client.errors import invalid
from tfvl.serving.server.servable import Tensors

# The formats that an exported graph decodes. Pillow reads more, but requests should not reach all of its decoders.
IMAGE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|BM")
# The inputs of the bare model that are ids, each with the field of config.json that says how many there are.
TABLES = {"input_ids": "vocab_size", "token_type_ids": "type_vocab_size", "visual_token_type_ids": "type_vocab_size"}
_BASE64 = re.compile(BASE64_IMAGE.encode())
MAX_SENTENCE = 500  # characters of a status; the runner's may repeat a whole text
OVERFLOW = "the model's numbers overflow; are the inputs too large?"


class BadRowError(ValueError):
    """Says what is wrong with a row, in the words of the SavedModel."""


@dataclass(frozen=True)
class RowRequest:
    """One row of a request.

    Attributes:
        asked: keywords of `Runner.prepare`, without padding.
        places: for each axis of an output (regions, phrases, …), the indices along it that are not padding.
        widths: for each axis, its size in the request, padding included.
        status: "", or what is wrong with the row.
    """

    asked: dict[str, Any] = field(default_factory=dict)
    places: dict[str | int, np.ndarray] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    status: str = ""


def request(inputs: Tensors, row: int) -> RowRequest:
    """Reads a row of the inputs of `serving_default`."""
    of_row, widths = {name: value[row] for name, value in inputs.items()}, widths_of(inputs)
    try:
        if problem := beyond_limits(widths):
            raise BadRowError(problem)
        asked: dict[str, Any] = {}
        places: dict[str | int, np.ndarray] = {}
        if "image" in of_row:
            asked["images"] = _images(of_row["image"])
        if "regions" in of_row:
            more, places["regions"] = _regions(of_row["regions"], of_row.get("boxes"))
            asked |= more
        asked["text"] = _text("text", of_row["text"])
        if problem := empty(asked["text"]):
            raise BadRowError(problem)
        if "choices" in of_row:  # choices are answered best first, so their places do not matter
            asked["choices"] = [_texts("choices", of_row["choices"])[0]]
        if "phrases" in of_row:
            phrases, places["phrases"] = _texts("phrases", of_row["phrases"])
            asked["phrases"] = [phrases]
        more = [each for texts in (*asked.get("choices", []), *asked.get("phrases", [])) for each in texts]
        if problem := too_long(asked["text"], more):
            raise BadRowError(problem)
    except BadRowError as error:
        return RowRequest(widths=widths, status=str(error))
    return RowRequest(asked, places, widths)


def widths_of(inputs: Tensors) -> dict[str, int]:
    """Returns the sizes of a request's axes."""
    axes = {"regions": -2, "choices": 1, "phrases": 1}
    return {name: inputs[name].shape[axis] for name, axis in axes.items() if name in inputs}


def sentence(error: ValueError) -> str:
    """Returns the status of a row that the runner refused: its sentence, without the number of the row in the call."""
    words = re.sub(r"^(\w+)\[0\]", r"\1", str(error)[:MAX_SENTENCE])
    return re.sub(r"^images\b", "image", words)


def _images(contents: Any) -> Any:
    several = isinstance(contents, np.ndarray)
    files = contents.tolist() if several else [contents]
    for number, file in enumerate(files, start=1):
        if not IMAGE.match(file):
            name = f"image {number}" if several else "image"
            hint = BASE64_HINT if _BASE64.match(file) else ""
            raise BadRowError(f"{name}: not a JPEG, PNG, GIF or BMP ({len(file)} bytes){hint}")
    return [files] if several else files[0]


def _regions(features: np.ndarray, boxes: np.ndarray | None) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the regions of an image, or of each image of a pair, that are not padding, and their indices."""
    present = (features != 0).any(axis=-1)  # ([images,] regions)
    if not present.any(axis=-1).all():
        name = f"regions[{int(np.argmin(present.any(axis=-1)))}]" if features.ndim == 3 else "regions"
        raise BadRowError(f"{name}: there are none, or all of their features are 0")
    if features.ndim == 3:
        return {"regions": [[each[real] for each, real in zip(features, present, strict=True)]]}, np.array([], int)
    asked = {"regions": [features[present]]}
    if boxes is not None:
        if len(boxes) != len(features):
            raise BadRowError(f"boxes: {len(boxes)} of them for {len(features)} regions")
        asked["boxes"] = [boxes[present]]
    return asked, np.flatnonzero(present)


def _texts(name: str, values: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Returns the texts that are not blank, and their indices."""
    texts = [_text(f"{name}[{number}]", value) for number, value in enumerate(values)]
    places = np.array([number for number, text in enumerate(texts) if text.strip()], int)
    if not len(places):
        raise BadRowError(f"{name}: there are none, or all of them are empty")
    return [texts[place] for place in places], places


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadRowError(f"{name}: it is not valid UTF-8") from None


def check_ids(inputs: Tensors, config: Mapping[str, Any]) -> None:
    """Raises RequestError for ids beyond their table. TFLite would refuse them too, but keeps its errors in memory."""
    for name in inputs.keys() & TABLES.keys():
        ids, count = inputs[name], config.get(TABLES[name])
        if count and ids.size and not 0 <= ids.min() <= ids.max() < count:
            raise invalid(f"{name} holds {ids.min()} to {ids.max()}, expected 0 to {count - 1}")


@dataclass(frozen=True)
class Layout:
    """Lays the answers to a row out in tensors.

    Attributes:
        outputs: the outputs of `serving_default`, by name.
        sizes: the result of `signatures.axis_sizes`.
    """

    outputs: Mapping[str, Output]
    sizes: Mapping[str, int]

    def row(self, said: Mapping[str, Any] | None, request: RowRequest, status: str) -> dict[str, np.ndarray]:
        """Returns a row as tensors (1, …): `said`, the runner's answer, or blanks where it is None; and the status."""
        if said is not None and not all(np.isfinite(value).all() for value in said.values() if _is_float(value)):
            said, status = None, OVERFLOW
        found = {}
        for name, output in self.outputs.items():
            value = status if name == "status" else None if said is None else said[name]
            found[name] = self._placed(output, value, request)[None]
        return found

    def _placed(self, output: Output, value: Any, request: RowRequest) -> np.ndarray:
        """Returns a value as an array, with blanks where the request has padding, and everywhere if it is None."""
        given = _array(value, output)
        own = given.shape if given.size else [0] * len(output.axes)
        if output.places_of and given.size:
            given = request.places[output.places_of][given]
        widths = [self._width(axis, size, request) for axis, size in zip(output.axes, own, strict=True)]
        placed = np.full(widths, output.blank, _dtype(output))
        if given.size:
            places = [request.places.get(axis, np.arange(size)) for axis, size in zip(output.axes, own, strict=True)]
            placed[np.ix_(*places) if places else ...] = given
        return placed

    def _width(self, axis: str | int, own: int, request: RowRequest) -> int:
        if isinstance(axis, int):
            return axis
        if axis == "choices":  # the answer has as many as were asked for, if the row has so many
            return min(self.sizes["top_k"], request.widths["choices"])
        if axis == "masks":
            return max(own, 1)
        return {**self.sizes, **request.widths}.get(axis, own)


def _array(value: Any, output: Output) -> np.ndarray:
    if value is None:
        return np.full([0] * len(output.axes), output.blank, _dtype(output))
    array = np.array(value, _dtype(output))
    return np.vectorize(str.encode, otypes=[object])(array) if output.dtype == STRING and array.size else array


def _dtype(output: Output) -> str:
    """Returns the dtype in which NumPy holds an output."""
    return "object" if output.dtype == STRING else output.dtype


def _is_float(value: Any) -> bool:
    return np.asarray(value).dtype.kind == "f"

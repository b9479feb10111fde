"""The sizes of the tensors of a `.tflite` file: fixed ones, which run fastest, or any."""

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tfvl.answers.rows import PAIR
from tfvl.export.inputs import Inputs, head_of_model
from tfvl.export.texts import max_length
from tfvl.files.whole import refuse_to_overwrite
from tfvl.lite.file import MAX_ELEMENTS

MASK = "pixel_mask"
MAX_SIDE = 2**14  # of an image, in pixels
TEXT_LENGTH, REGIONS, CHOICES, PHRASES = 40, 36, 4, 8


@dataclass(frozen=True)
class Sizes:
    """The sizes of a batch of requests.

    Attributes:
        batch: number of rows.
        text_length: number of tokens of a text, special ones included.
        height, width: size of an image, in pixels.
        regions: number of regions of a row (of both images together if a row has two).
        choices, phrases: numbers of choices and phrases of a row.
    """

    batch: int
    text_length: int
    height: int
    width: int
    regions: int
    choices: int
    phrases: int


def checked_path(path: str | Path, overwrite: bool) -> Path:
    """Returns the absolute path, after making its directory if there is none yet.

    Raises:
        OSError: the directory cannot be made or written.
        ValueError: the name does not end in .tflite.
        FileExistsError: there is a directory of that name, or a file and `overwrite` is false.
    """
    path = Path(os.path.abspath(path))
    if path.suffix != ".tflite":
        raise ValueError(f"{path} does not end in .tflite; name the file so")
    refuse_to_overwrite(path, overwrite, "file")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def sizes_of(model, processor, batch, text_length, image_size, regions, choices, phrases) -> Sizes:
    """Returns the sizes that an export asks for, after checking them.

    Raises:
        ValueError: a size is not possible; the message names it and what the model can do.
    """
    config = model.config
    limit = max_length(processor, config)
    text_length = min(TEXT_LENGTH, limit) if text_length is None else text_length
    given = {"batch": batch, "text_length": text_length, "regions": regions, "choices": choices, "phrases": phrases}
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}, expected a whole number from 1 on")
    if not 3 <= text_length <= limit:
        raise ValueError(f"text_length is {text_length}, expected 3 to {limit}, the positions of the model")
    height = width = 1
    if processor.sees == "images":
        height, width = sides(image_size, config.image_size)
        for side, patch in zip((height, width), config.patch_shape, strict=True):
            if side < patch or side % patch or side > MAX_SIDE:
                raise ValueError(
                    f"image_size is {height}x{width}, expected multiples of the patch's {patch} pixels up to {MAX_SIDE}"
                )
    sets = PAIR if head_of_model(model).several else 1
    return Sizes(batch, text_length, height, width, regions * sets, choices, phrases)


def sides(size, default) -> tuple[int, int]:
    """Returns (height, width) for a number, a pair, or None, which stands for the default."""
    size = default if size is None else size
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise ValueError(f"image_size is {size!r}, expected a number of pixels or (height, width)")
    return pair


def fixed(inputs: Inputs, sizes: Sizes | None, pixel_mask: bool) -> dict[str, tf.TensorSpec]:
    """Returns the specs of the model's inputs with these sizes, or with unknown ones if `sizes` is None.

    Raises:
        ValueError: an input would have more numbers than `tfvl.lite` reads.
    """
    specs = {}
    for name, (dtype, axes) in inputs.axes.items():
        if name == MASK and not pixel_mask:
            continue
        shape = [axis if isinstance(axis, int) else sizes and getattr(sizes, axis) for axis in ("batch", *axes)]
        if math.prod(size or 1 for size in shape) > MAX_ELEMENTS:
            raise ValueError(
                f"{name} would have {' × '.join(map(str, shape))} numbers, at most {MAX_ELEMENTS} are possible; choose "
                "smaller sizes"
            )
        specs[name] = tf.TensorSpec(shape, dtype, name)
    return specs

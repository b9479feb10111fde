"""Anything in Python that shows a picture, to RGB levels: encoded bytes, files, Pillow images, arrays."""

import os
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tfvl.files.reading import read_file
from tfvl.preprocessing.image.limits import MAX_FILE_BYTES
from tfvl.preprocessing.image.pillow import decode, rgb

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"


class Levels(NamedTuple):
    """An image as levels from 0 to 255, (height, width, 3) uint8, and the floats from 0 to 1 they came from, if any."""

    levels: np.ndarray
    shares: np.ndarray | None = None


def to_levels(image: Any, max_pixels: int, input_data_format: str | None = None) -> Levels:
    """Turn one image into levels.

    Args:
        image: encoded bytes; a path (str or os.PathLike); a `PIL.Image.Image`; or an array (H, W), (H, W, C) or
            (C, H, W) of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels. Alpha is dropped, as
            `Image.convert("RGB")` does. Of 16-bit samples the high byte is kept. Floats are levels from 0 to 255 if
            all are whole numbers, else shares from 0 to 1. EXIF orientation is not applied.
        max_pixels: an image with more is refused before it is decoded. Of formats other than JPEG, PNG, GIF and BMP
            the memory that decoding takes is bounded too, see `pillow`.
        input_data_format: "channels_first" or "channels_last" for arrays; None infers it from the shape.

    Raises:
        ValueError: the image cannot be read; the message says why.
    """
    if isinstance(image, (str, os.PathLike)):
        try:
            contents = read_file(image, MAX_FILE_BYTES)
        except OSError as error:
            raise ValueError(f"the file {os.fspath(image)!r} cannot be read: {error.strerror}") from error
        try:
            return Levels(decode(contents, max_pixels))
        except ValueError as error:
            raise ValueError(f"{os.fspath(image)}: {error}") from error
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Levels(decode(bytes(image), max_pixels))
    if isinstance(image, Image.Image):
        return Levels(rgb(image))
    if isinstance(image, np.ndarray) or hasattr(image, "__array__"):
        return _array_levels(np.asarray(image), input_data_format)
    raise ValueError(f"{type(image).__name__} is not an image; give bytes, a path, a PIL image or an array")


def _array_levels(array: np.ndarray, input_data_format: str | None) -> Levels:
    array = _three_channels(array, input_data_format)
    if array.dtype == np.uint8 or array.size == 0:
        return Levels(array.astype(np.uint8))
    low, high = array.min(), array.max()
    if array.dtype == np.uint16 and high > 255:
        return Levels((array >> 8).astype(np.uint8))
    with np.errstate(invalid="ignore"):
        whole = np.allclose(array, array.astype(np.int64))
    if whole and low >= 0 and high <= 255:
        return Levels(array.astype(np.uint8))
    if not whole and low >= 0 and high <= 1:
        levels = (array.astype(np.float64) * 255).astype(np.float32).astype(np.uint8)
        return Levels(levels, shares=array)
    raise ValueError(
        f"{array.dtype} values from {low} to {high}; levels are whole numbers from 0 to 255, shares are from 0 to 1"
    )


def _three_channels(array: np.ndarray, input_data_format: str | None) -> np.ndarray:
    """Any layout to (height, width, 3)."""
    if input_data_format not in (None, CHANNELS_FIRST, CHANNELS_LAST):
        raise ValueError(f"input_data_format={input_data_format!r}; use {CHANNELS_FIRST!r} or {CHANNELS_LAST!r}")
    if array.dtype.kind not in "uifb":
        raise ValueError(f"an array of {array.dtype} is not an image; give integers or floats")
    if array.ndim == 2:
        array = array[:, :, None]
        input_data_format = CHANNELS_LAST
    if array.ndim != 3:
        raise ValueError(f"an array of shape {array.shape} is not an image; give (H, W), (H, W, C) or (C, H, W)")
    if input_data_format is None:
        # Three leading planes are channels, as upstream has it; else a short last axis is more likely to be.
        first = array.shape[0] == 3 or array.shape[2] not in (1, 2, 3, 4)
        input_data_format = CHANNELS_FIRST if first else CHANNELS_LAST
    if input_data_format == CHANNELS_FIRST:
        array = np.moveaxis(array, 0, -1)
    channels = array.shape[2]
    if channels not in (1, 2, 3, 4):
        raise ValueError(f"an array with {channels} channels is not an image; give 1, 2, 3 or 4 channels")
    return np.repeat(array[:, :, :1], 3, axis=2) if channels < 3 else array[:, :, :3]

"""Anything in Python that shows a picture, to RGB levels: encoded bytes, files, Pillow images, arrays."""

import functools
import io
import os
import warnings
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

# Pillow also opens formats that run another program (EPS); these are the ones that hold pictures.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "TGA")
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
        max_pixels: a larger file is refused before it is decoded.
        input_data_format: "channels_first" or "channels_last" for arrays; None infers it from the shape.

    Raises:
        ValueError: the image cannot be read; the message says why.
    """
    if isinstance(image, (str, os.PathLike)):
        try:
            with open(image, "rb") as file:
                image = file.read()
        except OSError as error:
            raise ValueError(f"the file {os.fspath(image)!r} cannot be read: {error.strerror}") from error
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Levels(_decode(bytes(image), max_pixels))
    if isinstance(image, Image.Image):
        return Levels(_rgb(image))
    if isinstance(image, np.ndarray) or hasattr(image, "__array__"):
        return _array_levels(np.asarray(image), input_data_format)
    raise ValueError(f"{type(image).__name__} is not an image; give bytes, a path, a PIL image or an array")


def _decode(contents: bytes, max_pixels: int) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            image = Image.open(io.BytesIO(contents), formats=_formats())
        width, height = image.size
        if width * height <= max_pixels:
            return _rgb(image)
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"not an image of a known format ({len(contents)} bytes)") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"too many pixels ({error})") from error
    except Exception as error:  # Pillow's readers raise whatever a corrupt file provokes
        raise ValueError(f"{len(contents)} bytes that cannot be decoded: {error}") from error
    raise ValueError(f"{height} x {width} pixels is more than max_pixels={max_pixels}")


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that the installed Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):  # Pillow would clip at 255
        levels = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(levels[:, :, None], 3, axis=2)
    return np.array(image.convert("RGB"))


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

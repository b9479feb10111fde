"""Converts images of any kind (encoded bytes, files, Pillow images, arrays) to RGB levels."""

import functools
import io
import os
import warnings
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tfvl.files.address import fetch, is_address
from tfvl.files.reading import read_file
from tfvl.preprocessing.image.limits import MAX_FILE_BYTES
from tfvl.preprocessing.image.pillow import DROPPED, KEPT, ON_WHITE, decode, laid_on_white, rgb

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"


class Levels(NamedTuple):
    """An image as levels from 0 to 255, (height, width, 3) uint8, and as the floats that it was given in, if any.

    `levels` is None if the floats are neither levels nor shares from 0 to 1.
    """

    levels: np.ndarray | None
    floats: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return (self.floats if self.levels is None else self.levels).shape[:2]


def to_levels(
    image: Any,
    max_pixels: int,
    input_data_format: str | None = None,
    *,
    on_white: bool = False,
    any_floats: bool = False,
) -> Levels:
    """Converts one image to levels.

    Args:
        image: encoded bytes; a path (str or os.PathLike), or an `http(s)` address, which is fetched (see
            `tfvl.files.address`); a `PIL.Image.Image`; or an array (H, W), (H, W, C) or (C, H, W) of 1 (grey), 2 (grey,
            alpha), 3 (RGB) or 4 (RGBA) channels. Of 16-bit samples the high byte is kept. Floats are levels from 0 to
            255 if all are whole numbers, else shares from 0 to 1. EXIF orientation is not applied.
        max_pixels: an image with more is refused before it is decoded. Of formats other than JPEG, PNG, GIF and BMP
            the memory that decoding takes is bounded too, see `pillow`.
        input_data_format: "channels_first" or "channels_last" for arrays; None infers it from the shape.
        on_white: lay transparent images on white; else alpha is dropped, as `Image.convert("RGB")` does.
        any_floats: take floats of any size as they are, without levels.

    Raises:
        ValueError: the image cannot be read; the message says why.
    """
    alpha = ON_WHITE if on_white else DROPPED
    if isinstance(image, (str, os.PathLike)):
        try:
            contents = read_image(image)
        except OSError as error:
            raise ValueError(f"the file {os.fspath(image)!r} cannot be read: {error.strerror}") from error
        try:
            return Levels(decode(contents, max_pixels, alpha))
        except ValueError as error:
            raise ValueError(f"{os.fspath(image)}: {error}") from error
    if isinstance(image, (bytes, bytearray, memoryview)):
        return Levels(decode(bytes(image), max_pixels, alpha))
    if isinstance(image, Image.Image):
        return Levels(rgb(image, alpha))
    if isinstance(image, np.ndarray) or hasattr(image, "__array__"):
        return _array_levels(_channels_last(np.asarray(image), input_data_format), on_white, any_floats)
    raise ValueError(f"{type(image).__name__} is not an image; give bytes, a path, a PIL image or an array")


def read_image(source: str | os.PathLike) -> bytes:
    """Reads an image file, or fetches one from an `http(s)` address; errors are those of `read_file` and `fetch`."""
    return fetch(str(source)) if is_address(source) else read_file(source, MAX_FILE_BYTES)


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        "an image holds floats from 0 to 1, and do_rescale=True divides them by 255 once more, as upstream does, so "
        "that the model sees black; give do_rescale=False for such images, or levels from 0 to 255.",
        stacklevel=3,
    )


def warn_of_shares(shares: np.ndarray) -> None:
    """Warns, once in a process, of floats from 0 to 1 that are going to be rescaled, which upstream does in silence."""
    if shares.size and shares.max() <= 1:
        _warn_once()


def as_png(contents: bytes, max_pixels: int) -> bytes:
    """Encodes an encoded image again, as a PNG of the same levels and transparency; errors are those of `to_levels`."""
    return encode_png(decode(contents, max_pixels, KEPT))


def encode_png(levels: np.ndarray, **options: int) -> bytes:
    """Encodes an image, uint8 (height, width, channels), as a PNG; `options` are Pillow's, such as `compress_level`."""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG", **options)
    return file.getvalue()


def _array_levels(array: np.ndarray, on_white: bool, any_floats: bool) -> Levels:
    """Converts an array (height, width, channels) to levels of 3 channels."""
    colours, alpha = _split(array)
    if alpha is None or not on_white:
        return _as_levels(colours, any_floats)
    if array.dtype.kind != "f" or _is_whole(array):
        colours, alpha = (part.astype(np.int32) for part in _split(_as_levels(array).levels))
        return Levels(laid_on_white(colours, alpha).astype(np.uint8))
    if array.size and not 0 <= array.min() <= array.max() <= 1:
        raise ValueError(
            f"transparent floats from {array.min()} to {array.max()}; they are laid on white from 0 to 1 only"
        )
    return _as_levels((alpha * colours + (1 - alpha)).astype(array.dtype))


def _as_levels(array: np.ndarray, any_floats: bool = False) -> Levels:
    """Converts an array to levels of as many channels."""
    if array.dtype == np.uint8 or array.size == 0:
        return Levels(array.astype(np.uint8))
    low, high = array.min(), array.max()
    if array.dtype == np.uint16 and high > 255:
        return Levels((array >> 8).astype(np.uint8))
    whole = _is_whole(array)
    if whole and low >= 0 and high <= 255:
        return Levels(array.astype(np.uint8))
    if not whole and low >= 0 and high <= 1:
        levels = (array.astype(np.float64) * 255).astype(np.float32).astype(np.uint8)
        return Levels(levels, floats=array)
    if any_floats and array.dtype.kind == "f" and np.isfinite(array).all():
        return Levels(None, floats=array)
    raise ValueError(
        f"{array.dtype} values from {low} to {high}; levels are whole numbers from 0 to 255, shares are from 0 to 1 "
        "(other floats are taken with do_resize=False)"
    )


def _is_whole(array: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):
        return np.allclose(array, array.astype(np.int64))


def _channels_last(array: np.ndarray, input_data_format: str | None) -> np.ndarray:
    """Brings an array of any layout to (height, width, channels), with 1 to 4 channels."""
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
        # A first axis of 3 is taken for the channels, as upstream does; else a last axis of 1 to 4 is.
        first = array.shape[0] == 3 or array.shape[2] not in (1, 2, 3, 4)
        input_data_format = CHANNELS_FIRST if first else CHANNELS_LAST
    if input_data_format == CHANNELS_FIRST:
        array = np.moveaxis(array, 0, -1)
    channels = array.shape[2]
    if channels not in (1, 2, 3, 4):
        raise ValueError(f"an array with {channels} channels is not an image; give 1, 2, 3 or 4 channels")
    return array


def _split(array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Splits 1 to 4 channels into colours (height, width, 3) and alpha (height, width, 1), None if there is none."""
    channels = array.shape[2]
    colours = np.repeat(array[:, :, :1], 3, axis=2) if channels < 3 else array[:, :, :3]
    return colours, array[:, :, -1:] if channels in (2, 4) else None

"""Encoded images by Pillow: files of the common formats here, all others in a process of their own (`files.isolated`).

The decoders of the others take many times an image's size, do not tell that size before they decode, or go on for as
long as a file wishes.
"""

import functools
import io
import warnings

import numpy as np
from PIL import Image

from tfvl.files.isolated import Isolated
from tfvl.preprocessing.image.limits import CHECKS, check_size

COMMON = ("JPEG", "PNG", "GIF", "BMP")
# Pillow also opens formats that run another program (EPS); these are the ones that hold pictures.
OTHERS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO", "TGA")
SECONDS = 8  # of processor time for an image of the others
MEMORY_BYTES = 3 << 28  # 40 million pixels of WebP
ROWS_AT_ONCE = 256
DROPPED, ON_WHITE, KEPT = "dropped", "on white", "kept"  # what becomes of transparency
_BMP_HEADER_BYTES, _UNCOMPRESSED = 40, 0


def decode(contents: bytes, max_pixels: int, alpha: str = DROPPED) -> np.ndarray:
    """An image file as levels (height, width, 3) uint8; arguments beside the first two as `rgb`.

    Raises:
        ValueError: it is no image, has more than `max_pixels`, asks for more than `limits` allows, or is damaged.
    """
    check_size(len(contents))
    check = next((check for beginning, check in CHECKS.items() if contents.startswith(beginning)), None)
    if check or (contents.startswith(b"BM") and _is_plain_bmp(contents)):
        if check:
            check(contents)
        try:
            return opened(contents, max_pixels, COMMON, alpha)
        except MemoryError:
            raise ValueError(f"{len(contents)} bytes that cannot be decoded: there is too little memory") from None
    try:
        image = Isolated(Decoded, max_pixels, alpha, content=contents, seconds=SECONDS, memory=MEMORY_BYTES)
    except OSError as error:
        raise ValueError(
            f"{len(contents)} bytes that cannot be decoded: no process for it ({error.strerror})"
        ) from None
    image.close()
    return image.opening[1]["levels"]


class Decoded:
    """An image of any format; made in a process of its own."""

    def __init__(self, max_pixels: int, alpha: str, contents: memoryview):
        self.opening = None, {"levels": opened(bytes(contents), max_pixels, OTHERS, alpha)}


def _is_plain_bmp(contents: bytes) -> bool:
    """Whether it is what most programs write; Pillow decodes runs in Python, pixel by pixel."""
    return (
        int.from_bytes(contents[14:18], "little") >= _BMP_HEADER_BYTES
        and int.from_bytes(contents[30:34], "little") == _UNCOMPRESSED
    )


def opened(contents: bytes, max_pixels: int, formats: tuple[str, ...], alpha: str = DROPPED) -> np.ndarray:
    """An image file of one of the formats as levels; arguments and errors as `decode`, and MemoryError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            image = Image.open(io.BytesIO(contents), formats=available(formats))
        width, height = image.size
        if width * height <= max_pixels:
            return rgb(image, alpha)
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"not an image of a known format ({len(contents)} bytes)") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"too many pixels ({error})") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a corrupt file provokes
        if "out of memory" in str(error):  # of a decoder
            raise MemoryError from error
        raise ValueError(f"{len(contents)} bytes that cannot be decoded: {str(error)[:200]}") from error
    raise ValueError(f"{height} x {width} pixels is more than max_pixels={max_pixels}")


@functools.cache
def available(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the formats that the installed Pillow was built with."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


def laid_on_white(levels, alpha):
    """Levels 0 to 255 over white, as Pillow's `alpha_composite`: whole numbers, NumPy's or TensorFlow's, int32."""
    return (levels * alpha + 255 * (255 - alpha) + 127) // 255


def rgb(image: Image.Image, alpha: str = DROPPED) -> np.ndarray:
    """An image as levels (height, width, 3) uint8; of 16 bits the high byte is kept.

    Args:
        image: any image.
        alpha: `DROPPED`; `ON_WHITE`, which lays a transparent image on white; or `KEPT`, which gives (height, width, 4)
            where the image is transparent.
    """
    is_transparent = "A" in image.getbands() or image.info.get("transparency") is not None
    alpha = alpha if is_transparent else DROPPED
    levels = np.empty((image.height, image.width, 4 if alpha == KEPT else 3), np.uint8)
    for top in range(0, image.height, ROWS_AT_ONCE):  # a copy of all rows would be larger than the levels
        rows = image.crop((0, top, image.width, min(top + ROWS_AT_ONCE, image.height)))
        if image.mode.startswith("I;16"):  # Pillow would clip at 255
            levels[top : top + rows.height] = (np.asarray(rows) >> 8).astype(np.uint8)[:, :, None]
        elif alpha == DROPPED:
            levels[top : top + rows.height] = np.asarray(rows.convert("RGB"))
        else:
            rgba = np.asarray(rows.convert("RGBA"))
            if alpha == ON_WHITE:
                rgba = laid_on_white(rgba[:, :, :3].astype(np.int32), rgba[:, :, 3:].astype(np.int32))
            levels[top : top + rows.height] = rgba
    return levels

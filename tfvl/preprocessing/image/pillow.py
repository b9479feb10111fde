"""Decodes image files with Pillow: common formats in this process, all others in a separate one (`files.isolated`).

The decoders of the others take many times an image's size in memory, do not tell that size before they decode, or run
for as long as a file makes them.
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
SECONDS = 8  # of processor time for an image of the other formats
MEMORY_BYTES = 3 << 28  # enough for a WebP image of 40 million pixels
ROWS_AT_ONCE = 256
DROPPED, ON_WHITE, KEPT = "dropped", "on white", "kept"  # what becomes of transparency
_BMP_HEADER_BYTES, _UNCOMPRESSED = 40, 0


def decode(contents: bytes, max_pixels: int, alpha: str = DROPPED) -> np.ndarray:
    """Decodes an image file to levels (height, width, 3) uint8; for `alpha` see `rgb`.

    Raises:
        ValueError: it is no image, has more than `max_pixels`, exceeds one of `limits`, or is damaged.
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
    """Decodes an image of any format when it is constructed, which `Isolated` does in a separate process."""

    def __init__(self, max_pixels: int, alpha: str, contents: memoryview):
        self.opening = None, {"levels": opened(bytes(contents), max_pixels, OTHERS, alpha)}


def _is_plain_bmp(contents: bytes) -> bool:
    """Returns whether a BMP is uncompressed; Pillow decodes run-length encoded ones in Python, pixel by pixel."""
    return (
        int.from_bytes(contents[14:18], "little") >= _BMP_HEADER_BYTES
        and int.from_bytes(contents[30:34], "little") == _UNCOMPRESSED
    )


def opened(contents: bytes, max_pixels: int, formats: tuple[str, ...], alpha: str = DROPPED) -> np.ndarray:
    """Decodes an image file of one of `formats` to levels; other arguments and errors as `decode`, and MemoryError."""
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
        if "out of memory" in str(error):  # as some decoders say in another exception
            raise MemoryError from error
        raise ValueError(f"{len(contents)} bytes that cannot be decoded: {str(error)[:200]}") from error
    raise ValueError(f"{height} x {width} pixels is more than max_pixels={max_pixels}")


@functools.cache
def available(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Returns those of the formats that the installed Pillow was built with."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)


def laid_on_white(levels, alpha):
    """Blends levels with white, as Pillow's `alpha_composite`; all are 0 to 255, int32, in NumPy or TensorFlow."""
    return (levels * alpha + 255 * (255 - alpha) + 127) // 255


def rgb(image: Image.Image, alpha: str = DROPPED) -> np.ndarray:
    """Converts an image to levels (height, width, 3) uint8; of 16-bit samples the high byte is kept.

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

"""The images with which the image processor is tested, and their conversion for upstream's processor."""

import hashlib
import io

import numpy as np
from PIL import Image

from support.paths import DATA, GOLDEN

DIGESTS = GOLDEN / "images.json"


def encode(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(*shape: int, seed: int = 0, dtype=np.uint8) -> np.ndarray:
    """Makes an image of random levels, the hardest to resize to the bit."""
    return np.random.default_rng([seed, *shape]).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def photo(width: int, height: int) -> Image.Image:
    with Image.open(DATA / "astronaut.png") as image:
        return image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)


def transparent(width: int, height: int) -> Image.Image:
    image = photo(width, height).convert("RGBA")
    image.putalpha(Image.fromarray(noise(height, width)))
    return image


def cases() -> dict[str, object]:
    """Returns images by name, as a user gives them: bytes, PIL images and arrays."""
    files = {path.name: path.read_bytes() for path in sorted(DATA.glob("*.*")) if path.suffix in (".jpg", ".png")}
    sizes = {
        "upscaled": (40, 50),
        "upscaled a lot": (4, 3),
        "downscaled": (600, 900),
        "downscaled a lot": (1500, 1200),
        "kept": (384, 384),
        "kept height": (384, 608),
        "width kept": (512, 384),
        "one pixel": (1, 1),
        "two pixels": (1, 2),
        "odd": (333, 457),
        "odd and small": (7, 9),
        "wide": (60, 700),
        "tall": (700, 60),
        "wide and thin": (2, 38),
        "tall and thin": (38, 2),
        "vertical first": (1000, 390),
        "horizontal first": (390, 1000),
        "just within the longest edge": (384, 639),
        "past the longest edge": (384, 641),
    }
    arrays = {f"{name} {height}x{width}": noise(height, width, 3) for name, (height, width) in sizes.items()}
    pictures = {
        "grey PIL": photo(91, 140).convert("L"),
        "grey and alpha PIL": transparent(91, 140).convert("LA"),
        "RGBA PIL": transparent(200, 133),
        "palette PIL": photo(200, 133).quantize(64),
        "bilevel PIL": photo(100, 133).convert("1"),
        "CMYK PIL": photo(100, 77).convert("CMYK"),
        "PIL photo": photo(640, 480),
    }
    encoded = {
        "grey PNG": encode(photo(130, 97).convert("L"), "PNG"),
        "RGBA PNG": encode(transparent(130, 97), "PNG"),
        "palette PNG": encode(photo(130, 97).quantize(200), "PNG", transparency=3),
        "GIF": encode(photo(130, 97).quantize(200), "GIF"),
        "BMP": encode(photo(131, 97), "BMP"),
    }
    more = {
        "grey array": noise(77, 51),
        "one-channel array": noise(77, 51, 1),
        "RGBA array": noise(77, 51, 4),
        "channels-first array": noise(3, 77, 51),
        "array of whole floats": noise(77, 51, 3).astype(np.float32),
    }
    return files | arrays | pictures | encoded | more


def for_upstream(image: object) -> object:
    """Converts an image for upstream's processor, which neither decodes bytes nor converts to RGB."""
    if isinstance(image, bytes):
        image = Image.open(io.BytesIO(image))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[0] != 3:
        image = Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image)  # no doubt about its channels
    return image.convert("RGB") if isinstance(image, Image.Image) else image


def digest(values) -> dict[str, object]:
    """Returns the shape of an array and a hash of its bytes."""
    values = np.ascontiguousarray(values)
    return {"shape": list(values.shape), "sha256": hashlib.sha256(values.tobytes()).hexdigest()}

"""The page's pixels, run by Node.js, are those of `tfvl.lite.Runner`, to the bit; and what it refuses."""

import base64
import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from support.paths import TESTS

import tfvl
from tfvl.lite.image import ImageProcessor
from tfvl.preprocessing.image.decode import to_levels

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
SCRIPT = TESTS / "web/pixels.mjs"
OPTIONS = {**tfvl.ViltImageProcessor().to_dict(), "max_pixels": 2**27}
SIZES = [(1, 1), (1, 7), (64, 64), (64, 97), (97, 64), (384, 384), (33, 150), (150, 33), (200, 131), (255, 256)]


def pictures(count: int) -> list[np.ndarray]:
    """Makes images of noise, (height, width, 4) uint8, of odd sizes; noise shows any difference in a filter."""
    rng = np.random.default_rng(5)
    sizes = [*SIZES, *(tuple(rng.integers(1, 255, 2)) for _ in range(count - len(SIZES)))]
    return [rng.integers(0, 256, (*size, 4), np.uint8) for size in sizes]


def in_javascript(asked: list[dict]) -> list:
    lines = "\n".join(map(json.dumps, asked))
    done = subprocess.run(["node", SCRIPT], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def request(picture: np.ndarray, options=OPTIONS, size=(384, 384), *, padded=True, white=False) -> dict:
    height, width = picture.shape[:2]
    rgba = base64.b64encode(picture.tobytes()).decode()
    shape = {"height": height, "width": width, "rgba": rgba}
    return {"options": options, "size": size, "padded": padded, "white": white, **shape}


def expected(picture: np.ndarray, options=OPTIONS, size=(384, 384), padded=True):
    try:
        made = ImageProcessor(options, size, padded)(picture)
    except ValueError as error:
        return str(error)
    return [hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest() for part in made]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"resample": 2, "image_std": (0.2, 0.3, 0.4), "image_mean": (0.1, 0.5, 0.7)},
        {"size": {"shortest_edge": 64}, "size_divisor": 16, "image_mean": (0.94,) * 3, "image_std": (1.0,) * 3},
        {"do_resize": False, "do_normalize": False},
        {"do_rescale": False},
    ],
)
def test_pixels_are_the_runners_to_the_bit(changed):
    options, given = OPTIONS | changed, pictures(30)
    found = in_javascript([request(picture, options) for picture in given])
    wanted = [expected(picture[..., :3], options) for picture in given]
    differing = [(p.shape, f, w) for p, f, w in zip(given, found, wanted, strict=True) if type(w) is list and f != w]
    assert differing == []
    refused = [(type(f), type(w)) for f, w in zip(found, wanted, strict=True)]
    assert all(one is other for one, other in refused)
    assert sum(type(w) is list for w in wanted) > 20


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("size", [(30, 1000), (1000, 30)])
def test_what_is_too_long_and_thin_is_refused_in_the_runners_words(size, padded):
    picture = np.zeros((*size, 4), np.uint8)
    (found,) = in_javascript([request(picture, padded=padded)])
    assert found == expected(picture[..., :3], padded=padded)
    assert found == f"{size[0]} x {size[1]} pixels is too long and thin to resize"


def test_pictures_of_another_size_are_refused_where_nothing_is_padded():
    picture = np.zeros((100, 200, 4), np.uint8)
    (found,) = in_javascript([request(picture, padded=False)])
    assert found == "320 x 608 pixels after resizing, but the file takes 384 x 384"
    assert expected(picture[..., :3], padded=False).startswith(found)


def test_too_many_pixels_are_refused():
    picture = np.zeros((5, 5, 4), np.uint8)
    (found,) = in_javascript([request(picture, OPTIONS | {"max_pixels": 24})])
    assert found == "5 x 5 pixels are more than the 24 that are taken"


def test_transparency_is_laid_on_white_as_in_python():
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 4), np.uint8)
    opaque = to_levels(Image.fromarray(picture), 2**20, on_white=True).levels
    assert in_javascript([request(picture, white=True)]) == [expected(opaque)]

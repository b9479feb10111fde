"""The image processor from Python: against Pillow, against golden hashes of upstream, options and bad input."""

import json
import pathlib
import struct
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.images import DATA, DIGESTS, cases, digest, encode, noise, photo, transparent

from tfvl.errors import CheckpointError
from tfvl.preprocessing.image.decode import _warn_once
from tfvl.preprocessing.image.processor import ViltImageProcessor
from tfvl.preprocessing.image.resize import resize, target_size

CASES = cases()
GOLDEN_HASHES = json.loads(DIGESTS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def processor():
    return ViltImageProcessor()


def resizer(resample):
    signature = [tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32)]
    return tf.function(lambda image, height, width: resize(image, height, width, resample), input_signature=signature)


def check_against_pillow(function, resample, sizes):
    for height, width, new_height, new_width in sizes:
        image = noise(height, width, 3)
        expected = np.asarray(Image.fromarray(image).resize((new_width, new_height), resample))
        actual = function(image, new_height, new_width)
        np.testing.assert_array_equal(actual, expected, f"{height}x{width} to {new_height}x{new_width}")


# --- the resize -------------------------------------------------------------------------------------------------------


def test_bicubic_gives_pillows_pixels_at_200_random_sizes():
    sizes = np.random.default_rng(7).integers(1, 500, [200, 4])
    sizes[::10, 0] = 1
    sizes[1::10, 2] = sizes[1::10, 0]  # an axis that keeps its size
    sizes[2::10, 3] = sizes[2::10, 1]
    check_against_pillow(resizer(3), 3, sizes.tolist())


@pytest.mark.parametrize("resample", [0, 1, 2, 4, 5], ids=["nearest", "lanczos", "bilinear", "box", "hamming"])
def test_other_filters_give_pillows_pixels(resample):
    check_against_pillow(resizer(resample), resample, np.random.default_rng(8).integers(1, 400, [30, 4]).tolist())


def test_long_windows_stay_exact():
    # White, and the widest supports: the largest sums that the float32 products have to hold.
    function = resizer(3)
    for width, new_width in ((6000, 32), (6000, 31), (20000, 64), (60000, 32)):
        image = np.full([2, width, 3], 255, np.uint8)
        image[:, ::7] = 254
        expected = np.asarray(Image.fromarray(image).resize((new_width, 2), 3))
        np.testing.assert_array_equal(function(image, 2, new_width), expected)


def test_a_large_image_in_groups_of_blocks():
    check_against_pillow(resizer(3), 3, [(1500, 2600, 384, 640), (2600, 1500, 640, 384)])


def test_size_rule():
    for size, expected in {
        (480, 640): (384, 512),
        (640, 480): (512, 384),
        (1, 1): (384, 384),
        (384, 641): (352, 608),
        (10, 200): (32, 608),
        (10, 400): (0, 608),
    }.items():
        assert tuple(target_size(*size, 384, 32).numpy()) == expected


# --- golden -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_upstreams_bits(processor, name):
    outputs = processor(CASES[name])
    assert {key: digest(value) for key, value in outputs.items()} == GOLDEN_HASHES["images"][name]


def test_upstreams_bits_of_a_batch(processor):
    outputs = processor(list(CASES.values())[::5])
    assert {key: digest(value) for key, value in outputs.items()} == GOLDEN_HASHES["batch"]
    assert outputs["pixel_values"].dtype == tf.float32
    assert outputs["pixel_mask"].dtype == tf.int32


# --- what an image may be ---------------------------------------------------------------------------------------------


def same(left, right):
    for key in ("pixel_values", "pixel_mask"):
        np.testing.assert_array_equal(left[key], right[key])


def test_all_ways_to_give_one_image_agree(processor):
    path = DATA / "astronaut.png"
    expected = processor(Image.open(path))
    array = np.asarray(Image.open(path).convert("RGB"))
    ways = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), array, array[None], [array], (path,)]
    ways += [
        np.moveaxis(array, -1, 0),
        tf.constant(array),
        tf.constant(path.read_bytes()),
        np.array([path.read_bytes()]),
    ]
    for image in ways:
        same(processor(image), expected)
    same(processor.preprocess(path), expected)


def test_webp_and_tiff_from_python(processor):
    image = Image.open(DATA / "cat.webp")
    same(processor((DATA / "cat.webp").read_bytes()), processor(image.convert("RGB")))
    same(processor(encode(photo(64, 48), "TIFF")), processor(photo(64, 48)))


def test_16_bit_keeps_the_high_byte(processor):
    grey = noise(40, 50, dtype=np.uint16)
    expected = processor((grey >> 8).astype(np.uint8))
    same(processor(grey), expected)
    same(processor(Image.fromarray(grey)), expected)
    same(processor(encode(Image.fromarray(grey), "PNG")), expected)


def test_alpha_is_dropped_as_pillow_does(processor):
    image = transparent(50, 40)
    same(processor(image), processor(image.convert("RGB")))
    same(processor(np.asarray(image)), processor(image.convert("RGB")))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (4, 50, 3), (50, 1, 3), (2, 3, 3)])
def test_small_arrays_are_channels_last(processor, shape):
    options = {} if min(shape[:2]) * 15 > max(shape[:2]) else {"do_resize": False}
    same(processor(noise(*shape), **options), processor(Image.fromarray(noise(*shape)), **options))


def test_input_data_format_decides(processor):
    array = noise(3, 3, 3)
    same(processor(array, input_data_format="channels_last"), processor(Image.fromarray(array)))
    same(processor(array, input_data_format="channels_first"), processor(array))


def test_pairs(processor):
    a, b, c = photo(60, 40), photo(40, 60), photo(50, 50)
    pairs, flat = processor([[a, b], [b, c]]), processor([a, b, b, c])
    height, width = flat["pixel_mask"].shape[1:]
    np.testing.assert_array_equal(pairs["pixel_values"], tf.reshape(flat["pixel_values"], [2, 2, height, width, 3]))
    np.testing.assert_array_equal(pairs["pixel_mask"], tf.reshape(flat["pixel_mask"], [2, 2, height, width]))
    array = noise(2, 2, 40, 50, 3)
    assert processor(array)["pixel_values"].shape[:2] == (2, 2)


def test_padding_is_zero_and_masked(processor):
    outputs = processor([photo(60, 40), photo(40, 60)])
    assert outputs["pixel_values"].shape == (2, 576, 576, 3)
    outside = outputs["pixel_mask"].numpy() == 0
    assert not outputs["pixel_values"].numpy()[outside].any()
    alone = processor(photo(60, 40))["pixel_values"]
    np.testing.assert_array_equal(outputs["pixel_values"][:1, :384, :576], alone)


def test_empty_batch(processor):
    outputs = processor([])
    assert outputs["pixel_values"].shape == (0, 32, 32, 3)
    assert outputs["pixel_mask"].shape == (0, 32, 32)


# --- bad input --------------------------------------------------------------------------------------------------------

PNG = encode(photo(60, 40), "PNG")
JPEG = encode(photo(60, 40), "JPEG")


def png_header(width, height):
    header = b"IHDR" + struct.pack(">2I", width, height) + PNG[24:29]
    return PNG[:12] + header + struct.pack(">I", zlib.crc32(header)) + PNG[33:]


BAD = {
    "empty file": (b"", "not an image of a known format .0 bytes"),
    "text": (b"hello", "not an image of a known format .5 bytes"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "cannot be decoded"),
    "truncated PNG": (PNG[: len(PNG) // 2], "cannot be decoded"),
    "huge PNG": (png_header(50_000, 50_000), "too many pixels .*2500000000 pixels"),
    "large PNG": (png_header(10_000, 10_000), "10000 x 10000 pixels is more than max_pixels=89478485"),
    "too thin": (noise(1, 2000, 3), "1 x 2000 pixels is too long and thin"),
    "no pixels": (noise(5, 5, 3)[:0], "0 x 5 pixels: the image is empty"),
    "five channels": (noise(20, 20, 5), "20 channels"),
    "one axis": (noise(20), "an array of shape"),
    "text array": (np.zeros([4, 4, 3], "M8[s]"), "is not an image"),
    "negative": (noise(20, 20, 3).astype(np.int32) - 300, "int32 values from"),
    "beyond one": (np.linspace(0, 2, 300).reshape(10, 10, 3), "float64 values from 0.0 to 2.0"),
    "not a number": (np.full([4, 4, 3], np.nan), "float64 values from nan"),
    "missing file": (pathlib.Path("no such.jpg"), "'no such.jpg' cannot be read: No such file"),
    "a number": (3, "int is not an image"),
    "nothing": (None, "NoneType is not an image"),
}


@pytest.mark.parametrize(("image", "sentence"), BAD.values(), ids=BAD)
def test_bad_image_names_its_place(processor, image, sentence):
    with pytest.raises(ValueError, match=rf"^images\[1\]: .*({sentence})"):
        processor([photo(40, 40), image])


def test_eps_is_not_opened(processor):
    with pytest.raises(ValueError, match="not an image of a known format"):
        processor(encode(photo(20, 20), "EPS"))


def test_bad_calls(processor):
    with pytest.raises(ValueError, match="need the same number of images"):
        processor([[photo(40, 40)], [photo(40, 40)] * 2])
    with pytest.raises(ValueError, match="do_pad=False needs images of one size"):
        processor([photo(60, 40), photo(40, 60)], do_pad=False)
    with pytest.raises(ValueError, match="do_pad=False needs images of one size"):
        processor(tf.constant([JPEG, encode(photo(40, 60), "JPEG")]), do_pad=False)
    with pytest.raises(ValueError, match=r"images\[1\]: a JPEG of \d+ bytes that cannot be decoded"):
        processor(tf.constant([JPEG, JPEG[:500]]))
    with pytest.raises(ValueError, match="input_data_format='middle'"):
        processor(noise(4, 4, 3), input_data_format="middle")


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"height": 384, "width": 384}},
        {"size": 0},
        {"size": 20},
        {"size": "384"},
        {"size_divisor": 0},
        {"resample": 6},
        {"image_std": 0.0},
        {"image_mean": [float("nan")] * 3},
    ],
    ids=str,
)
def test_impossible_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ViltImageProcessor(**options)


# --- configuration ----------------------------------------------------------------------------------------------------


def test_save_and_load(tmp_path):
    saved = ViltImageProcessor(size=96, size_divisor=16, image_mean=0.25, do_pad=False)
    saved.save_pretrained(tmp_path / "new" / "directory")
    assert ViltImageProcessor.from_pretrained(tmp_path / "new" / "directory").to_dict() == saved.to_dict()
    assert [path.name for path in (tmp_path / "new" / "directory").iterdir()] == ["preprocessor_config.json"]


OLD_CONFIG = {
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ViltFeatureExtractor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 3,
    "size": 384,
    "size_divisor": 32,
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preprocessor_config.json", OLD_CONFIG),
        ("processor_config.json", {"image_processor": OLD_CONFIG | {"size": {"shortest_edge": 384}}}),
    ],
)
def test_old_and_new_spelling(tmp_path, name, content):
    (tmp_path / name).write_text(json.dumps(content))
    assert ViltImageProcessor.from_pretrained(tmp_path).to_dict() == ViltImageProcessor().to_dict()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "preprocessor_config.json is missing"),
        ("{", "cannot be read as JSON"),
        ("[1]", "holds a JSON list, expected an object"),
        ('{"size": -5}', "options cannot be used: size=-5 must be"),
        ('{"size": 1000000}', "from size_divisor=32 to 16384"),
        ('{"image_mean": "grey"}', "options cannot be used: "),
    ],
)
def test_unusable_configuration(tmp_path, content, sentence):
    (tmp_path / "config.json").write_text("{}")
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=sentence):
        ViltImageProcessor.from_pretrained(tmp_path)


def test_floats_from_0_to_1_are_warned_of_once():
    """Upstream rescales them in silence; the numbers stay upstream's."""
    shares = np.linspace(0, 1, 3 * 40 * 40, dtype=np.float32).reshape(40, 40, 3)
    _warn_once.cache_clear()
    with pytest.warns(UserWarning, match="do_rescale=False") as caught:
        dark, _ = [ViltImageProcessor(size=32)([shares])["pixel_values"] for _ in range(2)]
    assert len(caught) == 1
    assert float(tf.reduce_max(dark)) < -0.9  # black, after normalisation
    _warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = ViltImageProcessor(size=32)([shares], do_rescale=False)["pixel_values"]
    assert float(tf.reduce_max(right)) > 0.9

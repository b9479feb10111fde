"""`do_convert_rgb`: transparent images laid on white, the same in Python, in the graph and in the lite runner."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.images import encode, noise

import tfvl
from tfvl.lite.image import ImageProcessor
from tfvl.preprocessing.image import formats
from tfvl.preprocessing.image.decode import as_png, laid_on_white

LEVELS = noise(50, 70, 4)
PALETTE = Image.fromarray(LEVELS[:, :, :3].copy()).quantize(32)
GREY = Image.fromarray(LEVELS[:, :, 0].copy())
FILES = {
    "RGBA": encode(Image.fromarray(LEVELS), "PNG"),
    "LA": encode(Image.merge("LA", [GREY, Image.fromarray(LEVELS[:, :, 1].copy())]), "PNG"),
    "RGB": encode(Image.fromarray(LEVELS[:, :, :3].copy()), "PNG"),
    "RGB with a key": encode(Image.fromarray(LEVELS[:, :, :3] // 128 * 255), "PNG", transparency=(255, 255, 0)),
    "grey with a key": encode(Image.fromarray(LEVELS[:, :, 0] // 64 * 64), "PNG", transparency=64),
    "palette with a colour": encode(PALETTE, "PNG", transparency=5),
    "palette with alphas": encode(PALETTE, "PNG", transparency=noise(32).tobytes()),
    "one bit": encode(GREY.convert("1"), "PNG"),
    "one bit with a key": encode(GREY.convert("1"), "PNG", transparency=255),
    "GIF with a colour": encode(PALETTE, "GIF", transparency=5),
    "GIF": encode(PALETTE, "GIF"),
    "BMP": encode(Image.fromarray(LEVELS), "BMP"),
    "JPEG": encode(Image.fromarray(LEVELS[:, :, :3].copy()), "JPEG"),
}
PROCESSOR = tfvl.ViltImageProcessor(size=64, do_convert_rgb=True)
OFF = {"do_resize": False, "do_rescale": False, "do_normalize": False}


def on_white(contents: bytes) -> np.ndarray:
    """Composes an image on white by Pillow."""
    image = Image.open(io.BytesIO(contents)).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


@pytest.fixture(scope="module")
def read():
    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(lambda contents: formats.read(contents, 10**8, on_white=True), input_signature=signature)


@pytest.fixture(scope="module")
def run():
    signature = [tf.TensorSpec([None], tf.string)]
    return tf.function(PROCESSOR.decode_and_preprocess_rows, input_signature=signature)


@pytest.mark.parametrize("name", FILES)
def test_files(name, read, run):
    contents = FILES[name]
    np.testing.assert_array_equal(PROCESSOR.to_levels(contents).levels, on_white(contents))
    np.testing.assert_array_equal(read(contents)[0], on_white(contents))
    python = PROCESSOR(contents)["pixel_values"][0]
    np.testing.assert_array_equal(run([contents])[0][0], python)
    lite = ImageProcessor({**PROCESSOR.to_dict(), "max_pixels": 10**8}, None, padded=True)
    np.testing.assert_array_equal(lite(contents)[0], python)
    image = Image.open(io.BytesIO(as_png(contents, 10**8)))  # what a client sends keeps transparency
    np.testing.assert_array_equal(on_white(as_png(contents, 10**8)), on_white(contents))
    assert (image.mode == "RGBA") == ("A" in Image.open(io.BytesIO(contents)).getbands() or "with" in name)


def test_without_it_transparency_is_dropped():
    dropped = tfvl.ViltImageProcessor(size=64)(FILES["RGBA"])["pixel_values"]
    np.testing.assert_array_equal(dropped, tfvl.ViltImageProcessor(size=64)(FILES["RGB"])["pixel_values"])
    assert np.abs(dropped - PROCESSOR(FILES["RGBA"])["pixel_values"]).max() > 0.5


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_and_tensors(channels):
    array = LEVELS[:, :, :channels]
    kinds = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
    bands = [Image.fromarray(np.ascontiguousarray(array[:, :, band])) for band in range(channels)]
    expected = PROCESSOR(Image.merge(kinds[channels], bands))["pixel_values"]
    np.testing.assert_array_equal(PROCESSOR(array)["pixel_values"], expected)
    np.testing.assert_array_equal(PROCESSOR(array.astype("int64"))["pixel_values"], expected)
    graph = tf.function(lambda levels: PROCESSOR(levels)["pixel_values"], autograph=False)
    np.testing.assert_array_equal(graph(tf.constant(array)), expected)


def test_shares():
    """Floats from 0 to 1, with alpha from 0 to 1."""
    array = np.full((32, 32, 4), 0.5, "float32")
    array[0, 0] = 0
    levels = PROCESSOR.to_levels(array)
    np.testing.assert_array_equal(levels.floats[0, 0], [1, 1, 1])
    np.testing.assert_array_equal(levels.floats[1, 1], [0.75, 0.75, 0.75])
    with pytest.raises(ValueError, match="laid on white from 0 to 1 only"):
        PROCESSOR(array - 0.25)


def test_every_level_and_alpha_is_pillows():
    level, alpha = (axis.astype("int32") for axis in np.meshgrid(np.arange(256), np.arange(256)))
    image = Image.fromarray(np.stack([level, level, level, alpha], axis=-1).astype("uint8"))
    white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    np.testing.assert_array_equal(laid_on_white(level, alpha), np.asarray(white)[:, :, 0])


def test_floats_of_any_size_where_nothing_is_done():
    image = np.random.default_rng(0).uniform(-1, 1, (64, 32, 3)).astype("float32")
    outputs = tfvl.ViltImageProcessor(**OFF)([image, image[:32]])
    np.testing.assert_array_equal(outputs["pixel_values"][0], image)
    lite = ImageProcessor({**tfvl.ViltImageProcessor(**OFF).to_dict(), "max_pixels": 10**8}, None, padded=True)
    np.testing.assert_array_equal(lite(image)[0], image)
    with pytest.raises(ValueError, match="other floats are taken with do_resize=False"):
        tfvl.ViltImageProcessor()(image)


def test_pad():
    first, second = np.ones((3, 5, 3), "float32"), np.ones((4, 2, 3), "float32")
    outputs = tfvl.ViltImageProcessor().pad([first, second], constant_values=7.0, return_tensors="np")
    assert outputs["pixel_values"].shape == (2, 4, 5, 3)
    np.testing.assert_array_equal(outputs["pixel_mask"].sum(axis=(1, 2)), [15, 8])
    np.testing.assert_array_equal(outputs["pixel_values"][..., 0], np.where(outputs["pixel_mask"], 1, 7))
    assert tfvl.ViltImageProcessor().pad([first], return_pixel_mask=False).keys() == {"pixel_values"}
    for wrong in ([], [first[0]], [first, second[..., :1]]):
        with pytest.raises(ValueError, match="pad takes images"):
            tfvl.ViltImageProcessor().pad(wrong)


@pytest.mark.parametrize("option", ["do_resize", "do_convert_rgb"])
def test_switches_are_true_or_false(option):
    with pytest.raises(ValueError, match=f"{option}='yes' must be true or false"):
        tfvl.ViltImageProcessor(**{option: "yes"})

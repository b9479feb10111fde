"""The image processor against transformers' Pillow-based one: every bit of pixel_values and pixel_mask."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from support.images import cases, for_upstream, noise
from support.reference import transformers
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil, get_resize_output_image_size

from tfvl.preprocessing.image.processor import ViltImageProcessor
from tfvl.preprocessing.image.resize import target_size

pytestmark = pytest.mark.parity

CASES = cases()
OPTIONS = {
    "size 224": {"size": {"shortest_edge": 224}},
    "size_divisor 16": {"size_divisor": 16},
    "bilinear": {"resample": 2},
    "lanczos": {"resample": 1},
    "no resize": {"do_resize": False},
    "no rescale": {"do_rescale": False},
    "rescale_factor": {"rescale_factor": 1 / 127.5},
    "no normalize": {"do_normalize": False},
    "statistics": {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
    "neither": {"do_rescale": False, "do_normalize": False},
}


def check(images: list, upstream_images: list, **options) -> None:
    expected = ViltImageProcessorPil(**options)(upstream_images, return_tensors="np")
    outputs = ViltImageProcessor(**options)(images)
    np.testing.assert_array_equal(outputs["pixel_values"], np.moveaxis(expected["pixel_values"], 1, -1))
    np.testing.assert_array_equal(outputs["pixel_mask"], expected["pixel_mask"])


@pytest.mark.parametrize("name", CASES)
def test_one_image(name):
    check([CASES[name]], [for_upstream(CASES[name])])


def test_a_batch_of_many_sizes():
    images = list(CASES.values())[::4]
    check(images, [for_upstream(image) for image in images])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options(options):
    images = [CASES["PIL photo"], CASES["odd 333x457"]]
    check(images, [for_upstream(image) for image in images], **options)


@pytest.mark.parametrize("options", [{"do_rescale": False}, {}, {"do_resize": False}, {"do_normalize": False}], ids=str)
@pytest.mark.filterwarnings("ignore:an image holds floats")
def test_floats_between_0_and_1(options):
    image = noise(50, 61, 3) / np.float32(255)
    check([image], [image], **options)


def test_size_rule_over_many_sizes():
    heights, widths = (axis.ravel() for axis in np.meshgrid(np.r_[1:700:7, 1000:5000:331], np.r_[1:700, 1000:9000:97]))
    for shortest_edge, size_divisor in ((384, 32), (224, 16), (37, 5)):
        longest_edge = int(1333 / 800 * shortest_edge)
        compute = tf.function(lambda size, a=shortest_edge, b=size_divisor: target_size(size[:, 0], size[:, 1], a, b))
        sizes = compute(tf.constant(np.stack([heights, widths], axis=1))).numpy().T
        for height, width, size in zip(heights, widths, sizes, strict=True):
            image = np.broadcast_to(np.uint8(0), (3, height, width))
            expected = get_resize_output_image_size(image, shortest_edge, longest_edge, size_divisor, "channels_first")
            assert tuple(size) == expected, (height, width)


def test_what_upstream_cannot_resize_is_an_error_here():
    for height, width in itertools.permutations((1, 2000)):
        image = noise(height, width, 3)
        with pytest.raises(ValueError, match="Size must contain"):
            ViltImageProcessorPil()(image, return_tensors="np", input_data_format="channels_last")
        with pytest.raises(ValueError, match=f"{height} x {width} pixels is too long and thin"):
            ViltImageProcessor()(image)


def test_configuration_goes_both_ways(tmp_path):
    options = {"size": {"shortest_edge": 96}, "size_divisor": 16, "image_mean": [0.1, 0.2, 0.3], "resample": 2}
    ours, theirs = ViltImageProcessor(**options), ViltImageProcessorPil(**options)
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    image = CASES["odd 333x457"]
    expected = np.moveaxis(theirs(image, return_tensors="np")["pixel_values"], 1, -1)
    reloaded = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    np.testing.assert_array_equal(np.moveaxis(reloaded(image, return_tensors="np")["pixel_values"], 1, -1), expected)
    np.testing.assert_array_equal(
        ViltImageProcessor.from_pretrained(tmp_path / "theirs")(image)["pixel_values"], expected
    )

"""`RegionDetector` from pictures to regions, at tiny sizes: batches, given boxes, bad input, exported graphs."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support import c_api
from support.detector import SIZES, pictures, shared, tiny

from tfvl.detector.config import DetectorConfig
from tfvl.detector.model import FIELDS, RegionDetector
from tfvl.preprocessing.regions.store import RegionStore

ROUNDING = 1e-5  # relative: the same operations, perhaps in another order
DIFFERENT = ((40, 90), (70, 60), (33, 34))  # heights and widths


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def assert_same(outputs, expected, names=(*FIELDS, "preds_per_image")):
    for name in names:
        np.testing.assert_allclose(outputs[name], expected[name], rtol=ROUNDING, atol=ROUNDING, err_msg=name)


def test_the_outputs_are_upstreams_and_readable_names():
    outputs = shared().detect(pictures(*DIFFERENT))
    most, width = SIZES["max_detections"], 8 * SIZES["res2_out_channels"]
    shapes = {name: value.shape for name, value in outputs.items()}
    per_region = ("obj_ids", "obj_probs", "attr_ids", "attr_probs", "obj_names", "attr_names")
    assert shapes == {
        **dict.fromkeys(per_region, (3, most)),
        **dict.fromkeys(("boxes", "normalized_boxes"), (3, most, 4)),
        "roi_features": (3, most, width),
        "preds_per_image": (3,),
        "sizes": (3, 2),
    }
    assert outputs["preds_per_image"].min() >= 3
    for row, count in enumerate(outputs["preds_per_image"]):
        assert (np.diff(outputs["obj_probs"][row, :count]) <= 0).all()
        assert not outputs["roi_features"][row, count:].any()
        names = [str(index) for index in outputs["obj_ids"][row, :count]]  # no vocabulary for nine classes
        assert outputs["obj_names"][row].tolist() == names + [""] * (most - count)


def test_images_of_different_sizes_give_what_each_gives_alone():
    images = pictures(*DIFFERENT)
    detector = shared()
    alone = [detector.detect([image]) for image in images]
    expected = {name: np.concatenate([outputs[name] for outputs in alone]) for name in alone[0]}
    assert_same(detector.detect(images), expected)
    batch = detector.processor(images)
    assert batch["pixel_values"].shape == (3, 75, 107, 3)  # padded to the highest and the widest
    assert not batch["pixel_values"][0, 48:].numpy().any()  # with zeros, after the means are subtracted
    assert_same(detector(batch), expected)
    assert_same(tf.function(detector.detect_bytes)(tf.constant([png(image) for image in images])), expected)


def test_bytes_paths_pillow_images_and_arrays_are_one_picture(tmp_path):
    (picture,) = pictures((40, 90))
    (tmp_path / "picture.png").write_bytes(png(picture))
    forms = [picture, png(picture), tmp_path / "picture.png", Image.fromarray(picture), np.moveaxis(picture, 2, 0)]
    outputs = shared().detect(forms)
    for name in FIELDS:
        assert (outputs[name] == outputs[name][:1]).all(), name


def test_blue_comes_first():
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    pixels = shared().processor(Image.fromarray(red))["pixel_values"]
    np.testing.assert_allclose(pixels[0, 0, 0], [-102.9801, -115.9465, 200 - 122.7717], rtol=1e-6)


def test_boxes_are_normalised_by_their_own_image():
    images = pictures((40, 90), (70, 60))
    outputs = shared().detect(images)
    for row, image in enumerate(images):
        height, width = image.shape[:2]
        expected = outputs["boxes"][row] / [width, height, width, height]
        np.testing.assert_allclose(outputs["normalized_boxes"][row], expected, rtol=1e-6)
        assert outputs["normalized_boxes"][row].max() <= 1 + 1e-6


def test_an_image_with_few_regions_gets_none_of_another_ones():
    detector = tiny(min_detections=20, max_detections=20, nms_thresholds=(0.01,))
    images = pictures((40, 90), (70, 60))
    both = detector.detect(images)
    assert both["preds_per_image"].max() < 20
    assert_same({name: value[1:] for name, value in both.items()}, detector.detect(images[1:]))


def test_regions_without_regression_are_proposals():
    (picture,) = pictures((40, 90))
    regressed, proposed = (tiny(box_source=source) for source in ("regressed", "proposal"))
    outputs = proposed.detect([picture])
    pixels = proposed.processor(picture)
    features = proposed.features_of(pixels["pixel_values"][0])
    size = pixels["image_sizes"][0].numpy()
    proposals = proposed.propose(features, size)[0].numpy() / [size[1], size[0], size[1], size[0]]
    count = outputs["preds_per_image"][0]
    found = outputs["normalized_boxes"][0, :count]
    distances = np.abs(found[:, None] - proposals[None]).max(axis=2)
    assert distances.min(axis=1).max() < ROUNDING
    assert not np.allclose(outputs["boxes"], regressed.detect([picture])["boxes"], atol=1)


def test_features_are_pooled_for_given_boxes():
    detector, images = tiny(box_source="proposal"), pictures((40, 90), (70, 60))
    found = detector.detect(images)
    boxes = [found["boxes"][row, :count] for row, count in enumerate(found["preds_per_image"])]
    given = detector.detect(images, boxes=[boxes[0], boxes[1][:2]])
    assert given["preds_per_image"].tolist() == [len(boxes[0]), 2]
    for row, count in enumerate(given["preds_per_image"]):
        names = ("obj_ids", "obj_probs", "attr_ids", "attr_probs", "boxes", "normalized_boxes", "roi_features")
        expected = {name: found[name][row, :count] for name in names}
        assert_same({name: given[name][row, :count] for name in names}, expected, names)
    assert not given["roi_features"][1, 2:].any()


def test_given_boxes_are_cut_at_the_edges_and_may_be_none():
    images = pictures((40, 90), (70, 60))
    outputs = shared().detect(images, boxes=[[[-5, -5, 200, 200], [80, 30, 90, 40]], []])
    assert outputs["boxes"][0].tolist() == [[0, 0, 90, 40], [80, 30, 90, 40]]
    assert outputs["preds_per_image"].tolist() == [2, 0]
    assert not outputs["obj_probs"][1].any()
    nothing = shared().detect(images[:1], boxes=[np.zeros((0, 4))])
    assert nothing["roi_features"].shape == (1, 0, 8 * SIZES["res2_out_channels"])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([], "there are boxes for 0 images, but 1 images"),
        ([[1, 2, 3]], r"boxes\[0\] have shape \(3,\), expected \(regions, 4\)"),
        ([[[1, 2, 3, float("nan")]]], r"boxes\[0\], row 0 is \(1, 2, 3, nan\)"),
        ([[[1, 2, 3, 4], [5, 2, 3, 4]]], r"boxes\[0\], row 1 is \(5, 2, 3, 4\), expected x1 <= x2"),
        ([[["a", "b", "c", "d"]]], r"boxes\[0\] are of type"),
    ],
)
def test_unusable_boxes_are_refused_in_one_sentence(boxes, message):
    with pytest.raises(ValueError, match=message):
        shared().detect(pictures((40, 90)), boxes=boxes)


def test_an_image_without_detections_gives_empty_masked_regions():
    detector = tiny(rpn_min_size=1e6)
    images = pictures((40, 90), (70, 60))
    outputs = detector.detect(images)
    assert outputs["preds_per_image"].tolist() == [0, 0]
    assert not outputs["roi_features"].any()
    assert not outputs["boxes"].any()
    assert (outputs["obj_names"] == "").all()
    assert [len(regions) for regions in detector.regions(images)] == [0, 0]
    assert_same(detector.detect_bytes(tf.constant([png(image) for image in images])), outputs)


@pytest.mark.parametrize("size", [(1, 1), (1, 64), (64, 1), (1, 10_000), (10_000, 1), (4, 2000), (10_000, 30)])
def test_thin_and_long_images_give_regions_inside_them(size):
    outputs = shared().detect(pictures(size))
    height, width = size
    assert np.isfinite(outputs["roi_features"]).all()
    assert (outputs["boxes"] <= np.array([width, height, width, height]) * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"no image", r"images\[1\]: .*known format"),
        (np.zeros((0, 5, 3), np.uint8), r"images\[1\]: 0 x 5 pixels"),
        (np.zeros((3000, 40, 3), np.uint8), r"images\[1\]: 3000 x 40 pixels, expected .* at most 100000"),
        (None, r"images\[1\]: NoneType is not an image"),
    ],
)
def test_unusable_images_are_refused_by_their_place(image, message):
    detector = RegionDetector(DetectorConfig(**SIZES, max_pixels=100_000))
    with pytest.raises(ValueError, match=message):
        detector.detect([*pictures((40, 90)), image])


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="one image or a list of at least one"):
        shared().detect([])


def test_in_the_graph_a_bad_image_never_fails_the_others():
    (picture,) = pictures((40, 90))
    detector = tiny(max_pixels=100_000)
    large = png(np.zeros((400, 400, 3), np.uint8))
    outputs = detector.detect_bytes(tf.constant([b"", png(picture), large, png(picture)[:200]]))
    status = [sentence.decode() for sentence in outputs["status"].numpy()]
    assert status[0] == "image: not a JPEG, PNG, GIF or BMP (0 bytes)"
    assert status[1] == ""
    assert status[2] == "image: 400 x 400 pixels are more than max_pixels=100000"
    assert status[3].startswith("image: a PNG of 200 bytes")
    assert outputs["preds_per_image"].numpy()[[0, 2, 3]].tolist() == [0, 0, 0]
    alone = detector.detect([picture])
    assert_same({name: value[1:2] for name, value in outputs.items()}, alone)


def test_regions_go_into_a_store(tmp_path):
    images = pictures((40, 90), (70, 60))
    regions = shared().regions(images, ["a", "b"])
    outputs = shared().detect(images)
    RegionStore.write(tmp_path / "regions.h5", regions)
    stored = RegionStore(tmp_path / "regions.h5")["b"]
    count = outputs["preds_per_image"][1]
    np.testing.assert_array_equal(stored.features, outputs["roi_features"][1, :count])
    np.testing.assert_array_equal(stored.objects_id, outputs["obj_ids"][1, :count])
    np.testing.assert_allclose(stored.boxes, outputs["normalized_boxes"][1, :count], atol=1e-6)
    assert (stored.width, stored.height) == (60, 70)
    (thin,) = shared().regions([png(pictures((3, 64))[0])])  # not taken for three channels of one row
    assert (thin.width, thin.height) == (64, 3)
    with pytest.raises(ValueError, match="there are 1 image_ids for 2 images"):
        shared().regions(images, ["a"])


def test_the_graph_runs_in_the_c_api(tmp_path):
    detector = shared()
    module = tf.Module()
    module.weights = [variable.value for variable in detector.variables]
    serve = tf.function(detector.detect_bytes, input_signature=[tf.TensorSpec([None], tf.string, "image")])
    tf.saved_model.save(module, str(tmp_path / "detector"), signatures=serve)
    images = [png(image) for image in pictures((40, 90), (70, 60))]
    request = {"directory": tmp_path / "detector", "signature": "serving_default"}
    (outputs,) = c_api.run([{**request, "inputs": {"image": np.array([*images, b"?"], object)}}])
    expected = detector.detect_bytes(tf.constant([*images, b"?"]))
    assert_same(outputs, expected)
    assert outputs["status"].tolist() == expected["status"].numpy().tolist()


def test_a_global_policy_does_not_change_the_detector():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        detector = tiny()
    finally:
        keras.config.set_dtype_policy("float32")
    images = pictures((40, 90))
    assert_same(detector.detect(images), shared().detect(images))


def test_the_class_is_rebuilt_from_its_configuration():
    detector = RegionDetector.from_config(shared().get_config())
    assert detector.config == shared().config
    assert detector.weight_names().keys() == shared().weight_names().keys()

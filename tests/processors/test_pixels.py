"""VisualBERT and LXMERT from pixels: processors with a detector, empty images, graphs, artefacts, the C API."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  # registers the ops that reloaded artefacts use
from PIL import Image
from support import c_api
from support.checkpoint import save_tiny
from support.detector import tiny
from support.export_regions import ALIGNMENT, CHOICE, PAIR, encoded
from support.pixels import IMAGE_SIZES, LABELS, answered, arrays, blind, detector, pixel_model, pixel_processor, png

import tfvl

LXMERT, VISUAL_BERT = "LxmertForQuestionAnswering", "VisualBertForQuestionAnswering"
TEXTS = ["what color is the circle ?", "how many ?", "a red square"]
# Features of about ten are float32 sums of some hundred terms, in another order in an eager, traced or exported graph.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
SCORE_TOLERANCE = 1e-4  # of a softmax whose logits carry these roundings on


@pytest.mark.parametrize("class_name", [LXMERT, VISUAL_BERT])
def test_every_kind_of_image_gives_the_detectors_regions(class_name, tmp_path):
    processor = pixel_processor(class_name)
    images = arrays()
    expected = processor(TEXTS, regions=detector().regions(images), return_tensors="np")
    (tmp_path / "0.png").write_bytes(png(images[0]))
    for forms in (
        images,
        [png(image) for image in images],
        [tmp_path / "0.png", Image.fromarray(images[1]), images[2]],
        tf.constant([png(image) for image in images]),
    ):
        inputs = processor(TEXTS, images=forms, return_tensors="np")
        assert inputs.keys() == expected.keys()
        for name, value in expected.items():  # only padding may differ: as many regions as the detector finds at most
            cut = inputs[name][:, : value.shape[1]]
            np.testing.assert_allclose(cut, value, **TOLERANCE, err_msg=name)
            assert not np.any(inputs[name][:, value.shape[1] :] if "feat" in name or "mask" in name else 0)
    one = processor(TEXTS[:2], images=images[0])
    assert [len(value) for value in one.values()] == [2] * len(one)  # one image goes with every text


def test_visual_bert_sees_boxes_behind_the_features():
    inputs = pixel_processor(VISUAL_BERT)(TEXTS, images=arrays(), return_tensors="np")
    outputs = detector().detect(arrays())
    real = inputs["visual_attention_mask"] > 0
    np.testing.assert_array_equal(real.sum(axis=1), outputs["preds_per_image"])
    np.testing.assert_allclose(inputs["visual_embeds"][..., :64], outputs["roi_features"], **TOLERANCE)
    corners = np.clip(outputs["normalized_boxes"], 0, 1)
    np.testing.assert_allclose(inputs["visual_embeds"][..., 64:], corners * real[..., None], **TOLERANCE)
    bare = tfvl.Regions(outputs["roi_features"][0])
    with pytest.raises(
        ValueError, match="features are of size 64, but visual_embedding_dim of the model's config is 68"
    ):
        pixel_processor(VISUAL_BERT)(TEXTS[0], regions=bare)
    arrays_and_boxes = {"regions": outputs["roi_features"], "boxes": corners}
    again = pixel_processor(VISUAL_BERT)(TEXTS, **arrays_and_boxes, return_tensors="np")
    np.testing.assert_allclose(again["visual_embeds"], inputs["visual_embeds"], **TOLERANCE)


@pytest.mark.parametrize("class_name", [LXMERT, VISUAL_BERT, PAIR, ALIGNMENT, "LxmertForPreTraining"])
def test_an_image_without_detections_is_empty_and_masked_and_answered(class_name):
    model, processor = pixel_model(class_name), pixel_processor(class_name, blind())
    nested = [[image, image] for image in arrays()] if class_name == PAIR else arrays()
    inputs = processor(TEXTS, images=nested, return_tensors="np")
    more = {"region_to_phrase_position": np.array([[1], [2], [1]], np.int32)} if class_name == ALIGNMENT else {}
    assert not inputs["visual_attention_mask"].any()
    assert not inputs.get("visual_feats", inputs.get("visual_embeds")).any()
    scores = answered(model(inputs | more))
    assert np.isfinite(scores).all()
    fewer = {
        name: value[:, :1] if name.startswith("visual_") and class_name != PAIR else value
        for name, value in inputs.items()
    }
    np.testing.assert_allclose(answered(model(fewer | more))[..., :1], scores[..., :1], atol=1e-4)  # padding is padding


def test_an_image_without_detections_changes_no_other_rows_answer():
    model, seen, empty = pixel_model(LXMERT), pixel_processor(LXMERT), pixel_processor(LXMERT, blind())
    inputs, nothing = (processor(TEXTS, images=arrays(), return_tensors="np") for processor in (seen, empty))
    mixed = {name: np.concatenate([value[:1], nothing[name][1:2]]) for name, value in inputs.items()}
    np.testing.assert_allclose(answered(model(mixed))[0], answered(model(inputs))[0], atol=1e-4)


def test_inside_a_dataset():
    processor = pixel_processor(VISUAL_BERT)
    files = [png(image) for image in arrays()]
    rows = tf.data.Dataset.from_tensor_slices((files, TEXTS)).batch(3)
    (inputs,) = rows.map(lambda images, texts: processor(texts, images=images)).as_numpy_iterator()
    for name, value in processor(TEXTS, images=files, return_tensors="np").items():
        np.testing.assert_allclose(inputs[name], value, **TOLERANCE, err_msg=name)
    broken = tf.data.Dataset.from_tensors([b"no image"]).map(lambda images: processor(images=images))
    with pytest.raises(tf.errors.InvalidArgumentError, match="an image cannot be used"):
        next(iter(broken))


def test_pairs_of_images():
    processor = pixel_processor(PAIR)
    first, second, _ = arrays()
    inputs = processor(TEXTS[:2], images=[[first, second], [second, first]], return_tensors="np")
    most = detector().config.max_detections
    assert inputs["visual_token_type_ids"].tolist() == [[0] * most + [1] * most] * 2
    np.testing.assert_allclose(inputs["visual_embeds"][0, :most], inputs["visual_embeds"][1, most:], **TOLERANCE)


def test_mistakes_are_one_sentence(tmp_path):
    processor = pixel_processor(LXMERT)
    with pytest.raises(ValueError, match=r"images\[1\]: not an image of a known format"):
        processor(TEXTS[:2], images=[arrays()[0], b"nope"])
    with pytest.raises(ValueError, match="got images and regions of them; give one of both"):
        processor(TEXTS[0], images=arrays()[0], regions=detector().regions(arrays()[0]))
    with pytest.raises(ValueError, match="has no detector that finds the regions of images; make it with detector="):
        tfvl.LxmertProcessor(processor.tokenizer)(TEXTS[0], images=arrays()[0])
    with pytest.raises(ValueError, match="features are of size 64, but visual_feat_dim of the model's config is 2048"):
        tfvl.LxmertProcessor(processor.tokenizer, 2048, detector())
    with pytest.raises(ValueError, match="detector is a LxmertProcessor, expected a RegionDetector"):
        tfvl.LxmertProcessor(processor.tokenizer, 64, processor)
    with pytest.raises(ValueError, match=r"images are nested as \(1, 2\); give one for each text"):
        processor(TEXTS[0], images=[arrays()[:2]])
    with pytest.raises(ValueError, match="got 2 images and 3 texts"):
        processor(TEXTS, images=arrays()[:2])
    with pytest.raises(ValueError, match="which reads images itself; leave the detector out"):
        tfvl.auto.load(save_tiny(tmp_path), detector=detector())
    with pytest.raises(tfvl.CheckpointError, match=r"config\.yaml"):
        tfvl.LxmertProcessor(processor.tokenizer, detector=tmp_path)  # a ViLT is no detector


def test_a_processor_loads_its_detector_by_name(tmp_path):
    detector().save_pretrained(tmp_path / "detector")
    pixel_model(LXMERT).save_pretrained(tmp_path / "model")
    pixel_processor(LXMERT).save_pretrained(tmp_path / "model")
    model, processor = tfvl.auto.load(tmp_path / "model", detector=tmp_path / "detector")
    inputs = processor(TEXTS, images=arrays())
    expected = answered(pixel_model(LXMERT)(pixel_processor(LXMERT)(TEXTS, images=arrays())))
    np.testing.assert_allclose(answered(model(inputs)), expected, atol=1e-4)


# --- artefacts --------------------------------------------------------------------------------------------------------

EXPORTED = (LXMERT, VISUAL_BERT, PAIR, ALIGNMENT)
BAD = (b"", b"GIF89a but no picture", png(arrays()[0])[:90])


@functools.cache
def artefact(class_name: str) -> Path:
    directory = Path(root().name) / class_name / "1"
    return tfvl.export.saved_model(pixel_model(class_name), pixel_processor(class_name), directory, top_k=3)


@functools.cache
def root() -> tempfile.TemporaryDirectory:
    """Returns a directory that is deleted when the process ends."""
    return tempfile.TemporaryDirectory(prefix="tfvl-pixels-")


def request(class_name: str, files: list[bytes]) -> dict[str, np.ndarray]:
    """Makes a request with a row for each file, and the texts in turn."""
    texts = encoded([TEXTS[place % 3] for place in range(len(files))])
    rows = [[file, png(arrays()[2])] for file in files] if class_name == PAIR else files
    more = {"phrases": encoded([(text.split()[0],) for text in map(bytes.decode, texts)])}
    return {"text": texts, "image": np.array(rows, object)} | (more if class_name == ALIGNMENT else {})


@functools.cache
def loaded(class_name: str):
    return tf.saved_model.load(str(artefact(class_name)))


def run(class_name: str, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    serve = loaded(class_name).signatures["serving_default"]
    return {name: value.numpy() for name, value in serve(**{n: tf.constant(v) for n, v in raw.items()}).items()}


@pytest.mark.parametrize("class_name", EXPORTED)
def test_the_artefact_takes_pixels_and_gives_the_models_answers(class_name):
    report = tfvl.export.check(artefact(class_name))
    shape = "(?, 2)" if class_name == PAIR else "(?)"
    inputs = report.signatures["serving_default"]["inputs"]
    assert inputs == {"text": "string (?)", "image": f"string {shape}"} | (
        {"phrases": "string (?, ?)"} if class_name == ALIGNMENT else {}
    )
    assert report.problems == ()
    assert (artefact(class_name) / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 1000

    raw = request(class_name, [png(image) for image in arrays()])
    served = run(class_name, raw)
    assert served["status"].tolist() == [b"", b"", b""]
    images = [list(row) for row in raw["image"]] if class_name == PAIR else list(raw["image"])
    prepared = pixel_processor(class_name)(TEXTS, images=images)
    more = {"region_to_phrase_position": np.array([[1], [1], [1]], np.int32)} if class_name == ALIGNMENT else {}
    logits = answered(pixel_model(class_name)(prepared | more)).astype(np.float64)
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    if class_name == ALIGNMENT:
        np.testing.assert_allclose(served["scores"], scores, atol=SCORE_TOLERANCE)
        return
    order = np.argsort(-scores, axis=1)[:, :3]
    assert served["answers"].tolist() == [[LABELS[place].encode() for place in row] for row in order]
    np.testing.assert_allclose(served["scores"], np.take_along_axis(scores, order, 1), atol=SCORE_TOLERANCE)
    assert np.ptp(served["scores"], axis=0).max() > 10 * SCORE_TOLERANCE  # rows that are alike would hide a mix-up


@pytest.mark.parametrize("class_name", EXPORTED)
def test_a_bad_image_gets_a_status_and_changes_no_other_row(class_name):
    good = [png(image) for image in arrays()]
    rows = [good[0], BAD[0], good[1], BAD[1], BAD[2], good[2]]
    served = run(class_name, request(class_name, rows))
    bad = [row in BAD for row in rows]
    prefix = b"image 1: " if class_name == PAIR else b"image: "
    assert [status != b"" for status in served["status"]] == bad
    assert all(status.startswith(prefix) for status in served["status"] if status)
    for place, row in enumerate(rows):
        alone = {name: value[place : place + 1] for name, value in request(class_name, rows).items()}
        if row not in BAD:
            for name, (value,) in run(class_name, alone).items():
                value = np.asarray(value)
                if value.dtype.kind == "f":
                    np.testing.assert_allclose(served[name][place], value, atol=SCORE_TOLERANCE, err_msg=name)
                else:
                    np.testing.assert_array_equal(served[name][place], value, err_msg=name)
    none = run(class_name, {name: value[:0] for name, value in request(class_name, rows).items()})
    assert {len(value) for value in none.values()} == {0}


@pytest.fixture(scope="module")
def from_c():
    asked = {name: request(name, [png(arrays()[0]), b"", png(arrays()[1])]) for name in (LXMERT, PAIR)}
    requests = [{"directory": artefact(n), "signature": "serving_default", "inputs": raw} for n, raw in asked.items()]
    return {name: (asked[name], outputs) for name, outputs in zip(asked, c_api.run(requests), strict=True)}


@pytest.mark.parametrize("class_name", [LXMERT, PAIR])
def test_pixels_are_answered_without_python(class_name, from_c):
    raw, outputs = from_c[class_name]
    expected = run(class_name, raw)
    assert [status == b"" for status in outputs["status"]] == [True, False, True]
    assert outputs["answers"].tolist() == expected["answers"].tolist()
    np.testing.assert_allclose(outputs["scores"], expected["scores"], atol=SCORE_TOLERANCE)


@pytest.mark.slow
def test_nothing_found_is_still_answered_in_an_artefact(tmp_path):
    directory = tfvl.export.saved_model(pixel_model(LXMERT), pixel_processor(LXMERT, blind()), tmp_path / "1")
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    outputs = serve(image=tf.constant([png(arrays()[0])]), text=tf.constant(TEXTS[:1]))
    assert outputs["status"].numpy().tolist() == [b""]
    assert np.isfinite(outputs["scores"].numpy()).all()


def test_the_tiny_models_fit_the_tiny_detector():
    assert tiny().config.feature_size == 64
    assert len(IMAGE_SIZES) == len(TEXTS)
    assert CHOICE not in EXPORTED  # it takes regions as the others do, from `text_and_regions`

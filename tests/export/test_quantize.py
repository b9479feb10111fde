"""`quantize` of a SavedModel: what cannot have it, what is said of it, its size, and the bundled models' answers."""

import shutil
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from support import bundled
from support.changed import adapt
from support.cli import fails
from support.export import artefact, in_eight_bits
from support.once import once

from tfvl import auto
from tfvl.export import check, saved_model
from tfvl.export.loaded import LoadedModel
from tfvl.export.saved_model_drift import saved_model_drift
from tfvl.serving.server import kernels
from tfvl.serving.server import saved_model as server

QUESTIONS = 250
VQA = "ViltForQuestionAnswering"


@cache
def exported(name: str):
    """Exports a bundled model in 8 bits, which takes the model's inputs."""

    def make(path):
        saved_model(*auto.load(name), path, quantize="dynamic", signatures="tensors")

    return once(f"{name}-dynamic-tensors/1", make)


@pytest.mark.parametrize("name", bundled.NAMES)
def test_bundled_models_answer_as_in_floats(name):
    model, processor = bundled.load(name)
    scenes, places, questions = bundled.held_out(QUESTIONS)
    texts = processor.tokenizer([question.text for question in questions], return_tensors="np")
    inputs = dict(texts) | {key: value[places] for key, value in bundled.shown(processor, scenes).items()}
    if "pixel_values" in inputs:
        inputs["pixel_mask"] = np.ones(inputs["pixel_values"].shape[:3], np.int32)
    tensors = tf.saved_model.load(str(exported(name))).signatures["tensors"]
    expected = bundled.scores(model.predict(inputs, batch_size=QUESTIONS, verbose=0)).argmax(-1)
    found = bundled.scores(tensors(**{key: tf.constant(value) for key, value in inputs.items()})).numpy().argmax(-1)
    assert np.mean(found == expected) >= 0.99


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"quantize": "int8"}, "quantize is 'int8', expected one of None, 'dynamic', 'bfloat16' for a SavedModel"),
        ({"quantize": 8}, "quantize is 8, expected one of None, 'dynamic', 'bfloat16' for a SavedModel"),
        ({"quantize": "dynamic", "explain": True}, 'explain needs gradients, which quantize="dynamic" has none of'),
    ],
)
def test_what_cannot_be(tmp_path, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        saved_model(artefact(VQA).model, artefact(VQA).processor, tmp_path / "1", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--quantize", "float16"], "quantize is 'float16', expected one of None, 'dynamic', 'bfloat16' for a Saved"),
        (["--quantize", "dynamic", "--explain"], "explain needs gradients"),
    ],
)
def test_the_command_refuses_before_it_loads(capsys, tmp_path, arguments, complaint):
    assert complaint in fails(capsys, "export", tmp_path / "no-such-checkpoint", tmp_path / "1", *arguments)


def test_models_that_keras_quantized_are_refused(tmp_path):
    model, processor = auto.load("shapes-vilt")
    model.quantize("int8")
    with pytest.raises(ValueError, match=r"takes weights in floats, but .* is quantized"):
        saved_model(model, processor, tmp_path / "1", quantize="dynamic")


def test_a_build_without_the_kernel_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "has_kernel", lambda op: False)
    with pytest.raises(ValueError, match="needs the op _QuantizedMatMul, whose kernel this TensorFlow"):
        saved_model(artefact(VQA).model, artefact(VQA).processor, tmp_path / "1", quantize="dynamic")


def test_an_op_that_tensorflow_lacks_is_named(tmp_path):
    directory = shutil.copytree(in_eight_bits(VQA), tmp_path / "model" / "1")
    graph = directory / "saved_model.pb"
    graph.write_bytes(graph.read_bytes().replace(b"_QuantizedMatMul", b"_QuantizedMatFoo"))
    sentence = "op _QuantizedMatFoo: this TensorFlow has no kernel for it"
    assert any(sentence in problem for problem in check(directory).problems)
    with pytest.raises(ValueError, match=sentence):
        LoadedModel(str(directory))
    with pytest.raises(ValueError, match=sentence):
        server.load(directory)


def test_an_op_has_a_kernel_or_none():
    assert kernels.has_kernel("_QuantizedMatMul")
    assert not kernels.has_kernel("_QuantizedMatFoo")


def test_the_model_is_itself_again_and_lora_counts(tmp_path):
    model, processor = auto.load("shapes-vilt")
    inputs = processor(images=[np.zeros((40, 60, 3), np.uint8)], text=["what color is the circle ?"])
    adapt(model)
    before = model(inputs)["logits"].numpy()
    directory = saved_model(model, processor, tmp_path / "1", quantize="dynamic", signatures="tensors")
    np.testing.assert_array_equal(model(inputs)["logits"].numpy(), before)
    found = tf.saved_model.load(str(directory)).signatures["tensors"](**inputs)["logits"].numpy()
    plain = tf.saved_model.load(str(exported("shapes-vilt"))).signatures["tensors"](**inputs)["logits"].numpy()
    assert np.abs(found - before).max() < 0.1 * np.abs(plain - before).max()


def test_weights_in_bfloat16(tmp_path):
    model, processor = auto.load("shapes-vilt")
    directory = saved_model(model, processor, tmp_path / "1", quantize="bfloat16", signatures="tensors")
    assert check(directory).variable_bytes < 0.6 * sum(variable.numpy().nbytes for variable in model.variables)
    inputs = processor(images=[np.zeros((40, 60, 3), np.uint8)], text=["what color is the circle ?"])
    found = tf.saved_model.load(str(directory)).signatures["tensors"](**inputs)["logits"]
    expected = model(inputs)["logits"].numpy()
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05 * np.abs(expected).max())


def test_the_drift_is_measured():
    report = saved_model_drift(exported("shapes-vilt"), "shapes-vilt", 20)
    (logits,) = report.outputs
    assert (logits.output, report.examples) == ("logits", 20)
    assert 0.99 < logits.mean_cosine < 1
    assert report.accuracy == (1.0, 1.0)

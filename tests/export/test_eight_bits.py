"""Every head with products in 8 bits: in Python, without Python, and in the server."""

import gc
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from support import c_api
from support.export import HEADS, artefact, in_eight_bits, prepare, requests
from support.export_regions import REGION_HEADS

from tfvl.export import check
from tfvl.export.signatures import outputs_of
from tfvl.serving.server import saved_model as server

ALL = (*HEADS, *REGION_HEADS)
# Random weights of deviation 0.7 in layers of 12 to 20 numbers: the least that 7 bits of weights and 8 of activations
# leave of one.
SMALLEST_COSINE = 0.99
# The same kernels, in a graph that is optimised as a whole; a rounding to 8 bits that flips is one step of 1 / 255.
TOLERANCE = 0.02


@pytest.fixture(scope="module", params=ALL)
def class_name(request):
    """One head after the other, so that no more than one's graphs are alive."""
    yield request.param
    for cached in (loaded, artefact):
        cached.cache_clear()
    gc.collect()


def with_bad_rows(class_name: str) -> dict[str, np.ndarray]:
    """Makes three good rows, and one whose text is not UTF-8."""
    raw = {name: np.concatenate([value, value[:1]]) for name, value in requests(class_name).items()}
    raw["text"][3] = b"caf\xe9 [MASK]"
    return raw


@cache
def loaded(class_name: str):
    return tf.saved_model.load(str(in_eight_bits(class_name)))


def run(class_name: str, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    outputs = loaded(class_name).signatures[signature](**{name: tf.constant(each) for name, each in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    left, right = left.ravel().astype(float), right.ravel().astype(float)
    return float(left @ right / np.sqrt((left @ left) * (right @ right)))


@cache
def without_python() -> dict[str, dict[str, np.ndarray]]:
    """Returns the answers of a process that never imports TensorFlow to `with_bad_rows`, by class."""
    asked = [
        {"directory": in_eight_bits(name), "signature": "serving_default", "inputs": with_bad_rows(name)}
        for name in ALL
    ]
    return dict(zip(ALL, c_api.run(asked), strict=True))


def assert_close(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype == object:
            same = np.mean(np.asarray(actual[name], object) == value)
            assert same == 1 if name == "status" else same >= 0.8, name
        elif np.issubdtype(value.dtype, np.floating):
            scale = max(1.0, np.abs(value).max())
            np.testing.assert_allclose(actual[name], value, rtol=0, atol=TOLERANCE * scale, err_msg=name)


def test_outputs_are_near_those_in_floats(class_name):
    report = check(in_eight_bits(class_name))
    assert report.served_by == ("2.19", "2.20", "2.21")
    assert report.eight_bits
    assert not report.problems
    inputs = prepare(class_name)
    expected = {name: value.numpy() for name, value in outputs_of(artefact(class_name).model, inputs).items()}
    found = run(class_name, "tensors", inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert cosine(found[name], value) > SMALLEST_COSINE, name
        assert not np.array_equal(found[name], value), name  # else nothing was quantized


def test_no_row_changes_another(class_name):
    inputs = prepare(class_name)
    found = run(class_name, "tensors", inputs)
    for row, order in enumerate(([0, 2, 1], [2, 1, 0], [1, 0, 2])):  # the row keeps its place, its neighbours do not
        others = run(class_name, "tensors", {name: value[order] for name, value in inputs.items()})
        for name, value in others.items():
            np.testing.assert_array_equal(value[row], found[name][row], err_msg=name)


def test_python_the_c_api_and_the_server_agree(class_name):
    raw = with_bad_rows(class_name)
    expected = run(class_name, "serving_default", raw)
    assert expected["status"].tolist() == [b"", b"", b"", b"text: it is not valid UTF-8"]
    assert_close(without_python()[class_name], expected)
    served = server.load(in_eight_bits(class_name))
    try:
        assert_close(served.run("serving_default", raw, tuple(expected)), expected)
    finally:
        served.close()

"""Numbers and strings between JSON and tensors; what the conformance suite cannot see from outside."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")

from tfvl.serving.client.errors import RequestError
from tfvl.serving.server import json_tensors


def signature(**dtypes: tf.DType) -> SignatureDef:
    made = SignatureDef()
    for name, dtype in dtypes.items():
        made.inputs[name].dtype = dtype.as_datatype_enum
    return made


def column(value, dtype: tf.DType) -> np.ndarray:
    body = json.dumps({"inputs": {"x": value}}).encode()
    return json_tensors.read(json_tensors.parse(body), signature(x=dtype))[0]["x"]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([[1.5, 2.0], [3.25, -1e-3]], tf.float32),
        ([1, 2.5, 16777215], tf.float32),
        ([1e300, 2**53 - 1], tf.float64),
        ([[2147483647], [-2147483648]], tf.int32),
        ([2**63 - 1], tf.int64),
        ([True, False], tf.bool),
        ([0, 255], tf.uint8),
        ([[], []], tf.float32),
        (2.5, tf.float32),
    ],
)
def test_numbers(value, dtype):
    array = column(value, dtype)
    assert array.dtype == dtype.as_numpy_dtype
    assert array.tolist() == np.array(value, dtype.as_numpy_dtype).tolist()


def test_numbers_that_are_none():
    array = json_tensors.read(json_tensors.parse(b'{"inputs": [NaN, Infinity, -Infinity]}'), signature(x=tf.float32))
    np.testing.assert_array_equal(array[0]["x"], np.array([np.nan, np.inf, -np.inf], np.float32))


@pytest.mark.parametrize(
    ("value", "dtype", "sentence"),
    [
        ([1, "2"], tf.float32, 'JSON Value: "2" Type: String is not of expected type: float'),
        ([1, None], tf.float32, "JSON Value: null Type: Null is not of expected type: float"),
        ([1.5], tf.int32, "JSON Value: 1.5 Type: Number is not of expected type: int32"),
        ([2**31], tf.int32, "is not of expected type: int32"),
        ([True], tf.int32, "Type: True is not of expected type: int32"),
        ([1], tf.bool, "is not of expected type: bool"),
        ([1e39], tf.float32, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ([2**24], tf.float32, "Cannot convert JSON value: 16777216 to float without loss of precision."),
        ([10**400], tf.float64, "without loss of precision."),
        ([[1], [1, 2]], tf.int32, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ([1, [1]], tf.int32, "Encountered list at unexpected level: 1 expected < 1"),
        ([[1], 1], tf.int32, "JSON Value: 1 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ({"b64": "AAAA"}, tf.int32, "Type: Object is not of expected type: int32"),
    ],
)
def test_wrong_numbers(value, dtype, sentence):
    with pytest.raises(RequestError) as caught:
        column(value, dtype)
    assert sentence in str(caught.value)
    assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "value",
    [
        ["x" * 2**24, *[""] * 2000],
        [["x" * 2**24], *[[""]] * 2000],
        [[1, 2], ["x" * 2**24, ""], *[["", ""]] * 2000],
        [[1], "x" * 2**24, *[""] * 2000],
        [[], "x" * 2**24, *[""] * 2000],
        [[1], [["x" * 2**24]], *[[[""]]] * 2000],
        [[1], {"x" * 2**24: ""}, *[{"": ""}] * 2000],
    ],
    ids=["strings", "below", "last", "among lists", "after an empty list", "too deep", "names"],
)
def test_numpy_sees_no_strings(value, monkeypatch):
    """It would make an array in which every item has the size of the longest: 128 GB of these."""
    see, seen = np.array, []

    def array(given, *arguments, **options):
        seen.append(given)
        return see(given, *arguments, **options)

    monkeypatch.setattr(np, "array", array)
    with pytest.raises(RequestError) as caught:
        column(value, tf.int32)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert seen == []


def test_strings():
    body = b'{"inputs": ["caf\xc3\xa9", "caf\xe9", {"b64": "/+8="}, {"b64": "/+8"}, "\\u00e9"]}'
    array = json_tensors.read(json_tensors.parse(body), signature(x=tf.string))[0]["x"]
    assert array.tolist() == ["café".encode(), b"caf\xe9", b"\xff\xef", b"\xff\xef", "é".encode()]
    with pytest.raises(RequestError, match="surrogate pair"):
        column("\ud800", tf.string)


@pytest.mark.parametrize("text", [r"caf\udcc3\udca9", r"\uDC80", r"\ud800", r"\ud83dx\udc80", r"\ud83d\n", r"\\\ud83d"])
@pytest.mark.parametrize("more", [b"", b"caf\xe9", b"\\ud83d\\udc80"], ids=["", "no UTF-8", "a whole pair"])
def test_half_a_pair_is_no_byte_of_a_text(text, more):
    """Python's strings hold the bytes of text that is not UTF-8 as such halves."""
    for value in (more + text.encode(), b"-".join([text.encode(), more])):
        with pytest.raises(RequestError, match="The surrogate pair in string is invalid") as caught:
            json_tensors.parse(b'{"inputs": ["' + value + b'"]}')
        assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("more", [b"", b"caf\xe9"], ids=["", "no UTF-8"])
@pytest.mark.parametrize(
    ("text", "read"),
    [(r"\ud83d\udc80", "💀"), (r"\\ud83d", r"\ud83d"), (r"\\\\udc80", r"\\udc80"), (r"\\\uD83D\uDC80", "\\💀")],
)
def test_what_only_looks_like_half_a_pair_is_read(text, read, more):
    body = b'{"inputs": ["' + text.encode() + more + b'"]}'
    array = json_tensors.read(json_tensors.parse(body), signature(x=tf.string))[0]["x"]
    assert array.tolist() == [read.encode() + more]


def test_many_escapes_are_read_without_much_memory():
    body = b'{"inputs": ["' + rb"\ud83d\udc80\n" * 10**6 + b'"]}'
    (text,) = json_tensors.read(json_tensors.parse(body), signature(x=tf.string))[0]["x"]
    assert text == "💀\n".encode() * 10**6


def test_long_values_are_not_repeated_in_errors():
    with pytest.raises(RequestError) as caught:
        column(["x" * 10_000], tf.int32)
    assert len(str(caught.value)) < 400


def test_what_is_written():
    outputs = {
        "answers": np.array([[b"a", b"caf\xe9"], [b"", "é".encode()]], object),
        "image_bytes": np.array([b"\xff\xef", b""], object),
        "scores": np.array([[0.2, np.nan], [1e-7, 3]], np.float32),
        "count": np.array([1, 2], np.int32),
    }
    content = json_tensors.write(outputs, as_rows=True)
    assert b'"caf\xe9"' in content  # as TF Serving has it: what is no text passes through
    first, second = json.loads(content.decode("utf-8", "surrogateescape"))["predictions"]
    assert first["image_bytes"] == {"b64": "/+8="}
    assert b'"scores": [0.2, NaN]' in content
    assert second == {"answers": ["", "é"], "image_bytes": {"b64": ""}, "scores": [1e-07, 3.0], "count": 2}
    assert json_tensors.write({"y": np.float32(0.1)}, as_rows=False) == b'{"outputs": 0.1}'
    assert json_tensors.write({"y": np.array([1, 2])}, as_rows=True) == b'{"predictions": [1, 2]}'
    with pytest.raises(RequestError, match="batch size"):
        json_tensors.write({"y": np.float32(0.1)}, as_rows=True)
    with pytest.raises(RequestError, match="batch size"):
        json_tensors.write({"x": np.zeros(1), "y": np.zeros(2)}, as_rows=True)

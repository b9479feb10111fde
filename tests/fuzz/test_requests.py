"""Changed requests over REST and gRPC are read as they say, or refused in one short sentence.

TFVL_FUZZ=20000 python -m pytest tests/fuzz/test_requests.py
"""

import base64
import json
import os
from contextlib import suppress

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")

from tensorflow_serving.apis.predict_pb2 import PredictRequest

from tfvl.serving.client import messages
from tfvl.serving.client.errors import MAX_SENTENCE, RequestError
from tfvl.serving.server import json_tensors
from tfvl.serving.server.proto_tensors import described, to_array
from tfvl.serving.server.servable import check_inputs
from tfvl.serving.server.wire import grown_bytes

REQUESTS = int(os.environ.get("TFVL_FUZZ", "500"))
KEPT = (6, 82, 278, 641, 1372)  # numbers of requests that once were read wrongly
MAX_BYTES = 2**20  # that a tensor of these requests may take
DTYPES = {"image": tf.string, "ids": tf.int32, "pixels": tf.float32, "flag": tf.bool, "long": tf.int64}
ROW = {"image": {"b64": "/9j/AA=="}, "ids": [1, 2], "pixels": [[0.5, -1e-3]], "flag": True, "long": 2**40}
BODIES = (
    {"instances": [ROW, ROW | {"ids": [3, 4]}]},
    {"inputs": {name: [value] for name, value in ROW.items()}},
    {"signature_name": "a", "instances": [ROW]},
)
TOKENS = (
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 30),
    *(b'{"b64": "?"}', b'"\\ud800"', b"\xff", b"\xed\xa0\x80", b"[" * 70, b"1" * 5000, b"1.5", b"2147483648", b"[[]]"),
)


def signature() -> SignatureDef:
    made = SignatureDef()
    for name, dtype in DTYPES.items():
        made.inputs[name].dtype = dtype.as_datatype_enum
        made.inputs[name].tensor_shape.unknown_rank = True
    return made


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """Makes a few changes: of bits; pieces vanish or are repeated; words of the format are put in."""
    for _ in range(rng.integers(1, 4)):
        start, end = sorted(rng.integers(0, len(content) + 1, 2).tolist())
        end = min(end, start + int(rng.integers(0, 12)))
        kind = rng.integers(4)
        if kind == 0:
            content = content[:start] + content[end:]
        elif kind == 1:
            content = content[:end] + content[start:end] * int(rng.integers(1, 5)) + content[end:]
        elif kind == 2:
            content = content[:start] + TOKENS[rng.integers(len(TOKENS))] + content[end:]
        elif content:
            place = int(rng.integers(len(content)))
            content = content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :]
    return content


def message_of(**fields) -> bytes:
    """Makes a request with one input of these fields of a TensorProto."""
    request = PredictRequest()
    request.inputs["x"].CopyFrom(TensorProto(**fields))
    return request.SerializeToString()


def of_bytes(number: int, content: bytes) -> bytes:
    """Writes a field of a message with any content; a length takes five bytes, as long as it need not."""
    length = [len(content) >> 7 * place & 127 | 128 for place in range(4)]
    return bytes([number << 3 | 2, *length, len(content) >> 28]) + content


def input_of(tensor: bytes) -> bytes:
    return of_bytes(2, of_bytes(1, b"x") + of_bytes(2, tensor))


def assert_refused(error: RequestError) -> None:
    assert error.code == "INVALID_ARGUMENT"
    assert len(str(error)) <= MAX_SENTENCE
    assert json.loads(json_tensors.write_error(str(error)))["error"]


def value_of(item, dtype: tf.DType):
    """Reads an item of nested lists, without the server's code."""
    if isinstance(item, list):
        return [value_of(each, dtype) for each in item]
    if dtype != tf.string:
        return item
    if isinstance(item, dict):
        text = "".join(item["b64"].split()).rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4))
    return item.encode("utf-8", "surrogateescape")


def read_rest(number: int) -> None:
    rng = np.random.default_rng(number)
    body = changed(json.dumps(BODIES[number % len(BODIES)]).encode(), rng)
    try:
        document = json_tensors.parse(body)
        json_tensors.signature_name(document)
        arrays, as_rows = json_tensors.read(document, signature())
    except RequestError as error:
        assert_refused(error)
        return
    assert as_rows == ("instances" in document)
    for name, array in arrays.items():
        given = [row[name] for row in document["instances"]] if as_rows else document["inputs"][name]
        assert array.dtype == DTYPES[name].as_numpy_dtype
        wanted = np.empty(array.shape, DTYPES[name].as_numpy_dtype)
        wanted[...] = np.array(value_of(given, DTYPES[name]), wanted.dtype).reshape(array.shape)
        np.testing.assert_array_equal(array, wanted)


def read_grpc(number: int) -> None:
    rng = np.random.default_rng(number)
    request = PredictRequest()
    for name, value in (
        ("image", np.array([b"\xff\xd8\xff", b""], object)),
        ("ids", np.array([[1, 2], [3, 4]], np.int32)),
        ("pixels", np.array([[0.5], [0.25]], np.float32)),
        ("flag", np.array([True, False])),
        ("long", np.array([2**40, -1])),
    ):
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    request.inputs["pixels"].ClearField("tensor_content")
    request.inputs["pixels"].float_val.append(0.5)
    content = changed(request.SerializeToString(deterministic=True), rng)
    try:
        request = PredictRequest.FromString(content)
    except DecodeError:
        return
    with suppress(DecodeError):  # of groups, which protobuf takes
        assert grown_bytes(content, PredictRequest.DESCRIPTOR, MAX_BYTES) < 300 * len(content)
    for name, tensor in request.inputs.items():
        try:
            found = described(name, tensor)
            if found.nbytes > MAX_BYTES:
                continue
            array = to_array(name, tensor)
            check_inputs(signature(), {each: found if each == name else FITS[each] for each in DTYPES})
        except RequestError as error:
            assert_refused(error)
            continue
        assert (array.dtype, array.shape) == (found.dtype, found.shape)
        wanted = messages.to_array(messages.Tensor.FromString(tensor.SerializeToString()))
        np.testing.assert_array_equal(array, wanted.astype(array.dtype))


FITS = {name: np.empty(2, dtype.as_numpy_dtype) for name, dtype in DTYPES.items()}
READERS = {"REST": read_rest, "gRPC": read_grpc}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_changed_requests_are_read_right_or_refused(reader):
    for number in range(REQUESTS):
        try:
            reader(number)
        except Exception as error:
            raise AssertionError(f"request {number}: {type(error).__name__}: {error}") from error


@pytest.mark.parametrize("number", KEPT)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_requests_that_were_once_read_wrongly(reader, number):
    reader(number)


@pytest.mark.parametrize("shape", [(0, 50_000_000), (50_000_000, 0), (0, 0, 2**62), (0, *[2**20] * 3)])
@pytest.mark.parametrize("dtype", [tf.int32, tf.string])
def test_an_axis_of_size_0_does_not_hide_the_others(dtype, shape):
    """The array is empty, but a graph makes tensors by its other axes."""
    tensor = TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto())
    assert described("ids", tensor).nbytes >= 4 * max(shape)
    assert described("ids", tensor).shape == shape


COUNT = 2**17  # of fields, which take as many bytes or a few times that
SWOLLEN = {
    "messages within": input_of(b"\x7a\0" * COUNT),
    "messages within messages within": input_of(of_bytes(15, b"\x1a\0" * COUNT)),
    "numbers of one byte": input_of(of_bytes(10, b"\1" * COUNT)),
    "sizes of a shape": input_of(of_bytes(2, b"\x12\0" * COUNT)),
    "numbers with a tag each": input_of(b"\x50\1" * COUNT),
    "outputs": b"\x1a\0" * COUNT,
}


@pytest.mark.parametrize("content", SWOLLEN.values(), ids=SWOLLEN)
def test_messages_that_swell_are_counted_before_they_are_parsed(content):
    PredictRequest.FromString(content)
    assert grown_bytes(content, PredictRequest.DESCRIPTOR, 2**30) >= 7 * COUNT
    assert 2**10 < grown_bytes(content, PredictRequest.DESCRIPTOR, 2**10) <= 2**10 + 16 * COUNT


@pytest.mark.parametrize(
    ("content", "most"),
    [
        (message_of(dtype=tf.float32.as_datatype_enum, tensor_content=bytes(30 * 2**20)), 2**12),
        (message_of(dtype=tf.float32.as_datatype_enum, float_val=[0.5] * COUNT), 2**12),
        (message_of(dtype=tf.int32.as_datatype_enum, int_val=[1] * COUNT), 8 * COUNT),  # 4 bytes of the array each
        (message_of(dtype=tf.string.as_datatype_enum, string_val=[b"a"] * COUNT), 129 * COUNT),  # 64 bytes of the array
    ],
    ids=["content", "floats", "integers", "strings"],
)
def test_large_messages_grow_little_by_parsing(content, most):
    assert grown_bytes(content, PredictRequest.DESCRIPTOR, 2**30) <= most


def test_what_is_no_message():
    nested = b""
    for _ in range(60):
        nested = of_bytes(15, of_bytes(3, nested))
    for content in (
        b"\x0b\x0c",
        b"\x12",
        b"\x12\5a",
        b"\x09\0",
        b"\xff" * 20,
        b"\x08" + b"\x80" * 10,
        input_of(nested),
    ):
        with pytest.raises(DecodeError):
            grown_bytes(content, PredictRequest.DESCRIPTOR, 2**30)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"dtype": tf.int32.as_datatype_enum, "int_val": range(7)},
            "input x has 7 values, expected at most the 5 of its shape [1, 5]",
        ),
        (
            {"dtype": tf.string.as_datatype_enum, "tensor_content": b"abcde"},
            "input x has its strings in tensor_content, expected in string_val",
        ),
    ],
    ids=["too many values", "strings as content"],
)
def test_values_that_do_not_fit_are_told_so(fields, sentence):
    tensor = TensorProto(tensor_shape=tf.TensorShape((1, 5)).as_proto(), **fields)
    with pytest.raises(RequestError) as caught:
        to_array("x", tensor)
    assert (caught.value.code, str(caught.value)) == ("INVALID_ARGUMENT", sentence)

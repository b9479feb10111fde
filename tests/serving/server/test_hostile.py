"""Requests and connections that mean harm are answered with a sentence, and keep nobody else from an answer."""

import json
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress

import grpc
import numpy as np
import pytest
from support.hostile import address, head
from support.lite_files import bundled_file
from support.server import ANSWER_SECONDS, MODEL, assert_rows, exported, instance, instances, questions, start, wait_for

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")
pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("grpc_health", reason="grpcio-health-checking is not installed")

from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_requests import predict_request, refusal, repeated
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import VariantTensorDataProto
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tfvl.serving.client.errors import MAX_SENTENCE
from tfvl.serving.server.grpc import READERS
from tfvl.serving.server.limits import IN_FLIGHT
from tfvl.serving.server.server import BACKLOG, MAX_CONNECTIONS

pytestmark = pytest.mark.serving

PREDICT = f"/v1/models/{MODEL}:predict"
KINDS = ("SavedModel", ".tflite")
OPTIONS = ("--allow-host", "vqa.test", "--allow-origin", "https://page.test")
DESCRIPTORS = 200  # of the server itself: libraries, pipes, listeners


@pytest.fixture(scope="module", params=KINDS)
def server(request, tmp_path_factory):
    model = exported() if request.param == "SavedModel" else bundled_file()
    running = start(model, tmp_path_factory.mktemp("server") / "log", *OPTIONS)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def predict(server):
    with grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def exchange(server, content: bytes, *, half_close: bool = False) -> bytes:
    """Sends bytes; returns everything that comes back until the server closes the connection."""
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(content)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def request_of(rows: list[dict], *headers: str) -> bytes:
    body = json.dumps({"instances": rows}).encode()
    first, _, others = head(len(body)).partition(b"\r\n")
    return b"\r\n".join([first, *(header.encode() for header in headers), others]) + body


# --- connections ------------------------------------------------------------------------------------------------------


def answer_in(content: bytes) -> dict:
    """Parses the last response's JSON."""
    return json.loads(content[content.rindex(b"\r\n\r\n") :])


def test_a_request_that_is_followed_by_a_half_close_is_answered(server):
    content = exchange(server, request_of(instances(0)), half_close=True)
    assert content.startswith(b"HTTP/1.1 200")
    assert_rows(answer_in(content)["predictions"], 0)
    content = exchange(server, request_of(instances(0) * 40), half_close=True)  # of several batches
    assert b"HTTP/1.1 200" in content
    assert_rows(answer_in(content)["predictions"], *[0] * 40)
    content = exchange(server, request_of(instances(0)) + request_of(instances(1)), half_close=True)
    assert content.count(b"HTTP/1.1 200") == 2
    assert exchange(server, head(1000) + b"{", half_close=True) == b""  # there is no request


@pytest.mark.parametrize("second", ["Transfer-Encoding: chunked", "transfer-encoding: CHUNKED"])
def test_two_lengths_of_a_body_are_refused(server, second):
    """Who stands between would take one of them, and see other requests than the server does."""
    first = head(5).replace(b"\r\n\r\n", f"\r\n{second}\r\n\r\n".encode()) + b"0\r\n\r\n"
    content = exchange(server, first + request_of(instances(0)))
    assert content.startswith(b"HTTP/1.1 400")
    assert content.count(b"HTTP/1.1") == 1  # and nothing follows on this connection
    assert "both Transfer-Encoding and Content-Length" in answer_in(content)["error"]
    content = exchange(server, request_of(instances(0), "Content-Length: 5", "Connection: close"))
    assert content.startswith(b"HTTP/1.1 400")


def open_files(server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def test_idle_connections_keep_nobody_out(server):
    """Many more than there may be, renewed, some of them in the middle of a request."""
    with ExitStack() as idle:
        for number in range(3 * MAX_CONNECTIONS):
            connection = idle.enter_context(socket.create_connection(address(server), timeout=ANSWER_SECONDS))
            with suppress(OSError):  # it had to give way
                connection.sendall((b"", b"POST /v1/mod", head(10**6) + b"{")[number % 3])
            if number % MAX_CONNECTIONS == 0:
                assert_rows(server.predict({"instances": instances(0)})[1]["predictions"], 0)
        assert server.ask("GET", f"/v1/models/{MODEL}")[0] == 200
        assert_rows(server.predict({"instances": instances(1)})[1]["predictions"], 1)
        assert open_files(server) < MAX_CONNECTIONS + BACKLOG + DESCRIPTORS


def test_calls_without_a_message_keep_nobody_out(server):
    """They give way to later ones, and health is told all the while."""
    silent = threading.Event()

    def messages():
        silent.wait(ANSWER_SECONDS)
        yield from ()

    try:
        with grpc.insecure_channel(server.grpc) as channel:
            methods = ("tensorflow.serving.PredictionService/Predict", "grpc.health.v1.Health/Check")
            calls = [channel.stream_unary(f"/{methods[number % 2]}").future(messages()) for number in range(200)]
            with grpc.insecure_channel(server.grpc, [("grpc.use_local_subchannel_pool", 1)]) as other:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(other)
                assert stub.Predict(predict_request(0), timeout=ANSWER_SECONDS).model_spec.name == MODEL
                health = health_pb2_grpc.HealthStub(other)
                answer = health.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            wait_for(lambda: sum(call.done() for call in calls) >= len(calls) - 2 * READERS, "most have given way")
    finally:
        silent.set()


def test_bodies_that_do_not_end_keep_nobody_out(server):
    """Together they would take all that requests may, each but one byte of the largest request."""
    size = 32 * 2**20
    with ExitStack() as unfinished:
        for _ in range(IN_FLIGHT + 1):
            connection = unfinished.enter_context(socket.create_connection(address(server), timeout=ANSWER_SECONDS))
            with suppress(OSError):  # it had to give way
                connection.sendall(head(size) + b" " * (size - 1))
            code, answer = server.predict({"instances": instances(0)})
            assert code == 200, answer
            assert_rows(answer["predictions"], 0)


def test_idle_connections_of_grpc_keep_nobody_out(server):
    """More than REST takes, each after HTTP/2's first words."""
    with ExitStack() as idle:
        for _ in range(MAX_CONNECTIONS + 50):
            connection = idle.enter_context(
                socket.create_connection(server.grpc.rsplit(":", 1), timeout=ANSWER_SECONDS)
            )
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            assert connection.recv(1)
        with grpc.insecure_channel(server.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS, wait_for_ready=True
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_flood_of_bad_requests_is_no_flood_of_log_lines(server):
    start_size, begin = server.log.stat().st_size, time.monotonic()
    for _ in range(100):
        assert exchange(server, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    with server.log.open() as log:
        log.seek(start_size)
        lines = log.read().splitlines()
    assert len(lines) <= 2 + (time.monotonic() - begin)


# --- hosts and origins ------------------------------------------------------------------------------------------------


def test_other_hosts_and_origins_are_refused(server):
    for host, code in (("localhost", 200), ("vqa.test:1", 200), ("evil.test", 403), ("localhost.evil.test", 403)):
        for method, path in (("GET", f"/v1/models/{MODEL}"), ("GET", "/monitoring/prometheus/metrics")):
            assert server.ask_raw(method, path, Host=host)[0] == code, host
        assert server.ask_raw("POST", PREDICT, {"instances": instances(0)}, Host=host)[0] == code
    own = f"http://{server.rest}"
    for origin, code in ((own, 200), ("null", 403), ("http://127.0.0.1:1", 403), (own.replace("http", "https"), 403)):
        status, content = server.ask_raw("POST", PREDICT, {"instances": instances(0)}, Origin=origin)
        assert status == code, origin
        if code == 403:
            assert json.loads(content)["error"] == (
                f"the origin {origin!r} is not served; start the server with --allow-origin"
            )


def test_only_allowed_origins_get_headers_for_it(server):
    said = exchange(server, request_of(instances(0), "Origin: https://page.test", "Connection: close")).decode().lower()
    assert said.startswith("http/1.1 200")
    assert "access-control-allow-origin: https://page.test\r\n" in said
    ask_first = f"OPTIONS {PREDICT} HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\nConnection: close\r\n\r\n"
    said = exchange(server, (ask_first % "https://page.test").encode()).decode().lower()
    assert said.startswith("http/1.1 200")
    assert "access-control-allow-methods: get, post, options\r\n" in said
    for origin in ("https://evil.test", "null"):
        said = exchange(server, (ask_first % origin).encode()).decode().lower()
        assert said.startswith("http/1.1 403")
        assert "access-control" not in said


# --- requests ---------------------------------------------------------------------------------------------------------


def nested(levels: int, value: bytes = b"1") -> bytes:
    return b"[" * levels + value + b"]" * levels


def tensors_body(value: bytes) -> bytes:
    names = ("input_ids", "token_type_ids", "attention_mask", "pixel_values", "pixel_mask")
    return b'{"signature_name": "tensors", "inputs": {%s}}' % b", ".join(
        b'"%s": %s' % (n.encode(), value) for n in names
    )


BAD_BODIES = {
    "half a surrogate pair": b'{"instances": [{"image": {"b64": ""}, "text": "\\ud800"}]}',
    "half a pair as base64": b'{"instances": [{"image": {"b64": "\\udfff"}, "text": "a"}]}',
    "half a pair as a name": b'{"instances": [{"image": {"b64": ""}, "\\ud800": "a"}]}',
    "half a pair as a number": b'{"signature_name": "tensors", "instances": ["\\ud800"]}',
    "half a pair as a signature": b'{"signature_name": "\\ud800", "instances": [1]}',
    "65 levels of numbers": tensors_body(nested(65)),
    "65 levels of strings": b'{"inputs": {"image": %s, "text": %s}}' % (nested(65, b'"a"'), nested(65, b'"a"')),
    "900 levels": b'{"instances": ' + nested(900) + b"}",
    "900 levels beside": b'{"signature_name": ' + nested(900) + b"}",
    "100,000 levels": b'{"instances": ' + nested(100_000) + b"}",
    "a signature of TensorFlow's own": b'{"signature_name": "__saved_model_init_op", "instances": [1]}',
    "a long name": b'{"instances": [{"%s": 1}]}' % (b"x" * 24_000),
    "a long signature": b'{"signature_name": "%s", "instances": [1]}' % (b"x" * 24_000),
    "long numbers": tensors_body(b"[" + b"9" * 4_000 + b"]"),
    "very long numbers": tensors_body(b"[" + b"9" * 24_000 + b"]"),
    "more lists than fit": b'{"instances": [' + b"[]," * 10_000_000 + b"1]}",
    "rows of text": b'{"instances": ["a", "b"]}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_requests_are_400_with_one_short_sentence(server, body):
    code, answer = server.predict(body)
    assert code == 400, answer
    assert len(answer["error"]) <= MAX_SENTENCE
    assert "\n" not in answer["error"]


def test_signatures_of_tensorflow_itself_are_refused_by_grpc_as_well(server, predict):
    request = predict_request(0)
    request.model_spec.signature_name = "__saved_model_init_op"
    code, sentence = refusal(predict, request)
    assert code == "FAILED_PRECONDITION"  # TF Serving's for a signature that there is not
    assert "__saved_model_init_op" in sentence


def test_signatures_of_tensorflow_itself_are_not_listed(server):
    signatures = server.ask("GET", f"/v1/models/{MODEL}/metadata")[1]["metadata"]["signature_def"]["signature_def"]
    assert signatures.keys() == {"serving_default", "tensors"}


def test_megabytes_of_text_are_a_bad_row(server):
    rows = [instance(questions()[0][0], "a " * 10_000_000), *instances(0)]
    code, answer = server.predict({"instances": rows})
    assert code == 200
    assert answer["predictions"][0]["status"] == ("text: there are 20000000 characters to read, at most 262144 are")
    assert_rows(answer["predictions"][1:], 0)


def test_an_image_in_base64_that_is_not_marked_is_told_so(server):
    (row,) = instances(0)
    code, answer = server.predict({"instances": [row | {"image": row["image"]["b64"]}, row]})
    assert code == 200
    status = answer["predictions"][0]["status"]
    assert status.startswith("image: not a JPEG, PNG, GIF or BMP (")
    assert status.endswith('; it is base64, which has to be written {"b64": "…"} in JSON')
    assert_rows(answer["predictions"][1:], 0)


def test_an_address_in_place_of_an_image_is_not_fetched(server):
    """Were it looked at, the sentence would say that the address is not public."""
    (row,) = instances(0)
    code, answer = server.predict({"instances": [row | {"image": f"http://{server.rest}/v1/models/{MODEL}"}, row]})
    assert code == 200
    assert answer["predictions"][0]["status"].startswith("image: not a JPEG, PNG, GIF or BMP (")
    assert_rows(answer["predictions"][1:], 0)


def tensors_request(**repeats: tuple) -> object:
    """Makes a request of the signature `tensors`, in which each input is one value that stands for a whole shape."""
    request = predict_request(0, signature="tensors", image=None, text=None)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        request.inputs[name].CopyFrom(repeated(np.int32(1), 1, 40))
    for name, (value, *shape) in repeats.items():
        request.inputs[name].CopyFrom(repeated(value, *shape))
    return request


def test_a_value_that_stands_for_many_is_refused_before_it_grows(server, predict):
    before = server.resident_kilobytes()
    for inputs in (
        {"image": repeated(b"", 4_000_000), "text": repeated(b"a", 4_000_000)},
        {"image": repeated(questions()[0][0], 1_000_000), "text": repeated(b"a", 1_000_000)},
        {"image": repeated(b"", 2**40), "text": repeated(b"a", 2**40)},
        {"image": repeated(b"", 2**62, 2**62), "text": repeated(b"a", 1)},
    ):
        request = predict_request(0)
        for name, tensor in inputs.items():
            request.inputs[name].CopyFrom(tensor)
        code, sentence = refusal(predict, request)
        assert code == "INVALID_ARGUMENT", sentence
    for side in (1600, 2900):  # ten thousand patches of an image, which fit into a request; and what does not
        request = tensors_request(
            pixel_values=(np.float32(0.5), 1, side, side, 3), pixel_mask=(np.int32(1), 1, side, side)
        )
        assert request.ByteSize() < 300
        assert refusal(predict, request)[0] == "INVALID_ARGUMENT"
    assert server.resident_kilobytes() - before < 300_000


def test_messages_that_swell_are_refused_before_they_are_parsed(server, predict):
    """Fields that nobody reads: two bytes each, which would take a hundred in memory."""
    swollen = predict_request(0)
    swollen.inputs["text"].variant_val.extend([VariantTensorDataProto()] * 4_000_000)
    before = server.resident_kilobytes()
    code, sentence = refusal(predict, swollen)
    assert code == "INVALID_ARGUMENT"
    assert "in memory, at most 67108864 are taken" in sentence
    assert server.resident_kilobytes() - before < 300_000
    request = predict_request(0)
    request.inputs["text"].string_val[:] = []
    request.inputs["text"].int64_val.extend([1] * 30_000_000)
    assert refusal(predict, request)[0] == "INVALID_ARGUMENT"


def test_tensors_without_rows_are_refused_before_they_grow(server, predict):
    before = server.resident_kilobytes()
    for length in (50_000_000, 1_000_000):  # more than a request holds; and more than the model takes
        request = tensors_request(
            pixel_values=(np.float32(0.5), 0, 64, 64, 3),
            pixel_mask=(np.int32(1), 0, 64, 64),
            **{name: (np.int32(1), 0, length) for name in ("input_ids", "token_type_ids", "attention_mask")},
        )
        for tensor in request.inputs.values():
            tensor.int_val[:] = tensor.float_val[:] = []
        assert refusal(predict, request)[0] == "INVALID_ARGUMENT"
    assert server.resident_kilobytes() - before < 300_000


def test_tensors_that_are_none(server, predict):
    for dtype in {9999, *types_pb2.DataType.values()} - {types_pb2.DT_STRING}:
        request = predict_request(0)
        request.inputs["text"].dtype = dtype
        code, sentence = refusal(predict, request)
        assert code == "INVALID_ARGUMENT", (dtype, sentence)
        assert len(sentence) <= MAX_SENTENCE
    request = predict_request(0)
    request.inputs["text"].tensor_shape.dim.extend([request.inputs["text"].tensor_shape.dim[0]] * 300)
    assert refusal(predict, request)[0] == "INVALID_ARGUMENT"
    request = predict_request(0)
    request.inputs["x" * 24_000].CopyFrom(request.inputs["text"])
    code, sentence = refusal(predict, request)
    assert (code, len(sentence) <= MAX_SENTENCE) == ("INVALID_ARGUMENT", True)

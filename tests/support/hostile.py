"""Good and hostile requests of every kind, with checks of how each must be answered."""

import http.client
import json
import os
import socket
from contextlib import ExitStack
from functools import cache
from io import BytesIO

import grpc
import numpy as np
from PIL import Image

from support.server import ANSWER_SECONDS, MODEL, Server, assert_rows, encoded, instance, instances, questions

MAX_MEGABYTES = 4  # of the server; larger requests are refused
READ_SECONDS = 5.0  # of the server; slower requests are refused


def huge_png() -> bytes:
    """Makes a PNG whose header claims 50,000 x 50,000 pixels."""
    content = bytearray(encoded(np.zeros((1, 1, 3), np.uint8)))
    content[16:24] = (50_000).to_bytes(4, "big") * 2
    return bytes(content)


def truncated() -> bytes:
    return questions()[0][0][:150]


@cache
def many_scans(side: int = 200, scans: int = 4000) -> bytes:
    """Makes a progressive JPEG whose last scan is repeated."""
    file = BytesIO()
    Image.new("RGB", (side, side)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * scans + content[-2:]


@cache
def many_comments(count: int = 500_000) -> bytes:
    """Makes a GIF with empty comments before its frame."""
    file = BytesIO()
    Image.new("P", (8, 8)).save(file, "GIF")
    content = file.getvalue()
    at = content.rindex(b",", 0, content.rindex(b";"))
    return content[:at] + b"!\xfe\0" * count + content[at:]


@cache
def damaged_png() -> bytes:
    content = bytearray(questions()[0][0])
    content[len(content) // 2] ^= 1
    return bytes(content)


@cache
def webp(side: int = 2000) -> bytes:
    file = BytesIO()
    Image.new("RGB", (side, side)).save(file, "WEBP")
    return file.getvalue()


BAD_ROWS = {  # image, text, how the status begins
    "corrupt image": lambda: (truncated(), "what?", "image: "),
    "empty image": lambda: (b"", "what?", "image: "),
    "huge image": lambda: (huge_png(), "what?", "image: 50000 x 50000 pixels"),
    "no image": lambda: (os.urandom(2000), "what?", "image: not a JPEG, PNG, GIF or BMP"),
    "JPEG of many scans": lambda: (many_scans(), "what?", "image: "),
    "GIF of many comments": lambda: (many_comments(), "what?", "image: "),
    "damaged PNG": lambda: (damaged_png(), "what?", "image: "),
    "WebP": lambda: (webp(), "what?", "image: "),
    "long text": lambda: (questions()[0][0], "a " * 2**19, "text: there are 1048576 characters to read"),
    "empty text": lambda: (questions()[0][0], "  ", "text: it is empty"),
}


def post(server: Server, body: bytes | dict) -> tuple[int, dict]:
    """Returns status and answer of a request, which is sent in one piece: between two pieces, a busy machine may pause
    for longer than `READ_SECONDS`."""
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(len(body)) + body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, json.loads(response.read())


def good(server: Server, rng: np.random.Generator):
    rows = rng.integers(0, len(questions()), rng.integers(1, 5)).tolist()
    code, answer = post(server, {"instances": instances(*rows)})
    assert code == 200, answer
    assert_rows(answer["predictions"], *rows)


def bad_row(kind: str):
    def send(server: Server, rng: np.random.Generator):
        image, text, status = BAD_ROWS[kind]()
        rows = rng.integers(0, len(questions()), 2).tolist()
        body = instances(*rows)
        body.insert(1, instance(image, text))
        code, answer = post(server, {"instances": body})
        assert code == 200, answer
        bad = answer["predictions"].pop(1)
        assert bad["status"].startswith(status), bad
        assert not any(bad["answers"])
        assert_rows(answer["predictions"], *rows)

    return send


def refused(code: int, body):
    def send(server: Server, rng: np.random.Generator):
        got, answer = post(server, body() if callable(body) else body)
        assert got == code, answer
        assert answer["error"]

    return send


def address(server: Server) -> tuple[str, int]:
    host, _, port = server.rest.rpartition(":")
    return host, int(port)


def head(length: int) -> bytes:
    return f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def cut_off_while_sending(server: Server, rng: np.random.Generator):
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(10_000) + b'{"instances": [')


def cut_off_while_waiting(server: Server, rng: np.random.Generator):
    body = json.dumps({"instances": instances(0, 1)}).encode()
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(len(body)) + body)


def cut_off_in_the_middle(server: Server, rng: np.random.Generator):
    """Closes the connection during a request of many batches, the rest of which is not run."""
    body = json.dumps({"instances": instances(0) * 100}).encode()
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(len(body)) + body)


def slow_body(server: Server, rng: np.random.Generator):
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(10_000) + b"{")
        assert connection.recv(12) == b"HTTP/1.1 408"


def slow_head(server: Server, rng: np.random.Generator):
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(b"POST /v1/models/x:predict HTTP/1.1\r\nHos")
        assert connection.recv(1) == b""  # closed


def half_closed(server: Server, rng: np.random.Generator):
    body = json.dumps({"instances": instances(0)}).encode()
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(len(body)) + body)
        connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200
        assert_rows(json.loads(response.read())["predictions"], 0)


def two_lengths(server: Server, rng: np.random.Generator):
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(5).replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + b"0\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 400"


def other_host(server: Server, rng: np.random.Generator):
    with socket.create_connection(address(server), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(head(0).replace(b"localhost", b"evil.test"))
        assert connection.recv(12) == b"HTTP/1.1 403"


def idle(server: Server, rng: np.random.Generator):
    """Opens many connections that send nothing, and closes them after others have been answered."""
    with ExitStack() as connections:
        for _ in range(25):
            connections.enter_context(socket.create_connection(address(server), timeout=ANSWER_SECONDS))
        good(server, rng)


def grows(server: Server, rng: np.random.Generator):
    """Sends a gRPC request of a few bytes that stands for many rows."""
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    from support.grpc_requests import predict_request, refusal, repeated

    request = predict_request(0, image=None, text=None)
    for name in ("image", "text"):
        request.inputs[name].CopyFrom(repeated(b"a", 4_000_000))
    with grpc.insecure_channel(server.grpc) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        assert refusal(predict, request)[0] == "INVALID_ARGUMENT"


HOSTILE_KINDS = {
    **{kind: bad_row(kind) for kind in BAD_ROWS},
    "text is a number": refused(400, {"instances": [{"image": {"b64": ""}, "text": 5}]}),
    "bad base64": refused(400, {"instances": [{"image": {"b64": "?"}, "text": "a"}]}),
    "no JSON": refused(400, lambda: os.urandom(1000)),
    "nested": refused(400, b'{"instances": ' + b"[" * 100_000),
    "empty": refused(400, b""),
    "too large": refused(413, lambda: b" " * (MAX_MEGABYTES * 2**20 + 1)),
    "lists": refused(400, lambda: b'{"instances": [' + b"[]," * 10**6 + b"1]}"),
    "half a surrogate pair": refused(400, b'{"instances": [{"image": {"b64": ""}, "text": "\\ud800"}]}'),
    "half-closed": half_closed,
    "two lengths": two_lengths,
    "other host": other_host,
    "idle connections": idle,
    "a tensor that grows": grows,
    "cut off while sending": cut_off_while_sending,
    "cut off while waiting": cut_off_while_waiting,
    "cut off in the middle": cut_off_in_the_middle,
    "slow body": slow_body,
    "slow head": slow_head,
}

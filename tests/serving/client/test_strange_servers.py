"""Behind `--server` there may be anything: what is no model server is said in one sentence, and never read for ever."""

import itertools
import json
import socket
import threading
from contextlib import contextmanager

import pytest
from support.cli import fails
from support.paths import DATA

from tfvl.serving.client import rest
from tfvl.serving.client.client import Client, DeadlineExceededError, RequestRefusedError

GUARD = 600  # seconds: against waiting for ever, no measure of anything
OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def saying(make_chunks):
    """Yields a server's address; it sends what `make_chunks()` yields to each client, as long as that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed
                    return
                with connection:
                    try:
                        connection.recv(2**16)
                        for chunk in make_chunks():
                            connection.sendall(chunk)
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(2**16):  # to close with a request unread would reset the connection
                            pass
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def body(answer) -> list[bytes]:
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return [OK, b"Content-Length: %d\r\n\r\n" % len(content), content]


SIGNATURE = {
    "inputs": {"text": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}},
    "outputs": {},
}
STRANGE = {
    "another service": {"message": "hello", "items": [1, 2]},
    "metadata of another kind": {"metadata": [1]},
    "states of another kind": {"model_version_status": [{"version": "one"}]},
    "states that are no list": {"model_version_status": 5},
    "signatures of another kind": {"metadata": {"signature_def": {"signature_def": {"serving_default": 5}}}},
    "sizes that are none": {
        "metadata": {
            "signature_def": {
                "signature_def": {"a": {"inputs": {"x": {"dtype": 1, "tensor_shape": {"dim": [{"size": "big"}]}}}}}
            }
        },
        "model_version_status": [{}],
    },
    "no object": [1, 2],
    "no JSON": b"<html>hello</html>",
    "deep": b"[" * 200_000,
    "half a surrogate pair": b'{"outputs": "\\ud800"}',
    "too few rows": {"outputs": {"answers": [], "status": []}},
    "a number": {"outputs": 5},
    "ragged": {"outputs": {"answers": [[1, 2], [3]], "status": [[[]]]}},
    "huge numbers": {"outputs": {"scores": [10**400]}},
    "wrong base64": {"outputs": {"scores": [{"b64": 5}]}},
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE)
def test_answers_of_another_service(answer):
    with saying(lambda: body(answer)) as address, Client(address, "vqa", timeout=GUARD, retries=0) as client:
        for ask in (lambda: client.ask("a"), lambda: client.signatures, client.status):
            with pytest.raises(RequestRefusedError) as caught:
                ask()
            assert str(caught.value).startswith(f"http://{address} gave an answer that ")
            assert "\n" not in str(caught.value)


def test_errors_are_short_and_one_line():
    for error in ("x\n" * 100_000, ["x" * 100_000], "\ud800"):
        content = json.dumps({"error": error}).encode()
        said = [b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(content), content]
        with saying(lambda said=said: said) as address, Client(address, "vqa", timeout=GUARD, retries=0) as client:
            with pytest.raises(RequestRefusedError, match="refused the request") as caught:
                client.ask("a")
            assert len(str(caught.value)) < 1200
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "start", [OK + b"\r\n", OK + b"Content-Length: 4600000000\r\n\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_a_body_without_an_end(monkeypatch, start):
    monkeypatch.setattr(rest, "MAX_ANSWER_BYTES", 2**20)
    chunk = b"10000\r\n" + b" " * 2**16 + b"\r\n" if b"chunked" in start else b" " * 2**16
    with saying(lambda: itertools.chain([start], itertools.repeat(chunk))) as address:
        client = Client(address, "vqa", timeout=GUARD, retries=0)
        with pytest.raises(RequestRefusedError, match="gave more than 1048576 bytes"):
            client.ask("a")
        client.close()


@pytest.mark.parametrize(
    ("start", "chunk"),
    [(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (OK, b"X"), (OK + b"Content-Length: 99\r\n\r\n", b"")],
    ids=["interim answers", "one header", "silence"],
)
def test_no_answer_takes_longer_than_the_client_waits(start, chunk):
    """Each single read has an end."""
    over = threading.Event()

    def chunks():
        yield start
        while not over.wait(0.01):
            yield chunk

    with saying(chunks) as address, Client(address, "vqa", timeout=0.5, retries=0) as client:
        with pytest.raises(DeadlineExceededError):
            client.ask("a")
        over.set()


def test_the_command_says_it_in_one_line(capsys):
    with saying(lambda: body({"message": "hello"})) as address:
        words = fails(capsys, "ask", DATA / "cat.webp", "what?", "--server", address, "--model", "vqa")
        assert "gave an answer that a model server does not give; is it one?" in words

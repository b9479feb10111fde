"""Requests to TF Serving over REST."""

import base64
import http.client
import json
import socket
import threading
import time
from contextlib import suppress
from urllib.parse import quote, urlsplit

import numpy as np

from tfvl.serving.client.errors import HTTP_STATUS, MAX_SENTENCE
from tfvl.serving.client.transport import (
    MAX_ANSWER_BYTES,
    DeadlineExceededError,
    Model,
    RequestRefusedError,
    ServerUnavailableError,
    Spec,
    understood,
)

_CHUNK = 1 << 16
_CODES = {status: code for code, status in reversed(HTTP_STATUS.items())}  # the first of the codes with that status
_TRY_AGAIN = (HTTP_STATUS["RESOURCE_EXHAUSTED"], HTTP_STATUS["UNAVAILABLE"])


class Rest:
    """Calls a server over HTTP. Each calling thread keeps a connection open."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self.server = f"{parts.scheme}://{parts.netloc}"
        self._class = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._threads = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def predict(self, model: Model, signature: str, inputs: dict[str, np.ndarray], seconds: float) -> dict:
        columns = {name: _to_json(value.tolist()) for name, value in inputs.items()}
        body = json.dumps({"signature_name": signature, "inputs": columns}).encode()
        answer = self._call("POST", f"{_path(model)}:predict", body, seconds)
        with understood(self.server):
            outputs = answer["outputs"]
            if not isinstance(outputs, dict):  # of a signature with one output, TF Serving sends the values alone
                outputs = {"outputs": outputs}
            return {name: _from_json(value) for name, value in outputs.items()}

    def metadata(self, model: Model, seconds: float) -> dict:
        answer = self._call("GET", f"{_path(model)}/metadata", None, seconds)
        with understood(self.server):
            signatures = answer["metadata"]["signature_def"]["signature_def"]
            return {
                name: {
                    side: {key: _json_spec(info) for key, info in signature.get(side, {}).items()}
                    for side in ("inputs", "outputs")
                }
                for name, signature in signatures.items()
            }

    def status(self, model: Model, seconds: float) -> dict[int, str]:
        answer = self._call("GET", _path(model), None, seconds)
        with understood(self.server):
            return {int(one["version"]): str(one["state"]) for one in answer["model_version_status"]}

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    def _call(self, method: str, path: str, body: bytes | None, seconds: float) -> dict:
        deadline = time.monotonic() + seconds
        fresh = getattr(self._threads, "connection", None) is None
        try:
            return self._attempt(method, path, body, deadline)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
                raise DeadlineExceededError(f"{self.server} gave no answer in the time allowed") from None
            if not isinstance(error, http.client.RemoteDisconnected | BrokenPipeError | ConnectionResetError):
                raise ServerUnavailableError(f"{self.server} cannot be reached: {error}") from None
            if fresh:
                raise ServerUnavailableError(
                    f"{self.server} closed the connection without an answer: {error}"
                ) from None
        return self._call(method, path, body, deadline - time.monotonic())  # it had been idle for too long

    def _attempt(self, method: str, path: str, body: bytes | None, deadline: float) -> dict:
        connection = self._connection(deadline)
        # A timeout of the socket is about one read, and a server may send byte after byte.
        guard = threading.Timer(_remaining(deadline), _hang_up, [connection])
        guard.daemon = True
        guard.start()
        try:
            connection.request(method, self._prefix + path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            chunks, read = [], 0
            while chunk := response.read1(_CHUNK):
                chunks.append(chunk)
                read += len(chunk)
                if read > MAX_ANSWER_BYTES:
                    raise RequestRefusedError("UNKNOWN", f"{self.server} gave more than {MAX_ANSWER_BYTES} bytes")
            response.read()  # reads nothing, but without it the connection does not know that it is free again
            _remaining(deadline)  # what was read after it may have been cut off
        except BaseException:
            self._forget()
            raise
        finally:
            guard.cancel()
        if response.will_close:
            self._forget()
        return _checked(self.server, response.status, b"".join(chunks))

    def _connection(self, deadline: float) -> http.client.HTTPConnection:
        connection = getattr(self._threads, "connection", None)
        if connection is None:
            connection = self._class(self._host, self._port, timeout=_remaining(deadline))
            self._threads.connection = connection
            self._open.append(connection)
        elif connection.sock is not None:
            connection.sock.settimeout(_remaining(deadline))
        return connection

    def _forget(self) -> None:
        connection, self._threads.connection = self._threads.connection, None
        connection.close()
        self._open.remove(connection)


def _checked(server: str, status: int, body: bytes) -> dict:
    """Returns the JSON object of an answer, or raises the error that its HTTP status and its body stand for."""
    with suppress(ValueError, RecursionError):
        answer = json.loads(body)
        if status == 200 and isinstance(answer, dict):
            return answer
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):
            body = answer["error"].encode("utf-8", "replace")
    if status == 200:
        raise RequestRefusedError("UNKNOWN", f"{server} gave an answer that is no JSON object; is it a model server?")
    words = " ".join(body[:MAX_SENTENCE].decode("utf-8", "replace").split())
    if status in _TRY_AGAIN:
        raise ServerUnavailableError(f"{server} cannot answer now ({status}): {words}")
    if status == HTTP_STATUS["DEADLINE_EXCEEDED"]:
        raise DeadlineExceededError(f"{server} took too long ({status}): {words}")
    raise RequestRefusedError(_CODES.get(status, "UNKNOWN"), f"{server} refused the request ({status}): {words}")


def _hang_up(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):  # it is closed already
        connection.sock.shutdown(socket.SHUT_RDWR)


def _remaining(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _path(model: Model) -> str:
    path = f"/v1/models/{quote(model.name, safe='')}"
    if model.version is not None:
        return f"{path}/versions/{model.version}"
    return f"{path}/labels/{quote(model.label, safe='')}" if model.label is not None else path


def _to_json(value):
    """Turns values into what JSON can hold: nested lists, bytes as text if they are UTF-8 and else as {"b64": …}."""
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return value


def _from_json(value) -> np.ndarray:
    """Turns nested lists into an array of float32, int64, bool, or bytes."""
    array = np.asarray(value, object)
    flat = array.reshape(-1)
    if all(isinstance(item, bool) for item in flat):
        return array.astype(bool) if len(flat) else np.asarray(value, np.float32)
    if all(isinstance(item, int | float) for item in flat):
        return array.astype(np.int64 if all(isinstance(item, int) for item in flat) else np.float32)
    strings = [base64.b64decode(item["b64"]) if isinstance(item, dict) else str(item).encode() for item in flat]
    result = np.empty(len(strings), object)
    result[:] = strings
    return result.reshape(array.shape)


def _json_spec(info: dict) -> Spec:
    shape = info.get("tensor_shape", {})
    sizes = tuple(None if int(dim["size"]) < 0 else int(dim["size"]) for dim in shape.get("dim", []))
    return Spec(dtype=info["dtype"], shape=None if shape.get("unknown_rank") else sizes)

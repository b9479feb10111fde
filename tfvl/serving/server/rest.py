"""The REST interface of TF Serving, as a FastAPI application; and what keeps slow and huge requests from doing harm."""

import asyncio
import json
import re
from collections.abc import Callable
from urllib.parse import unquote

import anyio
from fastapi import FastAPI, Request, Response
from google.protobuf.json_format import MessageToDict
from starlette.requests import ClientDisconnect
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from uvicorn.protocols.http.h11_impl import H11Protocol

from tfvl.serving.client.errors import HTTP_STATUS, RequestError, invalid
from tfvl.serving.server import json_tensors
from tfvl.serving.server.configs import METRICS_PATH
from tfvl.serving.server.servable import DEFAULT_SIGNATURE
from tfvl.serving.server.service import Service, predict, signature_of

# As in tensorflow_serving/model_servers/http_rest_api_util.cc; names are decoded after the match.
_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"(?i)/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<method>classify|regress|predict)")
_GET = re.compile(rf"(?i)/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?P<metadata>/metadata)?")
_METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]
_LARGEST_VERSION = 2**63 - 1

THREADS = 32  # requests that are read, run and written at the same time
LARGE, LARGE_AT_ONCE = 4 * 2**20, 2  # bodies of so many bytes are worked on by so few threads: lists take much memory
BODIES_IN_MEMORY = 8  # times the largest body
DISCARD = 8  # times the largest body that is read and thrown away, so that the client gets to read the answer


class RefusedBodyError(Exception):
    """A body that was not read to its end; the arguments are HTTP status and sentence."""


def application(service: Service, *, max_bytes: int, read_seconds: float) -> FastAPI:
    """The application.

    Args:
        max_bytes: the largest body of a request; larger ones get 413.
        read_seconds: within which a body must have arrived; slower ones get 408.
    """
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    bodies = Bodies(max_bytes, read_seconds)
    threads, large = anyio.CapacityLimiter(THREADS), anyio.CapacityLimiter(LARGE_AT_ONCE)

    @app.get(METRICS_PATH)
    def prometheus() -> Response:
        return Response(service.metrics.render(), media_type="text/plain")

    @app.api_route("/{path:path}", methods=_METHODS)
    async def everything(request: Request) -> Response:
        path = request.scope["raw_path"].decode("ascii", "replace").partition("?")[0]
        try:
            body = await bodies.read(request)
        except RefusedBodyError as refusal:
            status, sentence = refusal.args
            return _response(status, json_tensors.write_error(sentence), {"Connection": "close"})
        except ClientDisconnect:
            return Response(status_code=HTTP_STATUS["CANCELLED"])

        def wanted() -> bool:
            return not anyio.from_thread.run(request.is_disconnected)

        try:
            limiter = large if len(body) > LARGE else threads
            return await anyio.to_thread.run_sync(answer, service, request.method, path, body, wanted, limiter=limiter)
        finally:
            bodies.forget(body)

    return app


class Bodies:
    """Reads the bodies of requests within limits."""

    def __init__(self, max_bytes: int, read_seconds: float):
        self._max_bytes, self._read_seconds = max_bytes, read_seconds
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The body; `forget` it afterwards. Raises RefusedBodyError."""
        chunks, read, held, refusal = [], 0, 0, None
        try:
            async with asyncio.timeout(self._read_seconds):
                async for chunk in request.stream():
                    read += len(chunk)
                    refusal = refusal or self._refusal(read, len(chunk))
                    if not refusal:
                        chunks.append(chunk)
                        held += len(chunk)
                        self._held += len(chunk)
                    elif read > DISCARD * self._max_bytes:
                        break
            if refusal:
                raise refusal
        except BaseException as error:
            self._held -= held
            if isinstance(error, TimeoutError):
                raise RefusedBodyError(
                    408, f"the request did not arrive within {self._read_seconds:g} seconds"
                ) from None
            raise
        return b"".join(chunks)

    def _refusal(self, read: int, more: int) -> RefusedBodyError | None:
        if read > self._max_bytes:
            return RefusedBodyError(
                413, f"the request is larger than {self._max_bytes} bytes, the most this server takes"
            )
        if self._held + more > BODIES_IN_MEMORY * self._max_bytes:
            return RefusedBodyError(503, "too many large requests at once; try again")
        return None

    def forget(self, body: bytes) -> None:
        self._held -= len(body)


def answer(service: Service, method: str, path: str, body: bytes, wanted: Callable[[], bool]) -> Response:
    """The response to a request, errors among them; once it is no longer `wanted`, nothing more is computed for it."""
    try:
        if not path.lower().startswith("/v1/"):
            raise RequestError("NOT_FOUND", f"Unexpected path: {path}")
        match = {"POST": _POST, "GET": _GET}.get(method, re.compile("(?!)")).fullmatch(path)
        if not match:
            raise invalid(f"Malformed request: {method} {path}")
        parts = match.groupdict()
        if not parts["name"]:
            raise invalid("Missing model name in request.")
        which = unquote(parts["name"]), _version(parts["version"]), unquote(parts["label"] or "")
        if method == "GET":
            return _response(200, _metadata(service, which) if parts["metadata"] else _status(service, which))
        if parts["method"].lower() != "predict":
            method = parts["method"].lower()
            raise invalid(
                f"Expected a signature with method_name tensorflow/serving/{method}. Was: tensorflow/serving/predict"
            )
        with service.counted(which[0], "REST"):
            return _response(200, _predict(service, which, body, wanted))
    except RequestError as error:
        return _response(HTTP_STATUS[error.code], json_tensors.write_error(str(error)))
    except Exception as error:
        return _response(500, json_tensors.write_error(f"{type(error).__name__}: {error}"))


def _predict(service: Service, which: tuple, body: bytes, wanted: Callable[[], bool]) -> bytes:
    document = json_tensors.parse(body)
    name = json_tensors.signature_name(document) or DEFAULT_SIGNATURE
    with service.lease(*which) as version:
        signature = signature_of(version, name)
        if signature is None:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        inputs, as_rows = json_tensors.read(document, signature)
        return json_tensors.write(predict(version, name, inputs, wanted=wanted), as_rows)


def _status(service: Service, which: tuple) -> bytes:
    return _json(_as_dict(service.status(*which)))


def _metadata(service: Service, which: tuple) -> bytes:
    response = service.metadata(*which)
    signatures = SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return _json({"model_spec": _as_dict(response.model_spec), "metadata": {"signature_def": _as_dict(signatures)}})


def _as_dict(message) -> dict:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _json(document: dict) -> bytes:
    return json.dumps(document, indent=1).encode()


def _version(digits: str | None) -> int | None:
    if digits is None:
        return None
    if len(digits) > 19 or int(digits) > _LARGEST_VERSION:
        raise invalid(f"Failed to convert version: {digits[:100]} to numeric.")
    return int(digits)


def _response(status: int, content: bytes, headers: dict | None = None) -> Response:
    return Response(content, status, headers, media_type="application/json")


def patient_protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol, which also closes connections that have not begun a request within so many seconds."""

    class Protocol(H11Protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            self._seen = None
            self._look_again()

        def connection_lost(self, error):
            self._timer.cancel()
            super().connection_lost(error)

        def _look_again(self):
            self._timer = self.loop.call_later(seconds, self._look)

        def _look(self):
            waiting = self.cycle is None or self.cycle.response_complete
            if waiting and self.cycle is self._seen:
                self.transport.close()
            else:
                self._seen = self.cycle
                self._look_again()

    return Protocol

"""The REST interface of TF Serving as an ASGI application, with limits so that slow and huge requests do no harm."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

import anyio
from google.protobuf.json_format import MessageToDict
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from tfvl.serving.client.errors import HTTP_STATUS, RequestError, invalid
from tfvl.serving.server import json_tensors
from tfvl.serving.server.access import PREFLIGHT, Access
from tfvl.serving.server.configs import METRICS_PATH
from tfvl.serving.server.limits import Budget, Waiting
from tfvl.serving.server.page import HEADERS, Page
from tfvl.serving.server.servable import DEFAULT_SIGNATURE
from tfvl.serving.server.service import Service, predict, signature_of

# As in tensorflow_serving/model_servers/http_rest_api_util.cc; names are decoded after the match.
_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"(?i)/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<method>classify|regress|predict)")
_GET = re.compile(rf"(?i)/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?P<metadata>/metadata)?")
_LARGEST_VERSION = 2**63 - 1

THREADS = 32  # requests that are read, run and written at the same time
QUICK_THREADS = 4  # of these threads, kept for states and metrics, which are so answered under any load
LARGE, LARGE_AT_ONCE = 4 * 2**20, 2  # of bodies with so many bytes, only this many are parsed at once
# A body may take the place of one that has been under way for so long; a small one, of any other.
SMALL, UPLOAD_SECONDS = 2**16, 1.0
DISCARD = 8  # a refused body is read up to this times the largest size, because a client writes before it reads


class RefusedBodyError(Exception):
    """Says that a body was not read to its end; the arguments are the HTTP status and a sentence."""


def application(service: Service, access: Access, *, read_seconds: float, page: Page | None = None) -> ASGIApp:
    """Returns the ASGI application.

    Args:
        service: the models; bodies larger than its `max_bytes` get 413.
        access: the hosts and origins that are served; others get 403.
        read_seconds: the time within which a body must arrive; slower ones get 408.
        page: the page at `/`; with one, every answer has its headers. None: there is no page.
    """
    always = {} if page is None else HEADERS
    bodies = Bodies(service, read_seconds)
    threads, quick, large = map(anyio.CapacityLimiter, (THREADS, QUICK_THREADS, LARGE_AT_ONCE))
    parsing: list[Request] = []  # large ones, which hold a place of `large`

    async def answered(request: Request) -> Response:
        headers = request.headers
        if "transfer-encoding" in headers and "content-length" in headers:  # the two could disagree where it ends
            raise RefusedBodyError(400, "the request has both Transfer-Encoding and Content-Length")
        body = await bodies.read(request)
        try:
            more = access.check(headers.getlist("host"), headers.getlist("origin"))
            if more and request.method == "OPTIONS":
                return Response(headers=more | PREFLIGHT)
            response = await worked_out(request, body)
            response.headers.update(more)
            return response
        except RequestError as error:
            return _response(HTTP_STATUS[error.code], json_tensors.write_error(str(error)))
        finally:
            bodies.forget(body)

    async def worked_out(request: Request, body: bytes) -> Response:
        """Computes the answer in a thread; if the client goes away meanwhile, the rest is not computed."""
        connection, path = request.state.connection, request.scope["raw_path"].decode("ascii", "replace")

        async def is_wanted() -> bool:
            connection.look_for_client()
            return not await request.is_disconnected()

        def leave() -> None:
            if request in parsing:
                parsing.remove(request)
                large.release_on_behalf_of(request)

        arguments = service, request.method, path, body, lambda: anyio.from_thread.run(is_wanted), page
        limiter = threads if request.method == "POST" else quick
        if len(body) <= LARGE:
            return await anyio.to_thread.run_sync(answer, *arguments, limiter=limiter, abandon_on_cancel=True)
        await large.acquire_on_behalf_of(request)  # before a thread is, which others need
        parsing.append(request)
        try:
            arguments += (lambda: anyio.from_thread.run_sync(leave),)
            return await anyio.to_thread.run_sync(answer, *arguments, limiter=limiter, abandon_on_cancel=True)
        finally:
            leave()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await answered(Request(scope, receive))
        except RefusedBodyError as refusal:  # nothing can follow a request that was not read to its end
            status, sentence = refusal.args
            response = _response(status, json_tensors.write_error(sentence))
            response.headers["Connection"] = "close"
        except ClientDisconnect:
            response = Response(status_code=HTTP_STATUS["CANCELLED"])
        except asyncio.CancelledError:  # the time for finishing what is under way is over
            response = _response(HTTP_STATUS["UNAVAILABLE"], json_tensors.write_error("the server is shutting down"))
        response.headers.update(always)
        await response(scope, receive, send)

    return app


class Bodies:
    """Reads the bodies of requests within limits.

    Bodies that have not arrived hold at most a share of the budget. If that is used up, the one that has been under way
    for longest gives way, so that clients who do not send to the end keep nobody out.
    """

    def __init__(self, service: Service, read_seconds: float):
        self._max_bytes, self._budget, self._read_seconds = service.max_bytes, service.budget, read_seconds
        self._arriving, self._waiting = Budget(service.budget.most // 2), Waiting()

    async def read(self, request: Request) -> bytes:
        """Returns the body, to be given to `forget` afterwards. Raises RefusedBodyError."""
        upload = _Upload()
        try:
            async with asyncio.timeout(self._read_seconds) as limit:
                self._waiting.enter(upload, lambda: self._give_way(upload, limit))
                async for chunk in request.stream():
                    upload.read += len(chunk)
                    upload.refusal = upload.refusal or self._taken(upload, len(chunk))
                    if not upload.refusal:
                        upload.chunks.append(chunk)
                        upload.held += len(chunk)
                    elif upload.read > DISCARD * self._max_bytes:
                        break
            if upload.refusal:
                raise upload.refusal
        except BaseException as error:
            self._budget.give_back(upload.held)
            if isinstance(error, TimeoutError):
                late = RefusedBodyError(408, f"the request did not arrive within {self._read_seconds:g} seconds")
                raise (upload.refusal if upload.gave_way else late) from None
            raise
        finally:
            self._waiting.leave(upload)
            self._arriving.give_back(upload.held)
        return b"".join(upload.chunks)

    def _taken(self, upload: "_Upload", more: int) -> RefusedBodyError | None:
        if upload.read > self._max_bytes:
            return RefusedBodyError(
                413, f"the request is larger than {self._max_bytes} bytes, the most this server takes"
            )
        try:
            self._take_share(more, 0.0 if upload.read <= SMALL else UPLOAD_SECONDS)
            if upload.refusal:  # it was the one that gave way
                self._arriving.give_back(more)
                return upload.refusal
            try:
                self._budget.take(more)
            except RequestError:
                self._arriving.give_back(more)
                raise
        except RequestError as error:
            return RefusedBodyError(HTTP_STATUS[error.code], str(error))
        return None

    def _take_share(self, more: int, seconds: float) -> None:
        """Takes bytes for a body; others that have been under way for `seconds` give way. Raises RequestError."""
        while True:
            try:
                return self._arriving.take(more)
            except RequestError:
                if not self._waiting.end_first(seconds):
                    raise

    def _give_way(self, upload: "_Upload", limit: asyncio.Timeout) -> None:
        upload.gave_way = True
        upload.refusal = RefusedBodyError(HTTP_STATUS["UNAVAILABLE"], "the request arrives too slowly; try again")
        for budget in (self._budget, self._arriving):
            budget.give_back(upload.held)
        upload.held = 0
        upload.chunks.clear()
        if not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())

    def forget(self, body: bytes) -> None:
        self._budget.give_back(len(body))


@dataclass(eq=False)
class _Upload:
    """A body that has not arrived; `held` are its bytes that are taken from the budgets."""

    chunks: list[bytes] = field(default_factory=list)
    read: int = 0
    held: int = 0
    refusal: RefusedBodyError | None = None
    gave_way: bool = False


def answer(
    service: Service,
    method: str,
    path: str,
    body: bytes,
    wanted: Callable[[], bool],
    page: Page | None = None,
    parsed: Callable[[], object] = lambda: None,
) -> Response:
    """Returns the response to a request, which may be an error.

    Once `wanted()` is False, computing stops. `parsed` is called when a body has become arrays, before the model runs.
    """
    try:
        if page is not None and method in ("GET", "HEAD") and (found := page.get(path)) is not None:
            return found
        if (method, path) == ("GET", METRICS_PATH):
            return Response(service.metrics.render(), media_type="text/plain")
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
            return _response(200, _predict(service, which, body, wanted, parsed))
    except RequestError as error:
        return _response(HTTP_STATUS[error.code], json_tensors.write_error(str(error)))
    except Exception as error:
        internal = RequestError("INTERNAL", f"{type(error).__name__}: {error}")
        return _response(500, json_tensors.write_error(str(internal)))


def _predict(service: Service, which: tuple, body: bytes, wanted: Callable, parsed: Callable) -> bytes:
    nbytes = json_tensors.expanded_bytes(body)
    if nbytes > service.budget.most:
        raise invalid(f"the request's lists and objects take {nbytes} bytes, at most {service.budget.most} are taken")
    with service.budget.holding(nbytes):
        return _predicted(service, which, json_tensors.parse(body), wanted, parsed)


def _predicted(service: Service, which: tuple, document: dict, wanted: Callable, parsed: Callable) -> bytes:
    name = json_tensors.signature_name(document) or DEFAULT_SIGNATURE
    with service.lease(*which) as version:
        signature = signature_of(version, name)
        if signature is None:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        inputs, as_rows = json_tensors.read(document, signature)
        parsed()
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


def _response(status: int, content: bytes) -> Response:
    return Response(content, status, media_type="application/json")

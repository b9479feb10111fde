"""The gRPC interfaces of TF Serving: PredictionService, ModelService, and gRPC's own health service."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from operator import methodcaller

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from tfvl.serving.client.errors import RequestError, invalid
from tfvl.serving.server.limits import Waiting
from tfvl.serving.server.proto_tensors import described, to_array, to_proto
from tfvl.serving.server.servable import DEFAULT_SIGNATURE, check_inputs
from tfvl.serving.server.service import Service, predict, signature_of
from tfvl.serving.server.wire import grown_bytes

PREDICTIONS = 64  # predictions that run at once; more are refused
# Calls that may wait for their message at once. Beyond that number the oldest is ended, if it has waited for 0.1 s; in
# a burst, whose messages are just being read, there may be more for a moment.
READERS, READER_SECONDS = 32, 0.1
GROWTH = 2  # a message may grow, when it is parsed, by this times the largest request: one-byte numbers, short strings
STREAMS = 100  # calls that one connection may have at once
IDLE_MILLISECONDS = 10_000  # after which a connection without calls is closed; clients connect again by themselves


class GrpcServer:
    """Serves `service` over gRPC.

    Args:
        service: the models.
        address: host:port to listen on. Port 0 takes a free one; the attribute `port` says which.
        connections: the largest number of connections at once.
        read_seconds: the time within which a connection must complete gRPC's handshake.

    Raises OSError if the address cannot be used.
    """

    def __init__(self, service: Service, address: str, *, connections: int, read_seconds: float):
        options = [
            ("grpc.max_receive_message_length", service.max_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            ("grpc.max_concurrent_streams", STREAMS),
            ("grpc.max_connection_idle_ms", IDLE_MILLISECONDS),
            ("grpc.server_handshake_timeout_ms", int(read_seconds * 1000)),
            ("grpc.max_allowed_incoming_connections", connections),
        ]
        # One thread for every call that reads or predicts, and more for calls that are answered at once.
        self._threads = ThreadPoolExecutor(PREDICTIONS + 3 * READERS, "grpc")
        self._server = grpc.server(self._threads, options=options)
        self._calls = Calls(service)
        self._server.add_generic_rpc_handlers(tuple(self._calls.handlers()))
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise OSError(f"gRPC cannot listen on {address}; is the port in use? Give another with --grpc-port")

    def start(self) -> None:
        self._server.start()

    def stop(self, seconds: float) -> None:
        """Takes no more calls, and gives those under way `seconds` to end."""
        self._calls.health = health_pb2.HealthCheckResponse.NOT_SERVING
        self._server.stop(seconds).wait()
        self._threads.shutdown(wait=False)


class Calls:
    """The handlers of all methods. A handler reads its one message itself, so that it can stop waiting for it."""

    def __init__(self, service: Service):
        self._service = service
        self._readers = Waiting()
        self._predicting = threading.BoundedSemaphore(PREDICTIONS)
        self.health = health_pb2.HealthCheckResponse.SERVING
        self._methods = {
            "tensorflow.serving.PredictionService": {
                "Predict": (PredictRequest, self.predict),
                "GetModelMetadata": (GetModelMetadataRequest, self.metadata),
            },
            "tensorflow.serving.ModelService": {"GetModelStatus": (GetModelStatusRequest, self.status)},
            "grpc.health.v1.Health": {"Check": (health_pb2.HealthCheckRequest, self.check)},
        }

    def handlers(self) -> Iterator[grpc.GenericRpcHandler]:
        for service, methods in self._methods.items():
            made = {
                name: grpc.stream_unary_rpc_method_handler(
                    self._reading(kind, answer), response_serializer=methodcaller("SerializeToString")
                )
                for name, (kind, answer) in methods.items()
            }
            yield grpc.method_handlers_generic_handler(service, made)

    def _reading(self, kind: type[Message], answer: Callable) -> Callable:
        """Returns a handler that reads a call's first message and returns what `answer` makes of it."""

        def call(messages: Iterator[bytes], context: grpc.ServicerContext) -> Message:
            with _errors_of(context):
                self._readers.enter(context, context.cancel)
                if len(self._readers) > READERS:
                    self._readers.end_first(READER_SECONDS if len(self._readers) <= 2 * READERS else 0.0)
                try:
                    content = next(messages, None)
                finally:
                    self._readers.leave(context)
                if content is None:
                    raise invalid("the call has no message")
                try:
                    grown = self._grown(content, kind)
                    with self._service.budget.holding(2 * len(content) + grown):  # the bytes, and the parsed message
                        message = kind.FromString(content)
                        return answer(message, context)
                except DecodeError:
                    raise invalid(f"the message is no {kind.__name__}") from None

        return call

    def _grown(self, content: bytes, kind: type[Message]) -> int:
        """Returns the bytes that a message grows by when it is parsed. Raises RequestError if there are too many."""
        most = GROWTH * self._service.max_bytes
        grown = grown_bytes(content, kind.DESCRIPTOR, most)
        if grown > most:
            raise invalid(f"the message's fields take {grown} bytes or more in memory, at most {most} are taken")
        return grown

    def predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        service = self._service
        with service.counted(request.model_spec.name, "GRPC"):
            if not self._predicting.acquire(blocking=False):
                raise RequestError("UNAVAILABLE", "too many requests at once; try again")
            try:
                return self._predict(request, context)
            finally:
                self._predicting.release()

    def _predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        with self._service.lease(*_which(request)) as version:
            signature = signature_of(version, name)
            if signature is None:
                raise RequestError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
            tensors = {key: described(key, tensor) for key, tensor in request.inputs.items()}
            check_inputs(signature, tensors)
            with self._service.expanding(sum(tensor.nbytes for tensor in tensors.values())):
                inputs = {key: to_array(key, tensor) for key, tensor in request.inputs.items()}
                outputs = predict(version, name, inputs, tuple(request.output_filter), context.is_active)
            response = PredictResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = version.number
            response.model_spec.signature_name = name
        for key, value in outputs.items():
            response.outputs[key].CopyFrom(to_proto(value))
        return response

    def metadata(self, request: GetModelMetadataRequest, context: grpc.ServicerContext) -> Message:
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        return self._service.metadata(*_which(request))

    def status(self, request: GetModelStatusRequest, context: grpc.ServicerContext) -> Message:
        return self._service.status(*_which(request))

    def check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Message:
        if request.service and request.service not in self._methods:
            raise RequestError("NOT_FOUND", f"there is no service {request.service}")
        return health_pb2.HealthCheckResponse(status=self.health)


@contextmanager
def _errors_of(context) -> Iterator[None]:
    try:
        yield
    except RequestError as error:
        context.abort(grpc.StatusCode[error.code], str(error))
    except grpc.RpcError:  # the client has gone
        raise
    except Exception as error:
        if type(error) is Exception:  # grpc raises a bare Exception in a call that it has aborted
            raise
        context.abort(grpc.StatusCode.INTERNAL, str(RequestError("INTERNAL", f"{type(error).__name__}: {error}")))


def _which(request) -> tuple[str, int | None, str]:
    """Returns the model's name, its version and its label that a request asks for."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec: ModelSpec = request.model_spec
    number = spec.version.value if spec.HasField("version") else None
    return spec.name, number, spec.version_label

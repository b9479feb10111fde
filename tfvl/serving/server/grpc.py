"""The gRPC interfaces of TF Serving: PredictionService, ModelService, and gRPC's own health service."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictResponse

from tfvl.serving.client.errors import RequestError, invalid
from tfvl.serving.server.servable import DEFAULT_SIGNATURE, numpy_type
from tfvl.serving.server.service import Service, predict, signature_of

THREADS = 32
MAX_CALLS = 64  # at once, those that wait for a thread included
_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
# Where a TensorProto has the numbers of each type; TF Serving answers in these fields, not in `tensor_content`.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


class GrpcServer:
    """Serves `service` on `address`, host:port; port 0 takes a free one, `port` says which.

    Raises OSError if the address cannot be used.
    """

    def __init__(self, service: Service, address: str, *, max_bytes: int):
        options = [
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._threads = ThreadPoolExecutor(THREADS, "grpc")
        self._server = grpc.server(self._threads, options=options, maximum_concurrent_rpcs=MAX_CALLS)
        self._health = HealthServicer()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            Prediction(service, max_bytes), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(service), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise OSError(f"gRPC cannot listen on {address}; is the port in use? Give another with --grpc-port")

    def start(self) -> None:
        self._server.start()
        for name in _SERVICES:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, seconds: float) -> None:
        """Takes no more calls, and gives those under way so many seconds to end."""
        self._health.enter_graceful_shutdown()
        self._server.stop(seconds).wait()
        self._threads.shutdown(wait=False)


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, service: Service, max_bytes: int):
        self._service, self._max_bytes = service, max_bytes

    def Predict(self, request, context):  # noqa: N802
        with _errors_of(context), self._service.counted(request.model_spec.name, "GRPC"):
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            with self._service.lease(*_which(request, context)) as version:
                if signature_of(version, name) is None:
                    raise RequestError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
                inputs = {key: to_array(key, tensor, self._max_bytes) for key, tensor in request.inputs.items()}
                outputs = predict(version, name, inputs, tuple(request.output_filter), context.is_active)
                response = PredictResponse()
                response.model_spec.name = request.model_spec.name
                response.model_spec.version.value = version.number
                response.model_spec.signature_name = name
            for key, value in outputs.items():
                response.outputs[key].CopyFrom(to_proto(value))
            return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        with _errors_of(context):
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != "signature_def":
                    raise invalid(f"Metadata field {field} is not supported")
            return self._service.metadata(*_which(request, context))
        return GetModelMetadataResponse()


class Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, service: Service):
        self._service = service

    def GetModelStatus(self, request, context):  # noqa: N802
        with _errors_of(context):
            return self._service.status(*_which(request, context))
        return GetModelStatusResponse()

    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the embedded server has no model config; it watches directories")


def to_array(name: str, tensor: TensorProto, max_bytes: int) -> np.ndarray:
    """The values of a proto. Raises RequestError for one whose shape and values disagree, or which would grow.

    A proto may say its last value once for all that follow, so a few bytes could become any size.
    """
    try:
        dtype = numpy_type(tensor.dtype)
    except TypeError:
        raise invalid(f"input {name} has the unknown dtype {tensor.dtype}") from None
    sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise invalid(f"input {name} has the shape {sizes}, expected known sizes")
    if math.prod(sizes) * dtype.itemsize > max_bytes:
        raise invalid(f"input {name} has the shape {sizes}, which is more than {max_bytes} bytes")
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError, IndexError) as error:
        raise invalid(f"input {name} cannot be read: {error}") from None


def to_proto(value: np.ndarray) -> TensorProto:
    dtype = tf.string if value.dtype == object else tf.as_dtype(value.dtype)
    proto = TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(value.shape).as_proto())
    if dtype not in _FIELDS:
        return tf.make_tensor_proto(value)
    getattr(proto, _FIELDS[dtype]).extend(value.reshape(-1).tolist())
    return proto


@contextmanager
def _errors_of(context) -> Iterator[None]:
    try:
        yield
    except RequestError as error:
        context.abort(grpc.StatusCode[error.code], str(error))
    except Exception as error:
        if type(error) is Exception:  # how grpc ends a call that was aborted
            raise
        context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")


def _which(request, context) -> tuple[str, int | None, str]:
    """Name, version and label that a request asks for."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec: ModelSpec = request.model_spec
    number = spec.version.value if spec.HasField("version") else None
    return spec.name, number, spec.version_label

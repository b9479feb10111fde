"""Requests to TF Serving over gRPC."""

from urllib.parse import urlsplit

import grpc
import numpy as np

from tfvl.serving.client import messages
from tfvl.serving.client.errors import MAX_SENTENCE
from tfvl.serving.client.transport import (
    MAX_ANSWER_BYTES,
    DeadlineExceededError,
    Model,
    RequestRefusedError,
    ServerUnavailableError,
    understood,
)

_METHODS = (
    ("PredictionService", "Predict", "PredictRequest", "PredictResponse"),
    ("PredictionService", "GetModelMetadata", "GetModelMetadataRequest", "GetModelMetadataResponse"),
    ("ModelService", "GetModelStatus", "GetModelStatusRequest", "GetModelStatusResponse"),
)
_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", MAX_ANSWER_BYTES))


class Grpc:
    """Calls a server over gRPC. Images and regions travel faster so, as bytes and floats instead of JSON."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self.server = f"{parts.scheme}://{parts.netloc}"
        if parts.scheme == "grpcs":
            self._channel = grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(parts.netloc, _OPTIONS)
        self._methods = {
            name: self._channel.unary_unary(
                f"/tensorflow.serving.{service}/{name}",
                request_serializer=getattr(messages, request).SerializeToString,
                response_deserializer=getattr(messages, response).FromString,
            )
            for service, name, request, response in _METHODS
        }

    def predict(self, model: Model, signature: str, inputs: dict[str, np.ndarray], seconds: float) -> dict:
        request = messages.PredictRequest(model_spec=_model_spec(model, signature))
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(messages.to_proto(value))
        outputs = self._call("Predict", request, seconds).outputs
        with understood(self.server):
            return {name: messages.to_array(proto) for name, proto in outputs.items()}

    def metadata(self, model: Model, seconds: float) -> dict:
        request = messages.GetModelMetadataRequest(model_spec=_model_spec(model), metadata_field=["signature_def"])
        packed = self._call("GetModelMetadata", request, seconds).metadata["signature_def"]
        with understood(self.server):
            signatures = messages.SignatureDefMap.FromString(packed.value).signature_def
        return messages.specs_of(signatures)

    def status(self, model: Model, seconds: float) -> dict[int, str]:
        request = messages.GetModelStatusRequest(model_spec=_model_spec(model))
        found = self._call("GetModelStatus", request, seconds).model_version_status
        return {one.version: messages.VERSION_STATES.get(one.state, "UNKNOWN") for one in found}

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: str, request, seconds: float):
        if seconds <= 0:
            raise DeadlineExceededError(f"{self.server} gave no answer in the time allowed")
        try:
            return self._methods[method](request, timeout=seconds)
        except grpc.RpcError as error:
            code, words = error.code().name, " ".join((error.details() or "")[:MAX_SENTENCE].split())
            if code == "UNAVAILABLE":
                raise ServerUnavailableError(f"{self.server} cannot be reached or cannot answer now: {words}") from None
            if code == "DEADLINE_EXCEEDED":
                raise DeadlineExceededError(f"{self.server} gave no answer in the time allowed") from None
            raise RequestRefusedError(code, f"{self.server} refused the request ({code}): {words}") from None


def _model_spec(model: Model, signature: str = ""):
    spec = messages.ModelSpec(name=model.name, signature_name=signature, version_label=model.label or "")
    if model.version is not None:
        spec.version.value = model.version
    return spec

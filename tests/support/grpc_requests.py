"""Requests over gRPC in TensorFlow Serving's own messages; tests that import this need `tensorflow-serving-api`."""

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from support.server import ANSWER_SECONDS, MODEL, questions


def predict_request(*rows: int, name: str = MODEL, signature: str = "", **inputs) -> predict_pb2.PredictRequest:
    """Asks those of `questions()`; `inputs` are added or put in their place, and left out where they are None."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    images, texts = zip(*(questions()[row] for row in rows), strict=True)
    for key, value in ({"image": images, "text": [text.encode() for text in texts]} | inputs).items():
        if value is not None:
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def refusal(call, message) -> tuple[str, str]:
    """The code and the sentence with which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=ANSWER_SECONDS)
    return caught.value.code().name, caught.value.details()

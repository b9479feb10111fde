"""Requests over gRPC in TensorFlow Serving's own messages; tests that import this need `tensorflow-serving-api`."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import predict_pb2

from support.server import ANSWER_SECONDS, MODEL, questions


def predict_request(*rows: int, name: str = MODEL, signature: str = "", **inputs) -> predict_pb2.PredictRequest:
    """Makes a request with these rows of `questions()`; `inputs` are added or replaced, and left out if None."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    images, texts = zip(*(questions()[row] for row in rows), strict=True)
    for key, value in ({"image": images, "text": [text.encode() for text in texts]} | inputs).items():
        if value is not None:
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def refusal(call, message) -> tuple[str, str]:
    """Returns the code and the sentence with which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=ANSWER_SECONDS)
    return caught.value.code().name, caught.value.details()


def repeated(value, *shape: int) -> TensorProto:
    """Makes a tensor of this shape, all of one value, which the message contains once."""
    proto = tf.make_tensor_proto(np.array([value], object) if isinstance(value, bytes) else np.array([value]))
    del proto.tensor_shape.dim[:]
    if proto.tensor_content:
        field = "int_val" if proto.dtype == tf.int32.as_datatype_enum else "float_val"
        getattr(proto, field).append(value)
        proto.ClearField("tensor_content")
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto

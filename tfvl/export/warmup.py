"""The warm-up file of TF Serving: requests that it runs before a version takes traffic, so that no user waits."""

from pathlib import Path

import numpy as np
import tensorflow as tf

FILE = Path("assets.extra") / "tf_serving_warmup_requests"


def write(directory: Path, model_name: str, signature: str, inputs: dict[str, np.ndarray]) -> None:
    """Writes one Predict request for the SavedModel in `directory`: a TFRecord of serialized `PredictionLog`s."""
    (directory / FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(directory / FILE)) as writer:
        writer.write(prediction_log(model_name, signature, inputs))


def prediction_log(model_name: str, signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    """A serialized `tensorflow.serving.PredictionLog` of a request.

    Its protos come with tensorflow-serving-api, which an export need not depend on for five field numbers.
    """
    model_spec = _field(1, model_name.encode()) + _field(3, signature.encode())  # ModelSpec: name, signature_name
    request = _field(1, model_spec)  # PredictRequest: model_spec, inputs (a map: key, value)
    for name, value in inputs.items():
        request += _field(2, _field(1, name.encode()) + _field(2, tf.make_tensor_proto(value).SerializeToString()))
    return _field(6, _field(1, request))  # PredictionLog.predict_log, PredictLog.request


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(encoded) + bytes([value])

"""The warm-up file of TF Serving: requests that it runs before a version takes traffic, so that no user waits."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvl.files.tfrecord import read_records
from tfvl.serving.client import messages

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_REQUEST_BYTES = 1 << 26


def write(directory: Path, model_name: str, signature: str, inputs: dict[str, np.ndarray]) -> None:
    """Writes one Predict request for the SavedModel in `directory`: a TFRecord of serialized `PredictionLog`s."""
    request = messages.PredictRequest(model_spec={"name": model_name, "signature_name": signature})
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(messages.to_proto(value))
    (directory / FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(directory / FILE)) as writer:
        writer.write(messages.PredictionLog(predict_log={"request": request}).SerializeToString())


def read(directory: Path) -> Iterator[tuple[str, dict]]:
    """Yields signature and inputs (name to `messages.Tensor`) of each Predict request in the file, if there is one.

    Raises:
        ValueError, google.protobuf.message.DecodeError: the file is damaged.
    """
    if (directory / FILE).is_file():
        for record in read_records(directory / FILE, MAX_REQUEST_BYTES):
            request = messages.PredictionLog.FromString(record).predict_log.request
            yield request.model_spec.signature_name or "serving_default", dict(request.inputs)

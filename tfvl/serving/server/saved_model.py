"""Loads SavedModels into the embedded server; each runs in a session, as in TF Serving."""

import re
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfvl.files.quiet import quiet_logger
from tfvl.preprocessing.text.tf_text import tensorflow_text  # noqa: F401  # registers the ops of artefacts
from tfvl.serving.client.errors import HTTP_STATUS, RequestError
from tfvl.serving.server import kernels
from tfvl.serving.server.servable import DEFAULT_SIGNATURE, Servable, Tensors

WARM_UP = "assets.extra/tf_serving_warmup_requests"
MAX_WARM_UP_RECORDS = 1000  # TF Serving refuses more
_CODES = {getattr(tf.errors, name): name for name in HTTP_STATUS}
_SHARD = re.compile(r"variables\.data-\d{5}-of-(\d{5})")


def missing(directory: Path) -> str:
    """Returns what a directory lacks of a whole SavedModel, as it does while it is being copied; "" if nothing."""
    for name in ("saved_model.pb", "variables/variables.index"):
        file = directory / name
        if not file.is_file() or file.stat().st_size == 0:
            return f"{name} is missing"
    shards = [match for file in (directory / "variables").iterdir() if (match := _SHARD.fullmatch(file.name))]
    expected = max((int(shard[1]) for shard in shards), default=1)
    return "" if len(shards) == expected else f"{len(shards)} of {expected} files variables/variables.data-* are there"


def load(directory: Path) -> Servable:
    """Loads a SavedModel and runs its warm-up requests.

    Raises:
        ValueError: it needs an op of which the TensorFlow of this process has no kernel.
        Exception: what else TensorFlow raises.
    """
    session = tf.compat.v1.Session(graph=tf.Graph())
    try:
        # Keeps TensorFlow from advising `tf.saved_model.load`: only a session frees everything when it is closed.
        with session.graph.as_default(), quiet_logger():
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(directory)).signature_def
        # TensorFlow runs this signature itself when it loads a model; it answers no requests.
        signatures = {name: each for name, each in loaded.items() if not name.startswith("__")}

        def run(name: str, inputs: Tensors, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
            signature = signatures[name]
            feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
            try:
                return session.run({key: signature.outputs[key].name for key in outputs}, feeds)
            except tf.errors.OpError as error:
                raise RequestError(_CODES[error.error_code], " ".join(error.message.split())) from None

        servable = Servable(signatures, run, session.close)
        _warm_up(servable, directory / WARM_UP)
    except BaseException as error:
        session.close()
        if isinstance(error, Exception) and (lacking := kernels.problems_in(directory)):
            raise ValueError("; ".join(lacking)) from None
        raise
    return servable


def _warm_up(servable: Servable, file: Path) -> None:
    if not file.is_file():
        return
    for record in tf.data.TFRecordDataset(str(file)).take(MAX_WARM_UP_RECORDS):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        if log.HasField("predict_log"):
            request = log.predict_log.request
            name = request.model_spec.signature_name or DEFAULT_SIGNATURE
            inputs = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
            servable.run(name, inputs, tuple(servable.signatures[name].outputs))

"""The interface of a loaded model, the same for a SavedModel and a `.tflite` file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from tfvl.serving.client.errors import invalid

DEFAULT_SIGNATURE = "serving_default"
Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Servable:
    """A loaded model.

    Attributes:
        signatures: the inputs and outputs of each signature, by its name; the first axis of every tensor is the rows.
        run: `(signature name, inputs, output names) -> outputs`; several threads may call it at once.
        close: frees the model.
        max_rows: the largest number of rows that `run` should get at once; None: no limit of the model's own.
    """

    signatures: Mapping[str, SignatureDef]
    run: Callable[[str, Tensors, tuple[str, ...]], dict[str, np.ndarray]]
    close: Callable[[], None]
    max_rows: int | None = None


def numpy_type(data_type: int) -> np.dtype:
    """Returns the NumPy type of a proto's DataType; strings are objects (bytes)."""
    return np.dtype(tf.as_dtype(data_type).as_numpy_dtype)


def check_inputs(signature: SignatureDef, inputs: Mapping[str, Any]) -> None:
    """Raises RequestError for inputs that the signature does not take, in TF Serving's words if it has any.

    Args:
        signature: the inputs that the model takes.
        inputs: arrays, or anything that has their `dtype` and `shape`.
    """
    expected, sent = set(signature.inputs), set(inputs)
    if expected != sent:

        def listed(names):
            return "{" + ",".join(sorted(names)) + "}"

        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({listed(sent)}) != "
            f"len({listed(expected)}). Sent extra: {listed(sent - expected)}. "
            f"Missing but required: {listed(expected - sent)}."
        )
    for name, value in inputs.items():
        info = signature.inputs[name]
        if value.dtype != numpy_type(info.dtype):
            raise invalid(
                f"input {name} is to be {tf.as_dtype(info.dtype).name} but "
                f"{'string' if value.dtype == object else value.dtype.name} is provided"
            )
        if not value.shape:
            raise invalid(f"input {name} must have at least one dimension, that of the rows")
        sizes = [dimension.size for dimension in info.tensor_shape.dim]
        if not info.tensor_shape.unknown_rank and (
            len(sizes) != len(value.shape)
            or any(size not in (-1, got) for size, got in zip(sizes, value.shape, strict=True))
        ):
            shape = ",".join("?" if size < 0 else str(size) for size in sizes)
            raise invalid(f"input {name} has the shape [{','.join(map(str, value.shape))}], expected [{shape}]")
    if not inputs:
        raise invalid("the signature takes no inputs, and so has no rows to answer")
    if len({value.shape[0] for value in inputs.values()}) > 1:
        rows = ", ".join(f"{name} has {value.shape[0]}" for name, value in sorted(inputs.items()))
        raise invalid(f"all inputs must have equal 0th-dimension size: {rows}")

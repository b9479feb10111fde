"""Tensors in gRPC, as `TensorProto`: what one would become, and the array that it is."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfvl.serving.client.errors import invalid
from tfvl.serving.server.servable import numpy_type

# Where a TensorProto has the numbers of each type; TF Serving answers in these fields, not in `tensor_content`.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}
_MAX_AXES = 32
_STRING_BYTES = 64  # that a string takes beside its own


class Described(NamedTuple):
    """What a proto would become.

    Attributes:
        dtype, shape: of the array.
        nbytes: that it takes, its strings included. A proto may say its last value once for all that follow, so a few
            bytes could become any size.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    nbytes: int


def described(name: str, tensor: TensorProto) -> Described:
    """Raises RequestError for a proto of a type or of a shape that no array has."""
    try:
        dtype = numpy_type(tensor.dtype)
    except (TypeError, KeyError):
        raise invalid(f"input {name} has the unknown dtype {tensor.dtype}") from None
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape) or len(shape) > _MAX_AXES:
        sizes = ", ".join(map(str, shape[:_MAX_AXES]))
        raise invalid(f"input {name} has the shape [{sizes}], expected at most {_MAX_AXES} known sizes")
    count = math.prod(shape)
    if not dtype.hasobject:
        return Described(dtype, shape, count * dtype.itemsize)
    sizes = [len(value) for value in tensor.string_val]
    repeated = max(count - len(sizes), 0) * (sizes[-1] if sizes else 0)
    return Described(dtype, shape, count * _STRING_BYTES + sum(sizes) + repeated)


def to_array(name: str, tensor: TensorProto) -> np.ndarray:
    """The values of a proto. Raises RequestError for one whose shape and values disagree."""
    try:
        if tensor.dtype == tf.string.as_datatype_enum and not tensor.string_val:
            return np.full([dimension.size for dimension in tensor.tensor_shape.dim], b"", object)
        return tf.make_ndarray(tensor)  # where there is no value, all are 0
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise invalid(f"input {name} cannot be read: {error}") from None


def to_proto(value: np.ndarray) -> TensorProto:
    """An array of outputs."""
    dtype = tf.string if value.dtype == object else tf.as_dtype(value.dtype)
    proto = TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(value.shape).as_proto())
    if dtype not in _FIELDS:
        return tf.make_tensor_proto(value)
    getattr(proto, _FIELDS[dtype]).extend(value.reshape(-1).tolist())
    return proto

"""Reads and writes `TensorProto`, gRPC's tensors; tells an array's size before it is made."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfvl.serving.client.errors import invalid
from tfvl.serving.server.servable import numpy_type

# The field of a TensorProto that holds the values of each type; TF Serving answers in these, not in `tensor_content`.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}
_MAX_AXES = 32
_STRING_BYTES = 64  # of memory that a string takes beside its content


class Described(NamedTuple):
    """The array that a proto would become.

    Attributes:
        dtype, shape: the array's.
        nbytes: the memory that it takes, its strings included. A proto may give a value once for all that follow, so
            that a few bytes become an array of any size. An axis of size 0 counts as 1: the array is empty, but a
            graph makes tensors by its other axes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    nbytes: int


def described(name: str, tensor: TensorProto) -> Described:
    """Describes the array of a proto without making it. Raises RequestError for a type or shape that no array has."""
    try:
        dtype = numpy_type(tensor.dtype)
    except (TypeError, KeyError):
        raise invalid(f"input {name} has the unknown dtype {tensor.dtype}") from None
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape) or len(shape) > _MAX_AXES:
        sizes = ", ".join(map(str, shape[:_MAX_AXES]))
        raise invalid(f"input {name} has the shape [{sizes}], expected at most {_MAX_AXES} known sizes")
    count = math.prod(max(size, 1) for size in shape)
    if not dtype.hasobject:
        return Described(dtype, shape, count * dtype.itemsize)
    sizes = [len(value) for value in tensor.string_val]
    repeated = max(count - len(sizes), 0) * (sizes[-1] if sizes else 0)
    return Described(dtype, shape, count * _STRING_BYTES + sum(sizes) + repeated)


def to_array(name: str, tensor: TensorProto) -> np.ndarray:
    """Makes the array of a proto. Raises RequestError if shape and values disagree."""
    shape = [dimension.size for dimension in tensor.tensor_shape.dim]
    is_text = tensor.dtype == tf.string.as_datatype_enum
    if is_text and tensor.tensor_content:
        raise invalid(f"input {name} has its strings in tensor_content, expected in string_val")
    field = _FIELDS.get(tf.as_dtype(tensor.dtype))
    count = len(getattr(tensor, field)) if field and not tensor.tensor_content else 0
    if count > math.prod(shape):
        raise invalid(f"input {name} has {count} values, expected at most the {math.prod(shape)} of its shape {shape}")
    try:
        if is_text and not tensor.string_val:
            return np.full(shape, b"", object)
        return tf.make_ndarray(tensor)  # a proto without values is all 0
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise invalid(f"input {name} cannot be read: {error}") from None


def to_proto(value: np.ndarray) -> TensorProto:
    """Turns an output array into a proto."""
    dtype = tf.string if value.dtype == object else tf.as_dtype(value.dtype)
    proto = TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(value.shape).as_proto())
    if dtype not in _FIELDS:
        return tf.make_tensor_proto(value)
    getattr(proto, _FIELDS[dtype]).extend(value.reshape(-1).tolist())
    return proto

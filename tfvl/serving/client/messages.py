"""The protobuf messages of TF Serving that tfvl uses, defined without TensorFlow.

The modules of tensorflow-serving-api import those of TensorFlow, which takes seconds and a gigabyte on the disk. A
message on the wire is only field numbers and types; the table `_MESSAGES` holds them, copied from the .proto files of
tensorflow/core/framework and tensorflow_serving/apis. Enumerations are int32 here, which is the same on the wire, and
no member of a `oneof` excludes another. The messages live in a descriptor pool of their own, so that they do not clash
with TensorFlow's in a process that imports both.
"""

import math
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tfvl.serving.client.transport import MAX_ANSWER_BYTES, Spec

_PACKAGE = "tfvl.serving"
# Each message with its fields, written as `name number type`; `*type` is repeated, `{type}` a map from strings.
_MESSAGES = {
    # tensorflow/core/framework
    "Dim": "size 1 int64",
    "TensorShape": "dim 2 *Dim, unknown_rank 3 bool",
    "Tensor": (
        "dtype 1 int32, tensor_shape 2 TensorShape, tensor_content 4 bytes, float_val 5 *float, double_val 6 *double, "
        "int_val 7 *int32, string_val 8 *bytes, int64_val 10 *int64, bool_val 11 *bool, half_val 13 *int32"
    ),
    # tensorflow/core/protobuf/meta_graph.proto
    "TensorInfo": "name 1 string, dtype 2 int32, tensor_shape 3 TensorShape",
    "SignatureDef": "inputs 1 {TensorInfo}, outputs 2 {TensorInfo}, method_name 3 string",
    # google/protobuf
    "Int64Value": "value 1 int64",
    "Any": "type_url 1 string, value 2 bytes",
    # tensorflow_serving/apis
    "ModelSpec": "name 1 string, version 2 Int64Value, signature_name 3 string, version_label 4 string",
    "PredictRequest": "model_spec 1 ModelSpec, inputs 2 {Tensor}, output_filter 3 *string",
    "PredictResponse": "outputs 1 {Tensor}, model_spec 2 ModelSpec",
    "GetModelMetadataRequest": "model_spec 1 ModelSpec, metadata_field 2 *string",
    "GetModelMetadataResponse": "model_spec 1 ModelSpec, metadata 2 {Any}",
    "SignatureDefMap": "signature_def 1 {SignatureDef}",
    "GetModelStatusRequest": "model_spec 1 ModelSpec",
    "Status": "error_code 1 int32, error_message 2 string",
    "ModelVersionStatus": "version 1 int64, state 2 int32, status 3 Status",
    "GetModelStatusResponse": "model_version_status 1 *ModelVersionStatus",
    "PredictLog": "request 1 PredictRequest",
    "PredictionLog": "predict_log 6 PredictLog",
}
VERSION_STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
# The numbers of DataType (tensorflow/core/framework/types.proto), with their names and NumPy types; strings are bytes.
DTYPES: dict[int, tuple[str, np.dtype]] = {
    1: ("DT_FLOAT", np.dtype("float32")),
    2: ("DT_DOUBLE", np.dtype("float64")),
    3: ("DT_INT32", np.dtype("int32")),
    4: ("DT_UINT8", np.dtype("uint8")),
    7: ("DT_STRING", np.dtype("O")),
    9: ("DT_INT64", np.dtype("int64")),
    10: ("DT_BOOL", np.dtype("bool")),
    19: ("DT_HALF", np.dtype("float16")),
}
_CODES = {dtype: code for code, (_, dtype) in DTYPES.items()}
_VALUES = {1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 9: "int64_val", 10: "bool_val", 19: "half_val"}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            _add_field(message, *field.split())
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: str, kind: str) -> None:
    proto = descriptor_pb2.FieldDescriptorProto
    repeated = kind[0] in "*{"
    if kind.startswith("{"):  # a map is a repeated message of a key and a value
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", "1", "string")
        _add_field(entry, "value", "2", kind.strip("{}"))
        kind = f"{message.name}.{entry.name}"
    kind = kind.removeprefix("*")
    field = message.field.add(name=name, number=int(number))
    field.label = proto.LABEL_REPEATED if repeated else proto.LABEL_OPTIONAL
    if kind[0].isupper():
        field.type, field.type_name = proto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = getattr(proto, f"TYPE_{kind.upper()}")


_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())
_CLASSES = {
    name: message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _CLASSES[name]


def to_proto(value: np.ndarray):
    """Turns an array into a `Tensor`; arrays of str or bytes become strings, str in UTF-8.

    Raises:
        ValueError: the dtype is not in `DTYPES`.
    """
    value = np.asarray(value)
    shape = _CLASSES["TensorShape"](dim=[{"size": size} for size in value.shape])
    if value.dtype.kind in "OSU":
        items = [item.encode() if isinstance(item, str) else bytes(item) for item in value.reshape(-1).tolist()]
        return _CLASSES["Tensor"](dtype=_CODES[np.dtype("O")], tensor_shape=shape, string_val=items)
    if value.dtype not in _CODES:
        raise ValueError(f"an array of {value.dtype} cannot be sent; convert it to float32 or int32 first")
    content = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    return _CLASSES["Tensor"](dtype=_CODES[value.dtype], tensor_shape=shape, tensor_content=content)


def to_array(proto) -> np.ndarray:
    """Returns the array in a `Tensor`; strings are bytes in an array of objects.

    TensorFlow packs equal values: the last value that is written repeats to the end of the tensor, and where none is
    written, all are zero.

    Raises:
        ValueError: the type is not in `DTYPES`, or shape and values disagree.
    """
    if proto.dtype not in DTYPES:
        raise ValueError(f"the answer holds a tensor of type {proto.dtype}, which this client does not read")
    dtype, shape = DTYPES[proto.dtype][1], [dim.size for dim in proto.tensor_shape.dim]
    if dtype.kind == "O":
        values = np.empty(len(proto.string_val), object)
        values[:] = list(proto.string_val)
    elif proto.tensor_content:
        values = np.frombuffer(proto.tensor_content, dtype.newbyteorder("<")).astype(dtype)
    else:
        values = np.array(getattr(proto, _VALUES[proto.dtype]))
        values = values.astype(np.uint16).view(dtype) if dtype == np.float16 else values.astype(dtype)
    size = math.prod(shape)
    if not 0 <= size * dtype.itemsize <= MAX_ANSWER_BYTES or min(shape, default=0) < 0:
        raise ValueError(f"the answer holds a tensor of shape {tuple(shape)}")
    if len(values) < size:
        last = values[-1:] if len(values) else np.full(1, b"" if dtype.kind == "O" else 0, dtype)
        values = np.concatenate([values, np.repeat(last, size - len(values))])
    if len(values) != size:
        raise ValueError(f"the answer holds {len(values)} values for a tensor of shape {tuple(shape)}")
    return values.reshape(shape)


def shape_of(proto) -> tuple[int | None, ...] | None:
    """Returns the sizes in a `TensorShape`, None for an unknown size; None if the number of axes is unknown."""
    return None if proto.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in proto.dim)


def spec_of(info) -> Spec:
    """Returns the dtype and shape that a `TensorInfo` holds."""
    name, _ = DTYPES.get(info.dtype, (str(info.dtype), None))
    return Spec(dtype=name, shape=shape_of(info.tensor_shape))


def specs_of(signatures) -> dict[str, dict[str, dict[str, Spec]]]:
    """Returns for each `SignatureDef`, by name, the specs of its `inputs` and `outputs` by name."""
    return {
        name: {side: {key: spec_of(info) for key, info in getattr(one, side).items()} for side in ("inputs", "outputs")}
        for name, one in signatures.items()
    }

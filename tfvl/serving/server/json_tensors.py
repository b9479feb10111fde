"""Reads and writes tensors in JSON as TF Serving's REST interface does (tensorflow_serving/util/json_tensor.cc).

A request holds either `instances`, a list with an object per row, or `inputs`, an object with a list per input.
Strings that are not text are written `{"b64": "…"}`. `instances` are answered by `predictions`, `inputs` by `outputs`;
the only output of a signature is given without its name. Text that is not UTF-8 passes through as it is, in Python's
strings as surrogates; a body that writes half a surrogate pair itself is refused.
"""

import binascii
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
import pybase64
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from tfvl.serving.client.errors import RequestError, invalid
from tfvl.serving.server.servable import Tensors, numpy_type

MAX_ECHO = 200  # an error repeats so many characters of a wrong value
_HALF_A_PAIR = "JSON Parse error: The surrogate pair in string is invalid."
_MAX_AXES = 32  # lists may be nested so deep
_OBJECT_BYTES, _ITEM_BYTES = 80, 32  # of an empty list or object, and of a number with its place in a list
# The largest integers that TF Serving takes for a float, since it holds them without loss.
_LARGEST_EXACT = {np.dtype(np.float32): 2**24 - 1, np.dtype(np.float64): 2**53 - 1}
_NUMBERS = {bool, int, float}
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_WITHOUT_HALVES = re.compile(  # a document without half a surrogate pair
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)*+", re.DOTALL
)
_JSON_TYPES = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}


def expanded_bytes(body: bytes) -> int:
    """Estimates the bytes that the lists, objects and numbers of a request take in memory once it is parsed."""
    return _OBJECT_BYTES * (body.count(b"[") + body.count(b"{")) + _ITEM_BYTES * body.count(b",")


def parse(body: bytes) -> dict:
    """Parses a request, which must be a JSON object. Raises RequestError."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except (ValueError, RecursionError) as error:  # thousands of digits in an integer, or of brackets
        raise invalid(f"JSON Parse error: {error}") from None
    if _SURROGATE.search(body) and not _WITHOUT_HALVES.fullmatch(body):
        raise invalid(_HALF_A_PAIR)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_echo(document)} Is not object")
    return document


def signature_name(document: dict) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_echo(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def read(document: dict, signature: SignatureDef) -> tuple[dict[str, np.ndarray], bool]:
    """Returns the inputs of a request, and whether they came as `instances`. Raises RequestError."""
    instances, inputs = (document.get(key) for key in ("instances", "inputs"))
    infos = dict(signature.inputs)  # unlike a dict, a map of protobuf fails for names that are not valid text
    try:
        if "instances" in document and "inputs" in document:
            raise invalid(
                f"JSON Value: {_echo(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
                "keys to exist "
            )
        if "instances" in document:
            if not isinstance(instances, list):
                raise invalid(f"JSON Value: {_echo(document)} Excepting 'instances' to be an list/array")
            if not instances:
                raise invalid(f"JSON Value: {_echo(document)} No values in 'instances' array")
            return _from_rows(instances, infos), True
        if "inputs" in document:
            return _from_columns(inputs, infos), False
    except RecursionError:
        raise _too_deep() from None
    raise invalid("Missing 'inputs' or 'instances' key")


def write(outputs: Tensors, as_rows: bool) -> bytes:
    """Returns the body of the answer to a request. Raises RequestError for outputs that cannot be written as rows."""
    lists = {name: _to_lists(value, name.endswith("_bytes")) for name, value in outputs.items()}
    if not as_rows:
        return _dump({"outputs": next(iter(lists.values())) if len(lists) == 1 else lists})
    if len({value.shape[:1] for value in outputs.values()}) != 1 or not all(value.ndim for value in outputs.values()):
        raise invalid("the outputs have not the same batch size; ask with 'inputs' instead of 'instances'")
    rows = zip(*lists.values(), strict=True)
    if len(lists) == 1:
        return _dump({"predictions": [value for (value,) in rows]})
    return _dump({"predictions": [dict(zip(lists, row, strict=True)) for row in rows]})


def write_error(message: str) -> bytes:
    """Returns the body of an error. What is not valid text, such as half a surrogate pair, is escaped."""
    return _dump({"error": message.encode("utf-8", "backslashreplace").decode()})


def _from_rows(instances: list, infos: Mapping) -> dict[str, np.ndarray]:
    named = isinstance(instances[0], dict) and not _is_base64(instances[0])
    if len(infos) > 1 and not isinstance(instances[0], dict):
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    columns: dict[str, list[np.ndarray]] = {name: [] for name in infos}
    for place, instance in enumerate(instances):
        is_object = isinstance(instance, dict) and not _is_base64(instance)
        if is_object != named:
            expected, got = ("object", "list") if named else ("value/list", "object")
            raise invalid(f"Expecting {expected} but got {got} at item {place} of input list")
        items = instance if named else {next(iter(infos)): instance}
        for name, value in items.items():
            try:
                if name not in infos:
                    raise invalid(f"JSON object: does not have named input: {name}")
                columns[name].append(_same_shape(_tensor(value, numpy_type(infos[name].dtype)), columns[name]))
            except RequestError as error:
                key = f" key: {name}" if named else ""
                raise invalid(
                    f"Failed to process element: {place}{key} of 'instances' list. Error: {error.code}: {error}"
                ) from None
        if items.keys() != columns.keys():
            raise invalid(
                f"Failed to process element: {place} of 'instances' list. JSON object: {_echo(instance)} keys must be "
                f"equal to: {','.join(sorted(infos))}"
            )
    return {name: np.stack(rows) for name, rows in columns.items()}


def _same_shape(value: np.ndarray, before: list[np.ndarray]) -> np.ndarray:
    if before and value.size != before[0].size:
        raise invalid(f"Expecting tensor size: {before[0].size} but got: {value.size}")
    if before and value.shape != before[0].shape:
        expected, got = (",".join(map(str, shape)) for shape in (before[0].shape, value.shape))
        raise invalid(f"Expecting shape [{expected}] but got: [{got}]")
    return value


def _from_columns(inputs: Any, infos: Mapping) -> dict[str, np.ndarray]:
    if not isinstance(inputs, dict) or _is_base64(inputs):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {name: _tensor(inputs, numpy_type(info.dtype)) for name, info in infos.items()}
    for name in infos:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _tensor(inputs[name], numpy_type(info.dtype)) for name, info in infos.items()}


def _tensor(value: Any, dtype: np.dtype) -> np.ndarray:
    shape = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        if len(shape) > _MAX_AXES:
            raise _too_deep()
        if not inner:
            break
        inner = inner[0]
    if dtype.kind != "O" and shape and (array := _plain_numbers(value, len(shape), dtype)) is not None:
        return array
    values: list = []
    _collect(value, 0, shape, dtype, values)
    array = np.empty(len(values), dtype)
    array[:] = values
    return array.reshape(shape)


def _plain_numbers(value: list, axes: int, dtype: np.dtype) -> np.ndarray | None:
    """Converts lists of plain numbers in one step; None if that fails, and `_collect` then finds out what is wrong."""
    try:
        # NumPy would give every item the size of the longest string.
        if not _types_of_items(value, axes) <= _NUMBERS:
            return None
        array = np.array(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if array.dtype.kind == "O":
        return None
    if dtype.kind == "f":
        fits = array.dtype.kind in "if" and not (np.abs(array) > _limit(array, dtype)).any()
    elif dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        fits = array.dtype.kind == "i" and ((array >= bounds.min) & (array <= bounds.max)).all()
    else:
        fits = array.dtype == dtype
    return array.astype(dtype) if fits else None


def _types_of_items(value: list, axes: int) -> set[type]:
    """Returns the types of all items of lists that are nested so deep. Raises TypeError if they are not so deep."""
    items: Iterable = value
    for _ in range(axes - 1):
        items = chain.from_iterable(items)
    return set(map(type, items))


def _limit(array: np.ndarray, dtype: np.dtype) -> float:
    if array.dtype.kind == "i":
        return _LARGEST_EXACT.get(dtype, 2**11 - 1)
    return np.inf if dtype == np.float64 else float(np.finfo(dtype).max)


def _collect(value: Any, level: int, shape: list[int], dtype: np.dtype, values: list) -> None:
    """Checks every element of nested lists and appends it to `values`."""
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_echo(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                f"{len(shape)}"
            )
        values.append(_element(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _collect(item, level + 1, shape, dtype, values)


def _element(value: Any, dtype: np.dtype):
    if dtype.kind == "O":
        if isinstance(value, dict):
            return _from_base64(value)
        if isinstance(value, str):
            return _encoded(value)
    elif dtype.kind == "b" and isinstance(value, bool):
        return value
    elif isinstance(value, bool) or not isinstance(value, int | float):
        pass
    elif dtype.kind == "f":
        exact = _LARGEST_EXACT.get(dtype, 2**11 - 1) if isinstance(value, int) else float(np.finfo(dtype).max)
        if abs(value) > exact and abs(value) != np.inf:
            name = "float" if dtype == np.float32 else dtype.name
            raise invalid(f"Cannot convert JSON value: {_echo(value)} to {name} without loss of precision.")
        return value
    elif dtype.kind in "iu" and isinstance(value, int) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        return value
    kind = str(value) if isinstance(value, bool) else _JSON_TYPES[type(value)]
    expected = "float" if dtype == np.float32 else tf.as_dtype(dtype).name
    raise invalid(f"JSON Value: {_echo(value)} Type: {kind} is not of expected type: {expected}")


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _from_base64(value: dict) -> bytes:
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_echo(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    try:
        return pybase64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise invalid(_HALF_A_PAIR) from None


def _to_lists(value: np.ndarray, as_base64: bool) -> Any:
    if value.dtype == object:
        write_one = (
            (lambda item: {"b64": pybase64.b64encode(item).decode()})
            if as_base64
            else (lambda item: item.decode("utf-8", "surrogateescape"))
        )
        plain = np.empty(value.size, object)
        plain[:] = [write_one(item) for item in value.reshape(-1)]
        return plain.reshape(value.shape).tolist()
    if value.dtype.kind == "f" and value.dtype != np.float64:  # write 0.2 and not 0.20000000298023224
        return value.astype("U32").astype(np.float64).tolist()
    return value.tolist()


def _dump(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _echo(value: Any) -> str:
    """Returns the beginning of a value as JSON, without writing all of a large one."""
    text = ""
    with suppress(RecursionError):
        for part in json.JSONEncoder(ensure_ascii=False).iterencode(value):
            text += part
            if len(text) > MAX_ECHO:
                break
        else:
            return text
    return f"{text[:MAX_ECHO]}…"


def _too_deep() -> RequestError:
    return invalid("JSON Parse error: the lists are nested too deep")

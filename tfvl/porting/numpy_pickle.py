"""The original's weights, `{"model": {name: NumPy array}}` in a plain pickle, without executing it.

Detectron2 saves such files (`faster_rcnn_from_caffe_attr.pkl`). The arrays lie in the pickle as plain bytes, so the
machine of `porting.pickle_machine` is given two more instructions: it notes where bytes lie, and it recognises what
rebuilds an array. Nothing of the file's choice is called, and no array is kept in memory.

Source: numpy/_core/src/multiarray/methods.c (`array_reduce`), descriptor.c (`arraydescr_reduce`).
"""

import math
import pickletools
from dataclasses import dataclass
from pathlib import Path

from tfvl.errors import CheckpointError
from tfvl.porting.pickle_machine import Function, RefusedError, popped, step
from tfvl.porting.tensors import STORED, Tensor, checked_shape

_DTYPES = {code.lstrip("<|"): name for name, code in STORED.items() if name != "bfloat16"}
_NUMPY_CALLS = (
    "numpy dtype",
    *(f"numpy.{core}.multiarray _reconstruct" for core in ("core", "_core")),
    *(f"numpy.{core}.numeric _frombuffer" for core in ("core", "_core")),
)
_BYTES = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9, "BYTEARRAY8": 9}  # of the instruction, before the data
_LEGACY_TORCH = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # LONG1 with the magic number of torch's old format


@dataclass
class _Bytes:
    offset: int
    length: int


@dataclass
class _Type:
    code: str
    order: str = "<"


@dataclass
class _Array:
    shape: object = None
    dtype: _Type | None = None
    data: _Bytes | None = None
    fortran: bool = False


def is_numpy_pickle(path: Path) -> bool:
    """Whether the file begins as a pickle does, and is not one of torch's own."""
    with open(path, "rb") as file:
        beginning = file.read(2 + len(_LEGACY_TORCH))
    return beginning[:1] == b"\x80" and beginning[2:] != _LEGACY_TORCH


def read_numpy_pickle(path: Path) -> list[Tensor]:
    """The arrays of the dict under "model" in a pickle, or of the pickled dict itself.

    Raises:
        CheckpointError: it is no such pickle, is truncated or malformed, or wants anything but arrays.
    """
    try:
        value = _run(path)
    except RefusedError as refused:
        raise CheckpointError(f"{path}: the pickle wants {refused}, which no weights need; refused.") from None
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise CheckpointError(f"{path}: the file is truncated or its pickle is malformed ({error}).") from None
    arrays = value.get("model", value) if isinstance(value, dict) else None
    if not isinstance(arrays, dict) or not arrays:
        raise CheckpointError(f'{path}: this pickle holds no weights; expected {{"model": {{name: array}}}}.')
    return [_tensor(path, name, array) for name, array in arrays.items()]


def _run(path: Path) -> object:
    stack: list = []
    memo: dict[int, object] = {}
    with open(path, "rb") as file:
        for opcode, argument, position in pickletools.genops(file):
            if opcode.name == "STOP":
                (value,) = stack
                return value
            if opcode.name in _BYTES:
                stack.append(_Bytes(position + _BYTES[opcode.name], len(argument)))
            elif opcode.name == "REDUCE" and len(stack) > 1 and _is_numpy(stack[-2]):
                function, arguments = popped(stack, 2)
                stack.append(_called(function, arguments))
            elif opcode.name == "BUILD" and len(stack) > 1 and isinstance(stack[-2], _Array | _Type):
                (state,) = popped(stack, 1)
                _build(stack[-1], tuple(state))
            else:
                step(opcode.name, argument, stack, memo, {})
    raise ValueError("it has no end")


def _is_numpy(function: object) -> bool:
    return isinstance(function, Function) and str(function) in _NUMPY_CALLS


def _called(function: str, arguments: tuple) -> _Array | _Type:
    """The description of what one of `_NUMPY_CALLS` returns."""
    if function.endswith("dtype"):
        return _Type(_text(arguments[0]))
    array = _Array()
    if function.endswith("_frombuffer"):  # of pickles since protocol 5; what the others get comes with BUILD
        data, dtype, shape, order = arguments
        _build(array, (1, shape, dtype, order == "F", data))
    return array


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("an element type is no text")
    return value


def _build(target: _Array | _Type, state: tuple) -> None:
    """What `__setstate__` of an array (version, shape, dtype, fortran, data) or an element type (…, order, …) gets."""
    if isinstance(target, _Type):
        target.order = _text(state[1])
        return
    _version, target.shape, target.dtype, target.fortran, target.data = state
    if not isinstance(target.dtype, _Type) or not isinstance(target.data, _Bytes):
        raise RefusedError("an array of objects")


def _tensor(path: Path, name: object, array: object) -> Tensor:
    if not isinstance(name, str) or not isinstance(array, _Array):
        raise CheckpointError(f"{path}: its entry {str(name)[:80]!r} is no array; expected names and arrays only.")
    shape = checked_shape(array.shape, path, name)
    code = array.dtype.code if array.dtype else ""
    if code not in _DTYPES or array.dtype.order not in ("<", "|"):
        raise CheckpointError(f"{path}: array {name[:80]!r} is of type {code[:20]!r}, expected little-endian numbers.")
    strides = None
    if array.fortran is True:
        strides = tuple(math.prod(shape[:axis]) for axis in range(len(shape)))
    tensor = Tensor(name, path, array.data.offset, shape, _DTYPES[code], strides)
    if tensor.nbytes != array.data.length:
        raise CheckpointError(
            f"{path}: array {name[:80]!r} claims {shape} {_DTYPES[code]}, which does not fit its {array.data.length} "
            "bytes: the file is damaged or forged."
        )
    return tensor.simplified() if strides else tensor

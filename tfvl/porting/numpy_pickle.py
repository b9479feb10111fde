"""Reads weights from a pickle of `{"model": {name: NumPy array}}`, as of the detector's authors, without executing it.

Detectron2 saves such files (`faster_rcnn_from_caffe_attr.pkl`). The pickle holds the arrays as plain bytes, so the
machine of `porting.pickle_machine` gets two more instructions: it notes the offset of bytes, and it recognises the
calls that rebuild an array. Nothing that the file names is called, and no array is kept in memory.

Source: numpy/_core/src/multiarray/methods.c (`array_reduce`), descriptor.c (`arraydescr_reduce`).
"""

import io
import math
import os
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tfvl.errors import CheckpointError
from tfvl.files.reading import shown
from tfvl.porting.pickle_machine import Function, Machine, RefusedError, built, popped
from tfvl.porting.tensors import STORED, Tensor, checked_shape

_DTYPES = {code.lstrip("<|"): name for name, code in STORED.items() if name != "bfloat16"}
_NUMPY_CALLS = (
    "numpy dtype",
    *(f"numpy.{core}.multiarray _reconstruct" for core in ("core", "_core")),
    *(f"numpy.{core}.numeric _frombuffer" for core in ("core", "_core")),
)
_BYTES = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}  # bytes of the length before the data
MAX_ARGUMENT_BYTES = 1 << 16
MAX_STATE = 16  # items of the tuple that `__setstate__` gets
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
    """Returns whether the file begins like a pickle, and not like one in torch's old format."""
    with open(path, "rb") as file:
        beginning = file.read(2 + len(_LEGACY_TORCH))
    return beginning[:1] == b"\x80" and beginning[2:] != _LEGACY_TORCH


def read_numpy_pickle(path: Path) -> list[Tensor]:
    """Opens the arrays of the dict under "model" in a pickled dict, or of that dict itself.

    Raises:
        CheckpointError: the file is no such pickle, is truncated or malformed, or wants anything but arrays.
    """
    with _Limited(io.FileIO(path)) as file:
        value = built(_NumpyMachine({}), file, path, "weights")
    arrays = value.get("model", value) if isinstance(value, dict) else None
    if not isinstance(arrays, dict) or not arrays:
        raise CheckpointError(f'{path}: this pickle holds no weights; expected {{"model": {{name: array}}}}.')
    return [_tensor(path, name, array) for name, array in arrays.items()]


class _Limited(io.BufferedReader):
    """A file that refuses to read more than `MAX_ARGUMENT_BYTES` for one argument, enough for names and numbers."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_ARGUMENT_BYTES:
            raise ValueError(f"an instruction has {size} bytes, at most {MAX_ARGUMENT_BYTES} are read")
        return super().read(size)

    def readline(self, size: int | None = -1) -> bytes:
        return super().readline(MAX_ARGUMENT_BYTES)


class _NumpyMachine(Machine):
    """A machine that also notes the offsets of bytes, and recognises the calls that rebuild an array."""

    def argument(self, opcode: pickletools.OpcodeInfo, program: BinaryIO) -> object:
        if opcode.name not in _BYTES:
            return super().argument(opcode, program)
        length = int.from_bytes(program.read(_BYTES[opcode.name]), "little")
        place = _Bytes(program.tell(), length)
        if place.offset + length > os.fstat(program.fileno()).st_size:
            raise ValueError(f"an array of {length} bytes begins at byte {place.offset}, beyond which it ends")
        program.seek(length, os.SEEK_CUR)
        return place

    def step(self, name: str, argument) -> None:
        if name in _BYTES:
            self.stack.append(argument)
        elif name == "BUILD" and len(self.stack) > 1 and isinstance(self.stack[-2], _Array | _Type):
            (state,) = popped(self.stack, 1)
            _build(self.stack[-1], state)
        else:
            super().step(name, argument)

    def called(self, function: object, arguments: tuple) -> object:
        if not _is_numpy(function):
            return super().called(function, arguments)
        return _called(str(function), arguments)


def _is_numpy(function: object) -> bool:
    return isinstance(function, Function) and str(function) in _NUMPY_CALLS


def _called(function: str, arguments: tuple) -> _Array | _Type:
    """Returns a description of what one of `_NUMPY_CALLS` would return."""
    if function.endswith("dtype"):
        return _Type(_text(arguments[0]))
    array = _Array()
    if function.endswith("_frombuffer"):  # in pickles since protocol 5; the other calls are followed by a BUILD
        data, dtype, shape, order = arguments
        _build(array, (1, shape, dtype, order == "F", data))
    return array


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("an element type is no text")
    return value


def _build(target: _Array | _Type, state: object) -> None:
    """Takes over the state of an array (version, shape, dtype, fortran, data) or of an element type (…, order, …)."""
    if not isinstance(state, tuple) or len(state) > MAX_STATE:
        raise TypeError("the state of an array is no short tuple")
    if isinstance(target, _Type):
        target.order = _text(state[1])
        return
    _version, target.shape, target.dtype, target.fortran, target.data = state
    if not isinstance(target.dtype, _Type) or not isinstance(target.data, _Bytes):
        raise RefusedError("an array of objects")


def _tensor(path: Path, name: object, array: object) -> Tensor:
    if not isinstance(name, str) or not isinstance(array, _Array):
        raise CheckpointError(f"{path}: its entry {shown(name)} is no array; expected names and arrays only.")
    shape = checked_shape(array.shape, path, name)
    code = array.dtype.code if array.dtype else ""
    if code not in _DTYPES or array.dtype.order not in ("<", "|"):
        raise CheckpointError(
            f"{path}: array {shown(name)} is of type {shown(code, 20)}, expected little-endian numbers."
        )
    strides = None
    if array.fortran is True:
        strides = tuple(math.prod(shape[:axis]) for axis in range(len(shape)))
    tensor = Tensor(name, path, array.data.offset, shape, _DTYPES[code], strides)
    if tensor.nbytes != array.data.length:
        raise CheckpointError(
            f"{path}: array {shown(name)} claims {shape} {_DTYPES[code]}, which does not fit its {array.data.length} "
            "bytes: the file is damaged or forged."
        )
    return tensor.simplified() if strides else tensor

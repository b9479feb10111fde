"""The tensors of a checkpoint file, which are read only when they are needed, and the checkpoint itself.

Every format is read in the same way: its header gives each tensor's offset in the file, and `Tensor.read` reads one
tensor's bytes when they are needed. Nothing of the file stays in memory afterwards, and headers are checked before
anything is allocated.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.errors import CheckpointError
from tfvl.files.reading import shown

# The NumPy type that reads each element type from a file. bfloat16 is read as the upper half of a float32.
STORED = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "|i1",
    "uint64": "<u8",
    "uint32": "<u4",
    "uint16": "<u2",
    "uint8": "|u1",
    "bool": "|b1",
}
FLOATS = ("float64", "float32", "float16", "bfloat16")
MAX_RANK = 32
MAX_ELEMENTS = 1 << 63
ALIGNMENT = 64  # bytes, for the widest vector instructions
_COMPARED_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint, not yet read.

    Attributes:
        name: its name in the file.
        path: the file.
        offset: the offset of its first element, in bytes from the start of the file.
        shape: its shape.
        dtype: its element type, a key of `STORED`.
        strides: the stride of each axis in elements; None if the elements are in row-major order.
    """

    name: str
    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] | None = None

    @property
    def steps(self) -> tuple[int, ...]:
        """The strides in elements, one for each axis."""
        return self.strides or row_major(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * np.dtype(STORED[self.dtype]).itemsize

    def read(self) -> np.ndarray:
        """Reads the values in the tensor's own dtype; bfloat16 becomes float32.

        Raises:
            CheckpointError: the file ends before the tensor does.
        """
        stored = np.dtype(STORED[self.dtype])
        flat = aligned_empty(extent(self.shape, self.steps), stored)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            _read_into(file, flat.view(np.uint8).data, self)
        if self.dtype == "bfloat16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        if self.strides is None:
            return flat.reshape(self.shape)
        return np.lib.stride_tricks.as_strided(flat, self.shape, [step * flat.itemsize for step in self.steps])

    def simplified(self) -> "Tensor":
        """Returns the same tensor, without strides if its elements are in row-major order."""
        rows = row_major(self.shape)
        same = all(size == 1 or step == row for size, step, row in zip(self.shape, self.strides, rows, strict=True))
        return replace(self, strides=None) if same else self

    def equals(self, other: "Tensor") -> bool:
        """Returns whether both hold the same values; they are not read if both are the same bytes of one file."""
        if self.shape != other.shape:
            return False
        if replace(self, name=other.name) == other:
            return True
        if self.strides or other.strides:
            return np.array_equal(self.read(), other.read(), equal_nan=True)
        starts = range(0, self.size, _COMPARED_AT_ONCE)
        return all(np.array_equal(self._flat(start), other._flat(start), equal_nan=True) for start in starts)

    def _flat(self, start: int) -> np.ndarray:
        """Reads the next few million elements from `start` on, of a tensor in row-major order."""
        offset = self.offset + start * np.dtype(STORED[self.dtype]).itemsize
        return replace(self, offset=offset, shape=(min(_COMPARED_AT_ONCE, self.size - start),)).read()


class Checkpoint(dict[str, Tensor]):
    """The tensors of a checkpoint by name. `path` is its file, or its index file if it has several parts.

    Raises:
        CheckpointError: two tensors have the same name.
    """

    def __init__(self, path: Path, tensors: Sequence[Tensor]):
        super().__init__((tensor.name, tensor) for tensor in tensors)
        self.path = path
        if len(self) < len(tensors):
            raise CheckpointError(f"{path}: {len(tensors) - len(self)} tensors have the name of another.")


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the strides, in elements, of a row-major array of this shape."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def extent(shape: Sequence[int], steps: Sequence[int]) -> int:
    """Returns the number of elements from the first to the last of an array, both included."""
    return 1 + sum((size - 1) * step for size, step in zip(shape, steps, strict=True)) if all(shape) else 0


def checked_shape(shape: Any, path: Path, name: str) -> tuple[int, ...]:
    """Returns `shape` as a tuple, after checking that its items are whole numbers from 0.

    Raises:
        CheckpointError: `shape` is something else.
    """
    is_list = isinstance(shape, list | tuple) and len(shape) <= MAX_RANK
    if is_list and all(type(size) is int and 0 <= size < MAX_ELEMENTS for size in shape):
        return tuple(shape)
    raise CheckpointError(f"{path}: tensor {shown(name)} has the impossible shape {shown(shape)}.")


def check_inside(tensor: Tensor, start: int, end: int) -> None:
    """Checks that the tensor's bytes lie in `start` to `end` of its file, and that its elements do not overlap.

    Raises:
        CheckpointError: they do not.
    """
    span = extent(tensor.shape, tensor.steps)
    itemsize = np.dtype(STORED[tensor.dtype]).itemsize
    if tensor.offset < start or tensor.offset + span * itemsize > end or tensor.size > span:
        raise CheckpointError(
            f"{tensor.path}: tensor {shown(tensor.name)} claims {tensor.dtype} {tensor.shape} from byte {tensor.offset}"
            f" on, which does not fit into bytes {start} to {end}, all that the file has for it: truncated or forged."
        )


def aligned_empty(size: int, dtype: np.dtype) -> np.ndarray:
    """Returns an uninitialised vector, aligned to `ALIGNMENT` bytes, whose memory a backend can take over."""
    memory = np.empty(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size * dtype.itemsize].view(dtype)


def _read_into(file, buffer: memoryview, tensor: Tensor) -> None:
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            size = os.fstat(file.fileno()).st_size
            raise CheckpointError(f"{tensor.path}: the file ends at byte {size}, inside tensor {shown(tensor.name)}.")
        done += count

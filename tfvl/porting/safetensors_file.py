"""Reads and writes safetensors files: eight bytes with the header's length, a JSON header, and the tensors in a row.

The `safetensors` package writes them; but it reads by mapping the whole file into memory, and keeps every page that it
touched. So the header is read here, and with its offsets one tensor at a time is read.
Source: github.com/huggingface/safetensors, README "Format".
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tfvl.errors import CheckpointError
from tfvl.files.reading import parse_json, shown
from tfvl.porting.tensors import Tensor, check_inside, checked_shape

MAX_HEADER_BYTES = 1 << 24  # names and shapes only: a base-size model needs 25 kB

NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_safetensors(path: Path) -> list[Tensor]:
    """Opens the tensors of a safetensors file, and checks their offsets against the size of the file.

    Raises:
        CheckpointError: the file is truncated, or its header is malformed or forged.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise CheckpointError(
                f"{path}: the header claims {length} bytes (the file has {size}, a header at most {MAX_HEADER_BYTES}): "
                "the file is truncated or no safetensors."
            )
        header = _parsed(file.read(length), path)
    header.pop("__metadata__", None)
    start = 8 + length
    tensors = [_tensor(name, entry, start, size, path) for name, entry in header.items()]
    end = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != end:
            raise CheckpointError(
                f"{path}: tensor {shown(tensor.name)} overlaps another or leaves a gap before it: forged."
            )
        end = tensor.offset + tensor.nbytes
    if end != size:
        raise CheckpointError(f"{path}: {size - end} bytes follow the last tensor, of which the header says nothing.")
    return tensors


def _parsed(text: bytes, path: Path) -> dict:
    try:
        header = parse_json(text, object_pairs_hook=_without_duplicates)
    except ValueError as error:
        raise CheckpointError(f"{path}: the safetensors header is not valid JSON ({error}).") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the safetensors header is not a JSON object.")
    return header


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name stands in it twice")
    return result


def _tensor(name: str, entry: Any, start: int, size: int, path: Path) -> Tensor:
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise CheckpointError(
            f"{path}: the header's entry for {shown(name)} lacks dtype, shape or data_offsets."
        ) from None
    if not isinstance(code, str) or code not in NAMES:
        raise CheckpointError(
            f"{path}: tensor {shown(name)} has the element type {shown(code, 40)}; known are {', '.join(NAMES)}."
        )
    if not (type(begin) is int and type(end) is int and 0 <= begin <= end <= size - start):
        raise CheckpointError(
            f"{path}: tensor {shown(name)} lies at bytes {shown(begin)} to {shown(end)} of {size - start}: "
            "the file is truncated or forged."
        )
    tensor = Tensor(name, path, start + begin, checked_shape(shape, path, name), NAMES[code])
    check_inside(tensor, start + begin, start + end)
    if tensor.nbytes != end - begin:
        raise CheckpointError(
            f"{path}: tensor {shown(name)} is {code} {list(tensor.shape)}, {tensor.nbytes} bytes, "
            f"in a place of {end - begin} bytes."
        )
    return tensor


def write_safetensors(path: Path, arrays: Mapping[str, Callable[[], np.ndarray]]) -> None:
    """Writes a safetensors file that transformers reads.

    Args:
        path: the file.
        arrays: maps a tensor's name to a function that returns its array.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file({name: np.asarray(array(), order="C") for name, array in arrays.items()}, path, metadata={"format": "pt"})
    path.chmod(mode)  # the package makes files that only their owner can read, but a server may run as another user

"""Reads `torch.save` files without torch: the zip format, and the format of torch before 1.6.

Both hold a pickle that describes the tensors, and the tensors' storages as plain bytes. The pickle is not executed but
interpreted (`pickle_machine.py`); the result says where in the file each tensor lies.

Source: torch/serialization.py (`_save`, `_legacy_save`).
"""

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.errors import CheckpointError
from tfvl.files.archive import ERRORS, open_archive
from tfvl.files.reading import open_regular, shown
from tfvl.porting.pickle_machine import DescribedTensor, Foreign, Storage, run_pickle
from tfvl.porting.tensors import STORED, Tensor, check_inside, checked_shape

MAX_PICKLE_BYTES = 1 << 22  # names and shapes only: a base-size model needs 50 kB
# the entries that hold the weights in files of PyTorch Lightning, Detectron2 and MMF, training scripts, and DeepSpeed
WRAPPING_ENTRIES = ("state_dict", "model", "model_state_dict", "module")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001

_ZIP_START = b"PK\x03\x04"
_ENTRY_HEADER_BYTES = 30
_BIG_ENDIAN = "the tensors are not stored little-endian; save them again on a machine that does so."

# The first byte of each storage in the file, and the one after its last.
Places = dict[str, tuple[int, int]]


def read_torch(path: Path) -> list[Tensor]:
    """Opens the tensors of a `torch.save` file.

    Raises:
        CheckpointError: it is not such a file, is truncated or forged, or wants to run code.
    """
    with open(path, "rb") as file:
        is_zip = file.read(len(_ZIP_START)) == _ZIP_START
    described, places = _read_zip(path) if is_zip else _read_legacy(path)
    size = os.path.getsize(path)
    return [_located(name, tensor, places, size, path) for name, tensor in described.items()]


def _read_zip(path: Path) -> tuple[dict[str, DescribedTensor], Places]:
    try:
        with open_regular(path) as file, open_archive(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise CheckpointError(f"{path}: this zip archive is no torch file: it has no data.pkl in one folder.")
            folder = pickles[0].removesuffix("data.pkl")
            program = _content(archive, entries[pickles[0]], path)
            order = entries.get(folder + "byteorder")
            if order and _content(archive, order, path) != b"little":
                raise CheckpointError(f"{path}: {_BIG_ENDIAN}")
            described = _state_dict(run_pickle(io.BytesIO(program), path), path)
            keys = {tensor.storage.key for tensor in described.values()}
            storages = {key: entries.get(f"{folder}data/{key}") for key in keys}
            return described, {key: _place(file, entry, path) for key, entry in storages.items() if entry}
    except CheckpointError:
        raise
    except (*ERRORS, struct.error, ValueError, OSError) as error:
        raise CheckpointError(f"{path}: the file is truncated or is not a whole zip archive ({error}).") from None


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> bytes:
    _check_stored(entry, path)
    if entry.file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(f"{path}: {entry.filename} claims {entry.file_size} bytes, more than {MAX_PICKLE_BYTES}.")
    return archive.read(entry)


def _check_stored(entry: zipfile.ZipInfo, path: Path) -> None:
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        raise CheckpointError(f"{path}: {entry.filename} is compressed or encrypted, which torch never does; refused.")


def _place(file: io.FileIO, entry: zipfile.ZipInfo, path: Path) -> tuple[int, int]:
    """Returns the first byte of an entry's data, and the one after its last, by the entry's own header."""
    _check_stored(entry, path)
    file.seek(entry.header_offset)
    header = file.read(_ENTRY_HEADER_BYTES)
    if len(header) < _ENTRY_HEADER_BYTES or not header.startswith(_ZIP_START):
        raise CheckpointError(f"{path}: the archive has no entry {entry.filename} where its directory says.")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    start = entry.header_offset + _ENTRY_HEADER_BYTES + name_length + extra_length
    return start, start + entry.file_size


def _read_legacy(path: Path) -> tuple[dict[str, DescribedTensor], Places]:
    """Reads five pickles (magic number, version, facts about the machine, tensors, storage keys) and the storages."""
    with open(path, "rb") as file:
        head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    if run_pickle(head, path) != LEGACY_MAGIC or run_pickle(head, path) != LEGACY_VERSION:
        raise CheckpointError(f"{path}: this pickle is no torch file: it does not begin with torch's magic number.")
    machine = run_pickle(head, path)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CheckpointError(f"{path}: {_BIG_ENDIAN}")
    storages: dict[str, Storage] = {}
    described = _state_dict(run_pickle(head, path, storages), path)
    keys: Any = run_pickle(head, path)
    itemsizes = {key: _itemsize(storage.dtype) for key, storage in storages.items()}
    is_list = isinstance(keys, list) and all(isinstance(key, str) and key in itemsizes for key in keys)
    if not is_list or len(keys) != len(itemsizes):
        raise CheckpointError(f"{path}: its list of storages does not fit its tensors; truncated or forged.")
    places, position = {}, head.tell()
    with open(path, "rb") as file:
        for key in keys:
            file.seek(position)
            numel = int.from_bytes(file.read(8), "little")
            places[key] = (position + 8, position + 8 + numel * itemsizes[key])
            position = places[key][1]
            if position > os.path.getsize(path):
                raise CheckpointError(
                    f"{path}: the file is truncated: storage {shown(key)} would end at byte {position}."
                )
    return described, places


def _state_dict(value: Any, path: Path) -> dict[str, DescribedTensor]:
    """Returns the pickled dict, or the one in it in a framework's file, after checking that it holds tensors only."""
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a {_kind(value)}, no state dict; save `model.state_dict()`.")
    wrapped = [entry for entry in WRAPPING_ENTRIES if isinstance(value.get(entry), dict)]
    if wrapped:  # beside it: hyper-parameters, optimizer states, callbacks
        value = value[wrapped[0]]
    for name, entry in value.items():
        if not isinstance(name, str) or not isinstance(entry, DescribedTensor):
            raise CheckpointError(
                f"{path}: no plain state dict: its entry {shown(name)} is a {_kind(entry)}, not a tensor; "
                "save `model.state_dict()` alone."
            )
    return value


def _kind(value: object) -> str:
    return value.name[:80] if isinstance(value, Foreign) else type(value).__name__


def _located(name: str, described: DescribedTensor, places: Places, size: int, path: Path) -> Tensor:
    """Returns the tensor with its offset in the file, checked against its storage, and the storage against the file."""
    storage = described.storage
    if storage.key not in places:
        raise CheckpointError(
            f"{path}: the storage {shown(storage.key)} of tensor {shown(name)} is missing from the file."
        )
    start, end = places[storage.key]
    if end > size or end - start < storage.numel * _itemsize(storage.dtype):
        raise CheckpointError(
            f"{path}: the storage of tensor {shown(name)} claims {storage.numel} {storage.dtype} values, "
            f"but the file has bytes {start} to {min(end, size)} for it: it is truncated or forged."
        )
    shape = checked_shape(described.shape, path, name)
    strides = checked_shape(described.strides, path, name)
    if len(strides) != len(shape):
        raise CheckpointError(f"{path}: tensor {shown(name)} has {len(shape)} axes and {len(strides)} strides.")
    offset = start + (storage.start + described.offset) * _itemsize(storage.dtype)
    tensor = Tensor(name, path, offset, shape, storage.dtype, strides)
    check_inside(tensor, start, end)
    return tensor.simplified()


def _itemsize(dtype: str) -> int:
    return np.dtype(STORED[dtype]).itemsize

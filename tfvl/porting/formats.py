"""Opens checkpoint files of every format as names and tensors that are read later.

A file's content must be what its name says; other files are refused with a sentence that says what they are.
"""

import os
from collections.abc import Callable
from pathlib import Path

from tfvl.errors import CheckpointError
from tfvl.files.reading import listed, open_regular, parse_json, read_text_file, shown
from tfvl.porting.keras_h5 import read_h5
from tfvl.porting.safetensors_file import read_safetensors
from tfvl.porting.tensors import Checkpoint, Tensor
from tfvl.porting.torch_pickle import read_torch

SAFETENSORS, TORCH, H5 = "safetensors", "torch pickle", "Keras HDF5"
READERS: dict[str, Callable[[Path], list[Tensor]]] = {SAFETENSORS: read_safetensors, TORCH: read_torch, H5: read_h5}
SUFFIXES = {
    ".safetensors": SAFETENSORS,
    **dict.fromkeys((".bin", ".pt", ".pth", ".th", ".ckpt"), TORCH),
    **dict.fromkeys((".h5", ".hdf5"), H5),
}

# The files of a directory in which weights are looked for, in this order.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
)

# The first bytes of files, and what such a file is; the first match counts.
_BEGINNINGS = (
    (b"PK\x03\x04", TORCH),
    (b"\x80", TORCH),
    (b"\x89HDF\r\n\x1a\n", H5),
    (b"version https://git-lfs", "a git-lfs pointer: the weights themselves were not downloaded (run `git lfs pull`)"),
    (b"<", "a web page or XML, not a checkpoint: the download went wrong"),
    (b"{", "JSON text, not a checkpoint"),
    (b"\x1f\x8b", "gzip-compressed: unpack it first"),
)
MAX_INDEX_BYTES = 1 << 24
MAX_NAME_BYTES = 255  # of a file


def open_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Opens the tensors of a checkpoint by name, without reading them yet.

    Args:
        path: a weight file (safetensors, `torch.save` old or new, Keras HDF5), the index file of a checkpoint in
            several parts, or a directory with one of `WEIGHT_FILES`.

    Raises:
        CheckpointError: there is no such file, or it is truncated, mislabelled, forged, or wants to run code.
    """
    path = Path(path)
    if path.is_dir():
        path = _weight_file(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file.")
    if path.name.endswith(".index.json"):
        return Checkpoint(path, _read_shards(path))
    return Checkpoint(path, read_file(path))


def read_file(path: Path) -> list[Tensor]:
    """Opens the tensors of one weight file, whose content must have the format that its name says.

    Raises:
        CheckpointError: the content has another format, or the file is damaged.
    """
    content = _content(path)
    if content not in READERS:
        raise CheckpointError(f"{path}: this file is {content}.")
    named = SUFFIXES.get(path.suffix.lower(), content)
    if named != content:
        suffix = next(suffix for suffix, kind in SUFFIXES.items() if kind == content)
        raise CheckpointError(f"{path}: named like a {named} file, but its content is {content}: rename it *{suffix}.")
    return READERS[content](path)


def _weight_file(directory: Path) -> Path:
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            return directory / name
    raise CheckpointError(f"{directory}: the directory has no weights; expected one of {', '.join(WEIGHT_FILES)}.")


def _content(path: Path) -> str:
    try:
        with open_regular(path) as file:
            beginning = file.read(64)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if not beginning:
        return "empty"
    if not beginning.strip(b"\0"):
        return "zeros from the start on: an interrupted download"
    if beginning[4:9] == b"\0\0\0\0{":  # a header of less than 4 GiB, and its first character
        return SAFETENSORS
    text = beginning.lstrip(b" \r\n\t\xef\xbb\xbf")
    matches = (kind for start, kind in _BEGINNINGS if text.startswith(start))
    return next(matches, f"in no format known here (it begins with {beginning[:12]!r})")


def _read_shards(index: Path) -> list[Tensor]:
    """Opens the tensors of a checkpoint in several files, each of which must hold exactly what the index lists."""
    weight_map = _weight_map(index)
    listed_for: dict[str, set[str]] = {}
    for key, name in weight_map.items():
        listed_for.setdefault(name, set()).add(key)
    tensors, wrong = [], []
    for name, keys in sorted(listed_for.items()):
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: its part {name} is missing from the directory.")
        part = read_file(index.parent / name)
        held = {tensor.name for tensor in part}
        wrong += [f"{key} is listed for {name}, which has it not" for key in sorted(keys - held)]
        wrong += [f"{key} is in {name}, for which it is not listed" for key in sorted(held - keys)]
        tensors += part
    if wrong:
        raise CheckpointError(f"{index}: the index does not fit its parts: {listed(wrong, '; ')}.")
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    try:
        text = read_text_file(index, MAX_INDEX_BYTES)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    try:
        weight_map = dict(parse_json(text)["weight_map"])
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{index}: not an index of tensors, JSON with a `weight_map` ({error}).") from None
    for name in weight_map.values():
        is_plain = isinstance(name, str) and 0 < len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES
        if not is_plain or name != os.path.basename(name) or "\\" in name or name in (".", ".."):
            raise CheckpointError(f"{index}: the part {shown(name)} is no plain file name beside it; refused.")
    return weight_map

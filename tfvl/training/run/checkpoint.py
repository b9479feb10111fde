"""Checkpoints of a training run: directories that appear only when they are whole, and are verified when read."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfvl.errors import CheckpointError
from tfvl.files.reading import open_regular, parse_json, read_text_file
from tfvl.files.whole import written_whole
from tfvl.modeling.replicas import own_value
from tfvl.porting.safetensors_file import read_safetensors, write_safetensors

ARRAYS, STATE, MANIFEST = "arrays.safetensors", "state.json", "manifest.json"
KEPT = 2


class SavedState(NamedTuple):
    """The content of a checkpoint, from which training goes on.

    Attributes:
        arrays: the value of every variable, by its name.
        state: everything else, in types that JSON has.
    """

    arrays: dict[str, np.ndarray]
    state: dict[str, Any]


def save(directory: Path, step: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> Path:
    """Writes the checkpoint of a step into the directory of checkpoints, and removes all but the last `KEPT`.

    A checkpoint gets its name only when all of it is on disk, so that an interruption leaves the others as they were.
    """
    with written_whole(directory / f"{step:09d}") as new:
        write_safetensors(new / ARRAYS, {name: partial(np.asarray, array) for name, array in arrays.items()})
        (new / STATE).write_text(json.dumps(state))
        files = {name: {"size": (new / name).stat().st_size, "sha256": _digest(new / name)} for name in (ARRAYS, STATE)}
        (new / MANIFEST).write_text(json.dumps({"step": step, "files": files}))
    for old in _names(directory)[:-KEPT]:
        shutil.rmtree(old)
    return directory / f"{step:09d}"


def last(directory: Path) -> SavedState | None:
    """Returns the newest whole checkpoint, or None; a warning names each newer one that is damaged."""
    for path in reversed(_names(directory)):
        try:
            return read(path)
        except CheckpointError as error:
            warnings.warn(f"{error} It is left out, and training goes on from the one before it.", stacklevel=2)
    return None


def read(path: Path) -> SavedState:
    """Reads a checkpoint.

    Raises:
        CheckpointError: a file is missing, or differs from what was written.
    """
    try:
        files = _json(path / MANIFEST)["files"]
        for name in (ARRAYS, STATE):
            if (path / name).stat().st_size != files[name]["size"] or _digest(path / name) != files[name]["sha256"]:
                raise CheckpointError(f"The checkpoint {path} is damaged: {name} is not what was written.")
        tensors = read_safetensors(path / ARRAYS)
        return SavedState({tensor.name: tensor.read() for tensor in tensors}, _json(path / STATE))
    except (OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"The checkpoint {path} is damaged ({error}).") from None


def arrays_of(groups: Mapping[str, Iterable]) -> dict[str, np.ndarray]:
    """Returns the values of groups of variables, under the names that `assign` looks for."""
    return {name: own_value(variable) for name, variable in _named(groups).items()}


def assign(groups: Mapping[str, Iterable], arrays: Mapping[str, np.ndarray]) -> None:
    """Assigns variables the values that `arrays_of` returned for the same groups.

    Raises:
        CheckpointError: a value is missing, belongs to no variable, or has another shape.
    """
    variables = _named(groups)
    wrong = sorted(variables.keys() ^ arrays.keys())
    wrong += [name for name in variables.keys() & arrays.keys() if tuple(variables[name].shape) != arrays[name].shape]
    if wrong:
        raise CheckpointError(f"The checkpoint is of another model or optimizer: {', '.join(wrong[:3])} do not fit.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _named(groups: Mapping[str, Iterable]) -> dict[str, Any]:
    return {
        f"{group}/{number}": variable
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def _names(directory: Path) -> list[Path]:
    """Returns the checkpoints in a directory, oldest first."""
    return sorted(path for path in directory.glob("[0-9]*") if path.is_dir())


def _json(path: Path) -> Any:
    try:
        return parse_json(read_text_file(path))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def _digest(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

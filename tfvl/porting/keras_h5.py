"""Opens Keras HDF5 weight files (`tf_model.h5` of transformers' TensorFlow models) as tensors that are read later.

Such a file has a group for each layer and in it a dataset for each variable, under the variable's name
(keras/src/legacy/saving/legacy_h5_format.py). h5py reads this structure in a separate process (`keras_h5_file`); the
values are then read directly. The lists of names in attributes only repeat the structure and are not read.
"""

import os
from pathlib import Path

from tfvl.errors import CheckpointError
from tfvl.files.isolated import Isolated, seconds_for
from tfvl.files.reading import shown
from tfvl.porting.tensors import STORED, Tensor, check_inside, checked_shape

_TYPES = {code: name for name, code in STORED.items() if name != "bfloat16"} | {"<u2": "uint16"}


def read_h5(path: Path) -> list[Tensor]:
    """Opens the tensors of a Keras HDF5 weight file by the variables' names (`tf_lxmert_model/lxmert/.../weight:0`).

    Raises:
        CheckpointError: the file is truncated, is not laid out by Keras, or refers to data outside itself.
    """
    from tfvl.porting.keras_h5_file import KerasFile

    try:
        file = Isolated(KerasFile, str(path), seconds=seconds_for(path))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: {str(error).rstrip('.')}.") from None
    file.close()
    size = os.path.getsize(path)
    return _once([_tensor(path, size, *dataset) for dataset in file.opening[0]])


def _once(tensors: list[Tensor]) -> list[Tensor]:
    """Removes exact repetitions: Keras writes a layer that two others share with each of them."""
    first: dict[str, Tensor] = {}
    return [
        tensor
        for tensor in tensors
        if first.setdefault(tensor.name, tensor) is tensor or not tensor.equals(first[tensor.name])
    ]


def _tensor(path: Path, size: int, place: str, shape: object, code: str, offset: int | None) -> Tensor:
    name, dtype = place.partition("/")[2], _TYPES.get(code)
    if dtype is None or offset is None or shape is None:
        raise CheckpointError(
            f"{path}: {shown(name)} ({dtype or code}) is not one plain block in this file, as Keras stores it; refused."
        )
    tensor = Tensor(name, path, offset, checked_shape(shape, path, name), dtype)
    check_inside(tensor, 0, size)
    return tensor

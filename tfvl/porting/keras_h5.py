"""Keras HDF5 weight files (`tf_model.h5` of transformers' TensorFlow models): names and places of their datasets.

Such a file has a group for each layer and in it a dataset for each variable, at the variable's name
(keras/src/legacy/saving/legacy_h5_format.py). h5py reads this structure; the values are then read directly. The lists
of names in attributes say the same again and are not read: HDF5 may hang on damaged ones.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfvl.errors import CheckpointError
from tfvl.porting.tensors import STORED, Tensor, check_inside, checked_shape


def read_h5(path: Path) -> list[Tensor]:
    """The tensors of a Keras HDF5 weight file, by the variables' names (`tf_lxmert_model/lxmert/.../weight:0`).

    Raises:
        CheckpointError: the file is truncated, is not laid out by Keras, or refers to data outside itself.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if not {"layer_names", "layer_names0"} & set(file.attrs):
                raise CheckpointError(f"{path}: this HDF5 file was not written by Keras: it has no layer_names.")
            datasets = _datasets(file, "", path, seen=set())
            return _once([_tensor(dataset, place.partition("/")[2], path) for place, dataset in datasets])
    except CheckpointError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        raise CheckpointError(f"{path}: the file is truncated or not valid HDF5 ({error}).") from None


def _once(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors without exact repetitions: Keras writes a layer that two others share with each of them."""
    first: dict[str, Tensor] = {}
    return [
        tensor
        for tensor in tensors
        if first.setdefault(tensor.name, tensor) is tensor or not tensor.equals(first[tensor.name])
    ]


def _datasets(group, start: str, path: Path, seen: set) -> Iterator[tuple[str, object]]:
    """Every dataset below `group` with its place in the file. No link out of the file is followed, no group twice."""
    import h5py

    seen.add(h5py.h5o.get_info(group.id).addr)
    for name in group:
        place = f"{start}{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise CheckpointError(f"{path}: {place[:200]!r} is a link to somewhere else; refused.")
        member = group[name]
        if isinstance(member, h5py.Dataset):
            yield place, member
        elif isinstance(member, h5py.Group) and h5py.h5o.get_info(member.id).addr not in seen:
            yield from _datasets(member, f"{place}/", path, seen)
        else:
            raise CheckpointError(f"{path}: {place[:200]!r} is no dataset and no group of its own; refused.")


def _tensor(dataset, name: str, path: Path) -> Tensor:
    offset, dtype = dataset.id.get_offset(), _dtype(dataset.dtype)
    if dtype is None or offset is None or dataset.external or dataset.is_virtual or dataset.file.userblock_size:
        raise CheckpointError(
            f"{path}: {name!r} ({dataset.dtype}) is not one plain block in this file, as Keras stores weights; refused."
        )
    tensor = Tensor(name, path, offset, checked_shape(dataset.shape, path, name), dtype)
    check_inside(tensor, 0, os.path.getsize(path))
    return tensor


def _dtype(dtype: np.dtype) -> str | None:
    return dtype.name if dtype.name in STORED and dtype == np.dtype(STORED[dtype.name]) else None

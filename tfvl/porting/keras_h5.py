"""Keras HDF5 weight files (`tf_model.h5` of transformers' TensorFlow models): names and places of their datasets.

Such a file lists its layers in the attribute `layer_names` and each layer's variables in `weight_names`, a dataset for
each (keras/src/legacy/saving/legacy_h5_format.py). h5py reads this structure; the values are then read directly.
"""

import os
from itertools import count, takewhile
from pathlib import Path

import numpy as np

from tfvl.errors import CheckpointError
from tfvl.porting.tensors import STORED, Tensor, check_inside, checked_shape


def read_h5(path: Path) -> list[Tensor]:
    """The tensors of a Keras HDF5 weight file, named as its `weight_names` (`tf_lxmert_model/lxmert/.../weight:0`).

    Raises:
        CheckpointError: the file is truncated, is not laid out by Keras, or refers to data outside itself.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if file.userblock_size:
                raise CheckpointError(f"{path}: the file begins with a block of foreign data; refused.")
            root = file["model_weights"] if "model_weights" in file and "layer_names" not in file.attrs else file
            return [
                _tensor(root, f"{layer}/{name}", name, path)
                for layer in _names(root, "layer_names", path)
                for name in _names(_member(root, layer, path), "weight_names", path)
            ]
    except (OSError, RuntimeError, KeyError, UnicodeError) as error:
        raise CheckpointError(f"{path}: the file is truncated or not valid HDF5 ({error}).") from None


def _names(group, attribute: str, path: Path) -> list[str]:
    """A list of names kept in an attribute, or in numbered ones where it was too long for one."""
    keys = [attribute]
    if attribute not in group.attrs:
        keys = list(takewhile(group.attrs.__contains__, (f"{attribute}{number}" for number in count())))
    if not keys:
        raise CheckpointError(f"{path}: {group.name} has no {attribute}: this HDF5 file was not written by Keras.")
    names = [name for key in keys for name in np.ravel(group.attrs[key])]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _member(group, name: str, path: Path):
    """What `name` stands for in the group, followed step by step through links inside the file only."""
    import h5py

    for step in filter(None, name.split("/")):
        if step in (".", ".."):
            raise CheckpointError(f"{path}: the name {name[:80]!r} is no plain name; refused.")
        if not isinstance(group, h5py.Group) or step not in group:
            raise CheckpointError(f"{path}: {name[:80]!r} is listed and not in the file.")
        if not isinstance(group.get(step, getlink=True), h5py.HardLink):
            raise CheckpointError(f"{path}: {name[:80]!r} is a link to somewhere else; refused.")
        group = group[step]
    return group


def _tensor(root, place: str, name: str, path: Path) -> Tensor:
    import h5py

    dataset = _member(root, place, path)
    if not isinstance(dataset, h5py.Dataset):
        raise CheckpointError(f"{path}: {name!r} is no dataset.")
    offset, dtype = dataset.id.get_offset(), _dtype(dataset.dtype)
    if dtype is None or offset is None or dataset.external or dataset.is_virtual:
        raise CheckpointError(
            f"{path}: {name!r} ({dataset.dtype}) is not one plain block in this file, as Keras stores weights; refused."
        )
    tensor = Tensor(name, path, offset, checked_shape(dataset.shape, path, name), dtype)
    check_inside(tensor, 0, os.path.getsize(path))
    return tensor


def _dtype(dtype: np.dtype) -> str | None:
    return dtype.name if dtype.name in STORED and dtype == np.dtype(STORED[dtype.name]) else None

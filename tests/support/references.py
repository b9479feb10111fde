"""Reads files with each format's own library, for comparison; a file may crash it, so it runs in its own process."""

import contextlib

import h5py
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from support.readers import digest, of_regions
from tfvl.preprocessing.regions.regions import field_names, from_fields


def safetensors(path) -> dict:
    return {name: digest(array) for name, array in load_file(path).items()}


def torch_file(path) -> dict:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: digest(tensor.numpy()) for name, tensor in state.items()}


def keras(path) -> dict:
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        return {name.partition("/")[2]: digest(item[()]) for name, item in found.items()}


def npz(path) -> list:
    with np.load(path) as archive:
        names = field_names(archive.files)
        return of_regions([from_fields({field: archive[name] for field, name in names.items()}, path.stem)])


def rows_of_h5(path) -> list:
    with h5py.File(path, "r") as file:
        names = field_names(file)
        ids = [text.decode() for text in file[names.pop("image_id")][:].tolist()]
        fields = ({field: file[name][row] for field, name in names.items()} for row in range(len(ids)))
        return of_regions(from_fields(stored, name) for stored, name in zip(fields, ids, strict=True))


def groups_of_h5(path) -> list:
    with h5py.File(path, "r") as file:
        groups = {name: {**file[name].attrs, **{key: file[name][key][()] for key in file[name]}} for name in file}
        return of_regions(
            from_fields({field: stored[name] for field, name in field_names(stored).items()}, image_id)
            for image_id, stored in groups.items()
        )


def image(path) -> str:
    with Image.open(path) as opened:
        return digest(np.asarray(opened.convert("RGB")))


READERS = {
    "safetensors": safetensors,
    "keras": keras,
    "npz": npz,
    "rows": rows_of_h5,
    "groups": groups_of_h5,
    "image": image,
}
with contextlib.suppress(ImportError):
    import torch  # noqa: F401

    READERS["torch"] = torch_file

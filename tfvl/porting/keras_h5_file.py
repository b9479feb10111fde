"""Reads the structure of a Keras HDF5 weight file; it runs only in the separate process of `files.isolated`."""

from collections.abc import Iterator

import h5py
import numpy as np

from tfvl.files.hdf5 import damage, links, opened


class KerasFile:
    """The datasets of a Keras weight file and their offsets.

    Attributes:
        opening: for each dataset its path in the file, its shape, its type, and the offset of its first byte, None if
            it is not one plain block of this file; and an empty dict.

    Raises:
        ValueError: the file is damaged, was not written by Keras, or refers to data outside itself.
    """

    def __init__(self, path: str):
        with damage(), opened(path) as file:
            if not {"layer_names", "layer_names0"} & set(file.attrs):
                raise ValueError("this HDF5 file was not written by Keras: it has no layer_names")
            self.opening = [described(place, dataset) for place, dataset in _datasets(file, "", seen=set())], {}


class WeightsFile:
    """Reads the weights of a `.keras` archive to the last, to find out whether that can be done.

    Attributes:
        opening: how many numbers they are, and an empty dict.

    Raises:
        ValueError: the file is damaged, or refers to data outside itself.
    """

    def __init__(self, path: str):
        count = 0
        with damage(), opened(path) as file:
            for place, dataset in _datasets(file, "", seen=set()):
                if dataset.external or dataset.is_virtual:
                    raise ValueError(f"{place[:200]!r} is stored somewhere else; refused")
                count += int(np.size(dataset[()]))
        self.opening = count, {}


def described(place: str, dataset: h5py.Dataset) -> list:
    offset, shape = dataset.id.get_offset(), dataset.shape
    plain = not (dataset.external or dataset.is_virtual or dataset.file.userblock_size)
    return [place, None if shape is None else list(shape), dataset.dtype.str, offset if plain else None]


def _datasets(group: h5py.Group, start: str, seen: set) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yields every dataset below `group` with its path in the file. Raises ValueError for links and repeated groups."""
    seen.add(h5py.h5o.get_info(group.id).addr)
    for name, is_inside in links(group).items():
        place = f"{start}{name}"
        if not is_inside:
            raise ValueError(f"{place[:200]!r} is a link to somewhere else; refused")
        member = group[name]
        if isinstance(member, h5py.Dataset):
            yield place, member
        elif isinstance(member, h5py.Group) and h5py.h5o.get_info(member.id).addr not in seen:
            yield from _datasets(member, f"{place}/", seen)
        else:
            raise ValueError(f"{place[:200]!r} is no dataset and no group of its own; refused")

"""Reads an HDF5 file of regions with the HDF5 library; it runs only in the separate process of `files.isolated`.

Links to other files are refused, and so are data of implausible size. But on a damaged file the HDF5 library itself may
end or hang the process, or exhaust its memory, before these checks are reached.
"""

import itertools
import math

import h5py
import numpy as np

from tfvl.files.hdf5 import damage, links, opened
from tfvl.preprocessing.regions.regions import MAX_ID_LENGTH, MAX_IMAGE_BYTES, PER_REGION, field_names

MAX_BLOCK_BYTES = 1 << 28  # of a block (an HDF5 chunk), which the library reads as a whole
MAX_IMAGES = 1 << 24
POSITIONS = "pos_boxes"
INDEXED = "tfvl_index"  # attribute of stores that have an index behind them, see `h5_store`


class H5File:
    """An HDF5 file of regions, opened for reading by row.

    Attributes:
        opening: the image ids in the file's order; in a file that stores none, "0", "1", …

    Raises:
        ValueError: the file is damaged, has neither layout, or refers to data outside itself.
    """

    def __init__(self, path: str):
        with damage():
            self._file = opened(path)
            if INDEXED in self._file.attrs:
                raise ValueError(
                    "damaged, or not HDF5 with the index that tfvl writes behind it; write the store again"
                )
            self.opening = self._ids(), {}

    def _ids(self) -> list[str]:
        names = links(self._file)
        self._fields = {
            field: _Dataset(self._file, name, names)
            for field, name in field_names(names).items()
            if not _is_group(self._file, name, names)
        }
        self._positions = None
        if "features" not in self._fields:
            ids = [name for name in names if _is_group(self._file, name, names)]
            if not ids:
                raise ValueError("it has neither a dataset `features` nor a group per image")
            self._groups = ids
            return ids
        self._groups = None
        if POSITIONS in names:
            self._positions = _Dataset(self._file, POSITIONS, names)
        count = (self._positions or self._fields["features"]).images()
        ids = self._fields.pop("image_id", None)
        return [str(row) for row in range(count)] if ids is None else ids.strings(count)

    def read(self, row: int) -> tuple[None, dict[str, np.ndarray]]:
        """Returns None (`Isolated` expects a pair) and an image's arrays, by the fields of `regions.NAMES`."""
        with damage():
            stored = self._in_group(row) if self._groups else self._in_rows(row)
            arrays = {field: np.asarray(value) for field, value in stored.items()}
            for field, array in arrays.items():
                if array.dtype.kind not in "fiu":
                    raise ValueError(f"{field} are of type {array.dtype}, expected numbers")
                _check_bytes(field, array.shape, array.dtype.itemsize)
            return None, arrays

    def _in_rows(self, row: int) -> dict[str, np.ndarray]:
        if self._positions is None:
            return {field: dataset.read(row) for field, dataset in self._fields.items()}
        begin, end = (int(place) for place in self._positions.read(row))
        stored = {}
        for field, dataset in self._fields.items():
            if field in ("features", "boxes", *PER_REGION):
                if not 0 <= begin <= end <= dataset.length:
                    raise ValueError(f"its regions are {begin} to {end} of {dataset.length}")
                stored[field] = dataset.read(slice(begin, end))
            else:
                stored[field] = dataset.read(row)
        return stored

    def _in_group(self, row: int) -> dict[str, np.ndarray]:
        group = self._file[self._groups[row]]
        names = links(group)
        stored = {
            field: group.attrs[name] for field, name in field_names(group.attrs).items() if field in ("width", "height")
        }
        for field, name in field_names(names).items():
            if field != "image_id":
                stored[field] = _Dataset(group, name, names).read(())
        if "features" not in stored:
            raise ValueError("its group has no dataset `features`")
        return stored


class _Dataset:
    """A dataset that is stored in this file itself, in blocks of a plausible size."""

    def __init__(self, group: h5py.Group, name: str, names: dict[str, bool]):
        self.name = name
        if not names[name]:
            raise ValueError(f"{name} is a link to somewhere else; refused")
        dataset = self._dataset = group[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
            raise ValueError(f"{name} is no dataset of its own in this file; refused")
        if dataset.dtype.kind not in "fiu" and h5py.check_string_dtype(dataset.dtype) is None:
            raise ValueError(f"{name} are of type {dataset.dtype}, expected numbers or strings")
        self._shape, self._itemsize, self._chunks = dataset.shape, dataset.dtype.itemsize, dataset.chunks
        _check_bytes(name, self._chunks or (), self._itemsize, MAX_BLOCK_BYTES)
        self._written = _written_chunks(dataset)

    @property
    def length(self) -> int:
        return self._shape[0] if self._shape else 0

    def read(self, where) -> np.ndarray:
        """Reads `dataset[where]`, the part of an image, if its size is plausible and all its blocks are stored."""
        if isinstance(where, slice):
            part = [range(where.start, where.stop), *map(range, self._shape[1:])]
        elif where != ():
            if not 0 <= where < self.length:
                raise ValueError(f"{self.name} has {self.length} rows, too few for row {where}")
            part = [range(where, where + 1), *map(range, self._shape[1:])]
        else:
            part = list(map(range, self._shape))
        shape = [len(axis) for axis in part]
        _check_bytes(self.name, shape if isinstance(where, slice) or where == () else shape[1:], self._itemsize)
        if self._written is not None and all(shape):
            needed = itertools.product(
                *(
                    range(axis.start // size * size, axis.stop, size)
                    for axis, size in zip(part, self._chunks or self._shape, strict=True)
                )
            )
            if not all(chunk in self._written for chunk in needed):
                raise ValueError(f"damaged: {self.name} were never written")
        return self._dataset[where]

    def images(self) -> int:
        if not self._shape or self.length > MAX_IMAGES:
            raise ValueError(f"{self.name} has shape {self._shape}, expected a row for each of ≤ {MAX_IMAGES} images")
        return self.length

    def strings(self, count: int) -> list[str]:
        """Reads all values as texts, one for each image."""
        if self._shape != (count,):
            raise ValueError(f"{self.name} has shape {self._shape}, expected ({count},), one for each image")
        values = self.read(slice(0, count))
        if values.dtype.kind in "fiu":
            return [str(value) for value in values.tolist()]
        texts = values.tolist()
        longest = max(map(len, texts), default=0)
        if longest > 4 * MAX_ID_LENGTH:
            raise ValueError(f"{self.name} has an id of {longest} bytes, expected at most {MAX_ID_LENGTH} characters")
        return [text.decode("utf-8", errors="replace") for text in texts]


def _is_group(group: h5py.Group, name: str, links: dict[str, bool]) -> bool:
    return (
        links[name] and h5py.h5o.get_info(group.id, name.encode("utf-8", "surrogateescape")).type == h5py.h5o.TYPE_GROUP
    )


def _written_chunks(dataset: h5py.Dataset) -> set[tuple[int, ...]] | None:
    """Returns the offsets of the stored blocks, or None if all are stored. HDF5 reads those that are not as zeros."""
    if not dataset.size:
        return None
    if dataset.chunks is None:
        contiguous = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        return set() if contiguous and dataset.id.get_offset() is None else None
    blocks = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    if dataset.id.get_num_chunks() >= blocks:
        return None
    written: set[tuple[int, ...]] = set()
    dataset.id.chunk_iter(lambda info: written.add(tuple(info.chunk_offset)))
    return written


def _check_bytes(name: str, shape, itemsize: int, most: int = MAX_IMAGE_BYTES) -> None:
    nbytes = itemsize * math.prod(shape)
    if nbytes > most:
        raise ValueError(f"{name} claims {nbytes} bytes for one image or block, at most {most} are read")

"""Region features in HDF5, in the two layouts that are common for them.

*One dataset per field*, a row per image: `features` (images, regions, feature_size), `boxes` (images, regions, 4),
`image_ids`, `image_w`, `image_h`, `num_boxes` … (`regions.NAMES`). Where `pos_boxes` (images, 2) is stored, as in the
files of bottom-up-attention-vqa, the regions of all images lie one after the other, `features` (regions, feature_size),
and it says where those of each image begin and end. tfvl writes this form, for it wastes nothing on padding.

*One group per image*, called by the image's id, with the same fields as datasets or attributes.

Nothing is read that a file only points to, and nothing that claims an implausible size.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from tfvl.preprocessing.regions.regions import PER_REGION, Regions, field_names, from_fields

MAX_IMAGE_BYTES = 1 << 28  # one image's array, and one block of the file; 100 regions of 2048 features have 0.8 MB
MAX_IMAGES = 1 << 24
MAX_CHUNK_REGIONS = 128
POSITIONS = "pos_boxes"


class H5Regions:
    """An HDF5 file of regions, opened for reading by row or by id.

    Attributes:
        path: the file.
        ids: the image ids in the file's order; in a file that stores none, "0", "1", …

    Raises:
        ValueError: the file is damaged, has neither layout, or refers to data outside itself.
    """

    def __init__(self, path: Path):
        import h5py

        self.path = path
        with _errors_named(path):
            # No lock: several processes read, and network file systems often have none.
            self._file = h5py.File(path, "r", locking=False)
            try:
                self._open()
            except BaseException:
                self._file.close()
                raise

    def _open(self) -> None:
        self._fields = {
            field: _checked(self._file, name)
            for field, name in field_names(self._file).items()
            if not _is_group(self._file, name)
        }
        self._positions = self._groups = None
        if "features" in self._fields:
            if POSITIONS in self._file:
                self._positions = _checked(self._file, POSITIONS)
            count = _images(self._positions if self._positions is not None else self._fields["features"])
            ids = self._fields.pop("image_id", None)
            self.ids = [str(row) for row in range(count)] if ids is None else _strings(ids, count)
        else:
            self._groups = True
            self.ids = [name for name in self._file if _is_group(self._file, name)]
            if not self.ids:
                raise ValueError("it has neither a dataset `features` nor a group per image")

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int) -> Regions:
        """The regions of the image `ids[row]`.

        Raises:
            ValueError: what is stored for it is damaged or does not fit together.
        """
        with _errors_named(f"{self.path}, image {self.ids[row]!r}"):
            return from_fields(self._stored_in_group(row) if self._groups else self._stored_in_rows(row), self.ids[row])

    def close(self) -> None:
        self._file.close()

    def _stored_in_rows(self, row: int) -> dict[str, np.ndarray]:
        if self._positions is None:
            return {field: _read(dataset, row) for field, dataset in self._fields.items()}
        begin, end = (int(place) for place in _read(self._positions, row))
        stored = {}
        for field, dataset in self._fields.items():
            if field in ("features", "boxes", *PER_REGION):
                if not 0 <= begin <= end <= len(dataset):
                    raise ValueError(f"its regions are {begin} to {end} of {len(dataset)}")
                stored[field] = _read(dataset, slice(begin, end))
            else:
                stored[field] = _read(dataset, row)
        return stored

    def _stored_in_group(self, row: int) -> dict[str, np.ndarray]:
        group = self._file[self.ids[row]]
        stored = {
            field: group.attrs[name] for field, name in field_names(group.attrs).items() if field in ("width", "height")
        }
        for field, name in field_names(group).items():
            if field != "image_id":
                stored[field] = _read(_checked(group, name), ())
        if "features" not in stored:
            raise ValueError("its group has no dataset `features`")
        return stored


def read_h5(
    path: Path, on_error: Callable[[str], None], on_progress: Callable[[float], None] | None = None
) -> Iterator[Regions]:
    """The images of an HDF5 file in order; `on_error` gets one sentence for each that cannot be used."""
    return read_rows(H5Regions(path), on_error, on_progress)


def read_rows(file, on_error: Callable[[str], None], on_progress: Callable[[float], None] | None) -> Iterator[Regions]:
    """Every row of an opened file, which is then closed.

    Args:
        file: has `__len__`, `read(row)` and `close()`.
    """
    try:
        for row in range(len(file)):
            regions = None
            try:
                regions = file.read(row)
            except ValueError as error:
                on_error(str(error))
            if regions is not None:
                yield regions
            if on_progress:
                on_progress((row + 1) / len(file))
    finally:
        file.close()


def write_h5(path: Path, rows: Iterable[Regions], dtype: str) -> int:
    """Write images with distinct ids into a new file, and return their number.

    Raises:
        ValueError: some images have boxes, classes or confidences and others have not.
    """
    import h5py

    ids, sizes, positions, filled = [], [], [0], False
    # The newer format and Fletcher checksums: damage anywhere in the file is noticed instead of read.
    with h5py.File(path, "w", libver="v110") as file:
        for regions in rows:
            if len(regions):
                arrays = {"features": regions.features.astype(dtype, copy=False)}
                arrays |= {name: getattr(regions, name) for name in ("boxes", *PER_REGION)}
                arrays = {name: array for name, array in arrays.items() if array is not None}
                if not filled:
                    _create(file, arrays)
                    filled = True
                if set(arrays) != set(file):
                    different = ", ".join(sorted(set(arrays) ^ set(file)))
                    raise ValueError(f"image {regions.image_id!r} and those before it do not both have {different}.")
                for name, array in arrays.items():
                    file[name].resize(positions[-1] + len(array), axis=0)
                    file[name][positions[-1] :] = array
            ids.append(regions.image_id)
            sizes.append((regions.width or 0, regions.height or 0))  # 0: not known
            positions.append(positions[-1] + len(regions))
        if not ids:
            return 0
        if not filled:
            file["features"] = np.zeros((0, 0), dtype)
        sizes = np.array(sizes, np.int32).reshape(-1, 2)
        per_image = {"image_ids": np.array([name.encode() for name in ids], "S"), "image_w": sizes[:, 0]}
        per_image |= {"image_h": sizes[:, 1], POSITIONS: np.stack([positions[:-1], positions[1:]], axis=1)}
        for name, array in per_image.items():
            chunks = (min(len(ids), 1024), *array.shape[1:])
            file.create_dataset(name, data=array, chunks=chunks, fletcher32=True)
    return len(ids)


def _create(file, arrays: dict[str, np.ndarray]) -> None:
    # As many regions a block as the first image has: where all have as many, each is one block.
    rows = min(len(arrays["features"]), MAX_CHUNK_REGIONS)
    for name, array in arrays.items():
        rest = array.shape[1:]
        file.create_dataset(
            name, (0, *rest), array.dtype, maxshape=(None, *rest), chunks=(rows, *rest), fletcher32=True
        )


@contextlib.contextmanager
def _errors_named(place: object) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        text = str(error).rstrip(".")
        if not isinstance(error, ValueError):
            text = f"damaged, or not HDF5 ({text[:200]})"
        raise ValueError(f"{place}: {text}.") from None


def _is_group(group, name: str) -> bool:
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink) and group.get(name, getclass=True) is h5py.Group


def _checked(group, name: str):
    """The dataset `name` of this very file, whose blocks may be read."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link to somewhere else; refused")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"{name} is no dataset of its own in this file; refused")
    if dataset.dtype.kind not in "fiu" and h5py.check_string_dtype(dataset.dtype) is None:
        raise ValueError(f"{name} are of type {dataset.dtype}, expected numbers or strings")
    _check_bytes(name, dataset.chunks or (), dataset.dtype.itemsize)
    return dataset


def _read(dataset, where) -> np.ndarray:
    """`dataset[where]`, an image's part, after its size was found plausible."""
    shape = dataset.shape
    if isinstance(where, slice):
        shape = (where.stop - where.start, *shape[1:])
    elif where != ():
        if not 0 <= where < len(dataset):
            raise ValueError(f"{dataset.name[1:]} has {len(dataset)} rows, too few for row {where}")
        shape = shape[1:]
    _check_bytes(dataset.name[1:], shape, dataset.dtype.itemsize)
    return dataset[where]


def _check_bytes(name: str, shape: tuple[int, ...], itemsize: int) -> None:
    nbytes = itemsize
    for size in shape:
        nbytes *= size
    if nbytes > MAX_IMAGE_BYTES:
        raise ValueError(f"{name} claims {nbytes} bytes for one image or block, at most {MAX_IMAGE_BYTES} are read")


def _images(dataset) -> int:
    if not dataset.shape or len(dataset) > MAX_IMAGES:
        raise ValueError(
            f"{dataset.name[1:]} has shape {dataset.shape}, expected a row for each of ≤ {MAX_IMAGES} images"
        )
    return len(dataset)


def _strings(dataset, count: int) -> list[str]:
    import h5py

    if dataset.shape != (count,):
        raise ValueError(f"{dataset.name[1:]} has shape {dataset.shape}, expected ({count},), one for each image")
    _check_bytes(dataset.name[1:], dataset.shape, dataset.dtype.itemsize)
    if h5py.check_string_dtype(dataset.dtype) is None:
        return [str(value) for value in dataset[:].tolist()]
    return [value.decode("utf-8", errors="replace") for value in dataset[:]]

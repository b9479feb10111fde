"""One file with the regions of many images, read one image at a time by its id."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfvl.files.tfrecord import index_path
from tfvl.files.whole import written_files
from tfvl.preprocessing.regions.h5 import open_h5
from tfvl.preprocessing.regions.h5_store import write_h5
from tfvl.preprocessing.regions.reading import open_regions
from tfvl.preprocessing.regions.regions import Regions, pad_regions, warn
from tfvl.preprocessing.regions.tfrecord import DTYPES, TFRecordRegions, write_tfrecord

FORMATS = {".h5": open_h5, ".hdf5": open_h5, ".tfrecord": TFRecordRegions, ".tfrecords": TFRecordRegions}


class RegionStore:
    """The regions of many images by their ids, from one HDF5 or TFRecord file.

    Opening reads the ids, not the features. A store may be used from several processes, also after a fork, and may be
    pickled (it is then opened again). HDF5 files that others wrote in a layout of `h5` are opened too.

        store = RegionStore("train.h5")
        regions = store["COCO_train2014_000000000009"]
        dataset.map(lambda ids: tf.numpy_function(lambda ids: store.lookup(ids)["features"], [ids], tf.float32))

    Args:
        path: a `.h5`, `.hdf5` or `.tfrecord` file.

    Raises:
        ValueError: there is no such file, it is damaged, or two of its images have the same id.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        backend = _format(self.path)
        if not self.path.is_file():
            raise ValueError(f"{self.path}: no such file; RegionStore.write makes one.")
        self._backend = backend(self.path)
        self._rows: dict[str, int] = {}
        for row, image_id in enumerate(self._backend.ids):
            if self._rows.setdefault(image_id, row) != row:
                self.close()
                raise ValueError(f"{self.path}: image {image_id!r} stands in it twice.")

    @staticmethod
    def write(path: str | os.PathLike, regions: Iterable[Regions], *, dtype: str = "float32") -> int:
        """Writes a store. It appears under its name only when it is complete.

        Args:
            path: a `.h5`, `.hdf5` or `.tfrecord` file (with `<path>.index` beside it); what is there is replaced.
            regions: the images, as from `open_regions`; each needs an `image_id` of its own.
            dtype: how features are stored: "float32", or "float16" for half the size.

        Returns:
            The number of images.

        Raises:
            ValueError: an image has no id or the id of an earlier one, features differ in size or do not fit into
                `dtype`, or there are no images.
        """
        path = Path(path)
        backend = _format(path)
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r}, expected {' or '.join(DTYPES)}.")
        write: Any = write_h5 if backend is open_h5 else write_tfrecord
        files = [path] if backend is open_h5 else [path, index_path(path)]
        with written_files(*files) as new:
            count = write(*new, _checked(regions, dtype), dtype)
            if not count:
                raise ValueError(f"{path}: there are no images to write.")
        return count

    def __getitem__(self, image_id: str) -> Regions:
        """Reads the regions of one image.

        Raises:
            ValueError: the store has no image of this id, or its data are damaged.
        """
        if image_id not in self._rows:
            raise ValueError(f"{self.path}: there is no image {image_id!r} among {len(self)}.")
        return self._backend.read(self._rows[image_id])

    def lookup(
        self, ids: Sequence[str | bytes] | np.ndarray, feature_size: int | None = None, max_regions: int | None = None
    ) -> dict[str, np.ndarray]:
        """Reads the regions of a batch of images, padded by `pad_regions`.

        Ids may be bytes, as in `tf.numpy_function`.
        """
        names = [image_id.decode() if isinstance(image_id, bytes) else str(image_id) for image_id in ids]
        return pad_regions([self[name] for name in names], feature_size, max_regions)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._rows

    def __iter__(self) -> Iterator[str]:
        """Iterates over the ids, in the order in which the images were written."""
        return iter(self._rows)

    def __reduce__(self):
        return RegionStore, (self.path,)

    def close(self) -> None:
        self._backend.close()

    def __enter__(self) -> "RegionStore":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class Conversion(NamedTuple):
    """The number of images that were written, and the number of lines, images or files that could not be used."""

    images: int
    skipped: int


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    dtype: str = "float32",
    on_error: Callable[[str], None] = warn,
    on_progress: Callable[[float], None] | None = None,
) -> Conversion:
    """Writes a `RegionStore` at `target` from whatever `open_regions` reads at `source`.

    Args:
        source, on_error, on_progress: as for `open_regions`.
        target, dtype: as for `RegionStore.write`.

    Raises:
        ValueError: as `open_regions` and `RegionStore.write` do.
    """
    skipped = 0

    def count(sentence: str) -> None:
        nonlocal skipped
        skipped += 1
        on_error(sentence)

    regions = open_regions(source, on_error=count, on_progress=on_progress)
    return Conversion(RegionStore.write(target, regions, dtype=dtype), skipped)


def _format(path: Path) -> Callable[[Path], Any]:
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: a store of regions is one of {', '.join(FORMATS)}, not {path.suffix!r}.")
    return FORMATS[path.suffix.lower()]


def _checked(rows: Iterable[Regions], dtype: str) -> Iterator[Regions]:
    """Yields the images, after checking that each can be written. Raises ValueError for one that cannot."""
    seen, size = set(), None
    for regions in rows:
        name = regions.image_id
        if name is None:
            raise ValueError(f"image {len(seen)} has no image_id; every image in a store needs one.")
        if name in seen:
            raise ValueError(f"image {name!r} comes twice; every image in a store needs an id of its own.")
        seen.add(name)
        if len(regions):
            size = size or regions.features.shape[1]
            if regions.features.shape[1] != size:
                raise ValueError(
                    f"image {name!r} has features of size {regions.features.shape[1]}, those before it {size}."
                )
        if dtype == "float16" and (np.abs(regions.features) > np.finfo(np.float16).max).any():
            raise ValueError(f"image {name!r} has features beyond float16's largest value, 65504; use dtype='float32'.")
        yield regions

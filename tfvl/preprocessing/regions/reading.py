"""Reads region features from any file or directory, and from `.npz` and `.npy` files, which hold one image each."""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tfvl.files.archive import ERRORS, open_archive
from tfvl.files.arrays import read_array, read_npy
from tfvl.files.reading import open_regular
from tfvl.preprocessing.regions.h5 import read_h5
from tfvl.preprocessing.regions.regions import MAX_IMAGE_BYTES, Regions, field_names, from_fields, warn
from tfvl.preprocessing.regions.tfrecord import read_tfrecord
from tfvl.preprocessing.regions.tsv import read_tsv

Progress = Callable[[float], None] | None


def read_npz(path: str | os.PathLike) -> Regions:
    """Reads the regions of one image from an `.npz` file of a bottom-up-attention exporter.

    The arrays are called as in `regions.NAMES` (`x` or `features`, `bbox`, `boxes` or `norm_bb`, `image_w`, `image_h`,
    `num_bbox`); others, such as the pickled `info`, are not read. The image id is `image_id`, or else the file's name
    without the suffix.

    Raises:
        ValueError: the file is damaged, an array in it would need a pickle or implausibly much memory, or the arrays
            do not fit each other.
    """
    path = Path(path)
    with _readable(path, ".npz"):
        with open_archive(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            names = field_names(members)
            if "features" not in names:
                raise ValueError(f"it has no array `features` or `x`, only {', '.join(sorted(members)[:10]) or 'none'}")
            budget = MAX_IMAGE_BYTES
            fields = {}
            for field, name in names.items():
                fields[field] = read_npy(archive, members[name], field, budget)
                budget -= fields[field].nbytes
        image_id = fields.pop("image_id", None)
        image_id = path.stem if image_id is None or image_id.size != 1 else str(image_id.item())
        return from_fields(fields, image_id)


def read_features(path: str | os.PathLike) -> Regions:
    """Reads the regions of one image from an `.npy` file, (regions, feature_size); the image id is the file's name.

    Raises:
        ValueError: the file is damaged, or holds something else, such as MMF's pickled dict.
    """
    path = Path(path)
    with _readable(path, ".npy"), open_regular(path) as file:
        array = read_array(file, os.fstat(file.fileno()).st_size, "the array", MAX_IMAGE_BYTES)
        return from_fields({"features": array}, path.stem)


def read_one(path: str | os.PathLike) -> Regions:
    """Reads the regions of one image from an `.npz` or `.npy` file; errors are those of `read_npz`."""
    return (read_features if Path(path).suffix.lower() == ".npy" else read_npz)(path)


@contextlib.contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """A context in which the errors of reading a damaged file become a ValueError of one sentence."""
    try:
        yield
    except (OSError, zlib.error, *ERRORS) as error:
        raise ValueError(f"{path}: damaged, or no {kind} file ({error}).") from None
    except (ValueError, TypeError, MemoryError) as error:
        raise ValueError(f"{path}: {str(error).rstrip('.')}.") from None


def _read_one(path: Path, on_error: Callable[[str], None], on_progress: Progress = None) -> Iterator[Regions]:
    yield read_one(path)


def _read_tsv(path: Path, on_error: Callable[[str], None], on_progress: Progress = None) -> Iterator[Regions]:
    return read_tsv(path, on_error=on_error, on_progress=on_progress)


ONE_IMAGE = (".npz", ".npy")  # the files that hold the regions of one image
READERS = {
    **dict.fromkeys(ONE_IMAGE, _read_one),
    ".h5": read_h5,
    ".hdf5": read_h5,
    ".tsv": _read_tsv,
    ".tfrecord": read_tfrecord,
    ".tfrecords": read_tfrecord,
}


def open_regions(
    path: str | os.PathLike, *, on_error: Callable[[str], None] = warn, on_progress: Progress = None
) -> Iterator[Regions]:
    """Yields the images of a file, or of all files of a directory in the order of their names.

    Args:
        path: a `.tsv`, `.npz`, `.npy`, `.h5`, `.hdf5` or `.tfrecord` file, or a directory with such files.
        on_error: called with one sentence for every line, image or file of a directory that cannot be used; the rest is
            read all the same. By default it warns; `list.append` collects.
        on_progress: called now and then with the share of the data that is read, 0 to 1.

    Raises:
        ValueError: there is nothing to read at `path`, or nothing in the file could be used.
    """
    path = Path(path)
    if not path.is_dir():
        return _reader(path)(path, on_error, on_progress)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in READERS and not file.name.startswith("."))
    if not files:
        raise ValueError(f"{path}: the directory has no region features; expected {', '.join(READERS)} files.")
    return _read_all(files, on_error, on_progress)


def _reader(path: Path) -> Callable[..., Iterator[Regions]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file or directory.")
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path}: region features are read from {', '.join(READERS)} files, not {path.suffix!r}.")
    return READERS[path.suffix.lower()]


def _part_done(on_progress: Callable[[float], None], number: int, files: int, done: float) -> None:
    on_progress((number + done) / files)


def _read_all(files: list[Path], on_error: Callable[[str], None], on_progress: Progress) -> Iterator[Regions]:
    for number, file in enumerate(files):
        part = on_progress and partial(_part_done, on_progress, number, len(files))
        try:
            yield from _reader(file)(file, on_error, part)
        except ValueError as error:
            on_error(str(error))
        if on_progress:
            on_progress((number + 1) / len(files))

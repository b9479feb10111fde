"""Region features from any file or directory of files; and the `.npz` format, one image a file."""

import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tfvl.preprocessing.regions.h5 import MAX_IMAGE_BYTES, read_h5
from tfvl.preprocessing.regions.regions import Regions, field_names, from_fields, warn
from tfvl.preprocessing.regions.tfrecord import read_tfrecord
from tfvl.preprocessing.regions.tsv import read_tsv

Progress = Callable[[float], None] | None


def read_npz(path: str | os.PathLike) -> Regions:
    """The regions of one image from the `.npz` that a bottom-up-attention exporter wrote.

    The arrays are called as in `regions.NAMES` (`x` or `features`, `bbox` or `boxes`, `image_w`, `image_h`,
    `num_bbox`); others, such as the pickled `info`, are not touched. The image id is `image_id`, or else the file's
    name without the ending.

    Raises:
        ValueError: the file is damaged, an array in it would need a pickle or implausibly much memory, or the arrays
            do not fit each other.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            names = field_names(members)
            if "features" not in names:
                raise ValueError(f"it has no array `features` or `x`, only {', '.join(sorted(members)[:10]) or 'none'}")
            fields = {field: _array(archive, members[name], field) for field, name in names.items()}
        image_id = fields.pop("image_id", None)
        image_id = path.stem if image_id is None or image_id.size != 1 else str(image_id.item())
        return from_fields(fields, image_id)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged, or no .npz file ({error}).") from None
    except (ValueError, SyntaxError, tokenize.TokenError, TypeError, MemoryError) as error:
        raise ValueError(f"{path}: {str(error).rstrip('.')}.") from None


def _array(archive: zipfile.ZipFile, member: str, field: str) -> np.ndarray:
    """One array, whose header is believed only where it fits the size of the member."""
    info = archive.getinfo(member)
    size = info.file_size
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{field} is compressed by method {info.compress_type}, which NumPy does not write; refused")
    if size > MAX_IMAGE_BYTES:
        raise ValueError(f"{field} claims {size} bytes, at most {MAX_IMAGE_BYTES} are read")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"{field} is in version {version} of the .npy format, expected 1.0 or 2.0")
        shape, columns_first, dtype = read_header[version](file)
        if dtype.hasobject:
            raise ValueError(f"{field} is an array of Python objects, which only a pickle could restore; refused")
        nbytes = dtype.itemsize
        for length in shape:
            nbytes *= length
        if min(shape, default=0) < 0 or nbytes != size - file.tell():
            raise ValueError(f"{field} is {dtype} {shape}, {nbytes} bytes, but {size - file.tell()} are stored")
        content = file.read(nbytes)
    if len(content) != nbytes:
        raise ValueError(f"{field} ends after {len(content)} of {nbytes} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")


def _read_one_npz(path: Path, on_error: Callable[[str], None], on_progress: Progress = None) -> Iterator[Regions]:
    yield read_npz(path)


def _read_tsv(path: Path, on_error: Callable[[str], None], on_progress: Progress = None) -> Iterator[Regions]:
    return read_tsv(path, on_error=on_error, on_progress=on_progress)


READERS = {
    ".npz": _read_one_npz,
    ".h5": read_h5,
    ".hdf5": read_h5,
    ".tsv": _read_tsv,
    ".tfrecord": read_tfrecord,
    ".tfrecords": read_tfrecord,
}


def open_regions(
    path: str | os.PathLike, *, on_error: Callable[[str], None] = warn, on_progress: Progress = None
) -> Iterator[Regions]:
    """The images of a file, or of all files of a directory in the order of their names, one after the other.

    Args:
        path: a `.tsv`, `.npz`, `.h5`, `.hdf5` or `.tfrecord` file, or a directory with such files.
        on_error: called with one sentence for every line, image or file of a directory that cannot be used; the rest is
            read all the same. By default it warns; `list.append` collects.
        on_progress: called now and then with the part that is read, 0 to 1.

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


def _read_all(files: list[Path], on_error: Callable[[str], None], on_progress: Progress) -> Iterator[Regions]:
    for number, file in enumerate(files):
        part = on_progress and (lambda done, number=number: on_progress((number + done) / len(files)))
        try:
            yield from _reader(file)(file, on_error, part)
        except ValueError as error:
            on_error(str(error))
        if on_progress:
            on_progress((number + 1) / len(files))

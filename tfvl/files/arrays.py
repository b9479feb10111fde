"""Arrays of `.npz` and `.npy` files from strangers, whose headers are not believed."""

import math
import tokenize
import zipfile
from typing import IO

import numpy as np

from tfvl.files.archive import check_member


def read_npy(archive: zipfile.ZipFile, member: str, field: str, limit: int) -> np.ndarray:
    """One array, whose header is believed only where it fits the size of the member.

    Args:
        archive: an open `.npz` file.
        member: the array's name in it.
        field: what the array is called in errors.
        limit: the most bytes that it may have, and that its numbers may have as float32.

    Raises:
        KeyError: there is no such member.
        ValueError: it is no array of plain values, or larger; also one of `archive.ERRORS`.
    """
    info = archive.getinfo(member)
    size = info.file_size
    check_member(info, limit, field)
    with archive.open(member) as file:
        return read_array(file, size, field, limit)


def read_array(file: IO[bytes], size: int, field: str, limit: int) -> np.ndarray:
    """The array of an `.npy` file of `size` bytes; the other arguments and the errors as those of `read_npy`."""
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"{field} is in version {version} of the .npy format, expected 1.0 or 2.0")
    try:
        shape, columns_first, dtype = read_header[version](file)
    except (SyntaxError, tokenize.TokenError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{field} has a header that cannot be read ({error})") from None
    if dtype.hasobject:
        raise ValueError(f"{field} is an array of Python objects, which only a pickle could restore; refused")
    count = math.prod(shape)
    nbytes = dtype.itemsize * count
    if min(shape, default=0) < 0 or nbytes != size - file.tell():
        raise ValueError(f"{field} is {dtype} {shape}, {nbytes} bytes, but {size - file.tell()} are stored")
    if count * np.dtype(np.float32).itemsize > limit:
        raise ValueError(f"{field} has {count} numbers, too many for {limit} bytes as float32")
    content = file.read(nbytes)
    if len(content) != nbytes:
        raise ValueError(f"{field} ends after {len(content)} of {nbytes} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")

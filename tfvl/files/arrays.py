"""Reads arrays of untrusted `.npz` and `.npy` files, whose headers may lie about sizes."""

import math
import tokenize
import zipfile
from typing import IO

import numpy as np

from tfvl.files.archive import check_member

MAX_ITEM_BYTES = 1 << 12  # of a text; a number has at most 32


def read_npy(archive: zipfile.ZipFile, member: str, field: str, limit: int) -> np.ndarray:
    """Reads an array of an `.npz` file, if its header matches the size of the member.

    Args:
        archive: an open `.npz` file.
        member: the array's name in it.
        field: the array's name in errors.
        limit: the largest size of the array in bytes, also once its numbers are float32.

    Raises:
        KeyError: there is no such member.
        ValueError: it is not an array of plain values, or is too large; also one of `archive.ERRORS`.
    """
    info = archive.getinfo(member)
    size = info.file_size
    check_member(info, limit, field)
    with archive.open(member) as file:
        return read_array(file, size, field, limit)


def read_array(file: IO[bytes], size: int, field: str, limit: int) -> np.ndarray:
    """Reads the array of an `.npy` file of `size` bytes; other arguments and errors are those of `read_npy`."""
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
    if dtype.itemsize > MAX_ITEM_BYTES:  # a text or a record, of which one may be as large as the file
        raise ValueError(f"{field} has items of {dtype.itemsize} bytes, at most {MAX_ITEM_BYTES} are read")
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

"""Reads untrusted ZIP archives, with limits on the size of the directory and of members, and on compression methods."""

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from tfvl.files.reading import open_regular

MAX_DIRECTORY_BYTES = 1 << 22  # 40,000 members
# What may be wrong with an archive, as `zipfile` and `zlib` report it.
ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OverflowError)


@contextmanager
def open_archive(path: str | os.PathLike) -> Iterator[zipfile.ZipFile]:
    """Opens an archive, whose directory is read only if it has a plausible size.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a regular file.
        zipfile.BadZipFile: it is not an archive, or its directory is larger than `MAX_DIRECTORY_BYTES`.
    """
    with open_regular(path) as raw, _Limited(raw) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                file.limited = False
                yield archive
        except OSError as error:
            if error.filename is not None:  # of another file
                raise
            raise zipfile.BadZipFile(f"its directory leads out of the file: {error.strerror}") from None


class _Limited(io.BufferedReader):
    limited = True

    def read(self, size: int | None = -1) -> bytes:
        if self.limited:
            wanted = os.fstat(self.fileno()).st_size - self.tell() if size is None or size < 0 else size
            if wanted > MAX_DIRECTORY_BYTES:
                raise zipfile.BadZipFile(f"its directory claims {wanted} bytes, at most {MAX_DIRECTORY_BYTES} are read")
        return super().read(size)


def check_member(info: zipfile.ZipInfo, limit: int, name: str) -> None:
    """Raises ValueError for a member that would unpack to more than `limit` bytes, or whose unpacking has no bound."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by method {info.compress_type}, expected none or deflate; refused")
    if info.file_size > limit:
        raise ValueError(f"{name} claims {info.file_size} bytes, at most {limit} are read")


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Reads a member, unpacking no more bytes than its header announces.

    Raises:
        KeyError: there is no such member.
        ValueError: it is of another size than its header says, or as `check_member`; also one of `ERRORS`.
    """
    info = archive.getinfo(name)
    check_member(info, limit, name)
    with archive.open(info) as file:
        content = file.read(info.file_size)
        if len(content) != info.file_size or file.read(1):
            raise ValueError(f"{name} has not the size that it claims")
        return content

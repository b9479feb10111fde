"""Directories that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(directory: str | os.PathLike) -> Iterator[Path]:
    """A new, empty directory to write into; it takes the place of `directory` when the block ends without an error.

    Nothing of what `directory` held before stays, and it goes only once the new one stands.
    """
    directory = Path(os.path.abspath(directory))
    new = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    old = directory.with_name(f".{directory.name}.{os.getpid()}.old")
    new.mkdir(parents=True)
    try:
        yield new
        if directory.exists():
            directory.rename(old)
        new.rename(directory)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

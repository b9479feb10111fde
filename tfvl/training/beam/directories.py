"""Directories that a pipeline writes, on the file system or on a remote one that Beam knows ("gs://…")."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apache_beam.io.filesystems import FileSystems

from tfvl.files.whole import refuse_to_overwrite, written_whole


def is_remote(directory: str | os.PathLike) -> bool:
    return "://" in os.fspath(directory)


def join(directory: str, *names: str) -> str:
    return FileSystems.join(directory, *names)


@contextlib.contextmanager
def new_directory(directory: str, last: str, overwrite: bool) -> Iterator[str]:
    """Yields the directory to write into, which takes the place of `directory` when the block ends without an error.

    A remote directory is written in place; without its file `last` it does not count as written.

    Args:
        directory: path or URL of the directory.
        last: name of the file that the block writes last.
        overwrite: whether to replace what is there.

    Raises:
        FileExistsError: the directory exists already and `overwrite` is false.
    """
    if not is_remote(directory):
        refuse_to_overwrite(Path(directory), overwrite)
        with written_whole(directory) as place:
            yield str(place)
        return
    file = join(directory, last)
    if FileSystems.exists(file):
        if not overwrite:
            raise FileExistsError(f"{file} exists already; choose another directory or pass --overwrite")
        FileSystems.delete([file])
    yield directory


@contextlib.contextmanager
def new_files(directory: str) -> Iterator[Path]:
    """Yields a local directory to write files into: `directory` itself, or one that is copied there at the end."""
    if not is_remote(directory):
        Path(directory).mkdir(exist_ok=True)
        yield Path(directory)
        return
    with tempfile.TemporaryDirectory() as local:
        yield Path(local)
        for path in sorted(Path(local).iterdir()):
            with open(path, "rb") as source, FileSystems.create(join(directory, path.name)) as copy:
                shutil.copyfileobj(source, copy)


@contextlib.contextmanager
def local_file(directory: str, name: str) -> Iterator[Path]:
    """Yields a local path of the file: its own, or that of a copy if the file is remote."""
    if not is_remote(directory):
        yield Path(directory, name)
        return
    with tempfile.TemporaryDirectory() as local:
        with FileSystems.open(join(directory, name)) as source, open(Path(local, name), "wb") as copy:
            shutil.copyfileobj(source, copy)
        yield Path(local, name)


def write_json(directory: str, name: str, value: Any) -> None:
    with new_files(directory) as local:
        (local / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def remove(directory: str) -> None:
    """Deletes a directory, if it is there, with everything in it."""
    if FileSystems.exists(directory):
        FileSystems.delete([directory])

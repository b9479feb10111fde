"""Helpers of all readers of HDF5 files. They run only in the separate process of `isolated`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tfvl.files.isolated import no_more_files


def _import_all() -> None:
    """Imports what h5py and NumPy would import at the first text, when the process may no longer open any file."""
    with h5py.File("none", "w", driver="core", backing_store=False) as file:
        for name, value in {"fixed": np.array([b"a"]), "variable": ["a"], "number": [1.5]}.items():
            file[name] = file.attrs[name] = value
            repr((file[name].dtype, file[name][:], file.attrs[name]))


_import_all()


def opened(path: str | Path) -> h5py.File:
    """Opens a file, after which this process can open no other; so links to other files cannot be followed."""
    # No lock: several processes read, and network file systems often have none.
    file = h5py.File(path, "r", locking=False)
    no_more_files()
    return file


def links(group: h5py.Group) -> dict[str, bool]:
    """Returns the names in a group, each with whether its object is stored in this file.

    Raises:
        ValueError: a name is a path, which HDF5 would follow through other links.
    """
    found: dict[str, bool] = {}

    def add(name: bytes, info) -> None:
        found[name.decode("utf-8", "surrogateescape")] = info.type == h5py.h5l.TYPE_HARD

    group.id.links.iterate(add, info=True)
    for name in found:
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(f"{ascii(name)[:80]} is a path, not a name, and may lead out of the file; refused")
    return found


@contextlib.contextmanager
def damage() -> Iterator[None]:
    """A context in which errors of HDF5 about a damaged file become ValueError."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"damaged, or not HDF5 ({str(error).rstrip('.')[:200]})") from None

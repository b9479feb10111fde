"""What all readers of HDF5 files share. It reads in a process of its own (`isolated`), and only there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tfvl.files.isolated import no_more_files


def _import_all() -> None:
    """What h5py and NumPy import when they first meet texts: later no file may be opened, not even a module."""
    with h5py.File("none", "w", driver="core", backing_store=False) as file:
        for name, value in {"fixed": np.array([b"a"]), "variable": ["a"], "number": [1.5]}.items():
            file[name] = file.attrs[name] = value
            repr((file[name].dtype, file[name][:], file.attrs[name]))


_import_all()


def opened(path: str | Path) -> h5py.File:
    """The file, after which this process opens no other: links that lead out of it lead nowhere."""
    # No lock: several processes read, and network file systems often have none.
    file = h5py.File(path, "r", locking=False)
    no_more_files()
    return file


def links(group: h5py.Group) -> dict[str, bool]:
    """The names in a group, and whether what is called so lies in this very file.

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
    """Whatever HDF5 raises on a damaged file, as ValueError."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"damaged, or not HDF5 ({str(error).rstrip('.')[:200]})") from None

"""Makes files, mostly exported models, once in a run of the tests, for all of its processes."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

DIRECTORY = "TFVL_TESTS_DIRECTORY"  # the variable that names it; `conftest.py` makes and removes it


def once(name: str, make: Callable[[Path], object]) -> Path:
    """Returns the file or directory of this name, which all processes of the run share.

    Args:
        name: a relative path.
        make: a function that writes to the path that it is given; called if no process has done so yet.
    """
    path, making = (Path(os.environ[DIRECTORY], part, name) for part in ("made", "making"))
    for each in (path, making):
        each.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{making}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        if not path.exists():
            make(making)
            making.rename(path)
    return path

"""What is made once in a run of the tests, though several of its processes need it: exported models, mostly."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

DIRECTORY = "TFVL_TESTS_DIRECTORY"  # the variable that names it; `conftest.py` makes and removes it


def once(name: str, make: Callable[[Path], object]) -> Path:
    """The file or directory of that name, which all processes of the run share.

    Args:
        name: a relative path.
        make: writes the path that it is given; called where no process has made it yet.
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

"""Writes files and directories that appear whole or not at all, and refuses to replace existing ones unasked.

New files are written in a scratch directory beside their place, so that in the end they only have to be renamed. A
process holds a lock on each of its scratch directories, which ends with the process, however that ends. One that is not
locked was left by a process that was killed: the next one that writes in the same directory removes it, and puts back
an old version that had been moved aside for a new one that never came.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock

LOCK, NEW, OLD = "lock", "new", "old"  # in a scratch directory
SCRATCH = re.compile(r"\..*\.[0-9a-f]{16}\.tmp", re.DOTALL)
NEEDED = "bytes are needed"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def written_whole(directory: str | os.PathLike) -> Iterator[Path]:
    """Yields a new, empty directory to write into, which replaces `directory` when the block ends without an error.

    The old content is removed, but only after the new directory is complete. If `directory` is a symbolic link, the
    directory that it points to is replaced.
    """
    target = Path(os.path.realpath(directory))
    with scratch(target) as place:
        yield place
        for path in (place, *place.rglob("*")):
            if path.is_dir() or path.is_file():
                _sync(path)
        if target.exists():
            old = place.with_name(OLD)
            old.mkdir()
            target.rename(old / target.name)
        place.rename(target)
        _sync(target.parent)


@contextlib.contextmanager
def written_files(*paths: str | os.PathLike, removing: Iterable[Path] = ()) -> Iterator[list[Path]]:
    """Yields paths to write to; the files replace `paths`, one by one, when the block ends without an error.

    Args:
        paths: the files; their directories are made if missing. A symbolic link stays, and its target is replaced.
        removing: files that must not exist beside the new ones; they are removed when those are complete.

    Raises:
        FileExistsError: one of `paths` is a directory, a device or a pipe.
    """
    targets = [Path(os.path.realpath(path)) for path in paths]
    for target in targets:
        if target.exists() and not target.is_file():
            raise FileExistsError(f"{target} exists and is no regular file; name another file")
    with contextlib.ExitStack() as stack:
        new = [stack.enter_context(scratch(real)) / Path(path).name for path, real in zip(paths, targets, strict=True)]
        yield new
        for path in new:
            _sync(path)
        for path in removing:
            path.unlink(missing_ok=True)
        for path, target in zip(new, targets, strict=True):
            os.replace(path, target)
        for directory in {target.parent for target in targets}:
            _sync(directory)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with written_files(path) as (new,):
        new.write_bytes(text.encode("utf-8"))


@contextlib.contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yields a new, empty directory on the file system of `target`, which is removed when the block ends.

    An error that names a file in it names `target` instead. Whatever error a full disk causes becomes an OSError, which
    says how many bytes were written when it was full.
    """
    directory = target.parent
    directory.mkdir(parents=True, exist_ok=True)
    remove_left_overs(directory)
    unlocked = directory / f".{target.name[:50]}.{os.urandom(8).hex()}"
    try:
        unlocked.mkdir()
        lock = FileLock(unlocked / LOCK)
        try:
            with contextlib.suppress(OSError, NotImplementedError):  # without locks, no other process removes it either
                lock.acquire()
            place = unlocked.rename(f"{unlocked}.tmp")  # from now on other processes check its lock
            try:
                (place / NEW).mkdir()
                yield place / NEW
            except Exception as error:
                if is_full(error):
                    said = str(getattr(error, "strerror", ""))  # maybe from the scratch directory of a file inside
                    raise OSError(errno.ENOSPC, said if NEEDED in said else _full(place), str(target)) from None
                raise
            finally:
                _remove(place)
        finally:
            lock.release()
    except OSError as error:
        if str(error.filename).startswith(str(unlocked)):
            raise OSError(error.errno, error.strerror, str(target)) from None
        raise


def is_full(error: Exception) -> bool:
    """Returns whether an error, of Python or of a library, means that a disk or a user's quota is full."""
    return getattr(error, "errno", None) in FULL or any(os.strerror(number) in str(error) for number in FULL)


def _full(place: Path) -> str:
    nbytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return f"{os.strerror(errno.ENOSPC)}: more than {nbytes:,} {NEEDED}"


def remove_left_overs(directory: Path) -> None:
    """Removes the scratch directories of processes that were killed; those of running processes stay."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        found = [Path(entry) for entry in entries if SCRATCH.fullmatch(entry.name) and not entry.is_symlink()]
        for place in found:
            if not (place / LOCK).is_file():  # it was removed in the meantime, or is not a scratch directory
                continue
            with contextlib.suppress(OSError, NotImplementedError), FileLock(place / LOCK, blocking=False):
                _remove(place)  # a lock that is held is a Timeout, an OSError


def _remove(place: Path) -> None:
    """Removes a scratch directory, the lock last, after restoring what was moved aside for a version that failed."""
    for old in (place / OLD).glob("*"):
        if not os.path.lexists(target := place.with_name(old.name)):
            old.rename(target)
    for path in (place / NEW, place / OLD, place):
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: str | os.PathLike) -> None:
    """Waits until the content of a file, or the entries of a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_to_overwrite(path: Path, overwrite: bool, kind: str = "directory", advice: str = "") -> None:
    """Raises FileExistsError, before any work, if something exists at `path` that may not be replaced.

    Args:
        path: the path to be written; an empty directory there may always be replaced.
        overwrite: whether an existing file or directory of this kind may be replaced.
        kind: "directory" or "file", whichever is going to be written.
        advice: the end of the error, if there is better advice than to choose another name.
    """
    if path.is_dir() if kind == "file" else path.is_file():
        raise FileExistsError(f"{path} is a {'directory' if kind == 'file' else 'file'}; name a {kind}")
    if not overwrite and (any(path.iterdir()) if path.is_dir() else path.exists()):
        advice = advice or f"choose another {kind} or pass --overwrite (in Python, overwrite=True)"
        raise FileExistsError(f"{path} exists already; {advice}")

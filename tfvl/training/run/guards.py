"""Allows only one run in a directory at a time, and lets a process finish its step before it stops."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tfvl.files.whole import is_full, remove_left_overs

LOCK = ".lock"


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Makes the directory and keeps other runs out of it; the lock ends with the process, however that ends.

    Files that a killed process left half written are removed.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"another process is training in {out}; wait for it, or choose another --out.") from None
    try:
        for place in (out, out / "checkpoints", out / "logs"):
            remove_left_overs(place)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def signals_remembered() -> Iterator[list]:
    """Yields a list to which a signal to stop is added, so that the step can be finished; a second signal stops it."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def remember(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    old = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def disk_full_in_a_sentence(trainer) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        saved = trainer.saved_step
        kept = "there is no checkpoint yet" if saved is None else f"the checkpoint of step {saved} is whole"
        raise ValueError(
            f"the disk of {trainer.out} is full at step {trainer.step}; {kept}: free some space and give the same "
            f"command again ({getattr(error, 'strerror', None) or 'a checkpoint is needed'})."
        ) from error

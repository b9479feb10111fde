"""Writes HDF5 files through a Python file object, so that a full disk raises an error and does not end the process.

If a write fails, the HDF5 library ends the process when it closes the file. So the file object here reports every write
as successful; after a failed one it drops the others, and the failure is raised when the file is closed.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py


@contextlib.contextmanager
def created(path: str | Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Yields a new HDF5 file, and a function that raises OSError if a write has failed; closes the file at the end.

    The file has the newer format, whose checksums let other readers notice most damage.

    Raises:
        OSError: something could not be written; raised when the file is closed.
    """
    with open(path, "w+b", buffering=0) as raw:
        sink = _Sink(raw)
        try:
            with h5py.File(sink, "w", libver="v110") as file:
                yield file, sink.check
        finally:
            sink.check()


class _Sink:
    """A file object that keeps the error of a failed write instead of raising it."""

    def __init__(self, raw):
        self._raw, self.failure = raw, None
        self.read, self.seek, self.tell, self.flush = raw.read, raw.seek, raw.tell, raw.flush

    def check(self) -> None:
        if self.failure:
            raise self.failure from None

    def write(self, content) -> int:
        written, content = 0, memoryview(content).cast("B")
        while written < len(content) and not self.failure:
            try:
                written += self._raw.write(content[written:])
            except OSError as error:
                self.failure = error
        return len(content)

    def readinto(self, buffer) -> int:
        found = self._raw.readinto(buffer)
        if self.failure:  # a read of something that was not written
            memoryview(buffer).cast("B")[found:] = bytes(len(buffer) - found)
            return len(buffer)
        return found

    def truncate(self, size: int) -> int:
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size

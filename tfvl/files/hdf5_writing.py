"""HDF5 files that are written through Python, so that a full disk is an error and not the end of the process.

The HDF5 library loses its way where a write fails, and ends the process when it closes the file. Here every write
succeeds as far as it can tell; once one has failed, the others go nowhere, and the failure is raised when the file is
closed.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py


@contextlib.contextmanager
def created(path: str | Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """A new HDF5 file, closed when the block ends; and a function that raises OSError if something was not written.

    The file is in the newer format, whose checksums let other readers notice most damage.

    Raises:
        OSError: when it is closed: something could not be written.
    """
    with open(path, "w+b", buffering=0) as raw:
        sink = _Sink(raw)
        try:
            with h5py.File(sink, "w", libver="v110") as file:
                yield file, sink.check
        finally:
            sink.check()


class _Sink:
    """A file that remembers that a write failed, instead of raising it."""

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
        if self.failure:  # of what was never written
            memoryview(buffer).cast("B")[found:] = bytes(len(buffer) - found)
            return len(buffer)
        return found

    def truncate(self, size: int) -> int:
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size

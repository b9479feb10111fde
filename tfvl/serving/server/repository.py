"""Finds the versions of a model, loads them, lends them to requests, and swaps them without losing a request."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tfvl.serving.client.errors import RequestError, invalid
from tfvl.serving.server import memory
from tfvl.serving.server.lanes import Lanes
from tfvl.serving.server.loaders import Loader
from tfvl.serving.server.servable import Servable

START, LOADING, AVAILABLE, UNLOADING, END = "START", "LOADING", "AVAILABLE", "UNLOADING", "END"


@dataclass(eq=False)
class Version:
    """A version of the model, which is a directory or a file, and its state.

    Attributes:
        state: START (waits for its files), LOADING, AVAILABLE, UNLOADING or END, as in TF Serving's
            `ModelVersionStatus`.
        problem: why it could not be loaded, or what it is waiting for.
        servable, predict: the loaded model, and the function that runs it in batches; only while it is loaded.
    """

    number: int
    directory: Path
    state: str = START
    problem: str = ""
    files: tuple = ()  # what `_files` returned at the last scan
    servable: Servable | None = None
    predict: Lanes | None = None
    leases: int = 0

    @property
    def failed(self) -> bool:
        return self.state == END and bool(self.problem)


class Repository:
    """The versions of one model, of which the highest that can be loaded are served.

    A version is loaded once all its files are there and have not changed between two scans. One that cannot be loaded
    is reported in `versions()` and tried again when its files change; meanwhile the versions before it stay. An old
    version is unloaded when the new one serves and its own last request is answered. The last version always stays.

    Args:
        name: name of the model.
        find: a function that returns the version directories that exist, by number.
        loader: loads them.
        batching: keywords of `Batcher`.
        timed: a function that is called with the seconds of each pass through the model.
        keep: the number of versions that are served, the highest ones.
        labels: the version number of each label.
        log: a function that is called with a sentence on each change.
    """

    def __init__(
        self,
        name: str,
        find: Callable[[], Mapping[int, Path]],
        loader: Loader,
        *,
        batching: Mapping,
        timed: Callable[[float], None] = lambda seconds: None,
        keep: int = 1,
        labels: Mapping[str, int] | None = None,
        log: Callable[[str], None] = lambda sentence: print(sentence, file=sys.stderr, flush=True),
    ):
        self.name, self._find, self._loader, self._batching = name, find, loader, batching
        self._timed = timed
        self._keep, self._labels, self._log = keep, dict(labels or {}), log
        self._versions: dict[int, Version] = {}
        self._lock = threading.Lock()
        self._scanning = threading.Lock()
        self._stopped = threading.Event()
        self._watcher: threading.Thread | None = None

    def versions(self) -> list[Version]:
        """Returns all versions that were found since the start, the highest number first."""
        with self._lock:
            return [self._versions[number] for number in sorted(self._versions, reverse=True)]

    @contextmanager
    def lease(self, number: int | None = None, label: str = "") -> Iterator[Version]:
        """Gives a version, the one asked for or the highest, which stays loaded until the context ends.

        Raises RequestError, in TF Serving's words, if there is none.
        """
        if label:
            if label not in self._labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            number = self._labels[label]
        with self._lock:
            serving = [version for version in self._versions.values() if version.state == AVAILABLE]
            if number is not None:
                serving = [version for version in serving if version.number == number]
            if not serving:
                raise servable_not_found(self.name, number)
            version = max(serving, key=lambda version: version.number)
            version.leases += 1
        try:
            yield version
        finally:
            with self._lock:
                version.leases -= 1
                last = version.state == UNLOADING and version.leases == 0
            if last:
                self._close(version)

    def scan(self, *, settled: bool = False) -> None:
        """Looks at the directory once: loads new versions, and unloads those that are no longer to be served.

        Args:
            settled: whether to load versions at once, without waiting for a second scan to find their files unchanged.
        """
        with self._scanning:
            candidates = self._complete(settled)
            wanted = []
            for version in candidates:
                if len(wanted) < self._keep and (version.state == AVAILABLE or self._load(version)):
                    wanted.append(version)
            if wanted:
                for version in self.versions():
                    if version.state == AVAILABLE and version not in wanted:
                        self._unload(version)

    def watch(self, seconds: float) -> None:
        """Scans every `seconds`, in a thread, until `close`."""

        def look():
            said = ""
            while not self._stopped.wait(seconds):
                problem = ""
                try:
                    self.scan()
                except Exception as error:  # e.g. the directory is being moved; the next look may succeed
                    problem = f"{self.name}: {type(error).__name__}: {error}"
                if problem and problem != said:
                    self._log(problem)
                said = problem

        self._watcher = threading.Thread(target=look, name=f"watch-{self.name}", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Stops watching and unloads all versions; what is left of requests that are still under way is refused."""
        self._stopped.set()
        if self._watcher:
            self._watcher.join()
        for version in self.versions():
            if version.state == AVAILABLE:
                self._unload(version)
            if lanes := version.predict:
                lanes.close()

    def _complete(self, settled: bool) -> list[Version]:
        """Returns the versions that are loaded or can be, the highest first.

        A version that failed is among them only if its files have changed.
        """
        found = self._find()
        with self._lock:
            gone = [number for number, version in self._versions.items() if version.state == START]
            for number in set(gone) - set(found):
                del self._versions[number]
            for number in set(found) - set(self._versions):
                self._versions[number] = Version(number, found[number])
        complete = []
        for number in sorted(found, reverse=True):
            version = self._versions[number]
            if version.state in (AVAILABLE, UNLOADING):
                complete += [version] * (version.state == AVAILABLE)
                continue
            files = _files(found[number])
            unchanged = files == version.files
            if version.failed and unchanged:
                continue
            version.directory, version.files = found[number], files
            missing = self._loader.missing(found[number])
            if not missing and (settled or unchanged):
                complete.append(version)
            elif version.state == START or version.failed:
                version.state, version.problem = START, missing or "its files are still changing"
        return complete

    def _load(self, version: Version) -> bool:
        version.state, version.problem = LOADING, ""
        try:
            version.servable = self._loader.load(version.directory)
        except Exception as error:
            version.problem = f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000]
            version.state = END
            self._log(f"{self.name}: version {version.number} cannot be loaded: {version.problem}")
            return False
        batching = dict(self._batching)
        if version.servable.max_rows is not None:
            batching["max_rows"] = min(batching["max_rows"], version.servable.max_rows)
        version.predict = Lanes(self._run_timed(version.servable), **batching)
        with self._lock:
            version.state = AVAILABLE
        self._log(f"{self.name}: version {version.number} is served")
        return True

    def _run_timed(self, servable: Servable) -> Callable:
        def run(*arguments):
            start = time.monotonic()
            try:
                return servable.run(*arguments)
            finally:
                self._timed(time.monotonic() - start)

        return run

    def _unload(self, version: Version) -> None:
        with self._lock:
            version.state = UNLOADING
            free = version.leases == 0
        if free:
            self._close(version)

    def _close(self, version: Version) -> None:
        version.predict.close()
        version.servable.close()
        version.predict = version.servable = None
        memory.release()
        version.state = END
        self._log(f"{self.name}: version {version.number} is unloaded")


def servable_not_found(name: str, number: int | None = None) -> RequestError:
    which = f"Latest({name})" if number is None else f"Specific({name}, {number})"
    return RequestError("NOT_FOUND", f"Servable not found for request: {which}")


def _files(version: Path) -> tuple:
    """Returns names, sizes and times of a version's files; while it is being copied, they change."""
    paths = [version] if version.is_file() else version.rglob("*")
    stats = ((path, path.stat()) for path in paths if path.is_file())
    return tuple(sorted((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats))

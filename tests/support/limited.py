"""Reads files in a worker process with limits, so that a file which crashes or hangs the worker is only reported."""

import hashlib
import json
import os
import resource
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CPU_SECONDS = 10
MEMORY_BYTES = 1 << 30  # above the worker's start
HARD_BYTES = 6 << 30  # where the worker is refused memory, so that the machine is not short of it
WALL_SECONDS = 300  # for what waits without computing; far beyond what a loaded machine makes of CPU_SECONDS


@dataclass(frozen=True)
class Outcome:
    """The outcome of reading a file.

    Attributes:
        kind: "value", "refused" (with a ValueError or an OSError), "error" (another exception), or "died".
        text: the message of the error, or how the worker died.
        value: a digest of what was read.
        seconds: processor time of the worker and of processes that it waited for.
        memory: the most bytes that the worker took above those at its start.
    """

    kind: str
    text: str = ""
    value: str = ""
    seconds: float = 0.0
    memory: int = 0

    def wrong(self, name: str, most_memory: int = MEMORY_BYTES) -> str:
        """Returns a text that says what is wrong with the outcome for a file called `name`, or ""."""
        if self.kind in ("died", "error"):
            return f"{self.kind}: {self.text}"
        if self.seconds > CPU_SECONDS:
            return f"{self.seconds:.1f} s of processor time"
        if self.memory > most_memory:
            return f"{self.memory / 1e9:.2f} GB"
        if self.kind == "refused" and name not in self.text:
            return f"a message without the file's name: {self.text}"
        return f"a message of several lines: {self.text!r}" if "\n" in self.text else ""


class Worker:
    """A process that reads files with the functions of a module, one after the other.

    Args:
        module: name of a module, whose dict `READERS` has functions of a path; the `repr` of a result is complete.
    """

    def __init__(self, module: str):
        self.module, self._process = module, None

    def read(self, reader: str, path: Path) -> Outcome:
        """Returns the outcome of a reader for the file; a worker that died is replaced."""
        if self._process is None:
            self._start()
        process = self._process
        process.stdin.write(json.dumps([reader, str(path)]).encode() + b"\n")
        process.stdin.flush()
        if select.select([process.stdout], [], [], WALL_SECONDS)[0] and (line := process.stdout.readline()):
            return Outcome(**json.loads(line))
        process.kill()
        code = process.wait()
        self._process = None
        return Outcome("died", f"exit code {code}")

    def _start(self) -> None:
        tests = Path(__file__).parents[1]
        environment = os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.limited", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        if not self._process.stdout.readline():
            raise RuntimeError(f"the worker for {self.module} did not start")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def refused(worker: Worker, reader: str, path: Path, sentence: str) -> None:
    """Asserts that the file is refused with a message that contains `sentence`, within the limits of a worker."""
    outcome = worker.read(reader, path)
    assert not outcome.wrong(path.name), outcome
    assert outcome.kind == "refused"
    assert sentence in outcome.text
    assert len(outcome.text.replace(str(path.parent), "")) < 600  # wherever the tests keep their files


def serve(module: str) -> None:
    """Runs the worker: reads files named on stdin, and writes outcomes to stdout."""
    import importlib

    readers = importlib.import_module(module).READERS
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    memory = _status("VmSize") + HARD_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        reader, path = json.loads(line)
        print(json.dumps(_outcome(readers[reader], Path(path))), file=answers, flush=True)


def _outcome(read, path: Path) -> dict:
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident size is counted from now on
    start, spent = _status("VmRSS"), _seconds()
    # Twice the limit, so that what is only too slow is told from what never ends.
    resource.setrlimit(resource.RLIMIT_CPU, (int(_own_seconds()) + 2 * CPU_SECONDS, resource.RLIM_INFINITY))
    try:
        outcome = {"kind": "value", "value": hashlib.sha256(repr(read(path)).encode()).hexdigest()[:16]}
    except (ValueError, OSError) as error:
        outcome = {"kind": "refused", "text": str(error)}
    except Exception as error:
        outcome = {"kind": "error", "text": f"{type(error).__name__}: {error}"}
    return outcome | {"seconds": _seconds() - spent, "memory": _status("VmHWM") - start}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def _own_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _own_seconds() + usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    serve(sys.argv[1])

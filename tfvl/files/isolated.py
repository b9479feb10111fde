"""Reads files that may crash the library which reads them, in a separate process with limits.

The HDF5 library ends the process, hangs or takes gigabytes if a file is damaged in certain places, and checksums do not
help against a file that was made so on purpose. Here a helper process, started once, forks a child for each file; the
child has limits of processor time and memory, can open no other file, and if it dies the file is refused. It sends JSON
and plain arrays, whose sizes are checked: nothing that a broken child sends is executed.
"""

import atexit
import contextlib
import json
import math
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.files.reading import parse_json

MEMORY_BYTES = 1 << 29  # above what the child has when it starts
MAX_ARRAY_BYTES = 1 << 29
MAX_JSON_BYTES = 1 << 26
MAX_VALUES = 1 << 23
SECONDS = 2  # of processor time to open any file
WALL_SECONDS = 600  # for one answer, however busy the machine is
BYTES_PER_SECOND = 10_000_000  # adds processor time for large files; HDF5 reads a hundred times as fast
_LENGTH = struct.Struct("<Q")
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tfvl.files.isolated import serve_forks; "
    "serve_forks(int(sys.argv[2]))"
)
_helper: socket.socket | None = None
_lock = threading.Lock()


class Isolated:
    """Runs an object in a child process.

    It may be shared by threads, which take turns, and used after a fork, where the object is made again.

    Args:
        served: the object's class, which can be imported by its name. Its objects have an attribute `opening`, and
            methods; `opening`, and what the methods return, is a pair of a JSON value and a dict of arrays of numbers.
        arguments: the arguments of the class, JSON values.
        content: bytes, the last argument, if given.
        seconds: the processor time that making the object may take.
        memory: the bytes that the child may take above what it has when it starts.

    Attributes:
        opening: the attribute of this name of the object.

    Raises:
        ValueError: the object raised it, or the child has died; the sentence does not name the file.
    """

    def __init__(
        self,
        served: type,
        *arguments: Any,
        content: bytes | None = None,
        seconds: float = SECONDS,
        memory: int = MEMORY_BYTES,
    ):
        self._made, self._memory = (served, arguments, content, seconds), memory
        self._gone = ""
        self._start()

    def _start(self) -> None:
        served, arguments, content, seconds = self._made
        self._process, self._turns = os.getpid(), threading.Lock()
        self._connection = _forked(served)
        self.opening = self._asked(seconds, [self._memory, *arguments], content)

    def call(self, method: str, *arguments: Any, seconds: float | None = None) -> tuple[Any, dict[str, np.ndarray]]:
        """Calls a method of the object and returns its result.

        Args:
            seconds: the processor time that it may take; None: what is left of the time allowed before.

        Raises:
            ValueError: as for the class.
        """
        if self._process != os.getpid():
            self._start()
        return self._asked(seconds, [method, *arguments])

    def _asked(
        self, seconds: float | None, request: list, content: bytes | None = None
    ) -> tuple[Any, dict[str, np.ndarray]]:
        with self._turns:
            if self._gone:
                raise ValueError(self._gone)
            try:
                arrays = {} if content is None else {"content": np.frombuffer(content, np.uint8)}
                _send(self._connection, [seconds, *request], arrays)
                (error, value), arrays = _receive(self._connection)
            except (OSError, EOFError, ValueError) as problem:
                self.close()
                most = f"{self._memory >> 20} MB" + ("" if seconds is None else f" and {seconds:.0f} s")
                reason = "" if isinstance(problem, OSError | EOFError) else f" ({problem})"
                self._gone = (
                    f"damaged: the process that read it ended, or was ended for taking more than {most}{reason}"
                )
                raise ValueError(self._gone) from None
        if error:
            raise ValueError(error)
        return value, arrays

    def close(self) -> None:
        self._connection.close()


def seconds_for(path: str | os.PathLike) -> float:
    """Returns the processor time that reading a whole file may take; holes in the file do not count."""
    return SECONDS + os.stat(path).st_blocks * 512 / BYTES_PER_SECOND


# --- the helper, which forks -----------------------------------------------------------------------------------------


def _forked(served: type) -> socket.socket:
    """Starts a child, which makes an object of the class, and returns the connection to it."""
    global _helper
    with _lock:
        for attempt in range(2):
            if _helper is None:
                _helper = _started()
            ours, theirs = socket.socketpair()
            try:
                socket.send_fds(_helper, [pickle.dumps(served)], [theirs.fileno()])
                return ours
            except OSError:  # someone ended the helper
                ours.close()
                _helper = None
                if attempt:
                    raise
            finally:
                theirs.close()
    raise AssertionError("two attempts end with a connection or an error")


def _started() -> socket.socket:
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        root = str(Path(__file__).resolve().parents[2])
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, root, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt reaches only the waiting process, which then closes the connection
        )
    process.returncode = 0  # it ends by itself when the connection is closed, so nobody has to wait for it
    return ours


def _forget() -> None:
    """Forgets, in a forked process, the parent's helper, and a lock that a thread of the parent may hold."""
    global _helper, _lock
    _helper, _lock = None, threading.Lock()


def _let_go() -> None:
    """Closes the connection at the end of the process, which ends the helper."""
    if _helper is not None:
        _helper.close()


os.register_at_fork(after_in_child=_forget)
atexit.register(_let_go)


def serve_forks(descriptor: int) -> None:
    """Runs the helper: forks a child for every connection that it is sent, until its own connection is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that ended are not kept
    with socket.socket(fileno=descriptor) as control:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, 1 << 10, 1)
            if not message:
                return
            served = pickle.loads(message)  # a class, from the process that started this one; the children inherit it
            if os.fork() == 0:
                control.close()
                with contextlib.suppress(BaseException), socket.socket(fileno=descriptors[0]) as connection:
                    _serve(connection, served)
                os._exit(0)
            os.close(descriptors[0])


# --- the child -------------------------------------------------------------------------------------------------------


def _serve(connection: socket.socket, served: type) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    held = memory = None
    while True:
        (seconds, first, *arguments), arrays = _receive(connection)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)  # ends the process if it hangs
        if seconds is not None:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            _limit(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime + seconds))
        try:
            if held is None:
                memory = first
                _limit(resource.RLIMIT_AS, _address_space() + memory)
                content = [array.data for array in arrays.values()]
                held = served(*arguments, *content)
                value, arrays = held.opening
            else:
                value, arrays = getattr(held, first)(*arguments)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except MemoryError:
            _send(connection, [f"it takes more than {memory >> 20} MB to read", None], {})
        except Exception as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__} "
            _send(connection, [f"{kind}{error}"[:500] or "damaged", None], {})
        else:
            _send(connection, ["", value], arrays)


def no_more_files() -> None:
    """Forbids this process to open any more files, to which the one that it reads may point."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _limit(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


# --- messages --------------------------------------------------------------------------------------------------------


def _send(connection: socket.socket, value: Any, arrays: dict[str, np.ndarray]) -> None:
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    header = json.dumps([value, {name: [array.dtype.str, array.shape] for name, array in arrays.items()}]).encode()
    connection.sendall(_LENGTH.pack(len(header)) + header)
    for array in arrays.values():
        if array.size:
            connection.sendall(array.reshape(-1).view(np.uint8).data)


def _receive(connection: socket.socket) -> tuple[Any, dict[str, np.ndarray]]:
    """Reads a JSON value and arrays of numbers. Raises EOFError if the connection is closed, ValueError for others."""
    length = _LENGTH.unpack(_filled(connection, bytearray(_LENGTH.size)))[0]
    if length > MAX_JSON_BYTES:
        raise ValueError(f"a message of {length} bytes, at most {MAX_JSON_BYTES} are read")
    value, described = parse_json(bytes(_filled(connection, bytearray(length))), MAX_VALUES)
    left, arrays = MAX_ARRAY_BYTES, {}
    for name, (code, shape) in described.items():
        dtype = np.dtype(str(code))
        if dtype.kind not in "fiub" or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"{name} are {dtype}, expected numbers")
        nbytes = dtype.itemsize * math.prod(shape)
        left -= nbytes
        if left < 0:
            raise ValueError(f"{name} takes {nbytes} bytes, with the others at most {MAX_ARRAY_BYTES} are read")
        arrays[name] = np.frombuffer(_filled(connection, np.empty(nbytes, np.uint8)), dtype).reshape(shape)
    return value, arrays


def _filled(connection: socket.socket, buffer):
    view = memoryview(buffer)
    while len(view):
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return buffer

"""What requests may take, all together, so that a few hostile ones leave room for the others."""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from tfvl.serving.client.errors import RequestError

IN_FLIGHT = 12  # times the largest request: what all requests under way may take, as bytes, as lists and as tensors


class Budget:
    """Bytes that all requests under way may take together. Threads may share it."""

    def __init__(self, most: int):
        self.most = most
        self._held = 0
        self._lock = threading.Lock()

    def take(self, nbytes: int) -> None:
        """Raises RequestError, which clients answer by another try, where so many are not left."""
        with self._lock:
            if self._held + nbytes > self.most:
                raise RequestError("UNAVAILABLE", "too many large requests at once; try again")
            self._held += nbytes

    def give_back(self, nbytes: int) -> None:
        with self._lock:
            self._held -= nbytes

    @contextmanager
    def holding(self, nbytes: int) -> Iterator[None]:
        """As `take`, until the context ends."""
        self.take(nbytes)
        try:
            yield
        finally:
            self.give_back(nbytes)


class Waiting:
    """Clients whose request has not arrived yet, in the order in which they came. Threads may share it.

    Where there are too many, who has waited longest gives way: so idle and slow clients, however many and however often
    they come back, keep nobody out.
    """

    def __init__(self):
        self._clients: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def __contains__(self, client: Hashable) -> bool:
        return client in self._clients

    def __len__(self) -> int:
        return len(self._clients)

    def enter(self, client: Hashable, end: Callable[[], None]) -> None:
        """`end` is called, without arguments, if the client has to give way."""
        with self._lock:
            self._clients[client] = time.monotonic(), end

    def leave(self, client: Hashable) -> None:
        with self._lock:
            self._clients.pop(client, None)

    def end_first(self, seconds: float = 0.0) -> None:
        """Makes who has waited longest give way, if that was longer than so, unless nobody else waits."""
        with self._lock:
            client, (since, end) = next(iter(self._clients.items()), (None, (0.0, None)))
            if len(self._clients) < 2 or time.monotonic() - since < seconds:
                return
            del self._clients[client]
        end()


class Seldom(logging.Filter):
    """Lets one record of a logger through in so many seconds: a flood of requests is none of log lines."""

    def __init__(self, seconds: float = 1.0):
        super().__init__()
        self._seconds, self._next = seconds, 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True

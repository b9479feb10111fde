"""Limits what all requests together may take, so that a few hostile ones leave room for the others."""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from tfvl.serving.client.errors import RequestError

IN_FLIGHT = 12  # all requests under way may take this times the largest request: as bytes, as lists and as tensors


class Budget:
    """Counts the bytes that all requests under way take together. Threads may share it."""

    def __init__(self, most: int):
        self.most = most
        self._held = 0
        self._lock = threading.Lock()

    def take(self, nbytes: int) -> None:
        """Takes bytes from the budget. Raises RequestError, after which clients try again, if too few are left."""
        with self._lock:
            if self._held + nbytes > self.most:
                raise RequestError("UNAVAILABLE", "too many large requests at once; try again")
            self._held += nbytes

    def give_back(self, nbytes: int) -> None:
        with self._lock:
            self._held -= nbytes

    @contextmanager
    def holding(self, nbytes: int) -> Iterator[None]:
        """Takes bytes from the budget until the context ends; raises what `take` raises."""
        self.take(nbytes)
        try:
            yield
        finally:
            self.give_back(nbytes)


class Waiting:
    """The clients whose request has not arrived yet, in the order in which they came. Threads may share it.

    If there are too many, the one that has waited longest is ended. So idle and slow clients keep nobody out, however
    many they are and however often they come back.
    """

    def __init__(self):
        self._clients: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def __contains__(self, client: Hashable) -> bool:
        return client in self._clients

    def __len__(self) -> int:
        return len(self._clients)

    def enter(self, client: Hashable, end: Callable[[], None]) -> None:
        """Adds a client. `end` is called, without arguments, if the client has to give way."""
        with self._lock:
            self._clients[client] = time.monotonic(), end

    def leave(self, client: Hashable) -> None:
        with self._lock:
            self._clients.pop(client, None)

    def end_first(self, seconds: float = 0.0) -> bool:
        """Ends the client that has waited longest, if it has waited for `seconds` and is not the only one.

        Returns whether one was ended.
        """
        with self._lock:
            client, (since, end) = next(iter(self._clients.items()), (None, (0.0, None)))
            if len(self._clients) < 2 or time.monotonic() - since < seconds:
                return False
            del self._clients[client]
        end()
        return True


class Seldom(logging.Filter):
    """Lets a logger write one record in so many seconds, so that a flood of requests does not flood the log."""

    def __init__(self, seconds: float = 1.0):
        super().__init__()
        self._seconds, self._next = seconds, 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True

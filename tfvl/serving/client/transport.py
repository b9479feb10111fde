"""What both ways to TF Serving, REST and gRPC, have in common: the errors, and what is tried again.

A `Transport` makes one attempt and raises one of the errors below; `retried` makes several of it.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

MAX_ANSWER_BYTES = 2**28  # of an answer; a server that sends more is none that this client asks
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds before the first repetition, which doubles up to the longest


class ServerUnavailableError(ConnectionError):
    """The server cannot be reached, or says that it cannot answer now; worth another try."""


class DeadlineExceededError(TimeoutError):
    """No answer within the time that the caller gave."""


class RequestRefusedError(ValueError):
    """The server answered that the request is wrong, or that it has no such model or version.

    Attributes:
        code: gRPC's name of the error, e.g. "INVALID_ARGUMENT" or "NOT_FOUND".
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@contextmanager
def understood(server: str) -> Iterator[None]:
    """Raises RequestRefusedError in place of whatever reading the answer of another service ends in."""
    try:
        yield
    except Exception:
        raise not_understood(server) from None


def not_understood(server: str) -> RequestRefusedError:
    return RequestRefusedError("UNKNOWN", f"{server} gave an answer that a model server does not give; is it one?")


class Spec(NamedTuple):
    """An input or output of a signature."""

    dtype: str  # TensorFlow's name, e.g. "DT_STRING"
    shape: tuple[int | None, ...] | None  # None for unknown sizes, or an unknown number of axes


@dataclass(frozen=True)
class Model:
    """Which model a request is for: at most one of `version` and `label`, without both the newest version."""

    name: str
    version: int | None = None
    label: str | None = None


class Transport(Protocol):
    """One attempt each, within `seconds`; from any thread."""

    server: str  # as errors name it

    def predict(self, model: Model, signature: str, inputs: dict[str, np.ndarray], seconds: float) -> dict: ...
    def metadata(self, model: Model, seconds: float) -> dict[str, dict[str, dict[str, Spec]]]: ...
    def status(self, model: Model, seconds: float) -> dict[int, str]: ...
    def close(self) -> None: ...


def retried(attempt: Callable[[float], object], timeout: float, retries: int):
    """The result of `attempt(seconds left)`, which is repeated after `ServerUnavailableError` only.

    Waits grow exponentially, and each is a random share (half to all) of its length, so that many clients do not come
    back at the same moment.

    Raises:
        ServerUnavailableError: as often as `retries` + 1 times, or at the deadline.
        DeadlineExceededError: an attempt got no answer in time.
    """
    deadline = time.monotonic() + timeout
    for number in range(retries + 1):
        try:
            return attempt(deadline - time.monotonic())
        except ServerUnavailableError:
            wait = min(_FIRST_WAIT * 2**number, _LONGEST_WAIT) * random.uniform(0.5, 1)
            if number == retries or time.monotonic() + wait >= deadline:
                raise
            time.sleep(wait)

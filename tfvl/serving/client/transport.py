"""What the clients of REST and gRPC share: the errors, and the rule by which a call is repeated.

A `Transport` makes one attempt and raises one of the errors below; `retried` repeats it where that can help.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

MAX_ANSWER_BYTES = 2**28  # no model here answers with more; what sends more is not a model server
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds before the first repetition, which doubles up to the longest


class ServerUnavailableError(ConnectionError):
    """The server cannot be reached, or says that it cannot answer now; another attempt may succeed."""


class DeadlineExceededError(TimeoutError):
    """The server gave no answer within the time that the caller allowed."""


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
    """A context in which an answer is read: errors become RequestRefusedError, as if no model server had answered."""
    try:
        yield
    except Exception:
        raise not_understood(server) from None


def not_understood(server: str) -> RequestRefusedError:
    return RequestRefusedError("UNKNOWN", f"{server} gave an answer that a model server does not give; is it one?")


class Spec(NamedTuple):
    """The dtype and shape of an input or output of a signature."""

    dtype: str  # TensorFlow's name, e.g. "DT_STRING"
    shape: tuple[int | None, ...] | None  # a size of None is unknown; None in place of all: so is the number of axes


@dataclass(frozen=True)
class Model:
    """The model that a request is for, and its version by number or by label; the newest where both are unset."""

    name: str
    version: int | None = None
    label: str | None = None


class Transport(Protocol):
    """The calls that a server answers. Each makes one attempt, within `seconds`, and may come from any thread."""

    server: str  # as errors name it

    def predict(self, model: Model, signature: str, inputs: dict[str, np.ndarray], seconds: float) -> dict: ...
    def metadata(self, model: Model, seconds: float) -> dict[str, dict[str, dict[str, Spec]]]: ...
    def status(self, model: Model, seconds: float) -> dict[int, str]: ...
    def close(self) -> None: ...


def retried(attempt: Callable[[float], object], timeout: float, retries: int):
    """Returns the result of `attempt(seconds left)`, which is repeated after `ServerUnavailableError` only.

    Waits grow exponentially, and each is a random share (half to all) of its length, so that many clients do not come
    back at the same moment.

    Raises:
        ServerUnavailableError: all `retries` + 1 attempts failed, or the time is up.
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

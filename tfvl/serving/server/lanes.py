"""Runs quick and slow requests in two separate lanes, so that quick ones do not wait behind slow ones."""

import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tfvl.serving.client.errors import RequestError
from tfvl.serving.server.batching import Batcher
from tfvl.serving.server.servable import Tensors

# A row beyond any of these limits is slow; each limit stands for about a tenth of a second of work.
SLOW_PIXELS = 2**24  # pixels of all images of a request, times the number of scans of a progressive JPEG
SLOW_TEXT_BYTES = 2**14
SLOW_NUMBERS = 2**20
SLOW_TEXTS = 16  # choices or phrases
LONG_ROWS = 64  # a request with more rows than this, and than a batch, is long
LONG_REQUESTS = 4  # long or slow requests at once

_JPEG, _PNG, _GIF, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"
_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..[\x08\x0c](....)", re.DOTALL)
_SCAN = b"\xff\xda"


class Lanes:
    """Runs requests as `Batcher` does, but slow ones row by row in a thread of their own.

    At most `LONG_REQUESTS` slow or long requests are under way; more are refused, since they would only fill memory.

    Args:
        run, max_rows, wait, threads: the arguments of `Batcher`.
    """

    def __init__(self, run: Callable[..., dict[str, np.ndarray]], *, max_rows: int, wait: float, threads: int):
        self._quick = Batcher(run, max_rows=max_rows, wait=wait, threads=threads)
        self._slow = Batcher(run, max_rows=1, wait=0.0, threads=1)
        self._long_rows = max(LONG_ROWS, max_rows)
        self._long = threading.BoundedSemaphore(LONG_REQUESTS)

    def __call__(
        self, signature: str, inputs: Tensors, outputs: tuple[str, ...], wanted: Callable[[], bool] = lambda: True
    ) -> dict[str, np.ndarray]:
        """Runs a request as `Batcher` does; RequestError also says that too many slow or long ones are under way."""
        slow = is_slow(inputs)
        if not slow and len(next(iter(inputs.values()))) <= self._long_rows:
            return self._quick(signature, inputs, outputs, wanted)
        if not self._long.acquire(blocking=False):
            raise RequestError("UNAVAILABLE", "too many long requests at once; try again")
        try:
            return (self._slow if slow else self._quick)(signature, inputs, outputs, wanted)
        finally:
            self._long.release()

    def close(self) -> None:
        """Closes both lanes, as `Batcher.close` does."""
        self._quick.close()
        self._slow.close()


def is_slow(inputs: Tensors) -> bool:
    """Returns whether a row of a request, or its images together, may keep the model or the preparation busy for long.

    Images are judged together, since each of many that are just small enough takes as long to decode as a slow one.
    """
    for name, value in inputs.items():
        if value.dtype != object:
            if value[:1].size > SLOW_NUMBERS:
                return True
        else:
            if name != "image" and value[:1].size > SLOW_TEXTS:
                return True
            items = set(value.ravel().tolist())
            if sum(map(_pixels, items)) > SLOW_PIXELS if name == "image" else any(map(_is_slow_text, items)):
                return True
    return False


def _is_slow_text(text: bytes) -> bool:
    return len(text) > SLOW_TEXT_BYTES


def _pixels(contents: bytes) -> int:
    """Returns an image's pixels times its scans, by its header; the decoder finds out later if that is wrong."""
    order: Any
    scans = 1
    if contents.startswith(_JPEG):
        sizes = [(frame[1][:2], frame[1][2:]) for frame in _FRAME.finditer(contents)]
        order, scans = "big", contents.count(_SCAN)
    elif contents.startswith(_PNG):
        sizes, order = [(contents[16:20], contents[20:24])], "big"
    elif contents.startswith(_GIF):
        sizes, order = [(contents[6:8], contents[8:10])], "little"
    elif contents.startswith(_BMP):
        sizes, order = [(contents[18:22], contents[22:26])], "little"
    else:
        return 0
    pixels = max((int.from_bytes(width, order) * int.from_bytes(height, order) for width, height in sizes), default=0)
    return pixels * scans

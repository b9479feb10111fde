"""Quick work does not wait behind slow work: a model's batches run in two lanes."""

import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from tfvl.serving.client.errors import RequestError
from tfvl.serving.server.batching import Batcher
from tfvl.serving.server.servable import Tensors

# A row is slow beyond any of these, each of which takes about a tenth of a second.
SLOW_PIXELS = 2**24  # of an image, times its scans
SLOW_TEXT_BYTES = 2**14
SLOW_NUMBERS = 2**20
SLOW_TEXTS = 16  # choices or phrases
LONG_ROWS = 64  # a request of more, and of more than a batch, is a long one
LONG_REQUESTS = 4  # long or slow ones at once

_JPEG, _PNG, _GIF, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"
_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..[\x08\x0c](....)", re.DOTALL)
_SCAN = b"\xff\xda"


class Lanes:
    """Runs requests as `Batcher` does, slow ones row by row in a thread of their own.

    Of requests that are slow or long there are few at once, and more are refused: they would only fill the memory.

    Args:
        run, max_rows, wait, threads: as those of `Batcher`.
    """

    def __init__(self, run: Callable[..., dict[str, np.ndarray]], *, max_rows: int, wait: float, threads: int):
        self._quick = Batcher(run, max_rows=max_rows, wait=wait, threads=threads)
        self._slow = Batcher(run, max_rows=1, wait=0.0, threads=1)
        self._long_rows = max(LONG_ROWS, max_rows)
        self._long = threading.BoundedSemaphore(LONG_REQUESTS)

    def __call__(
        self, signature: str, inputs: Tensors, outputs: tuple[str, ...], wanted: Callable[[], bool] = lambda: True
    ) -> dict[str, np.ndarray]:
        """As `Batcher`; raises RequestError also where too many slow or long requests are under way."""
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
        """As `Batcher.close`."""
        self._quick.close()
        self._slow.close()


def is_slow(inputs: Tensors) -> bool:
    """Whether a row of a request may keep the model, or what prepares its inputs, busy for long."""
    for name, value in inputs.items():
        if value.dtype != object:
            if value[:1].size > SLOW_NUMBERS:
                return True
        else:
            if name != "image" and value[:1].size > SLOW_TEXTS:
                return True
            slow = _is_slow_image if name == "image" else _is_slow_text
            if any(slow(item) for item in set(value.ravel().tolist())):
                return True
    return False


def _is_slow_text(text: bytes) -> bool:
    return len(text) > SLOW_TEXT_BYTES


def _is_slow_image(contents: bytes) -> bool:
    """By what its header says; it need not be true or whole, the decoder will see to that."""
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
        return False
    pixels = max((int.from_bytes(width, order) * int.from_bytes(height, order) for width, height in sizes), default=0)
    return pixels * scans > SLOW_PIXELS

"""Merges requests that arrive together into batches, since one pass through the model costs less than several."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from tfvl.serving.client.errors import RequestError
from tfvl.serving.server.servable import Tensors


@dataclass(eq=False)
class _Task:
    signature: str
    inputs: Tensors
    outputs: tuple[str, ...]
    rows: int
    future: Future = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> tuple:
        """What tasks must have in common to be run in one batch."""
        shapes = sorted((name, value.shape[1:]) for name, value in self.inputs.items())
        return self.signature, self.outputs, tuple(shapes)


class Batcher:
    """Runs requests in batches, in threads of its own.

    Requests are merged if they have the same signature, outputs and shapes of a row. A request with more rows than a
    batch holds is run in parts, one after the other, so that others get their turn in between. If a batch fails, each
    of its requests is run again alone, so that no request fails because of another.

    Args:
        run: `(signature name, inputs, output names) -> outputs`, which returns a row for every row of the inputs.
        max_rows: the largest number of rows in a batch; 1 runs every row alone.
        wait: seconds that the first request of a batch waits for more. While all threads are busy batches fill anyway.
        threads: the number of batches that run at the same time.
    """

    def __init__(self, run: Callable[..., dict[str, np.ndarray]], *, max_rows: int, wait: float, threads: int):
        self._run, self._max_rows, self._wait = run, max_rows, wait
        self._tasks: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name="batch", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def __call__(
        self, signature: str, inputs: Tensors, outputs: tuple[str, ...], wanted: Callable[[], bool] = lambda: True
    ) -> dict[str, np.ndarray]:
        """Returns the outputs for a request's inputs, which have the same number of rows.

        Raises what `run` raises, or RequestError. `wanted` is called before each further part of a long request; if it
        returns False, because the client has gone, the rest is not run.
        """
        rows = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, max(rows, 1), self._max_rows):
            if start and not wanted():
                raise RequestError("CANCELLED", "the client has gone")
            part = {name: value[start : start + self._max_rows] for name, value in inputs.items()}
            task = _Task(signature, part, outputs, min(rows - start, self._max_rows))
            with self._changed:
                if self._closed:
                    raise RequestError("UNAVAILABLE", "the server is shutting down")
                self._tasks.append(task)
                self._changed.notify()
            parts.append(task.future.result())
        return parts[0] if len(parts) == 1 else {name: joined([part[name] for part in parts]) for name in outputs}

    def close(self) -> None:
        """Runs the requests that are waiting, then ends the threads; requests that come later are refused."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[_Task]:
        """Waits for tasks of one kind to fill a batch, at most `wait` seconds after the oldest came; returns them."""
        with self._changed:
            while True:
                if self._tasks:
                    batch = self._first_batch()
                    left = self._tasks[0].arrived + self._wait - time.monotonic()
                    full = sum(task.rows for task in batch) >= self._max_rows or len(batch) < len(self._tasks)
                    if full or left <= 0 or self._closed:
                        for task in batch:
                            self._tasks.remove(task)
                        self._changed.notify()
                        return batch
                    self._changed.wait(left)
                elif self._closed:
                    return []
                else:
                    self._changed.wait()

    def _first_batch(self) -> list[_Task]:
        """Returns the oldest task and, in their order, the tasks of its kind that fit into the same batch."""
        kind, batch, rows = self._tasks[0].kind, [], 0
        for task in self._tasks:
            if task.kind == kind and (not batch or rows + task.rows <= self._max_rows):
                batch.append(task)
                rows += task.rows
        return batch

    def _answer(self, batch: list[_Task]) -> None:
        first = batch[0]
        inputs = first.inputs
        try:
            if len(batch) > 1:
                inputs = {name: np.concatenate([task.inputs[name] for task in batch]) for name in inputs}
            outputs = self._run(first.signature, inputs, first.outputs)
            rows = sum(task.rows for task in batch)
            if len(batch) > 1 and any(value.shape[:1] != (rows,) for value in outputs.values()):
                raise ValueError("an output has not a row for every row of the inputs")
        except Exception as error:
            if len(batch) == 1:
                first.future.set_exception(error)
            else:
                for task in batch:
                    self._answer([task])
            return
        end = 0
        for task in batch:
            start, end = end, end + task.rows
            whole = len(batch) == 1
            task.future.set_result(outputs if whole else {name: value[start:end] for name, value in outputs.items()})


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenates the rows of several outputs; narrower ones are padded with "" or 0, as they would be in a batch."""
    widest = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    rows = np.zeros([sum(len(part) for part in parts), *widest], parts[0].dtype)
    if rows.dtype == object:
        rows[...] = b""
    end = 0
    for part in parts:
        start, end = end, end + len(part)
        rows[(slice(start, end), *(slice(0, size) for size in part.shape[1:]))] = part
    return rows

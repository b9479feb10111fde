"""Sends good and hostile requests from several clients at once, and reports failures, waiting times and memory."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from support.hostile import HOSTILE_KINDS, good
from support.server import Server

HOSTILE = 0.05
CLIENTS = 8
SAMPLES = 100  # of the memory, over a run


@dataclass
class Report:
    """The result of a run: requests of each kind, failures, and the server's memory in kB over the requests."""

    kinds: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)  # seconds, of good requests
    memory: list[tuple[int, int]] = field(default_factory=list)
    seconds: float = 0.0

    def slope(self) -> float:
        """Returns kB per 1000 requests, by least squares over the second half, since the first half fills caches."""
        requests, kilobytes = np.array(self.memory[len(self.memory) // 2 :], float).T
        return float(np.polyfit(requests, kilobytes, 1)[0] * 1000)

    def p99(self) -> float:
        """Returns the 99th percentile of the waits of good requests, in seconds."""
        return float(np.percentile(self.waits, 99))

    def as_dict(self) -> dict:
        return {
            "requests": sum(self.kinds.values()),
            "kinds": dict(self.kinds),
            "failures": self.failures,
            "seconds": round(self.seconds, 1),
            "memory_kB": self.memory,
            "slope_kB_per_1000_requests": round(self.slope(), 1),
        }

    def plot(self, file):
        from matplotlib.figure import Figure

        figure = Figure((7, 3.5), layout="constrained")
        axes = figure.subplots()
        requests, kilobytes = np.array(self.memory).T
        axes.plot(requests, kilobytes / 1024)
        axes.set(xlabel="requests", ylabel="resident memory of the server, MiB", ylim=(0, 1.1 * kilobytes.max() / 1024))
        figure.savefig(file, dpi=120)


def soak(server: Server, count: int, hostile: float = HOSTILE) -> Report:
    """Sends requests from several clients at once, each with its own random sequence.

    Args:
        server: the server to which they are sent.
        count: number of all requests.
        hostile: the share of hostile requests.
    """
    report, lock, numbers = Report(), threading.Lock(), iter(range(count))

    def client(seed: int):
        rng = np.random.default_rng(seed)
        while True:
            with lock:
                number = next(numbers, None)
                if number is not None and number % max(count // SAMPLES, 1) == 0:
                    report.memory.append((number, server.resident_kilobytes()))
            if number is None:
                return
            kind = "good"
            if rng.random() < hostile:
                kind = list(HOSTILE_KINDS)[rng.integers(len(HOSTILE_KINDS))]
            problem, begin = None, time.monotonic()
            try:
                HOSTILE_KINDS.get(kind, good)(server, rng)
            except Exception as error:
                problem = f"{kind}: {type(error).__name__}: {error}"[:500]
            with lock:
                report.kinds[kind] += 1
                report.waits += [time.monotonic() - begin] if kind == "good" else []
                report.failures += [problem] if problem else []

    start = time.monotonic()
    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    report.seconds = time.monotonic() - start
    report.memory.append((count, server.resident_kilobytes()))
    return report

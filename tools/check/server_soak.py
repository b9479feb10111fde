"""Sends the embedded server good questions with hostile requests in between, and reports how each ended.

    python tools/check/server_soak.py --requests 5000

The kinds are those of tests/support/hostile.py. It sends first the good ones alone, for their quiet 99th percentile,
then all of them mixed, then SIGTERM while requests are under way. The exit code is 1 if an answer was wrong or lost, if
good requests waited more than five times their quiet percentile, if the server took more memory than it may, or if it
did not end in time.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from support import once  # noqa: E402
from support.hostile import good  # noqa: E402
from support.server import exported, start  # noqa: E402
from support.soak import soak  # noqa: E402

TIMES_QUIET, GIGABYTES, DRAIN, AFTER_DRAIN = 5, 1.5, 5, 2
SAMPLE_SECONDS = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000, help="of the mixed run; a fifth as many are quiet")
    parser.add_argument("--hostile", type=float, default=0.1, help="share of requests that mean harm")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.environ.setdefault(once.DIRECTORY, directory)
        options = ("--read-timeout", "5", "--max-megabytes", "4", "--drain", str(DRAIN))
        server = start(exported(), Path(directory) / "log", *options)
        quiet = soak(server, arguments.requests // 5, hostile=0)
        peak = Peak(server)
        mixed = soak(server, arguments.requests, hostile=arguments.hostile)
        gigabytes = peak.stop() / 2**20
        seconds = stop_under_load(server)
    failures = quiet.failures + mixed.failures
    ratio = mixed.p99() / quiet.p99()
    print(f"requests: {sum(mixed.kinds.values())}, of which {mixed.kinds['good']} good; {len(failures)} wrong or lost")
    print(f"99th percentile of good requests: quiet {quiet.p99():.3f} s, mixed {mixed.p99():.3f} s, {ratio:.1f} times")
    print(f"most memory of the server: {gigabytes:.2f} GB")
    print(f"SIGTERM under load: ended after {seconds:.1f} s with --drain {DRAIN}")
    for failure in failures[:20]:
        print(failure)
    fine = not failures and ratio <= TIMES_QUIET and gigabytes <= GIGABYTES and seconds <= DRAIN + AFTER_DRAIN
    return 0 if fine else 1


class Peak:
    """Measures the server's memory again and again in a thread, and keeps the most, in kB."""

    def __init__(self, server):
        self._server, self._most, self._over = server, 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self):
        while not self._over.wait(SAMPLE_SECONDS):
            self._most = max(self._most, self._server.resident_kilobytes())

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._most


def stop_under_load(server) -> float:
    """Sends SIGTERM while requests are under way; returns the seconds until the server's end."""
    clients = [threading.Thread(target=ask_until_it_ends, args=(server, seed), daemon=True) for seed in range(8)]
    for client in clients:
        client.start()
    time.sleep(0.5)
    begin = time.monotonic()
    server.stop()
    return time.monotonic() - begin


def ask_until_it_ends(server, seed: int):
    rng = np.random.default_rng(seed)
    while True:
        try:
            good(server, rng)
        except Exception:  # it takes nothing new
            return


if __name__ == "__main__":
    sys.exit(main())

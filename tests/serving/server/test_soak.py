"""The embedded server stays up, exact and of one size, whatever it is sent; and comes back after `kill -9`.

`TFVL_SOAK=20000 pytest tests/serving/server/test_soak.py` is the long run; `TFVL_SOAK_REPORT=DIR` keeps its figures
and a picture of the memory.
"""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from support.hostile import HOSTILE_KINDS, MAX_MEGABYTES, READ_SECONDS
from support.server import ANSWER_SECONDS, assert_rows, exported, instances, questions, start
from support.soak import soak

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")
pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("grpc_health", reason="grpcio-health-checking is not installed")

pytestmark = [pytest.mark.serving, pytest.mark.slow]

REQUESTS = int(os.environ.get("TFVL_SOAK", "600"))
LONG_RUN = 5000  # from here on the slope says something: the first requests fill allocators and caches
# Of 350 MB; allocators keep what a rare large batch needed once. A leak of one picture per request would be 30 MB.
MAX_SLOPE = 1000  # kB per 1000 requests


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Yields a server; asserts that it ends as it should, whatever it was sent."""
    options = ("--max-megabytes", str(MAX_MEGABYTES), "--read-timeout", str(READ_SECONDS))
    running = start(exported(), tmp_path_factory.mktemp("server") / "log", *options)
    yield running
    assert running.stop() == 0


def test_soak(server):
    report = soak(server, REQUESTS)
    summary = report.as_dict()
    if directory := os.environ.get("TFVL_SOAK_REPORT"):
        Path(directory).mkdir(parents=True, exist_ok=True)
        (Path(directory) / "soak.json").write_text(json.dumps(summary, indent=1))
        report.plot(Path(directory) / "soak.png")
    print({key: value for key, value in summary.items() if key != "memory_kB"})
    assert report.failures == []
    assert sum(report.kinds.values()) == REQUESTS
    assert set(report.kinds) - {"good"} <= set(HOSTILE_KINDS)
    assert server.process.poll() is None, "the server has died"
    if REQUESTS >= LONG_RUN:
        assert report.slope() < MAX_SLOPE
    assert_rows(server.predict({"instances": instances(*range(len(questions())))})[1]["predictions"], *range(8))


def test_every_hostile_kind(server):
    """The kinds of the soak, each one once, whatever its length."""
    for kind in HOSTILE_KINDS.values():
        kind(server, np.random.default_rng(0))
    assert server.process.poll() is None, "the server has died"


def test_kill_9_and_restart(tmp_path):
    server = start(exported(), tmp_path / "log")
    ports = ("--rest-port", server.rest.rpartition(":")[2], "--grpc-port", server.grpc.rpartition(":")[2])
    assert_rows(server.predict({"instances": instances(0)})[1]["predictions"], 0)
    server.process.send_signal(signal.SIGKILL)
    assert server.process.wait(ANSWER_SECONDS) == -signal.SIGKILL
    begin = time.monotonic()
    again = start(exported(), tmp_path / "log", *ports)
    try:
        assert (again.rest, again.grpc) == (server.rest, server.grpc)
        assert_rows(again.predict({"instances": instances(0)})[1]["predictions"], 0)
        print(f"serving again {time.monotonic() - begin:.1f} s after the restart: {again.ready_line}")
    finally:
        assert again.stop() == 0

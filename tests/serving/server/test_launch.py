"""`tfvl serve` ends when it is told to, whatever it is doing, and notices a port in use before it loads anything."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from support.paths import ROOT
from support.server import ANSWER_SECONDS

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")
pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("grpc_health", reason="grpcio-health-checking is not installed")

pytestmark = pytest.mark.serving

# The command, with a model of which loading or running does not end before the process does.
SCRIPT = """
import sys, threading
import numpy as np
from tfvl.serving.server import loaders
from tfvl.serving.server.lite.signatures import signature
from tfvl.serving.server.servable import Servable
from tfvl.cli.app import main

def for_ever(*_):
    print("stuck", flush=True)
    threading.Event().wait()

signatures = {"serving_default": signature("serving_default", {"x": ("float32", [])}, {"y": ("float32", [])})}

class Loader(loaders.Loader):
    def missing(self, version):
        return ""

    def load(self, version):
        return for_ever() if "loading" in sys.argv else Servable(signatures, for_ever, lambda: None)

loaders.Loader = Loader
sys.exit(main([argument for argument in sys.argv[1:] if argument not in ("loading", "running")]))
"""


def start(directory, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, "serve", str(directory), "--embedded", "--name", "m", "--drain", "0.5"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def wait_for_line(process: subprocess.Popen, pattern: str) -> re.Match:
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"the process has ended without {pattern}")


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "1").mkdir()
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_batch_that_does_not_end_holds_up_no_stop(directory, number):
    with start(directory, "--rest-port", "0", "--grpc-port", "0", "running") as process:
        address = wait_for_line(process, "REST http://([^/]+)/")[1]
        connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)
        connection.request("POST", "/v1/models/m:predict", json.dumps({"instances": [1.0]}))
        wait_for_line(process, "stuck")
        process.send_signal(number)
        assert process.wait(ANSWER_SECONDS) == 0
        connection.close()


def test_a_stop_while_a_model_is_loaded(directory):
    with start(directory, "--rest-port", "0", "--grpc-port", "0", "loading") as process:
        wait_for_line(process, "stuck")
        process.send_signal(signal.SIGTERM)
        assert process.wait(ANSWER_SECONDS) == 0


def complaint(*arguments: str) -> str:
    command = [sys.executable, "-m", "tfvl", "serve", "--embedded", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=ANSWER_SECONDS
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


def test_a_port_in_use_is_noticed_before_a_model_is_loaded(directory):
    """This one could not be loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        rest = complaint(str(directory), "--rest-port", port, "--grpc-port", "0")
        assert f"REST cannot listen on 127.0.0.1:{port} (Address already in use); give another with --rest-port" in rest
        grpc = complaint(str(directory), "--rest-port", "0", "--grpc-port", port)
        assert f"gRPC cannot listen on 127.0.0.1:{port} (Address already in use); give another with --grpc-port" in grpc
    both = complaint(str(directory), "--rest-port", port, "--grpc-port", port)
    assert f"gRPC cannot listen on 127.0.0.1:{port}" in both


def test_hosts_and_origins_that_are_none(directory):
    assert "the host 'a.test:80' is not a name" in complaint(str(directory), "--allow-host", "a.test:80")
    assert "are not all as https://example.org:8080" in complaint(str(directory), "--allow-origin", "a.test")

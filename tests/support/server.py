"""Runs `tfvl serve` in a separate process on the bundled model, which is exported once; sends raw requests to it."""

import base64
import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from support.once import once
from support.paths import ROOT
from tfvl import auto, shapes
from tfvl.export import saved_model

MODEL = "shapes-vilt"
# Guards against waiting for ever, no measure of anything: TensorFlow's import alone takes 20 s on a busy machine.
START_SECONDS = 900
ANSWER_SECONDS = 600
# The server's own limits are as long, unless a test is about them: a busy machine is no reason to refuse a request.
PATIENCE = {"--read-timeout": str(ANSWER_SECONDS), "--drain": str(ANSWER_SECONDS)}
# A row in a batch is padded to the longest text there: other sizes, other orders of summation.
BATCH_TOLERANCE = 1e-5


@cache
def exported() -> Path:
    """Returns the model's directory, with version 1 as `tfvl export shapes-vilt DIR/1` writes it."""
    return once(f"{MODEL}/1", lambda path: saved_model(*auto.load(MODEL), path)).parent


@cache
def questions() -> tuple[tuple[bytes, str], ...]:
    """Returns eight different pictures and questions."""
    pairs = list(shapes.held_out_questions(40))[::5]
    return tuple((encoded(scene.image()), question.text) for scene, question in pairs)


def encoded(pixels) -> bytes:
    file = BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, "PNG")
    return file.getvalue()


@cache
def expected() -> dict[str, np.ndarray]:
    """Returns what the artefact answers in this process to `questions()`, each asked alone."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    run = tf.saved_model.load(str(exported() / "1")).signatures["serving_default"]
    alone = [run(image=tf.constant([image]), text=tf.constant([text])) for image, text in questions()]
    return {name: np.concatenate([row[name].numpy() for row in alone]) for name in alone[0]}


def instance(image: bytes, text: str) -> dict:
    return {"image": {"b64": base64.b64encode(image).decode()}, "text": text}


def instances(*rows: int) -> list[dict]:
    return [instance(*questions()[row]) for row in rows]


def assert_rows(predictions: list[dict], *rows: int):
    """Asserts that the predictions are the answers that these questions get when they are asked alone."""
    assert len(predictions) == len(rows)
    for prediction, row in zip(predictions, rows, strict=True):
        assert prediction["status"] == ""
        assert prediction["answers"] == [answer.decode() for answer in expected()["answers"][row]]
        np.testing.assert_allclose(prediction["scores"], expected()["scores"][row], rtol=0, atol=BATCH_TOLERANCE)


@dataclass
class Server:
    """A server process, or the address of one that runs elsewhere."""

    rest: str
    grpc: str
    process: subprocess.Popen | None = None
    ready_line: str = ""
    log: Path | None = None

    def ask(self, method: str, path: str, body: bytes | str | dict | None = None, **headers) -> tuple[int, dict]:
        """Sends one request over a new connection; returns the HTTP status and the JSON."""
        status, content = self.ask_raw(method, path, body, **headers)
        return status, json.loads(content)

    def ask_raw(self, method: str, path: str, body=None, **headers) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.rest, timeout=ANSWER_SECONDS)
        try:
            connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def predict(self, body: bytes | str | dict, which: str = "") -> tuple[int, dict]:
        return self.ask("POST", f"/v1/models/{MODEL}{which}:predict", body)

    def status(self) -> dict[int, tuple[str, str]]:
        """Returns state and message of each version."""
        code, answer = self.ask("GET", f"/v1/models/{MODEL}")
        assert code == 200, answer
        return {
            int(version["version"]): (version["state"], version["status"]["error_message"])
            for version in answer["model_version_status"]
        }

    def resident_kilobytes(self) -> int:
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def stop(self) -> int:
        """Ends the process as an orchestrator does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ANSWER_SECONDS)


def start(directory: Path, log: Path, *options: str) -> Server:
    """Starts `tfvl serve` on free ports, or on those of `options`, and waits until it says that it is ready."""
    command = [sys.executable, "-m", "tfvl", "serve", str(directory), "--name", MODEL, "--embedded"]
    defaults = {"--rest-port": "0", "--grpc-port": "0"} | PATIENCE
    options += tuple(each for name, value in defaults.items() if name not in options for each in (name, value))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        )
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else ""
    process.stdout.close()  # it says nothing more there
    found = re.search(r"REST http://([^/]+)/\S+, gRPC (\S+)", line)
    if not found:
        process.kill()
        raise RuntimeError(f"the server did not start: {line}{log.read_text()}")
    return Server(found[1], found[2], process, line.strip(), log)


def wait_for(condition, what: str):
    """Polls until the condition holds."""
    end = time.monotonic() + ANSWER_SECONDS
    while not condition():
        assert time.monotonic() < end, f"after {ANSWER_SECONDS} s not yet: {what}"
        time.sleep(0.05)


@contextmanager
def serving(path: Path, name: str, *, page: bool = False, rest_port: int = 0, **access):
    """Runs a server of one model in this process; `access` are arguments of `Access`."""
    from tfvl.serving.server import directories
    from tfvl.serving.server.access import Access
    from tfvl.serving.server.loaders import Loader
    from tfvl.serving.server.metrics import Metrics
    from tfvl.serving.server.page import Page
    from tfvl.serving.server.repository import Repository
    from tfvl.serving.server.server import Server as Embedded
    from tfvl.serving.server.service import Service

    batching = {"max_rows": 4, "wait": 0.0, "threads": 1}
    repository = Repository(name, directories.finder(path), Loader(), batching=batching, log=lambda _: None)
    repository.scan(settled=True)
    service = Service([repository], Metrics(), max_bytes=2**20)
    more = {"read_seconds": 600, "drain_seconds": 600, "page": Page(service) if page else None}
    served = Access("127.0.0.1", **access)
    server = Embedded(service, served, host="127.0.0.1", rest_port=rest_port, grpc_port=0, **more)
    yield server
    server.stop()
    repository.close()

"""Starts what `tfvl serve` serves with: TF Serving's own server with generated configs, or the embedded one."""

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tfvl.serving.server import configs
from tfvl.serving.server.directories import NUMBER, Find, numbered

MODEL_SERVER = "tensorflow_model_server"


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is served, and where; both servers take this.

    Attributes:
        find: the versions that there are, by number.
        name: of the model.
        host: the address to listen on.
        rest_port, grpc_port: 0 for any that is free.
        keep: how many versions are served, the highest ones.
        labels: label to version number.
        batching: keywords of `configs.batching_config`.
    """

    find: Find
    name: str
    host: str
    rest_port: int
    grpc_port: int
    keep: int
    labels: Mapping[str, int]
    batching: Mapping


def parse_labels(labels: list[str]) -> dict[str, int]:
    """From `label=version`. Raises ValueError."""
    parsed = {}
    for text in labels:
        label, _, version = text.partition("=")
        if not label or not re.fullmatch(NUMBER, version):
            raise ValueError(f"the label {text!r} is not LABEL=VERSION, e.g. stable=1")
        parsed[label] = int(version)
    return parsed


def model_server() -> str | None:
    return shutil.which(MODEL_SERVER)


def run_model_server(serving: Serving) -> None:
    """Becomes `tensorflow_model_server`. It listens on all addresses, and takes its settings from files."""
    name, files = serving.name, Path(tempfile.mkdtemp(prefix="tfvl-serve-"))
    versions = serving.find()
    directory = next(iter(versions.values())).resolve().parent
    if set(versions) != set(numbered(directory)):  # one version was asked for, and there are others
        directory = files / name
        directory.mkdir()
        for number, path in versions.items():
            (directory / str(number)).symlink_to(path.resolve())
    contents = {
        "model_config_file": configs.models_config(
            {name: directory}, latest=serving.keep, labels={name: serving.labels}
        ),
        "batching_parameters_file": configs.batching_config(**serving.batching),
        "monitoring_config_file": configs.monitoring_config(),
    }
    arguments = [f"--rest_api_port={serving.rest_port or _free_port()}", f"--port={serving.grpc_port or _free_port()}"]
    arguments += ["--enable_batching=true", "--allow_version_labels_for_unavailable_models=true"]
    for flag, content in contents.items():
        (files / flag).write_text(content)
        arguments.append(f"--{flag}={files / flag}")
    if serving.host != "0.0.0.0":
        print(f"tfvl: warning: {MODEL_SERVER} listens on all addresses, not only on {serving.host}", file=sys.stderr)
    print(" ".join([MODEL_SERVER, *arguments]), flush=True)
    os.execv(model_server(), [MODEL_SERVER, *arguments])


def run_embedded(serving: Serving, *, threads: int | None, poll: float, **limits) -> None:
    """Serves until SIGTERM or Ctrl-C, then drains.

    Args:
        threads: of the CPU for a `.tflite` file; None: one for each core, at most four.
        poll: seconds between two looks for new versions.
        limits: keywords of `Server`.

    Raises ValueError if no version can be loaded, OSError if a port cannot be used.
    """
    name, host, batching = serving.name, serving.host, serving.batching
    configs.check_name(name)
    start = time.monotonic()
    print("tfvl serve: this server is for development; put TensorFlow Serving before users", file=sys.stderr)
    try:
        import fastapi  # noqa: F401
        import grpc_health  # noqa: F401
        import tensorflow_serving  # noqa: F401
    except ImportError as error:
        raise ValueError(f"`tfvl serve` needs {error.name}; install tfvl[serving]") from None
    from tfvl.files.quiet import quiet_tensorflow

    quiet_tensorflow()
    from tfvl.serving.server.loaders import Loader
    from tfvl.serving.server.metrics import Metrics
    from tfvl.serving.server.repository import AVAILABLE, Repository
    from tfvl.serving.server.server import Server
    from tfvl.serving.server.service import Service

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    metrics = Metrics()
    options = {
        "max_rows": batching["max_batch_size"],
        "wait": batching["timeout_ms"] / 1000,
        "threads": batching["threads"],
    }
    repository = Repository(
        name,
        serving.find,
        Loader(threads),
        batching=options,
        keep=serving.keep,
        labels=serving.labels,
        timed=partial(metrics.run, name),
    )
    repository.scan(settled=True)
    if not any(version.state == AVAILABLE for version in repository.versions()):
        problems = "; ".join(f"version {version.number}: {version.problem}" for version in repository.versions())
        raise ValueError(f"no version of {name} can be served: {problems}")
    ports = {"rest_port": serving.rest_port, "grpc_port": serving.grpc_port}
    server = Server(Service([repository], metrics), host=host, **ports, **limits)
    repository.watch(poll)
    shown = f"[{host}]" if ":" in host else host
    print(
        f"{name}: ready after {time.monotonic() - start:.1f} s, "
        f"REST http://{shown}:{server.rest_port}/v1/models/{name}, gRPC {shown}:{server.grpc_port}",
        flush=True,
    )
    stop.wait()
    print(f"{name}: finishing the requests under way", file=sys.stderr, flush=True)
    server.stop()
    repository.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]

"""Starts the server of `tfvl serve`: TF Serving's own, with generated configurations, or the embedded one."""

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tfvl.files.extras import require
from tfvl.serving.server import configs, ports
from tfvl.serving.server.access import Access
from tfvl.serving.server.directories import NUMBER, Find, numbered

MODEL_SERVER = "tensorflow_model_server"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The settings that both servers share: what is served, and where.

    Attributes:
        find: a function that returns the versions that exist, by number.
        name: name of the model.
        host: the address to listen on.
        rest_port, grpc_port: the two ports; 0 for any that is free.
        keep: the number of versions that are served, the highest ones.
        labels: the version number of each label.
        batching: keywords of `configs.batching_config`.
        allow_hosts, allow_origins: the arguments `hosts` and `origins` of `access.Access`.
    """

    find: Find
    name: str
    host: str
    rest_port: int
    grpc_port: int
    keep: int
    labels: Mapping[str, int]
    batching: Mapping
    allow_hosts: Sequence[str] = ()
    allow_origins: Sequence[str] = ()


def parse_labels(labels: list[str]) -> dict[str, int]:
    """Parses labels written `label=version` into a dict. Raises ValueError."""
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
    """Replaces this process by `tensorflow_model_server`, which listens on all addresses, and writes its settings.

    Raises OSError if a port cannot be used.
    """
    ports.check("0.0.0.0", serving.rest_port, serving.grpc_port)
    name, files = serving.name, Path(tempfile.mkdtemp(prefix="tfvl-serve-"))
    versions = serving.find()
    directory = next(iter(versions.values())).resolve().parent
    if set(versions) != set(numbered(directory)):  # one version is to be served, but there are others
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
    if serving.allow_origins:
        arguments.append("--rest_api_enable_cors_support=true")
    if serving.allow_hosts or serving.allow_origins:
        print(f"tfvl: warning: {MODEL_SERVER} serves every host, and with --allow-origin every origin", file=sys.stderr)
    if serving.host != "0.0.0.0":
        print(f"tfvl: warning: {MODEL_SERVER} listens on all addresses, not only on {serving.host}", file=sys.stderr)
    print(" ".join([MODEL_SERVER, *arguments]), flush=True)
    os.execv(model_server(), [MODEL_SERVER, *arguments])


def require_libraries() -> None:
    """Raises an error that names what is missing of the libraries that the embedded server runs on."""
    libraries = ("starlette", "uvicorn", "tensorflow_serving", "grpc_health")
    require(*libraries, extra="serving", purpose="`tfvl serve` runs on them")


def run_embedded(
    serving: Serving,
    *,
    threads: int | None,
    poll: float,
    max_bytes: int,
    read_seconds: float,
    drain_seconds: float,
    page: bool = False,
) -> None:
    """Runs the embedded server until SIGTERM or Ctrl-C, then finishes the requests under way and returns.

    Args:
        serving: what is served, and where.
        threads: CPU threads for a `.tflite` file; None: one for each core, at most four.
        poll: seconds between two scans for new versions.
        max_bytes: the largest request.
        read_seconds, drain_seconds: the arguments of `Server`.
        page: whether a page at `/` asks the model in a browser.

    Raises ValueError if no version can be loaded, OSError if a port cannot be used.
    """
    require_libraries()
    name, host, batching = serving.name, serving.host, serving.batching
    configs.check_name(name)
    access = Access(host, serving.allow_hosts, serving.allow_origins)
    ports.check(host, serving.rest_port, serving.grpc_port)
    start = time.monotonic()
    print("tfvl serve: this server is for development; put TensorFlow Serving before users", file=sys.stderr)
    from tfvl.files.quiet import quiet_tensorflow

    for number in _SIGNALS:
        signal.signal(number, _end_at_once)
    quiet_tensorflow()
    from tfvl.serving.server.loaders import Loader
    from tfvl.serving.server.metrics import Metrics
    from tfvl.serving.server.page import Page
    from tfvl.serving.server.repository import AVAILABLE, Repository
    from tfvl.serving.server.server import Server
    from tfvl.serving.server.service import Service

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
    stop = threading.Event()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    where: dict[str, Any] = {"host": host, "rest_port": serving.rest_port, "grpc_port": serving.grpc_port}
    service = Service([repository], metrics, max_bytes=max_bytes)
    server = Server(
        service,
        access,
        **where,
        read_seconds=read_seconds,
        drain_seconds=drain_seconds,
        page=Page(service) if page else None,
    )
    repository.watch(poll)
    shown = ports.bracketed(host)
    rest = f"http://{shown}:{server.rest_port}"
    print(
        f"{name}: ready after {time.monotonic() - start:.1f} s, "
        f"REST {rest}/v1/models/{name}, gRPC {shown}:{server.grpc_port}"
        + (f"\n{name}: the page is at {rest}/" if page else ""),
        flush=True,
    )
    stop.wait()
    print(f"{name}: finishing the requests under way", file=sys.stderr, flush=True)
    end_after(drain_seconds + 1)
    server.stop()
    repository.close()


def end_after(seconds: float) -> None:
    """Ends this process after so many seconds whatever its threads still do, in case a batch does not end."""
    timer = threading.Timer(seconds, os._exit, [0])
    timer.daemon = True
    timer.start()


def _end_at_once(*_) -> None:
    """Ends the process at once on a signal; while models are being loaded there are no requests to finish."""
    raise SystemExit(0)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]

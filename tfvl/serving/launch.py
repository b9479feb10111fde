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
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tfvl.serving import configs

MODEL_SERVER = "tensorflow_model_server"
Find = Callable[[], Mapping[int, Path]]


def finder(directory: Path) -> Find:
    """A function that lists the versions to serve: those in a model's directory, or the one that `directory` is.

    Raises ValueError if there are none.
    """
    if (directory / "saved_model.pb").is_file():
        number = int(directory.resolve().name) if directory.resolve().name.isdecimal() else 1
        return lambda: {number: directory}
    if not directory.is_dir():
        raise ValueError(f"{directory} is no directory; give that of a model, as `tfvl export` writes it")
    find = partial(numbered, directory)
    if not find():
        raise ValueError(
            f"{directory} holds neither a SavedModel nor numbered versions; export to {directory / '1'}, or give the "
            "directory of a model"
        )
    return find


def numbered(directory: Path) -> dict[int, Path]:
    """The version directories of a model's directory."""
    paths = [path for path in directory.iterdir() if re.fullmatch("[0-9]{1,18}", path.name) and path.is_dir()]
    return {int(path.name): path for path in paths}


def default_name(directory: Path) -> str:
    """That of the model's directory, also where one of its versions is given."""
    directory = directory.resolve()
    return directory.parent.name if directory.name.isdecimal() else directory.name


def parse_labels(labels: list[str]) -> dict[str, int]:
    """From `label=version`. Raises ValueError."""
    parsed = {}
    for text in labels:
        label, _, version = text.partition("=")
        if not label or not re.fullmatch("[0-9]{1,18}", version):
            raise ValueError(f"the label {text!r} is not LABEL=VERSION, e.g. stable=1")
        parsed[label] = int(version)
    return parsed


def model_server() -> str | None:
    return shutil.which(MODEL_SERVER)


def run_model_server(
    *,
    find: Find,
    name: str,
    host: str,
    rest_port: int,
    grpc_port: int,
    keep: int,
    labels: Mapping[str, int],
    batching: Mapping,
) -> None:
    """Becomes `tensorflow_model_server`. It listens on all addresses, and takes its settings from files."""
    files = Path(tempfile.mkdtemp(prefix="tfvl-serve-"))
    versions = find()
    directory = next(iter(versions.values())).resolve().parent
    if set(versions) != set(numbered(directory)):  # one version was asked for, and there are others
        directory = files / name
        directory.mkdir()
        for number, path in versions.items():
            (directory / str(number)).symlink_to(path.resolve())
    contents = {
        "model_config_file": configs.models_config({name: directory}, latest=keep, labels={name: labels}),
        "batching_parameters_file": configs.batching_config(**batching),
        "monitoring_config_file": configs.monitoring_config(),
    }
    arguments = [f"--rest_api_port={rest_port or _free_port()}", f"--port={grpc_port or _free_port()}"]
    arguments += ["--enable_batching=true", "--allow_version_labels_for_unavailable_models=true"]
    for flag, content in contents.items():
        (files / flag).write_text(content)
        arguments.append(f"--{flag}={files / flag}")
    if host != "0.0.0.0":
        print(f"tfvl: warning: {MODEL_SERVER} listens on all addresses, not only on {host}", file=sys.stderr)
    print(" ".join([MODEL_SERVER, *arguments]), flush=True)
    os.execv(model_server(), [MODEL_SERVER, *arguments])


def run_embedded(
    *,
    find: Find,
    name: str,
    host: str,
    rest_port: int,
    grpc_port: int,
    keep: int,
    labels: Mapping[str, int],
    batching: Mapping,
    poll: float,
    **limits,
) -> None:
    """Serves until SIGTERM or Ctrl-C, then drains.

    Raises ValueError if no version can be loaded, OSError if a port cannot be used.
    """
    configs.check_name(name)
    start = time.monotonic()
    print("tfvl serve: this server is for development; put TensorFlow Serving before users", file=sys.stderr)
    try:
        import fastapi  # noqa: F401
        import grpc_health  # noqa: F401
        import tensorflow_serving  # noqa: F401
    except ImportError as error:
        raise ValueError(f"`tfvl serve` needs {error.name}; install tfvl[serving]") from None
    from tfvl.console import quiet_tensorflow

    quiet_tensorflow()
    from tfvl.serving.metrics import Metrics
    from tfvl.serving.repository import AVAILABLE, Repository
    from tfvl.serving.saved_model import SAVED_MODEL
    from tfvl.serving.server import Server
    from tfvl.serving.service import Service

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
        name, find, SAVED_MODEL, batching=options, keep=keep, labels=labels, timed=partial(metrics.run, name)
    )
    repository.scan(settled=True)
    if not any(version.state == AVAILABLE for version in repository.versions()):
        problems = "; ".join(f"version {version.number}: {version.problem}" for version in repository.versions())
        raise ValueError(f"no version of {name} can be served: {problems}")
    server = Server(Service([repository], metrics), host=host, rest_port=rest_port, grpc_port=grpc_port, **limits)
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

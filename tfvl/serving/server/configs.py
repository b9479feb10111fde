"""Writes the three text protos that `tensorflow_model_server` reads: models, batching, and the path of the metrics."""

import json
from collections.abc import Mapping
from pathlib import Path

METRICS_PATH = "/monitoring/prometheus/metrics"  # where TF Serving's documentation and its dashboards expect them


def models_config(
    models: Mapping[str, str | Path], *, latest: int = 2, labels: Mapping[str, Mapping[str, int]] | None = None
) -> str:
    """Returns the content of `--model_config_file`, which names the models to serve.

    Args:
        models: the name and the directory of each model. The directory is as the server sees it; its numbered
            subdirectories are the versions.
        latest: how many versions of each stay loaded, the highest ones. With 2 a label can still point to the version
            before the newest, so that going back to it takes only a change of the label.
        labels: `{label: version}` of each model, by its name. A label must point to a version that is loaded already,
            unless the server runs with `--allow_version_labels_for_unavailable_models`.

    Raises:
        ValueError: a name cannot stand in a URL, `latest` is below 1, or labels name a model that is not served.
    """
    labels = labels or {}
    if latest < 1:
        raise ValueError(f"latest is {latest}, expected at least 1 version to keep loaded")
    if unknown := sorted(labels.keys() - models.keys()):
        raise ValueError(f"labels are given for {', '.join(unknown)}, but the models are {', '.join(models)}")
    entries = (_model(name, Path(directory), latest, labels.get(name, {})) for name, directory in models.items())
    return f"model_config_list {{\n{''.join(entries)}}}\n"


def _model(name: str, directory: Path, latest: int, labels: Mapping[str, int]) -> str:
    check_name(name)
    lines = [
        f"name: {_quoted(name)}",
        f"base_path: {_quoted(directory)}",
        'model_platform: "tensorflow"',
        f"model_version_policy {{ latest {{ num_versions: {latest} }} }}",
        *(f"version_labels {{ key: {_quoted(label)} value: {version} }}" for label, version in labels.items()),
    ]
    return "".join(["  config {\n", *(f"    {line}\n" for line in lines), "  }\n"])


def check_name(name: str) -> None:
    """Raises ValueError for a model name that cannot be a part of `/v1/models/NAME:predict`."""
    if not name or not all(character.isalnum() or character in "_.-" for character in name) or name.strip(".") == "":
        raise ValueError(f"the model name {name!r} is not usable; expected letters, digits and the signs _ . -")


def batching_config(
    *, max_batch_size: int = 8, timeout_ms: float = 2.0, threads: int = 2, max_enqueued_batches: int = 100
) -> str:
    """Returns the content of `--batching_parameters_file`, which goes with `--enable_batching=true`.

    Args:
        max_batch_size: the largest number of rows that are run together.
        timeout_ms: milliseconds that the first row of a batch waits for more. Under load batches fill while the threads
            are busy, so a short wait is enough, and costs single requests little.
        threads: the number of batches that run at the same time.
        max_enqueued_batches: the number of batches that may wait; further requests get UNAVAILABLE at once (HTTP 503).

    `pad_variable_length_inputs` stays off: the server would fill missing regions with the first number of the request,
    not with the zeros that mean padding. Requests whose regions differ in number do not merge; clients pad them.

    Raises:
        ValueError: a number is not positive, which the server would refuse.
    """
    numbers = {
        "max_batch_size": max_batch_size,
        "batch_timeout_micros": round(timeout_ms * 1000),
        "max_enqueued_batches": max_enqueued_batches,
        "num_batch_threads": threads,
    }
    for name, value in numbers.items():
        if value < (name != "batch_timeout_micros"):
            raise ValueError(f"{name} is {value}, expected a positive number")
    return "".join(
        [*(f"{name} {{ value: {value} }}\n" for name, value in numbers.items()), "pad_variable_length_inputs: false\n"]
    )


def monitoring_config(path: str = METRICS_PATH) -> str:
    """Returns the content of `--monitoring_config_file`: Prometheus metrics on the REST port under `path`."""
    return f"prometheus_config {{\n  enable: true\n  path: {_quoted(path)}\n}}\n"


def _quoted(value: str | Path) -> str:
    """Quotes a string for the text format, which knows JSON's escapes but those of characters beyond ASCII."""
    return json.dumps(str(value), ensure_ascii=False)

"""The three text protos that `tensorflow_model_server` reads: which models, how to batch, where the metrics are."""

import json
from collections.abc import Mapping
from pathlib import Path

METRICS_PATH = "/monitoring/prometheus/metrics"  # where TF Serving's documentation and its dashboards expect them


def models_config(
    models: Mapping[str, str | Path], *, latest: int = 2, labels: Mapping[str, Mapping[str, int]] | None = None
) -> str:
    """`--model_config_file`: the models to serve.

    Args:
        models: name to directory, as the server sees it, whose numbered subdirectories are the versions.
        latest: how many versions of each stay loaded, the highest ones. With 2 a label can still point to the version
            before the newest, and going back to it is a change of the label.
        labels: model name to `{label: version}`. A label must point to a version that is loaded already, unless the
            server runs with `--allow_version_labels_for_unavailable_models`.

    Raises:
        ValueError: a name that cannot stand in a URL, `latest` below 1, labels for a model that is not served.
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
    """`--batching_parameters_file`, for `--enable_batching=true`.

    Args:
        max_batch_size: most rows that are run together.
        timeout_ms: how long the first row of a batch waits for more. Under load batches fill while the threads are
            busy, so a short wait costs single requests little.
        threads: batches that run at the same time.
        max_enqueued_batches: batches that may wait; what comes then is answered UNAVAILABLE at once (HTTP 503).

    `pad_variable_length_inputs` stays off: the server would fill missing regions with the first number of the request,
    not with the zeros that mean padding. Requests whose regions differ in number do not merge; clients pad them.

    Raises:
        ValueError: a number that the server would refuse.
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
    """`--monitoring_config_file`: Prometheus metrics on the REST port under `path`."""
    return f"prometheus_config {{\n  enable: true\n  path: {_quoted(path)}\n}}\n"


def _quoted(value: str | Path) -> str:
    """A string of the text format; JSON's escapes are among its own, once everything beyond ASCII is left as it is."""
    return json.dumps(str(value), ensure_ascii=False)

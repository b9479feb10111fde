"""The README.md of a trained model: what it was trained on, how, how good it is, and with which command."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import metadata

from tfvl.training.run.settings import RunConfig
from tfvl.training.tasks.table import task_named

PACKAGES = ("tfvl", "tensorflow", "keras", "numpy")


def model_card(
    run: RunConfig, model, data: Sequence[tuple[str, object]], metrics: Mapping[str, float], step: int, command: str
) -> str:
    """The card's text.

    Args:
        data: rows on the data.
        metrics: of the validation split.
        step: after which the weights were taken.
        command: that makes this run again.
    """
    import yaml

    tags = [model.config.model_type, "tfvl"]
    front = {"library_name": "tfvl", "tags": tags}
    if tag := task_named(run.task).pipeline_tag:
        front["pipeline_tag"] = tag
    name = type(model).__name__
    settings = {
        key: value for key, value in dataclasses.asdict(run).items() if value is not None and value is not False
    }
    versions = {package: _version(package) for package in PACKAGES}
    start = "from fresh weights, of the architecture of" if run.from_scratch else "from"
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False, allow_unicode=True).rstrip(),
            "---",
            f"# {name}, trained for the task “{run.task}”",
            "",
            f"Trained with `tfvl train` {start} `{run.model}`; these are the weights after step {step:,}.",
            "",
            "```python",
            "import tfvl",
            "",
            'model, processor = tfvl.auto.load("DIRECTORY")  # transformers loads it too',
            "```",
            "",
            *_section("Data", data),
            *_section("Results on the validation split", [(key, f"{value:.4f}") for key, value in metrics.items()]),
            *_section("Recipe", list(settings.items())),
            *_section("Versions", list(versions.items())),
            "## Command",
            "",
            "```",
            command,
            "```",
            "",
        ]
    )


def _section(title: str, rows: Sequence[tuple[str, object]]) -> list[str]:
    if not rows:
        return []
    cells = [f"| {key} | {' '.join(str(value).split()).replace('|', chr(92) + '|')} |" for key, value in rows]
    return [f"## {title}", "", "| | |", "|---|---|", *cells, ""]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        from tfvl import __version__

        return __version__ if package == "tfvl" else "unknown"

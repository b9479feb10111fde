"""Writes the README.md of a trained model: its data, its settings, its metrics and the command that trained it."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from tfvl.modeling.card import card, pipeline_tag
from tfvl.porting.hub import HUB_ID
from tfvl.training.run.settings import RunConfig
from tfvl.training.tasks.table import task_named

PACKAGES = ("tfvl", "tensorflow", "keras", "numpy")


def model_card(
    run: RunConfig, model, data: Sequence[tuple[str, object]], metrics: Mapping[str, float], step: int, command: str
) -> str:
    """Returns the text of the model card.

    Args:
        run: the run's settings.
        model: the trained model.
        data: pairs of a name and a value that describe the data.
        metrics: the metrics of the validation split.
        step: the step after which the weights were saved.
        command: the command that repeats the run.
    """
    from huggingface_hub import EvalResult

    task, name = task_named(run.task), type(model).__name__
    tag = pipeline_tag(type(model)) or "other"
    measured = [
        EvalResult(
            task_type=tag,
            dataset_type=run.task,
            dataset_name=run.task,
            dataset_split=run.validation_split,
            metric_type=key.partition("/")[0],
            metric_name=key,
            metric_value=round(float(value), 6),
        )
        for key, value in (metrics.items() if task.metric else ())
    ]
    settings = {
        key: value for key, value in dataclasses.asdict(run).items() if value is not None and value is not False
    }
    versions = {package: _version(package) for package in PACKAGES}
    start = "from fresh weights, of the architecture of" if run.from_scratch else "from"
    return card(
        model,
        f"{name}, trained for the task “{run.task}”",
        [
            f"Trained with `tfvl train` {start} `{run.model}`; these are the weights after step {step:,}.",
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
        ],
        measured,
        license=run.license,
        datasets=list(run.datasets or ()),
        base_model=run.model if HUB_ID.fullmatch(run.model) and not Path(run.model).exists() else None,
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

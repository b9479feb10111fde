"""Logs a run to Weights & Biases and MLflow, through their own Keras callbacks.

TensorBoard's events are always written, by `history.Events`. A tracker is given the rows of
`history.csv`, each under the number of its step, so that validations are among them and a run that goes on says the
right steps; to the callbacks a row is the end of an epoch.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras

from tfvl.files.extras import require
from tfvl.training.run.settings import RunConfig

PROJECT, DATABASE = "tfvl", "mlflow.db"
Track = Callable[[Mapping[str, float]], None]


@contextlib.contextmanager
def wandb_callback(run: RunConfig, out: Path) -> Iterator[keras.callbacks.Callback]:
    """Yields a callback that logs to Weights & Biases, whose variables (`WANDB_MODE=offline`, …) all work."""
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    project = os.environ.get("WANDB_PROJECT", PROJECT)
    with wandb.init(project=project, name=out.absolute().name, dir=str(out), config=settings(run)):
        yield WandbMetricsLogger(log_freq="epoch")


@contextlib.contextmanager
def mlflow_callback(run: RunConfig, out: Path) -> Iterator[keras.callbacks.Callback]:
    """Yields a callback that logs to MLflow: to `MLFLOW_TRACKING_URI`, else to `mlflow.db` in the run's directory."""
    import mlflow
    from mlflow.keras import MlflowCallback

    experiment = None  # MLflow's own
    if not mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri(f"sqlite:///{out.absolute() / DATABASE}")
        found = mlflow.get_experiment_by_name(PROJECT)
        artifacts = (out / "mlruns").absolute().as_uri()
        experiment = found.experiment_id if found else mlflow.create_experiment(PROJECT, artifact_location=artifacts)
    with mlflow.start_run(experiment_id=experiment, run_name=out.absolute().name):
        mlflow.log_params(settings(run))
        yield MlflowCallback(log_every_epoch=True)


TRACKERS: Mapping[str, Callable[[RunConfig, Path], AbstractContextManager[keras.callbacks.Callback]]] = {
    "wandb": wandb_callback,
    "mlflow": mlflow_callback,
}
LIBRARIES = {"wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic", "pandas")}


def settings(run: RunConfig) -> dict[str, Any]:
    """Returns the settings that are not None, those from the recipe included."""
    return {name: value for name, value in dataclasses.asdict(run).items() if value is not None}


def wanted(run: RunConfig) -> list[str]:
    """Returns the names of the trackers that need a library."""
    return [name for name in dict.fromkeys(run.trackers or ()) if name in TRACKERS]


def check_trackers(run: RunConfig) -> None:
    """Raises MissingExtraError if the library of one of the run's trackers is not installed."""
    for name in wanted(run):
        require(*LIBRARIES[name], extra=name, purpose=f"the setting trackers names {name}")


@contextlib.contextmanager
def tracking(run: RunConfig, out: Path, model: keras.Model) -> Iterator[Track]:
    """Yields what gives a row of the history to the run's trackers, which it closes when the context ends."""
    with contextlib.ExitStack() as stack:
        callbacks = [stack.enter_context(TRACKERS[name](run, out)) for name in wanted(run)]
        for each in callbacks:
            each.set_model(model)
            each.on_train_begin()

        def track(row: Mapping[str, float]) -> None:
            values = {name: value for name, value in row.items() if name != "epoch"}
            for each in callbacks:
                each.on_epoch_end(int(row["step"]), values)

        yield track

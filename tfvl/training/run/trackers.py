"""Logs a run to Weights & Biases and MLflow, through their own Keras callbacks.

TensorBoard's events are always written, by `history.Events`.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from tfvl.files.extras import require
from tfvl.training.run.settings import RunConfig

PROJECT = "tfvl"


@contextlib.contextmanager
def wandb_callback(run: RunConfig, out: Path) -> Iterator[keras.callbacks.Callback]:
    """Yields a callback that logs to Weights & Biases; its environment variables, such as `WANDB_MODE`, work."""
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    project = os.environ.get("WANDB_PROJECT", PROJECT)
    with wandb.init(project=project, name=out.absolute().name, dir=str(out), config=settings(run)):
        yield WandbMetricsLogger(log_freq=run.log_steps)


@contextlib.contextmanager
def mlflow_callback(run: RunConfig, out: Path) -> Iterator[keras.callbacks.Callback]:
    """Yields a callback that logs to MLflow: to `MLFLOW_TRACKING_URI`, else to `mlruns` in the run's directory."""
    import mlflow

    if not mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri((out / "mlruns").absolute().as_uri())
    with mlflow.start_run(run_name=out.absolute().name) as started:
        mlflow.log_params(settings(run))
        yield mlflow.keras.MlflowCallback(started, log_every_epoch=False, log_every_n_steps=run.log_steps)


TRACKERS: dict[str, Callable] = {"wandb": wandb_callback, "mlflow": mlflow_callback}


def settings(run: RunConfig) -> dict:
    """Returns the settings that are not None, those from the recipe included."""
    return {name: value for name, value in dataclasses.asdict(run).items() if value is not None}


def check_trackers(run: RunConfig) -> None:
    """Raises MissingExtraError if the library of one of the run's trackers is not installed."""
    for name in run.trackers or ():
        if name in TRACKERS:
            require(name, extra=name, purpose=f"the setting trackers names {name}")


@contextlib.contextmanager
def tracking(run: RunConfig, out: Path) -> Iterator[list[keras.callbacks.Callback]]:
    """Yields the callbacks of the run's trackers, and closes them when the context ends."""
    with contextlib.ExitStack() as stack:
        wanted = [TRACKERS[name] for name in run.trackers or () if name in TRACKERS]
        yield [stack.enter_context(each(run, out)) for each in wanted]

"""Where a run is followed beside its own directory: Weights & Biases and MLflow, by their own Keras callbacks.

TensorBoard's events are always written (`history.Events`), which needs none of the two.
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
    """Logs to Weights & Biases; `WANDB_MODE=offline`, `WANDB_PROJECT` and the like work as its documentation says."""
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    project = os.environ.get("WANDB_PROJECT", PROJECT)
    with wandb.init(project=project, name=out.absolute().name, dir=str(out), config=settings(run)):
        yield WandbMetricsLogger(log_freq=run.log_steps)


@contextlib.contextmanager
def mlflow_callback(run: RunConfig, out: Path) -> Iterator[keras.callbacks.Callback]:
    """Logs to MLflow, where `MLFLOW_TRACKING_URI` says, else to `mlruns` in the run's directory."""
    import mlflow

    if not mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri((out / "mlruns").absolute().as_uri())
    with mlflow.start_run(run_name=out.absolute().name) as started:
        mlflow.log_params(settings(run))
        yield mlflow.keras.MlflowCallback(started, log_every_epoch=False, log_every_n_steps=run.log_steps)


TRACKERS: dict[str, Callable] = {"wandb": wandb_callback, "mlflow": mlflow_callback}


def settings(run: RunConfig) -> dict:
    """The settings that a run was given, or took from its recipe."""
    return {name: value for name, value in dataclasses.asdict(run).items() if value is not None}


def check_trackers(run: RunConfig) -> None:
    """Raises MissingExtraError where a library is missing that the run is to be followed by."""
    for name in run.trackers or ():
        if name in TRACKERS:
            require(name, extra=name, purpose=f"the setting trackers names {name}")


@contextlib.contextmanager
def tracking(run: RunConfig, out: Path) -> Iterator[list[keras.callbacks.Callback]]:
    """The callbacks of the run's trackers, closed when the block ends."""
    with contextlib.ExitStack() as stack:
        wanted = [TRACKERS[name] for name in run.trackers or () if name in TRACKERS]
        yield [stack.enter_context(each(run, out)) for each in wanted]

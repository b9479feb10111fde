"""Writes a tiny VQA data set with pictures and a tiny ViLT with dropout, and runs `tfvl train` on them.

As a script it trains, and ends at a step as in a power cut: `support/runs.py ROOT OUT STEP`.
"""

import csv
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from support import datasets
from support.checkpoint import save_tiny
from tfvl.training.run import checkpoint
from tfvl.training.run.settings import RunConfig
from tfvl.training.run.trainer import Listener, train

QUESTIONS = 16
DROPOUT = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2}


class PowerCut(BaseException):
    """Ends a run between two steps; as a BaseException, nothing in the run handles it."""


def write_all(root: Path) -> Path:
    """Writes questions, pictures and the model into `root`."""
    for split in ("train", "val"):
        datasets.write_vqa(root / "data", QUESTIONS, split)
        datasets.write_images(root / "data" / "images", datasets.vqa_images(QUESTIONS, split))
    save_tiny(root / "model", id2label=dict(enumerate(datasets.ANSWERS)), num_hidden_layers=1, **DROPOUT)
    return root


def settings(root: Path, **changes) -> RunConfig:
    """Returns settings of a run: four batches in an epoch, each with a row in the history, each second a checkpoint."""
    few = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "log_steps": 1, "checkpoint_steps": 2, "workers": 1}
    return RunConfig(**{"task": "vqa", "data": str(root / "data"), "model": str(root / "model")} | few | changes)


def train_until(step: int, run: RunConfig, out: Path) -> None:
    """Trains, and ends after a step like a killed process, which writes nothing any more."""

    def cut(done: int, total: int) -> None:
        if done == step:
            raise PowerCut

    try:
        train(run, out, listener=Listener(step=cut))
    except PowerCut:
        return
    raise AssertionError(f"the run has no step {step}")


def state_of(out: Path) -> tuple[dict, dict]:
    """Returns all variables of a run's last checkpoint, and its rows without the time."""
    saved = checkpoint.last(out / "checkpoints")
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in saved.state["rows"]]
    return saved.arrays, rows


def assert_same_run(out: Path, other: Path) -> None:
    """Asserts that every variable, every row of the history and both models are the same, to the last bit."""
    (arrays, rows), (expected, expected_rows) = state_of(out), state_of(other)
    assert arrays.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays[name], value, err_msg=name)
    assert rows == expected_rows
    assert history(out) == history(other)
    for name in ("best", "last"):
        weights, others = (load_file(each / name / "model.safetensors") for each in (out, other))
        assert all(np.array_equal(weights[key], others[key]) for key in others)


def history(out: Path) -> list[dict[str, str]]:
    with open(out / "history.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


if __name__ == "__main__":
    root, out, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

    def announce(done: int, total: int) -> None:
        if done == last:
            (root / "reached").touch()
            time.sleep(3600)  # until it is killed

    train(settings(root), out, listener=Listener(step=announce))

"""Computes the outputs of every class on a Keras backend, before and after ten steps of training.

    KERAS_BACKEND=jax python -m support.backends DIRECTORY CLASS...

reads the checkpoints that `save` has written into the directory and writes the results beside them.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import tfvl
from support.classes import BARE, CLASSES, dataset, flat, small_model, training_example

STEPS = 10


def save(directory: Path) -> None:
    """Writes a checkpoint for each class."""
    for head in CLASSES:
        small_model(head).save_pretrained(directory / head)


def results(head: str, directory: Path) -> dict[str, np.ndarray]:
    """Returns outputs by name, with the prefix "before/" or "after/" the training."""
    model = getattr(tfvl, head).from_pretrained(directory / head)
    inputs, _ = training_example(head)
    if head == "ViltModel":  # whose hidden states of padding stand elsewhere where all shapes are static
        inputs = inputs | {"pixel_mask": np.ones_like(inputs["pixel_mask"])}
    before = outputs_of(model, inputs)
    # not Adam, which makes a whole step of the rounding error of a gradient that is zero
    model.compile(keras.optimizers.SGD(1e-2), loss=dict.fromkeys(BARE.get(head, ()), "mse") or None)
    model.fit(dataset(head), epochs=STEPS, verbose=0)
    after = outputs_of(model, inputs)
    return {f"before/{name}": value for name, value in before.items()} | {
        f"after/{name}": value for name, value in after.items()
    }


def outputs_of(model, inputs: dict) -> dict[str, np.ndarray]:
    outputs = model(inputs)
    return flat(keras.tree.map_structure(keras.ops.convert_to_numpy, outputs))


if __name__ == "__main__":
    directory, name = Path(sys.argv[1]), keras.backend.backend()
    for head in sys.argv[2:]:
        np.savez(directory / f"{head}.{name}.npz", **results(head, directory))

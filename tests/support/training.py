"""Trains without a graph, which for tiny models takes longer to make than to run."""

import numpy as np
import tensorflow as tf

from support.classes import dataset, difference

# One head of each family: soft targets, labels as a dict, and classes.
HEADS = ["ViltForQuestionAnswering", "VisualBertForPreTraining", "LxmertForQuestionAnswering"]


def example(head: str) -> tuple:
    """Makes inputs and labels of three rows, as tensors, in the form that `fit` takes."""
    return next(iter(dataset(head)))


def rows(batch, chosen: list[int]):
    """Takes the chosen rows of every tensor."""
    return tf.nest.map_structure(lambda value: tf.gather(value, chosen), batch)


def train(model, head: str, steps: int = 1) -> list[float]:
    """Trains a compiled model on the same batch; returns the loss before each step."""
    losses = []
    for _ in range(steps):
        model.reset_metrics()
        losses.append(float(model.train_step(example(head))["loss"]))
    return losses


def values(model) -> dict[str, np.ndarray]:
    """Copies every weight, by its name in the porting tables."""
    return {name: np.array(variable.numpy()) for name, variable in model.weight_names().items()}


def worst(ours: dict, theirs: dict) -> float:
    """Returns the largest `difference` of weights by name."""
    assert ours.keys() == theirs.keys()
    return max(difference(value, theirs[name]) for name, value in ours.items())

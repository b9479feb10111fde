"""Gives a model's layers another form for an export: other operations, with weights made of theirs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf


@contextmanager
def in_form(model, form_of: Callable[[Any], Any], *options) -> Iterator[list[tf.Variable]]:
    """A context in which functions traced from `model` have another form; yields the variables made for that form.

    Weights stay variables, which are stored once; constants would be in the graph, of which exports make many copies.

    Args:
        model: a model of tfvl, which has its own form again afterwards.
        form_of: maps the class of a layer to the class that replaces it, or to None if there is no other form. The new
            class yields names and arrays in `weights_made(*options)`; as variables, these are its attribute `made`.
    """
    layers: list[Any] = [layer for layer in model._flatten_layers() if form_of(layer.__class__)]
    originals = [(layer.__class__, set(vars(layer))) for layer in layers]
    try:
        for layer in layers:
            layer.made, layer.__class__ = {}, form_of(layer.__class__)
            layer.made |= {name: tf.Variable(array, trainable=False) for name, array in layer.weights_made(*options)}
        yield [variable for layer in layers for variable in layer.made.values()]
    finally:
        for layer, (original, attributes) in zip(layers, originals, strict=True):
            layer.__class__ = original
            for name in vars(layer).keys() - attributes:
                vars(layer).pop(name)

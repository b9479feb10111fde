"""Gives a model's layers another form for an export: other operations, with weights made of theirs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf


@contextmanager
def in_form(model, form_of: Callable[[Any], Any], *options) -> Iterator[list[tf.Variable]]:
    """Within it, a function traced from `model` has that form; yields the variables made for that form.

    Weights stay variables, which are stored once. Constants lie in the graph, of which exports make many copies.

    Args:
        model: a model of tfvl. It is itself again afterwards.
        form_of: the class that takes the place of a layer's class, None for layers that have no other form. Of its
            `weights_made(*options)`, names and arrays, come the variables in its layers' attribute `made`, by name.
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

"""Makes the state of a model's optimizer before the training step becomes a graph.

Keras on TensorFlow makes it inside the graph of the first step, and a graph that makes variables is traced twice. Here
`compile` makes it, for the weights that are trained then; if other weights are trained when `fit` begins, it is made
anew.
"""

import contextlib
from typing import TYPE_CHECKING, TypeAlias

import keras

from tfvl.modeling import replicas

# optimizers whose state starts from the weights' values, or contains optimizers; it is made when `fit` begins
LATE = frozenset({"ScheduleFreeAdamW", "MultiOptimizer"})

if TYPE_CHECKING:
    Base: TypeAlias = keras.Model
else:
    Base = object


class StateBeforeSteps(Base):
    """A model whose optimizer has its state before the first step; it stands before `keras.Model` among the bases."""

    def make_train_function(self, force=False):
        make_state(self)
        return super().make_train_function(force)


def make_state_at_compile(model) -> None:
    """Calls `make_state`, but ignores errors, since what is trained may change until `fit`, which raises them."""
    if model.optimizer is None or any(kind.__name__ in LATE for kind in type(innermost(model.optimizer)).__mro__):
        return
    with contextlib.suppress(ValueError):
        make_state(model)


def make_state(model) -> None:
    """Builds the optimizer of a compiled model whose layers are built, for the weights that are trained now.

    A state that was made here for other weights is replaced, unless steps were taken with it. Where a layer is not
    built, it is only taken away: the first step makes the state of all weights.
    """
    optimizer, variables = model.optimizer, model.trainable_variables
    if optimizer is None:
        return
    if optimizer.built:
        if list(map(id, optimizer._trainable_variables)) == list(map(id, variables)) or not is_fresh(optimizer):
            return
        forget(optimizer)
    if not variables or not all(layer.built for layer in model._flatten_layers(False)):
        return
    for part in parts(optimizer):
        part.variables_without_state = len(part._variables)
    with replicas.scope_of(model):
        optimizer.build(variables)


def innermost(optimizer):
    """Returns the optimizer within a `LossScaleOptimizer`, or the given one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def parts(optimizer) -> set:
    return {optimizer, innermost(optimizer)}


def is_fresh(optimizer) -> bool:
    """Returns whether the state was made by `make_state` and no step was taken with it."""
    return hasattr(optimizer, "variables_without_state") and replicas.own_value(innermost(optimizer)._iterations) == 0


def forget(optimizer) -> None:
    """Removes the state that `make_state` made."""
    for part in parts(optimizer):
        for variable in part._variables[part.variables_without_state :]:
            part._tracker.untrack(variable)
        part._trainable_variables_indices = {}
        part.built = False

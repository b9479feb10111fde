"""Adds up losses, gradients and metrics in `fit` under a `tf.distribute` strategy, so that replicas train as one.

A replica is one device of one machine; each gets its own rows. With a single one, nothing here has an effect. All this
is missing in Keras 3: its step takes the mean of scalars over an axis that they do not have (keras-team/keras#20585),
averages the replicas' means regardless of their weights, clips and accumulates gradients before they are added up, and
shows metrics of one replica.
"""

import contextlib
from collections.abc import Iterable, Iterator

import keras
import numpy as np
from keras import ops, tree


def strategy_in_use():
    """Returns the `tf.distribute` strategy in scope if it has several replicas, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    return strategy if strategy.num_replicas_in_sync > 1 else None


def scope_of(model) -> contextlib.AbstractContextManager:
    """Returns the scope of the strategy under which the model was made."""
    strategy = getattr(model, "_distribute_strategy", None)
    return strategy.scope() if strategy else contextlib.nullcontext()


def replica():
    """Returns the current `tf.distribute.ReplicaContext` if there are several replicas, else None."""
    if strategy_in_use() is None:
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()


def on_several_machines(strategy) -> bool:
    if strategy is None:
        return False
    import tensorflow as tf

    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return several and strategy.extended._in_multi_worker_mode()  # as Keras' step asks


# --- the loss -------------------------------------------------------------------------------------------------------


def summed(values):
    """Adds a tensor, or each of a list of tensors, up over all replicas."""
    context = replica()
    return values if context is None else context.all_reduce("SUM", values)


def shared_loss(share):
    """Converts a replica's share of the loss to the value that Keras' training step expects.

    Its value is the whole loss over the number of replicas, on each of them: Keras multiplies it by that number for
    the progress bar. Its gradient is that of the share: gradients are added up.
    """
    context = replica()
    if context is None:
        return share
    return share + ops.stop_gradient(summed(share) / context.num_replicas_in_sync - share)


def portion(value):
    """Returns a replica's portion of a term that each of them computes as a whole, such as a penalty on weights."""
    context = replica()
    return value if context is None else value / context.num_replicas_in_sync


# --- the optimizer and dropout --------------------------------------------------------------------------------------


def prepare(model) -> None:
    """Makes a compiled model's optimizer add up all replicas' gradients first, and its dropout differ between them.

    Then the gradients are the same everywhere, and so is all that follows from them: clipping, accumulation, loss
    scaling. Updates need no communication, so that they may be conditional, as accumulation and loss scaling make them.

    Raises:
        ValueError: the optimizer was not made under the model's strategy, or XLA is asked for.
    """
    import tensorflow as tf

    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # if it is a LossScaleOptimizer
    if inner._distribution_strategy is not model.distribute_strategy:
        raise ValueError("The optimizer was made outside the model's strategy; make it within strategy.scope() too.")
    if model.jit_compile:
        raise ValueError("jit_compile=True does not work with several replicas; leave it out.")
    for layer in model._flatten_layers():
        if hasattr(layer, "seed_generator"):
            draw_apart(layer.seed_generator)
    if inner._all_reduce_sum_gradients is list:
        return  # the model is compiled again with the same optimizer
    apply = optimizer.apply

    def apply_sums(gradients, trainable_variables=None):
        gradients = list(gradients)
        there = [number for number, gradient in enumerate(gradients) if gradient is not None]
        sums = summed([ops.convert_to_tensor(gradients[number]) for number in there])
        for number, value in zip(there, sums, strict=True):
            gradients[number] = value
        return apply(gradients, trainable_variables)

    optimizer.apply = apply_sums
    inner._all_reduce_sum_gradients = list  # does nothing more: they are summed already
    for variable in (optimizer._iterations, inner._iterations):
        variable.value._aggregation = tf.VariableAggregation.NONE  # the first replica need not tell the others
    model.distribute_strategy.extended._use_merge_call = lambda: False


def draw_apart(generator: keras.random.SeedGenerator) -> None:
    """Makes a generator, whose state all replicas share, give each other numbers; the first gets the original ones."""
    if "next" in vars(generator):
        return
    draw = generator.next

    def draw_here(ordered=True):
        seed, context = draw(ordered), replica()
        if context is None:
            return seed
        number = ops.cast(context.replica_id_in_sync_group, seed.dtype)
        return seed + ops.stack([number, ops.zeros_like(number)])

    generator.next = draw_here


# --- Keras' step ----------------------------------------------------------------------------------------------------


def for_keras(logs):
    """Reshapes a step's scalars to vectors of one, over which Keras takes the mean, if there are several machines."""
    if not on_several_machines(strategy_in_use()):
        return logs
    return tree.map_structure(lambda value: ops.reshape(value, (1,)), logs)


def first_batch(strategy, iterator):
    """Returns the first batch of the first replica on this machine, with whose shapes the user's metrics are built."""
    for _, _, batches in iterator:
        return tree.map_structure(lambda value: strategy.experimental_local_results(value)[0], next(batches))


# --- metrics --------------------------------------------------------------------------------------------------------


def sums_of(variables: Iterable[keras.Variable]) -> keras.StatelessScope:
    """Returns a scope in which variables, of which each replica has its own copy, have the sum of all copies.

    From then on the first replica's copy holds the sum and the others are 0, so that the first machine, the chief, can
    write it into a checkpoint without asking the others.
    """
    context, sums = replica(), []
    for variable in variables:
        value = summed(ops.convert_to_tensor(variable))
        variable.assign(ops.where(context.replica_id_in_sync_group == 0, value, ops.zeros_like(value)))
        sums.append((variable, value))
    return keras.StatelessScope(state_mapping=sums)


def own_value(variable) -> np.ndarray:
    """Returns a variable's value on this machine, without asking others; a metric's is what `sums_of` left here."""
    values = getattr(variable.value, "values", None) if hasattr(variable, "value") else None
    return np.asarray(variable if values is None else values[0])


@contextlib.contextmanager
def alone(model) -> Iterator[None]:
    """A context in which a model under a strategy predicts on this machine only, whatever the others do."""
    strategy, function = model._distribute_strategy, model.predict_function
    model._distribute_strategy, model.predict_function = None, getattr(model, "_predict_alone", None)
    try:
        yield
    finally:
        model._predict_alone = model.predict_function
        model._distribute_strategy, model.predict_function = strategy, function

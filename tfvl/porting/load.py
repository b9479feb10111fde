"""Fills a model's variables from a checkpoint: everything is checked first, then one variable at a time is read."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tfvl.errors import CheckpointError
from tfvl.porting.plan import Fill, Plan, Refit, make_plan, warning_of
from tfvl.porting.rules import Rule
from tfvl.porting.tensors import Checkpoint, Tensor

WORKERS = 2  # threads: reading, checking and transposing wait for memory more than for a processor


@dataclass(frozen=True)
class LoadReport:
    """The result of a load: the plan that it followed, and the number of bytes that it read."""

    plan: Plan
    nbytes: int

    def rows(self) -> list[tuple[str, int]]:
        """Returns the counts for a summary table, without those that are zero."""
        plan = self.plan
        fused = sum(len(fill.tensors) for fill in plan.fills if len(fill.tensors) > 1)
        counts = {
            "tensors read": sum(len(fill.tensors) for fill in plan.fills),
            "of these fused": fused,
            "variables filled": len(plan.fills),
            "variables resized": len(plan.refitted),
            "variables newly initialised": len(plan.initialised),
            "tensors tied or stored twice": len(plan.repeated),
            "old buffers dropped": len(plan.dropped),
            "tensors of other heads left out": len(plan.left_out),
        }
        return [(name, count) for name, count in counts.items() if count]


@contextmanager
def uninitialised_variables() -> Iterator[None]:
    """A context in which created variables get a shape, but no value; `load_weights` then assigns it."""
    import keras
    from keras.src.backend.common import global_state

    before = list(global_state.get_global_attribute("uninitialized_variables") or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:  # or keras would initialise them at the end of the next scope
        global_state.set_global_attribute("uninitialized_variables", before)


def load_weights(
    model,
    checkpoint: Checkpoint,
    *,
    ignore_mismatched_sizes: bool = False,
    progress: Callable[[int, int], None] | None = None,
    others: Iterable[Rule] = (),
    refits: Mapping[str, Refit] | None = None,
) -> LoadReport:
    """Assigns the tensors of a checkpoint to the variables of `model`, whether or not these have values already.

    A variable that the checkpoint lacks keeps its value, or gets one from its initializer if it has none.

    Args:
        model: a model with `weight_names`, `weight_rules` and `base_model_prefix`.
        checkpoint: from `open_checkpoint`.
        ignore_mismatched_sizes: initialise a variable anew if its shape differs from the checkpoint's.
        progress: called after each variable with the number of bytes read so far, and of all bytes to be read.
        others, refits: as `make_plan` takes them.

    Warns:
        UserWarning: once, naming the weights that are initialised anew or resized, and those that are left out.

    Raises:
        CheckpointError: the checkpoint does not fit, and the message lists all misfits; or a weight is not finite.
    """
    variables = model.weight_names()
    shapes = {path: tuple(variable.shape) for path, variable in variables.items()}
    name = type(model).__name__
    rules, prefix = model.weight_rules, model.base_model_prefix
    plan = make_plan(checkpoint, shapes, rules, prefix, name, ignore_mismatched_sizes, others, refits)
    total = sum(tensor.nbytes for fill in plan.fills for tensor in fill.tensors)
    done = 0
    fills = sorted(plan.fills, key=lambda fill: -math.prod(shapes[fill.path]))  # largest first, while memory is free

    def value_of(fill: Fill):
        return _value(fill, variables[fill.path].dtype, shapes[fill.path])

    with ThreadPoolExecutor(WORKERS) as pool:
        for fill, value in zip(fills, pool.map(value_of, fills), strict=True):
            _set_value(variables[fill.path], value)
            done += sum(tensor.nbytes for tensor in fill.tensors)
            if progress:
                progress(done, total)
    for variable in model.variables:  # those of missing heads, and the seeds of dropout
        if variable._value is None:
            variable._deferred_initialize()
    message = warning_of(plan, checkpoint.path, name)
    if message:
        warnings.warn(message, stacklevel=4)
    return LoadReport(plan, total)


def _value(fill: Fill, dtype: str, shape: tuple[int, ...]):
    """Computes the value of a variable of element type `dtype` and this shape, as a tensor of the backend."""
    from keras import ops

    arrays = [_finite(tensor, dtype) for tensor in fill.tensors]
    if fill.refit:
        arrays = [fill.refit(array, shape) for array in arrays]
    sources = [ops.convert_to_tensor(_GivenAway(array)) for array in arrays]
    value = ops.cast(fill.rule.transform.forward(sources, ops), dtype)
    if dtype == "float16" and not ops.all(ops.isfinite(value)):
        raise CheckpointError(f"{fill.tensors[0].path}: {fill.tensors[0].name} has values too large for float16.")
    return value


class _GivenAway:
    """Wraps an array that nothing else writes to, so that the backend may use its memory without a copy."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.array


def _finite(tensor: Tensor, dtype: str) -> np.ndarray:
    """Reads a tensor as float32, or as float64 if that is the variable's dtype.

    Raises CheckpointError for NaN or infinite values.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.asarray(tensor.read(), np.float64 if dtype == "float64" else np.float32, order="C")
        flat = array.reshape(-1)
        suspect = not np.isfinite(np.dot(flat, flat))  # fast; large but finite values may overflow here too
    bad = np.flatnonzero(~np.isfinite(flat)) if suspect else np.empty(0, int)
    if len(bad):
        raise CheckpointError(
            f"{tensor.path}: {tensor.name} has {len(bad)} values that are NaN or infinite, "
            f"the first at {tuple(map(int, np.unravel_index(bad[0], array.shape)))}."
        )
    return array


def _set_value(variable, value) -> None:
    """Assigns a value to a variable; a variable without one is created with it."""
    if variable._value is None:
        variable._initialize(value)
        variable._initializer = None
    else:
        variable.assign(value)

"""Checks the inputs and labels of a model; each error is one sentence with the value and what was expected."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfvl.modeling.losses import IGNORED, without_ones


def check_shape(name: str, value, expected: tuple) -> None:
    """Raises ValueError if a tensor does not have the shape `expected`, in which a name or None allows any size."""
    shape = tuple(value.shape)
    known = (pair for pair in zip(shape, expected, strict=False) if None not in pair)
    if len(shape) != len(expected) or any(isinstance(size, int) and size != own for own, size in known):
        wanted = ", ".join("?" if size is None else str(size) for size in expected)
        raise ValueError(f"{name} has shape {shape}, expected ({wanted}{',' * (len(expected) == 1)}).")


def check_classes(name: str, labels, count: int) -> None:
    """Raises ValueError if a label is neither one of `count` classes nor -100; does nothing inside a graph."""
    wrong = _outside(labels, 0, count - 1, IGNORED)
    if len(wrong):
        raise ValueError(f"{name} holds {wrong[0]}, expected classes 0 … {count - 1}, or {IGNORED} for none.")


def check_labels(name: str, labels, shape: tuple, count: int) -> None:
    """Checks the shape and classes of labels, whose further axes of size 1 are dropped, as upstream does."""
    check_shape(name, without_ones(labels, len(shape)), shape)
    check_classes(name, labels, count)


def check_given(inputs: Mapping, name: str, *expected: int | str | None) -> None:
    """Checks the shape of the input `name`, if it is given."""
    if name in inputs:
        check_shape(name, inputs[name], expected)


def check_rows(inputs: Mapping, name: str, *expected: int | str | None) -> None:
    """Checks the shape of the input `name`, if it is given; a single row may stand for the whole batch."""
    if name in inputs and len(inputs[name].shape) and inputs[name].shape[0] == 1:
        expected = (1, *expected[1:])
    check_given(inputs, name, *expected)


def check_exactly_one(inputs: Mapping, *names: str) -> str:
    """Returns the only one of `names` that is given. Raises ValueError if none is, or more than one."""
    given = [name for name in names if name in inputs]
    if len(given) != 1:
        raise ValueError(f"Give exactly one of {' and '.join(names)}; got {' and '.join(given) or 'neither'}.")
    return given[0]


def check_range(
    inputs: Mapping, name: str, low: float, high: float | None, meaning: str, also: int | None = None
) -> None:
    """Raises ValueError if a given input holds a value outside low … high; does nothing inside a graph.

    Args:
        inputs: the model's inputs.
        name: name of the input.
        low, high: the smallest and the largest value; None: not known yet, so that nothing is checked.
        meaning: says in the error what the values are.
        also: a value outside the range that is allowed, such as -100.
    """
    wrong: Sequence = () if high is None else _outside(inputs.get(name), low, high, also)
    if len(wrong):
        extra = "" if also is None else f" or {also}"
        raise ValueError(f"{name} holds {wrong[0]}, expected {low} to {high}{extra}: {meaning}.")


def check_ids(inputs: Mapping, name: str, count: int, meaning: str) -> None:
    """Raises ValueError if a given input does not hold integers 0 … count - 1, which are rows of a table.

    TensorFlow's own error is a page about the layer that looks them up (on a GPU it reads zeros instead). Inside a
    graph nothing is checked, because Keras and TensorFlow trace it with tensors of their own, all of one dtype.
    """
    value = inputs.get(name)
    if value is None or not _is_known(value):
        return
    dtype = getattr(value.dtype, "name", str(value.dtype))
    if "int" not in dtype:
        raise ValueError(f"{name} holds {dtype} values, expected integers 0 to {count - 1}: {meaning}.")
    check_range(inputs, name, 0, count - 1, meaning)


def check_text_ids(inputs: Mapping, config) -> None:
    """Checks the ids of a text's words and token types, by `check_ids`."""
    check_ids(inputs, "input_ids", config.vocab_size, "words of the vocabulary")
    check_ids(inputs, "token_type_ids", config.type_vocab_size, "token types")


def _outside(value, low: float, high: float, also: int | None):
    """Returns the values that are neither in low … high nor `also`; empty inside a graph."""
    if not _is_known(value):
        return ()
    values = np.asarray(value)
    return values[((values < low) | (values > high)) & (values != also)]


def _is_known(value) -> bool:
    """Returns whether a tensor has values, as it does outside of a graph."""
    return isinstance(value, np.ndarray) or hasattr(value, "numpy")

"""Checks of what a caller passes to a model; each error is one sentence with the value and what was expected."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfvl.modeling.losses import IGNORED, without_ones


def check_shape(name: str, value, expected: tuple) -> None:
    """Raises ValueError where the tensor's shape is another; a name or None in `expected` stands for any size."""
    shape = tuple(value.shape)
    known = (pair for pair in zip(shape, expected, strict=False) if None not in pair)
    if len(shape) != len(expected) or any(isinstance(size, int) and size != own for own, size in known):
        wanted = ", ".join("?" if size is None else str(size) for size in expected)
        raise ValueError(f"{name} has shape {shape}, expected ({wanted}{',' * (len(expected) == 1)}).")


def check_classes(name: str, labels, count: int) -> None:
    """Raises ValueError where a label is neither one of `count` classes nor -100; inside a graph nothing is known."""
    wrong = _outside(labels, 0, count - 1, IGNORED)
    if len(wrong):
        raise ValueError(f"{name} holds {wrong[0]}, expected classes 0 … {count - 1}, or {IGNORED} for none.")


def check_labels(name: str, labels, shape: tuple, count: int) -> None:
    """`check_shape` and `check_classes`; axes of one beyond are dropped, as upstream drops them."""
    check_shape(name, without_ones(labels, len(shape)), shape)
    check_classes(name, labels, count)


def check_given(inputs: Mapping, name: str, *expected: int | str | None) -> None:
    """`check_shape` of the input called `name`, where it is given."""
    if name in inputs:
        check_shape(name, inputs[name], expected)


def check_rows(inputs: Mapping, name: str, *expected: int | str | None) -> None:
    """As `check_given`, but one row may stand for all."""
    if name in inputs and len(inputs[name].shape) and inputs[name].shape[0] == 1:
        expected = (1, *expected[1:])
    check_given(inputs, name, *expected)


def check_exactly_one(inputs: Mapping, *names: str) -> str:
    """The one of `names` that is given. Raises ValueError where there is none, or more than one."""
    given = [name for name in names if name in inputs]
    if len(given) != 1:
        raise ValueError(f"Give exactly one of {' and '.join(names)}; got {' and '.join(given) or 'neither'}.")
    return given[0]


def check_range(
    inputs: Mapping, name: str, low: float, high: float | None, meaning: str, also: int | None = None
) -> None:
    """Raises ValueError where the input is given and holds a value outside low … high; in a graph nothing is known.

    Args:
        inputs: the model's inputs.
        name: which of them.
        low, high: the smallest and the largest value; None: not known yet, so that nothing is checked.
        meaning: what the values are, for the sentence.
        also: a value outside the range that is allowed, such as -100.
    """
    wrong: Sequence = () if high is None else _outside(inputs.get(name), low, high, also)
    if len(wrong):
        extra = "" if also is None else f" or {also}"
        raise ValueError(f"{name} holds {wrong[0]}, expected {low} to {high}{extra}: {meaning}.")


def check_ids(inputs: Mapping, name: str, count: int, meaning: str) -> None:
    """Raises ValueError where the input is given and is not of integers 0 … count - 1, which number rows of a table.

    TensorFlow would say so in a page about the layer that looks them up (on a GPU it would read zeros instead). What a
    graph is made with is not judged: Keras and TensorFlow make it with tensors of their own, all of one dtype.
    """
    value = inputs.get(name)
    if value is None or not _is_known(value):
        return
    dtype = getattr(value.dtype, "name", str(value.dtype))
    if "int" not in dtype:
        raise ValueError(f"{name} holds {dtype} values, expected integers 0 to {count - 1}: {meaning}.")
    check_range(inputs, name, 0, count - 1, meaning)


def check_text_ids(inputs: Mapping, config) -> None:
    """`check_ids` of a text's words and token types."""
    check_ids(inputs, "input_ids", config.vocab_size, "words of the vocabulary")
    check_ids(inputs, "token_type_ids", config.type_vocab_size, "token types")


def _outside(value, low: float, high: float, also: int | None):
    """The values that are neither in low … high nor `also`; none inside a graph, where nothing is known."""
    if not _is_known(value):
        return ()
    values = np.asarray(value)
    return values[((values < low) | (values > high)) & (values != also)]


def _is_known(value) -> bool:
    """Whether a tensor has values already, and is none that a graph is made with."""
    return isinstance(value, np.ndarray) or hasattr(value, "numpy")

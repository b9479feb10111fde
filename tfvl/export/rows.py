"""Rows of a request and their statuses: "" or what is wrong with a row. Tensors of unknown size, core ops only."""

from collections.abc import Callable

import tensorflow as tf


def only(rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Keeps `values` where `rows`, which has their leading axes, is true; others become blank ("" or 0)."""
    blank = "" if values.dtype == tf.string else tf.zeros([], values.dtype)
    for _ in range(values.shape.rank - rows.shape.rank):
        rows = tf.expand_dims(rows, -1)
    return tf.where(rows, values, blank)


def first_problem(*statuses: tf.Tensor) -> tf.Tensor:
    """Returns, for each row, the first of several statuses (N,) that is not ""."""
    found, *others = statuses
    for other in others:
        found = tf.where(found == "", other, found)
    return found


def first_of_items(name: str, statuses: tf.Tensor) -> tf.Tensor:
    """Returns the status (N,) of rows with several items: that of the first bad one of the items' statuses (N, items).

    It names the item's index: `name: what is wrong` becomes `name[2]: what is wrong`.
    """
    index = tf.argmax(tf.cast(statuses != "", tf.int32), axis=1)
    status = tf.gather(statuses, index, batch_dims=1)
    problem = tf.strings.regex_replace(status, f"^{name}", "")
    return tf.where(status == "", "", tf.strings.join([f"{name}[", tf.strings.as_string(index), "]", problem]))


def not_empty(value: tf.Tensor, axes: int) -> tf.Tensor:
    """Appends a blank along each of the first `axes` axes that is empty, which a model's inputs may not be."""
    missing = tf.maximum(1 - tf.shape(value)[:axes], 0)
    padding = tf.pad(missing[:, None], [[0, value.shape.rank - axes], [1, 0]])  # (rank, 2)
    blank = "" if value.dtype == tf.string else tf.zeros([], value.dtype)
    return tf.ensure_shape(tf.pad(value, padding, constant_values=blank), value.shape)


def once_each(function: Callable, values: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Computes `function(values)` once for each distinct string: several questions on one image decode it once.

    Args:
        function: maps strings (U,) to several tensors (U, …).
        values: tf.string of any shape, not empty; the results begin with this shape.
    """
    different, place = tf.unique(tf.reshape(values, [-1]))
    place = tf.ensure_shape(tf.reshape(place, tf.shape(values)), values.shape)
    return tuple(tf.gather(output, place) for output in function(different))

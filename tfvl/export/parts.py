"""The common form of a request's parts: text, image, regions, choices and phrases are a `Part` each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class ModelInput(NamedTuple):
    """An input of the model.

    Attributes:
        dtype: of its values.
        axes: behind the rows: a size, or what is counted along the axis, by the names of `tflite.sizes.Sizes`.
    """

    dtype: tf.DType
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class Part:
    """The inputs of the signatures for one thing that a head reads.

    Attributes:
        raw: name to spec of the inputs of `serving_default`. No string input is empty along any axis when `encode` gets
            it.
        tensors: the model's inputs, by name.
        encode: from the raw inputs and what the parts before this one made of them to the model's inputs, and one or
            more statuses (N,) of the rows: "" or what is wrong with it. A row with a status holds harmless values and
            changes no other row.
        example: one row of `raw`, for the warm-up request.
    """

    raw: dict[str, tf.TensorSpec]
    tensors: dict[str, ModelInput]
    encode: Callable[[dict, dict], tuple]
    example: dict[str, np.ndarray]


def spec(dtype: tf.DType, name: str, *shape: int | None) -> tf.TensorSpec:
    """Returns a spec for any number of rows of a shape."""
    return tf.TensorSpec([None, *shape], dtype, name)

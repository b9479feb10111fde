"""The common form of a request's parts: text, image, regions, choices and phrases are a `Part` each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class ModelInput(NamedTuple):
    """An input of the model.

    Attributes:
        dtype: the dtype of its values.
        axes: the axes after that of rows: each is a fixed size, or the name of a size in `tflite.sizes.Sizes`.
    """

    dtype: tf.DType
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class Part:
    """The inputs of the signatures for one thing that a head reads.

    Attributes:
        raw: the specs of inputs of `serving_default` by name. No string input is empty along any axis when `encode`
            gets it.
        tensors: the model's inputs by name.
        encode: a function from all raw inputs and the model's inputs of the parts before this one to this part's model
            inputs, and one or more statuses (N,), "" or a sentence that says what is wrong with the row. Such a row
            holds harmless values and changes no other row.
        example: one row of `raw`, for the warm-up request.
    """

    raw: dict[str, tf.TensorSpec]
    tensors: dict[str, ModelInput]
    encode: Callable[[dict, dict], tuple]
    example: dict[str, np.ndarray]


def spec(dtype: tf.DType, name: str, *shape: int | None) -> tf.TensorSpec:
    """Returns a spec for any number of rows of a shape."""
    return tf.TensorSpec([None, *shape], dtype, name)

"""What the signatures of a model take; and texts, which all models take, from raw ones to the model's.

A family's `export.py` makes its `Inputs` of these parts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfvl.export.rows import first_problem

TEXT = ("input_ids", "token_type_ids", "attention_mask")
# Of the warm-up request: a common photograph's size, so that all of the image path runs.
_EXAMPLE_HEIGHT, _EXAMPLE_WIDTH = 480, 640


@dataclass(frozen=True)
class Inputs:
    """What the signatures of a model take.

    Attributes:
        raw: name to spec of the inputs of `serving_default`; `text` is one of them. No string input is empty along any
            axis when `encode` gets it.
        tensors: name to spec of the inputs of `tensors`, which are the model's.
        encode: from a dict as `raw` says to a dict as `tensors` says and the status (N,) of the rows: "" or what is
            wrong with it. A row with a status holds harmless values and changes no other row.
        example: one row of `raw`, for the warm-up request.
    """

    raw: dict[str, tf.TensorSpec]
    tensors: dict[str, tf.TensorSpec]
    encode: Callable[[dict], tuple[dict, tf.Tensor]]
    example: dict[str, np.ndarray]


def spec(dtype: tf.DType, name: str, *shape: int | None) -> tf.TensorSpec:
    """Of rows of a shape."""
    return tf.TensorSpec([None, *shape], dtype, name)


def text_specs(*items: None) -> dict[str, tf.TensorSpec]:
    """Of the tokenizer's outputs (N, [items,] length)."""
    return {name: spec(tf.int32, name, *items, None) for name in TEXT}


def checked_text(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The texts (N,) and their status; "" for one that is not UTF-8."""
    text, status = utf8("text", text)
    return text, first_problem(status, tf.where(is_blank(text), "text: it is empty", ""))


def tokenize(processor, config, *texts: tf.Tensor) -> dict:
    """The tokenizer's dict for texts (N,), or for pairs of them, cut at the model's number of positions."""
    asked = {"padding": True, "truncation": True, "max_length": max_length(processor, config)}
    encoded = processor.tokenizer(*texts, **asked, return_token_type_ids=True, return_attention_mask=True)
    return {name: encoded[name] for name in TEXT}


def max_length(processor, config) -> int:
    return min(processor.tokenizer.model_max_length, config.max_position_embeddings)


def tokens_by_id(tokenizer) -> tuple[str, ...]:
    """The vocabulary; "" for an id that no token has."""
    tokens = tokenizer.all_shown()
    return tuple(tokens.get(index, "") for index in range(max(tokens) + 1))


def utf8(name: str, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Strings of any shape, with "" for those that are not UTF-8, and the status of each."""
    valid = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace") == text
    return tf.where(valid, text, ""), tf.where(valid, "", f"{name}: it is not valid UTF-8")


def is_blank(text: tf.Tensor) -> tf.Tensor:
    """Which strings are empty or white space only."""
    return tf.strings.strip(text) == ""


def example_text(processor) -> np.ndarray:
    return np.array([f"what is the {processor.tokenizer.mask_token} in the picture?"], object)


def example_images(*items: int) -> np.ndarray:
    """One row of encoded images."""
    ramp = np.linspace(0, 255, _EXAMPLE_WIDTH).astype(np.uint8)
    picture = tf.io.encode_jpeg(np.broadcast_to(ramp[:, None], (_EXAMPLE_HEIGHT, _EXAMPLE_WIDTH, 3))).numpy()
    return np.full([1, *items], picture)


def numbered(status: tf.Tensor) -> tf.Tensor:
    """The status (N,) of rows of several images, from theirs (N, images): `image 2: what is wrong with the second`."""
    statuses = tf.unstack(status, axis=1)
    return first_problem(
        *(tf.strings.regex_replace(one, "^image", f"image {number}") for number, one in enumerate(statuses, start=1))
    )

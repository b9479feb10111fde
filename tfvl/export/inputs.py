"""The inputs of each model family: which tensors its signatures take, and how raw ones become the model's.

A function per family in `INPUTS`; nothing here knows a head, but for ViLT's head that takes several images per text.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

_TEXT = ("input_ids", "token_type_ids", "attention_mask")
# Of the warm-up request: a common photograph's size, so that all of the image path runs.
_EXAMPLE_HEIGHT, _EXAMPLE_WIDTH = 480, 640


@dataclass(frozen=True)
class Inputs:
    """What the signatures of a model take.

    Attributes:
        raw: name to spec of the inputs of `serving_default`; `text` is one of them.
        tensors: name to spec of the inputs of `tensors`, which are the model's.
        encode: from a dict as `raw` says to a dict as `tensors` says and the status (N,) of the rows: "" or what is
            wrong with it. A row with a status holds harmless values and changes no other row.
        example: one row of `raw`, for the warm-up request.
    """

    raw: dict[str, tf.TensorSpec]
    tensors: dict[str, tf.TensorSpec]
    encode: Callable[[dict], tuple[dict, tf.Tensor]]
    example: dict[str, np.ndarray]


def vilt(model, processor) -> Inputs:
    """`image` (N,) encoded files, or (N, num_images) for NLVR2's head; `text` (N,) UTF-8."""
    several = "ViltForImagesAndTextClassification" in {base.__name__ for base in type(model).__mro__}
    images = [model.config.num_images] if several else []

    def encode(raw: dict) -> tuple[dict, tf.Tensor]:
        pixel_values, pixel_mask, status = processor.image_processor.decode_and_preprocess_rows(raw["image"])
        statuses = [status]
        if several:
            statuses = [
                tf.strings.regex_replace(one, "^image", f"image {number}")
                for number, one in enumerate(tf.unstack(status, axis=1), start=1)
            ]
        text, text_status = encode_text(raw["text"], processor.tokenizer, model.config.max_position_embeddings)
        return text | {"pixel_values": pixel_values, "pixel_mask": pixel_mask}, first_problem(*statuses, text_status)

    return Inputs(
        raw={"image": _spec(tf.string, "image", *images), "text": _spec(tf.string, "text")},
        tensors={
            **{name: _spec(tf.int32, name, None) for name in _TEXT},
            "pixel_values": _spec(tf.float32, "pixel_values", *images, None, None, model.config.num_channels),
            "pixel_mask": _spec(tf.int32, "pixel_mask", *images, None, None),
        },
        encode=encode,
        example={"image": np.full([1, *images], _example_image()), "text": _example_text(processor.tokenizer)},
    )


# By the `model_type` of the configuration.
INPUTS = {"vilt": vilt}


def encode_text(text: tf.Tensor, tokenizer, positions: int) -> tuple[dict, tf.Tensor]:
    """The tokenizer's dict for the texts (N,), cut at the model's number of positions, and their status."""
    length = min(tokenizer.model_max_length, positions)
    valid = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace") == text
    encoded = tokenizer(tf.where(valid, text, ""), padding=True, truncation=True, max_length=length)
    empty = tf.strings.strip(text) == ""
    status = tf.where(valid, tf.where(empty, "text: it is empty", ""), "text: it is not valid UTF-8")
    return {name: encoded[name] for name in _TEXT}, status


def first_problem(*statuses: tf.Tensor) -> tf.Tensor:
    """The first of several statuses (N,) that is not ""."""
    found, *others = statuses
    for other in others:
        found = tf.where(found == "", other, found)
    return found


def _spec(dtype: tf.DType, name: str, *shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec([None, *shape], dtype, name)


def _example_image() -> bytes:
    ramp = np.linspace(0, 255, _EXAMPLE_WIDTH).astype(np.uint8)
    return tf.io.encode_jpeg(np.broadcast_to(ramp[:, None], (_EXAMPLE_HEIGHT, _EXAMPLE_WIDTH, 3))).numpy()


def _example_text(tokenizer) -> np.ndarray:
    return np.array([f"what is the {tokenizer.mask_token} in the picture?"], object)

"""Converts whatever a caller may pass as texts or ids to tensors or lists."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

Text: TypeAlias = str | bytes | Sequence[str] | Sequence[tuple[str, str]] | np.ndarray | tf.Tensor


def as_texts(text: Text, text_pair: Text | None) -> list[tf.Tensor]:
    """Returns one string tensor (N,), or two with second texts, which may also be given as pairs in `text`.

    As upstream, "" as the second text of a single first one counts as none. Raises ValueError for what is not text.
    """
    if text_pair is None and isinstance(text, (list, tuple)) and text and all(map(_is_pair, text)):
        text, text_pair = map(list, zip(*text, strict=True))
    if isinstance(text, (str, bytes)) and text_pair in ("", b""):
        text_pair = None
    texts = [_as_tensor(text, "text")] + ([] if text_pair is None else [_as_tensor(text_pair, "text_pair")])
    if tf.executing_eagerly() and len({int(each.shape[0]) for each in texts}) > 1:
        raise ValueError(f"text has {texts[0].shape[0]} rows and text_pair {texts[1].shape[0]}; they must agree")
    return texts


def _is_pair(row: Any) -> bool:
    return isinstance(row, (list, tuple)) and len(row) == 2 and all(isinstance(each, (str, bytes)) for each in row)


def _as_tensor(text: Any, name: str) -> tf.Tensor:
    """Converts texts of any accepted kind to a string tensor (N,)."""
    if not tf.is_tensor(text):
        text = np.asarray(text).tolist() if isinstance(text, np.ndarray) else text
        rows = [text] if isinstance(text, (str, bytes)) else text
        if not isinstance(rows, (list, tuple)):
            raise ValueError(f"{name} is {text!r}; it must be a string, a list of strings or a tensor of strings")
        for i, row in enumerate(rows):
            if not isinstance(row, (str, bytes)):
                raise ValueError(f"{name} row {i} is {row!r}; it must be a string, or each row a pair of strings")
        text = tf.constant([_encode_utf8(row, i, name) for i, row in enumerate(rows)], tf.string)
    if text.dtype != tf.string or text.shape.rank not in (0, 1):
        raise ValueError(f"{name} is a {text.dtype.name} tensor of shape {text.shape}; it must hold strings, (N,)")
    return tf.reshape(text, [1]) if text.shape.rank == 0 else text


def _encode_utf8(text: str | bytes, row: int, name: str) -> bytes:
    try:
        return text.encode("utf-8") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        at = f"{name} row {row}, character {error.start}"
        raise ValueError(f"{at}, is half a surrogate pair, which is no text; remove it") from None


def as_list(values: Any) -> Any:
    """Converts ids from any source to Python numbers or lists."""
    if isinstance(values, tf.RaggedTensor):
        return values.to_list()
    is_array = tf.is_tensor(values) or isinstance(values, (np.ndarray, np.integer))
    return np.asarray(values).tolist() if is_array else values

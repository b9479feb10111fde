"""Pads rows that are encoded already, for `BertTokenizer.pad`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfvl.preprocessing.text.texts import as_list

IDS = "input_ids"


def pad(
    encoded: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    fill: Mapping[str, int],
    masked: bool,
    length: int | None,
    multiple: int | None,
    left: bool,
) -> dict[str, tf.Tensor]:
    """Pads encoded rows to int32 tensors (N, length), or a single row to (length,).

    Args:
        encoded: a dict of lists of rows, of one row, of arrays or tensors; or a list of dicts of one row each.
        fill: the values with which rows are padded, by name.
        masked: whether to return an attention mask, which is made if `encoded` has none.
        length: the smallest length; None: that of the longest row.
        multiple: the length is rounded up to a multiple of this number.
        left: whether the padding stands before the row.

    Raises:
        ValueError: there are no ids, or rows do not fit together.
    """
    if not isinstance(encoded, Mapping):
        encoded = {name: [as_list(row[name]) for row in encoded] for name in (encoded[0] if len(encoded) else {})}
    if IDS not in encoded:
        raise ValueError(f"pad takes what a tokenizer returned, {IDS} among it; got {', '.join(encoded) or 'nothing'}")
    columns = {name: as_list(values) for name, values in encoded.items()}
    alone = bool(columns[IDS]) and not isinstance(columns[IDS][0], (list, tuple))
    rows = {name: [values] if alone else values for name, values in columns.items()}
    lengths = [len(row) for row in rows[IDS]]
    mask = rows.pop("attention_mask", [[1] * each for each in lengths])
    rows |= {"attention_mask": mask} if masked else {}
    length = max([length or 0, *lengths])
    length = -(-length // multiple) * multiple if multiple else length
    padded = {name: _padded(name, values, fill.get(name), lengths, length, left) for name, values in rows.items()}
    return {name: value[0] if alone else value for name, value in padded.items()}


def _padded(name: str, rows: Sequence, value: int | None, lengths: list[int], length: int, left: bool) -> tf.Tensor:
    if value is None:
        if len({np.shape(row) for row in rows}) > 1:
            raise ValueError(f"the rows of {name} differ in length, and pad knows only a tokenizer's outputs")
        return tf.convert_to_tensor(rows)
    if [len(row) for row in rows] != lengths:
        raise ValueError(f"the rows of {name} are not as long as those of {IDS}; give what one call returned")
    filled = np.full([len(rows), length], value, np.int32)
    for target, row, own in zip(filled, rows, lengths, strict=True):
        target[length - own if left else 0 :][:own] = row
    return tf.constant(filled)

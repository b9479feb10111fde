"""Assembles the token ids of one or two texts per row into the padded matrices that BERT takes, by TensorFlow ops."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfvl.preprocessing.text.options import SIDES, one_of
from tfvl.preprocessing.text.token_table import specials_around

PADDINGS = {
    True: "longest",
    False: "none",
    None: "none",
    "longest": "longest",
    "max_length": "max_length",
    "do_not_pad": "none",
}
TRUNCATIONS = {
    True: "longest_first",
    False: "none",
    None: "none",
    "longest_first": "longest_first",
    "only_first": "only_first",
    "only_second": "only_second",
    "do_not_truncate": "none",
}


class Options(NamedTuple):
    """The options for which an encoding function is traced; made by `check_options`.

    Attributes:
        padding, truncation: values of the tables above.
        max_length: the length to which rows are padded and cut.
        limit: the length beyond which a row is refused; None: no row is.
        padding_side, truncation_side: one of `SIDES`.
    """

    pair: bool
    add_special_tokens: bool
    split_special_tokens: bool
    padding: str
    truncation: str
    max_length: int | None
    limit: int | None
    pad_to_multiple_of: int | None
    padding_side: str
    truncation_side: str

    @property
    def added(self) -> int:
        """Number of special tokens around the texts of a row."""
        return specials_around(self.pair) if self.add_special_tokens else 0


class SpecialIds(NamedTuple):
    cls: int
    sep: int
    pad: int


def check_options(
    pair: bool,
    add_special_tokens: bool,
    split_special_tokens: bool,
    padding: bool | str | None,
    truncation: bool | str | None,
    max_length: int | None,
    pad_to_multiple_of: int | None,
    model_max_length: int | None,
    padding_side: str,
    truncation_side: str,
) -> Options:
    """Checks a call's arguments; `model_max_length` replaces a `max_length` that is needed and not given.

    As upstream, if neither the call nor the tokenizer has a limit, rows are not cut, and not padded to one; and they
    are not cut to a limit that leaves no room for the special tokens.
    """
    padding, truncation = one_of("padding", padding, PADDINGS), one_of("truncation", truncation, TRUNCATIONS)
    check_lengths(max_length, pad_to_multiple_of)
    padding_side = one_of("padding_side", padding_side, SIDES)
    truncation_side = one_of("truncation_side", truncation_side, SIDES)
    if max_length is None and (truncation != "none" or padding == "max_length"):
        max_length = model_max_length
    if max_length is None:
        padding = "none" if padding == "max_length" else padding
        truncation = "none"
    if padding == "none":
        padding_side = "right"  # from where the rows of the matrix are cut to their own lengths
    if truncation != "none" and padding != "none" and pad_to_multiple_of and max_length % pad_to_multiple_of:
        raise ValueError(f"max_length={max_length} is not a multiple of pad_to_multiple_of={pad_to_multiple_of}")
    limit = max_length
    if add_special_tokens and truncation != "none" and max_length < specials_around(pair):
        truncation, limit = "none", None
    return Options(
        pair=pair,
        add_special_tokens=bool(add_special_tokens),
        split_special_tokens=bool(split_special_tokens),
        padding=padding,
        truncation=truncation,
        max_length=max_length,
        limit=limit,
        pad_to_multiple_of=pad_to_multiple_of,
        padding_side=padding_side,
        truncation_side=truncation_side,
    )


def check_lengths(max_length: int | None, pad_to_multiple_of: int | None) -> None:
    for name, value, least in (("max_length", max_length, 0), ("pad_to_multiple_of", pad_to_multiple_of, 1)):
        if value is not None and (not isinstance(value, int) or value < least):
            raise ValueError(f"{name} is {value!r}; it must be a whole number from {least} on")


def assemble(rows: Sequence[tf.RaggedTensor], options: Options, ids: SpecialIds) -> dict[str, tf.Tensor]:
    """Assembles ids of first (and second) texts into padded matrices (batch, length); counts `tokens` (batch,).

    Each matrix is filled by position: 0 holds [CLS], then come the first text's tokens, [SEP], and so on.
    """
    special = int(options.add_special_tokens)
    whole = [tf.cast(row.row_lengths(), tf.int32) for row in rows]  # each (batch,)
    lengths = _truncated(whole, options)
    total = tf.add_n(lengths) + options.added
    padded = _padded_length(total, options)
    position = tf.range(padded)[tf.newaxis, :]  # (1, length)
    if options.padding_side == "left":
        position -= (padded - total)[:, tf.newaxis]  # (batch, length), negative where there is padding

    input_ids = tf.fill([tf.size(total), padded], ids.pad)  # (batch, length)
    types, added = tf.zeros_like(input_ids), tf.ones_like(input_ids)
    if special:
        input_ids = tf.where(position == 0, ids.cls, input_ids)
    begin = tf.fill([tf.size(total), 1], special)  # (batch, 1): where the next text begins
    for type_id, (row, length, uncut) in enumerate(zip(rows, lengths, whole, strict=True)):
        end = begin + length[:, tf.newaxis]
        inside = (position >= begin) & (position < end)
        first = tf.cast(row.row_starts(), tf.int32)
        if options.truncation_side == "left":
            first += uncut - length
        index = tf.where(inside, first[:, tf.newaxis] + position - begin, 0)
        tokens = tf.gather(tf.concat([row.values, [ids.pad]], axis=0), index)  # never empty, so index 0 is valid
        input_ids = tf.where(inside, tokens, input_ids)
        added = tf.where(inside, 0, added)
        if special:
            input_ids = tf.where(position == end, ids.sep, input_ids)
        types = tf.where((position >= begin) & (position < end + special), type_id, types)
        begin = end + special
    return {
        "input_ids": input_ids,
        "token_type_ids": types,
        "attention_mask": tf.cast((position >= 0) & (position < total[:, tf.newaxis]), tf.int32),
        "special_tokens_mask": added,
        "length": total if options.padding == "none" else tf.fill([tf.size(total)], padded),
        "tokens": total,
    }


def _truncated(lengths: list[tf.Tensor], options: Options) -> list[tf.Tensor]:
    """Returns the lengths (batch,) to which upstream's strategies cut one or two texts.

    A text that should lose more tokens than it has keeps its length, so that `check_length` refuses the row.
    """
    strategy = options.truncation
    if strategy == "none":
        return lengths
    room = min(options.max_length - options.added, tf.int32.max)  # files say "no limit" as 10^30
    if room == 0:
        return [tf.zeros_like(length) for length in lengths]
    if strategy == "longest_first" and len(lengths) == 1:
        return [tf.minimum(lengths[0], room)]
    if strategy == "longest_first":
        fits = tf.add_n(lengths) <= room
        shorter, longer = tf.minimum(*lengths), tf.maximum(*lengths)
        # The longer text is cut first, down to the shorter one's length; from there on both are cut.
        shorter = tf.where(fits, shorter, tf.minimum(shorter, room // 2))
        longer = tf.where(fits, longer, room - shorter)
        swapped = lengths[0] > lengths[1]
        return [tf.where(swapped, longer, shorter), tf.where(swapped, shorter, longer)]
    cut = 0 if strategy == "only_first" else 1
    excess = tf.maximum(tf.add_n(lengths) - room, 0)
    cut_lengths = [tf.where(length > excess, length - excess, length) for length in lengths]
    return [cut_lengths[i] if i == cut else length for i, length in enumerate(lengths)]


def _padded_length(total: tf.Tensor, options: Options) -> tf.Tensor:
    """Returns the length to which a batch is padded, given its rows' lengths (batch,)."""
    length = tf.reduce_max(tf.concat([total, [0]], axis=0))
    if options.padding == "max_length":
        length = tf.maximum(length, options.max_length)
    if options.pad_to_multiple_of and options.padding != "none":
        length = -(-length // options.pad_to_multiple_of) * options.pad_to_multiple_of
    return length


def check_length(lengths: tf.Tensor, options: Options) -> None:
    """Raises ValueError for a row that is longer than allowed; in a graph, it adds an assertion instead."""
    if options.limit is None:
        return
    if not tf.executing_eagerly():
        message = f"a text has more tokens than max_length={options.limit} (truncation: {options.truncation})"
        tf.debugging.assert_less_equal(lengths, options.limit, message=message)
        return
    for row in np.flatnonzero(lengths.numpy() > options.limit)[:1]:
        raise ValueError(
            f"text row {row} has {lengths[row]} tokens, more than max_length={options.limit}, and "
            f"truncation={options.truncation!r} cannot shorten it; pass truncation=True or a larger max_length"
        )

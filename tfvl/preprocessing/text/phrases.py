"""Finds phrases in a tokenised text, and lists a vocabulary by id."""

from collections.abc import Mapping

import tensorflow as tf


def locate(phrases: tf.Tensor, encoded: Mapping, tokenizer, longest: int) -> tf.Tensor:
    """Finds phrases (N, P) in the tokenised text of their row; returns positions, int32 (N, P), -1 if not found.

    A phrase is found where its tokens first occur as whole words; its position is that of its last token, as in the
    authors' code. All words that the vocabulary lacks count as the same word.
    """
    options = {"add_special_tokens": False, "truncation": True, "max_length": longest, "padding_side": "right"}
    tokens = tokenizer(tf.reshape(phrases, [-1]), **options)
    rows, count = tf.unstack(tf.shape(phrases))
    ids = tf.reshape(tokens["input_ids"], [rows, count, tf.shape(tokens["input_ids"])[1]])  # (N, P, T)
    lengths = tf.reshape(tf.reduce_sum(tokens["attention_mask"], axis=1), [rows, count])  # (N, P)
    place, offset = tf.range(tf.shape(encoded["input_ids"])[1]), tf.range(tf.shape(ids)[2])  # (L,), (T,)

    mask = encoded["attention_mask"]
    begin = tf.argmax(mask, axis=1, output_type=tf.int32)[:, None]  # (N, 1): where [CLS] is
    end = begin + tf.reduce_sum(mask, axis=1, keepdims=True) - 1  # (N, 1): where [SEP] is
    text = tf.where((place > begin) & (place < end), encoded["input_ids"], -1)  # (N, L)
    text = tf.pad(text, [[0, 0], [0, tf.size(offset) + 1]], constant_values=-1)
    runs = tf.gather(text, place[:, None] + offset, axis=1)  # (N, L, T)
    same = (runs[:, None] == ids[:, :, None]) | (offset >= lengths[..., None, None])  # (N, P, L, T)
    after = tf.gather(text, place + lengths[..., None], batch_dims=1)  # (N, P, L): the token behind the run
    pieces = [token.startswith("##") for token in in_order(tokens_of(tokenizer))]
    within_word = tf.gather(tf.constant(pieces), tf.maximum(after, 0))
    found = tf.reduce_all(same, axis=3) & ~within_word & (lengths[..., None] > 0)  # (N, P, L)
    first = tf.argmax(tf.cast(found, tf.int32), axis=2, output_type=tf.int32)
    return tf.where(tf.reduce_any(found, axis=2), first + lengths - 1, -1)


def tokens_of(tokenizer) -> dict[int, str]:
    """Returns the tokens of the vocabulary by id."""
    return tokenizer.all_shown()


def in_order(tokens: Mapping[int, str]) -> tuple[str, ...]:
    """Returns the tokens of a vocabulary in the order of ids; "" for an id that no token has."""
    return tuple(tokens.get(index, "") for index in range(max(tokens) + 1))

"""Tokens back to text, spaced as upstream's `WordPiece` decoder spaces it: in Python, and as TensorFlow ops.

The decoder looks at one token at a time: what a token adds to the text depends on it and on whether it is the first.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

# In this order; the decoder applies them to each token's contribution, `clean_up` to a whole text.
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def clean_up(text: str) -> str:
    """Upstream's `clean_up_tokenization_spaces`."""
    for spaced, tight in _CLEANED:
        text = text.replace(spaced, tight)
    return text


def contribution(token: str, first: bool) -> str:
    """What a token adds to the text."""
    if not first:
        token = token[2:] if token.startswith("##") else f" {token}"
    return clean_up(token.replace(" do not", " don't"))


def join(tokens: Sequence[str]) -> str:
    return "".join(contribution(token, first=i == 0) for i, token in enumerate(tokens))


def detokenize(ids: tf.Tensor | tf.RaggedTensor, tokens: Mapping[int, str], skipped: Iterable[int]) -> tf.Tensor:
    """Ids (N, L) to strings (N,), as ops with the vocabulary as a constant; `skipped` and unknown ids are left out."""
    size = max(tokens) + 1
    first, later = np.full(size, "", object), np.full(size, "", object)
    known = np.zeros(size + 1, bool)  # the last entry stands for every id beyond
    for i, token in tokens.items():
        first[i], later[i] = contribution(token, first=True).encode(), contribution(token, first=False).encode()
        known[i] = True
    known[list(skipped)] = False
    if not isinstance(ids, tf.RaggedTensor):
        ids = tf.RaggedTensor.from_tensor(ids)
    inside = tf.where((ids.values >= 0) & (ids.values < size), ids.values, size)
    ids = tf.ragged.boolean_mask(ids, ids.with_values(tf.gather(known, inside)))
    begins = tf.ragged.range(ids.row_lengths()).values == 0
    parts = tf.where(begins, tf.gather(tf.constant(first), ids.values), tf.gather(tf.constant(later), ids.values))
    return tf.strings.reduce_join(ids.with_values(parts), axis=1)

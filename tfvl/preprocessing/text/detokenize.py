"""Joins tokens to text, with spaces as upstream's `WordPiece` decoder sets them, in Python and by TensorFlow ops.

The decoder looks at one token at a time: what a token adds to the text depends on it and on whether it is the first.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfvl.preprocessing.text.texts import as_list
from tfvl.preprocessing.text.token_table import TokenTable

# Replacements, in this order; the decoder applies them to each token's contribution, `clean_up` to a whole text.
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
    """Removes spaces as upstream's `clean_up_tokenization_spaces` does."""
    for spaced, tight in _CLEANED:
        text = text.replace(spaced, tight)
    return text


def contribution(token: str, first: bool) -> str:
    """Returns the characters that a token adds to the text."""
    if not first:
        token = token[2:] if token.startswith("##") else f" {token}"
    return clean_up(token.replace(" do not", " don't"))


def join(tokens: Sequence[str]) -> str:
    return "".join(contribution(token, first=i == 0) for i, token in enumerate(tokens))


def detokenize(ids: tf.Tensor | tf.RaggedTensor, tokens: Mapping[int, str], skipped: Iterable[int]) -> tf.Tensor:
    """Converts ids (N, L) to strings (N,) by ops that hold the vocabulary; leaves out `skipped` and unknown ids."""
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


class Detokenizer(TokenTable):
    """The part of `BertTokenizer` that converts ids back to tokens and text.

    Attributes:
        clean_up_tokenization_spaces: default of the argument of that name of `decode`.
    """

    clean_up_tokenization_spaces: bool

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Converts the ids of one text to a string, or of several texts to a list, with upstream's spaces.

        Ids outside the vocabulary are left out, and with `skip_special_tokens` those of special tokens.
        """
        token_ids = as_list(token_ids)
        token_ids = [token_ids] if isinstance(token_ids, int) else token_ids
        if token_ids and isinstance(token_ids[0], (list, tuple)):
            return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in token_ids]
        skipped = self.skipped_ids() if skip_special_tokens else ()
        tokens = self.convert_ids_to_tokens([i for i in token_ids if i not in skipped])
        text = self.convert_tokens_to_string([token for token in tokens if token is not None])
        if clean_up_tokenization_spaces is None:
            clean_up_tokenization_spaces = self.clean_up_tokenization_spaces
        return clean_up(text) if clean_up_tokenization_spaces else text

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **options: Any) -> list[str]:
        """Applies `decode` to each row of a list, array, tensor or RaggedTensor."""
        rows = as_list(sequences)
        texts = self.decode(rows, skip_special_tokens, **options) if len(rows) else []
        return [texts] if isinstance(texts, str) else texts

    @tf.autograph.experimental.do_not_convert
    def detokenize(self, token_ids: tf.Tensor | tf.RaggedTensor, skip_special_tokens: bool = True) -> tf.Tensor:
        """Does what `batch_decode` does by TensorFlow ops, for exported graphs: converts ids (N, L) to strings (N,)."""
        return detokenize(token_ids, self.all_shown(), self.skipped_ids() if skip_special_tokens else ())

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Converts an id, or several, to tokens; None stands for an id outside the vocabulary."""
        ids = as_list(ids)
        if isinstance(ids, int):
            return self.shown(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self.shown(i) for i in ids if i not in skipped]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        return join(tokens)

"""BERT's text pipeline as TensorFlow ops: raw strings to token ids, tables and vocabulary being constants of the graph.

Only core ops and `FastWordpieceTokenizeWithOffsets` are used, so that every TF Serving with tf.text can run the graph.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tensorflow_text.core.pybinds.pywrap_fast_wordpiece_tokenizer_model_builder import build_fast_wordpiece_model

from tfvl.preprocessing.text import unicode_tables as tables

MAX_WORD_CHARACTERS = 100  # upstream's max_input_chars_per_word: a longer word is unknown as a whole
MAX_WORD_BYTES = 4 * MAX_WORD_CHARACTERS
MAX_PIECE_BYTES = 256  # what FastWordpieceTokenizer takes
_ANY_MARKER = f"[{chr(tables.FIRST_MARKER)}-{chr(tables.LAST_MARKER)}]"
_LEAD = chr(tables.LAST_MARKER)
REPLACEMENT = "\ufffd"  # cleaning removes it


class WordPieceGraph:
    """Raw UTF-8 strings (batch,) to token ids (batch, pieces), an int32 RaggedTensor.

    Special tokens are matched in the raw text and replaced by private-use code points, their markers. From there on
    everything is arithmetic on code points, until the words (markers among them) are looked up in the vocabulary.
    Bytes that are not UTF-8 are left out.

    Args:
        vocab: token → id. Ids may have gaps.
        special_tokens: tokens matched in the raw text, wherever they stand, and kept whole.
        unk_token: what a word becomes that the vocabulary cannot spell; one of the special tokens.
        never_split: words kept whole where white space surrounds them.
        lowercase, strip_accents, isolate_chinese: options of upstream's `BertNormalizer`.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        *,
        special_tokens: Iterable[str],
        unk_token: str,
        never_split: Iterable[str] = (),
        lowercase: bool = True,
        strip_accents: bool = True,
        isolate_chinese: bool = True,
    ):
        special = sorted(set(special_tokens), key=len, reverse=True)
        unsplit = sorted(set(never_split) - set(special))
        markers = {token: chr(tables.FIRST_MARKER + i) for i, token in enumerate([*special, *unsplit])}
        self._special = [(token, markers[token]) for token in special]  # longest first
        self._unsplit = [(token, markers[token]) for token in unsplit]
        self._unknown = markers[unk_token]
        self._isolate_chinese = isolate_chinese
        self._table = tables.character_table(lowercase, strip_accents, isolate_chinese)

        pieces = {token: i for token, i in vocab.items() if _is_reachable(token)}
        pieces |= {marker: vocab.get(token, vocab[unk_token]) for token, marker in markers.items()}
        self._model = build_fast_wordpiece_model(list(pieces), MAX_WORD_BYTES, "##", unk_token, True, False)
        self._ids = np.fromiter(pieces.values(), np.int32, len(pieces))

    def __call__(self, text: tf.Tensor) -> tf.RaggedTensor:
        return self._traced(text)

    @cached_property
    def _traced(self) -> tf.types.experimental.ConcreteFunction:
        """One trace for every caller, eager, tf.data or export, so that the constants are built and stored once."""
        return trace(self.encode, 1)

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Token ids of texts (batch,), as operations: run where it is called."""
        # The constant is made here, so that the vocabulary is in this graph; and from an array: the tokenizer would
        # make it from a list of a million numbers, which takes a second.
        wordpiece = tf_text.FastWordpieceTokenizer(
            model_buffer=tf.constant(np.frombuffer(self._model, np.uint8)), token_out_type=tf.int32
        )
        text = mark_tokens(text, self._special)
        if self._unsplit:
            white_space = tables.character_table(False, False, self._isolate_chinese, isolate_punctuation=False)
            words = split_words(text, white_space)
            strings = words.values
            for word, marker in self._unsplit:
                strings = tf.where(words.values == word, marker, strings)
            text = tf.strings.reduce_join(words.with_values(strings), axis=1, separator=" ")
        words = split_words(text, self._table, self._unknown)
        pieces = wordpiece.tokenize(words.values)
        ids = tf.gather(self._ids, pieces.values)
        return tf.RaggedTensor.from_row_splits(ids, tf.gather(pieces.row_splits, words.row_splits), validate=False)


def _is_reachable(token: str) -> bool:
    """Whether a word can contain the token. The builder of the op refuses most of the others."""
    characters = token.removeprefix("##")
    if not characters or len(characters) > MAX_WORD_CHARACTERS:
        return False
    if not characters.isascii() and re.search(_ANY_MARKER, characters):  # a search takes most of the time for a word
        return False
    if len(characters.encode()) > MAX_PIECE_BYTES:
        raise ValueError(f"the token {token!r} has more than {MAX_PIECE_BYTES} bytes, more than tensorflow-text takes")
    return True


def trace(function: Callable, inputs: int) -> tf.types.experimental.ConcreteFunction:
    """Trace a function of string vectors, outside whatever graph is being built, so that every graph can call it."""
    signature = [tf.TensorSpec([None], tf.string, name=f"text_{i}") for i in range(inputs)]
    with tf.init_scope():
        return tf.function(function, input_signature=signature, autograph=False).get_concrete_function()


def mark_tokens(text: tf.Tensor, tokens: Sequence[tuple[str, str]]) -> tf.Tensor:
    """Replace each special token by its marker; of overlapping matches the leftmost wins, then the longest."""
    text = tf.strings.regex_replace(text, _ANY_MARKER, REPLACEMENT)
    any_token = "|".join(re.escape(token) for token, _ in tokens)
    text = tf.strings.regex_replace(text, f"({any_token})", rf"{_LEAD}\1")
    for token, marker in tokens:
        text = tf.strings.regex_replace(text, re.escape(_LEAD + token), marker)
    return text


def split_words(text: tf.Tensor, table: tables.CharacterTable, unknown: str | None = None) -> tf.RaggedTensor:
    """Normalised words of each text (batch, words); a word that is too long becomes `unknown`, if given."""
    # The leading space keeps the words of two texts apart, so that the batch can be handled as one flat sequence.
    code_points = tf.strings.unicode_decode(tf.strings.join([" ", text]), "UTF-8", replacement_char=ord(REPLACEMENT))
    entries = _entries(code_points.values, table)  # (code points, WIDTH)
    keep = entries >= 0
    characters = tf.gather_nd(entries, tf.where(keep))  # (characters,)
    if table.reorders:
        has_class = tf.reduce_any(characters >= tables.CLASS_UNIT)
        characters = tf.cond(has_class, lambda: _canonical_order(entries), lambda: characters)
    counts = tf.reduce_sum(tf.cast(keep, tf.int64), axis=1)
    text_splits = tf.gather(_offsets(counts), code_points.row_splits)

    isolated = tf.bitwise.bitwise_and(characters, tables.ISOLATED) != 0
    characters = tf.bitwise.bitwise_and(characters, tables.CODE_POINT)
    solid = characters != tables.SPACE
    after_boundary = tf.concat([[True], isolated | ~solid], axis=0)[:-1]
    starts = solid & (isolated | after_boundary)
    kept = tf.where(solid)[:, 0]
    word_splits = tf.concat([tf.where(tf.gather(starts, kept))[:, 0], [tf.size(kept, tf.int64)]], axis=0)
    words = tf.RaggedTensor.from_row_splits(tf.gather(characters, kept), word_splits, validate=False)
    strings = tf.strings.unicode_encode(words, "UTF-8")
    if unknown is not None:
        strings = tf.where(words.row_lengths() > MAX_WORD_CHARACTERS, unknown, strings)
    row_splits = tf.gather(_offsets(tf.cast(starts, tf.int64)), text_splits)
    return tf.RaggedTensor.from_row_splits(strings, row_splits, validate=False)


def _entries(code_points: tf.Tensor, table: tables.CharacterTable) -> tf.Tensor:
    """Look code points (n,) up in the table: (n, WIDTH)."""
    page = tf.gather(table.pages, tf.bitwise.right_shift(code_points, tables.PAGE_BITS))
    within = tf.bitwise.bitwise_and(code_points, (1 << tables.PAGE_BITS) - 1)
    entries = tf.gather(table.entries, tf.bitwise.left_shift(page, tables.PAGE_BITS) + within)
    return entries + tf.pad(code_points[:, tf.newaxis], [[0, 0], [0, tables.WIDTH - 1]])


def _canonical_order(entries: tf.Tensor) -> tf.Tensor:
    """Characters (n,) with each run of combining marks sorted by combining class, stably, as NFD asks."""
    characters = tf.boolean_mask(entries, entries >= tables.BARRIER)
    combining_class = tf.maximum(characters, 0) // tables.CLASS_UNIT
    run = tf.cumsum(tf.cast(combining_class == 0, tf.int64))
    size = tf.size(characters, out_type=tf.int64)
    key = (run * 256 + tf.cast(combining_class, tf.int64)) * size + tf.range(size)
    characters = tf.gather(characters, tf.argsort(key))
    return tf.boolean_mask(characters, characters >= 0)


def _offsets(lengths: tf.Tensor) -> tf.Tensor:
    """Lengths (n,) to row splits (n + 1,)."""
    return tf.pad(tf.cumsum(lengths), [[1, 0]])

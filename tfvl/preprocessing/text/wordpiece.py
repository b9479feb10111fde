"""BERT's text pipeline as TensorFlow ops, from raw strings to token ids; the vocabulary is a constant of the graph.

Only core ops and `FastWordpieceTokenizeWithOffsets` are used, so that every TF Serving with tf.text can run the graph.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from tfvl.preprocessing.text import unicode_tables as tables
from tfvl.preprocessing.text.added_tokens import AddedToken, Pattern, Stages, markers_of, stages
from tfvl.preprocessing.text.tf_text import build_fast_wordpiece_model
from tfvl.preprocessing.text.tf_text import tensorflow_text as tf_text

MAX_WORD_CHARACTERS = 100  # upstream's max_input_chars_per_word: a longer word is unknown as a whole
MAX_WORD_BYTES = 4 * MAX_WORD_CHARACTERS
MAX_PIECE_BYTES = 256  # the limit of FastWordpieceTokenizer
_ANY_MARKER = f"[{chr(tables.FIRST_MARKER)}-{chr(tables.LAST_MARKER)}]"
_LEAD, _TAIL = chr(tables.LAST_MARKER), chr(tables.LAST_MARKER - 1)  # put around a token that is found
REPLACEMENT = "\ufffd"  # cleaning removes it


class WordPieceGraph:
    """Turns raw UTF-8 strings (batch,) into token ids (batch, pieces), an int32 RaggedTensor.

    Added tokens are searched for as `added_tokens` says and replaced by private-use code points, their markers. From
    there on everything is arithmetic on code points, until the words (markers among them) are looked up in the
    vocabulary. Bytes that are not UTF-8 are left out.

    Args:
        vocab: the id of each token of the vocabulary. Ids may have gaps.
        added: the added tokens, which are kept whole, by their ids, in the order of ids.
        unk_token: replaces a word that the vocabulary cannot spell; one of the added tokens.
        never_split: words that are kept whole if white space surrounds them.
        lowercase, strip_accents, isolate_chinese: options of upstream's `BertNormalizer`.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        *,
        added: Mapping[int, AddedToken],
        unk_token: str,
        never_split: Iterable[str] = (),
        lowercase: bool = True,
        strip_accents: bool = True,
        isolate_chinese: bool = True,
    ):
        ids = {token.content: i for i, token in added.items()}
        unsplit = sorted(set(never_split) - ids.keys())
        markers = markers_of([*ids, *unsplit])
        self._unsplit = [(word, markers[word]) for word in unsplit]
        self._unknown = markers[unk_token]
        self._isolate_chinese = isolate_chinese
        self._normalizer = partial(tables.character_table, lowercase, strip_accents, isolate_chinese)
        self._stages = {split: stages(added.values(), markers, self._normalized, split) for split in (False, True)}

        pieces = {token: i for token, i in vocab.items() if _is_reachable(token)}
        pieces |= {marker: ids.get(token, vocab.get(token, ids[unk_token])) for token, marker in markers.items()}
        self._model = build_fast_wordpiece_model(list(pieces), MAX_WORD_BYTES, "##", self._unknown, True, False)
        self._ids = np.fromiter(pieces.values(), np.int32, len(pieces))
        self._traces: dict[bool, tf.types.experimental.ConcreteFunction] = {}

    def __call__(self, text: tf.Tensor, split_special: bool = False) -> tf.RaggedTensor:
        """Encodes texts as `encode` does, by one trace for all callers, so that its constants are stored once."""
        if split_special not in self._traces:
            self._traces[split_special] = trace(partial(self.encode, split_special=split_special), 1)
        return self._traces[split_special](text)

    def _normalized(self, text: str) -> str:
        table = self._normalizer(isolate_punctuation=False)
        return tables.normalized(text, table.pages, table.entries)

    def encode(self, text: tf.Tensor, split_special: bool = False) -> tf.RaggedTensor:
        """Encodes texts (batch,) as token ids, by operations in the caller's graph.

        Args:
            text: the texts.
            split_special: whether special tokens in the texts are split like words.
        """
        # The constant is made here, so that the vocabulary is in this graph; and from an array: the tokenizer would
        # make it from a list of a million numbers, which takes a second.
        wordpiece = tf_text.FastWordpieceTokenizer(
            model_buffer=tf.constant(np.frombuffer(self._model, np.uint8)), token_out_type=tf.int32
        )
        words = split_words(*self._marked(text, self._stages[split_special]), self._unknown)
        pieces = wordpiece.tokenize(words.values)
        ids = tf.gather(self._ids, pieces.values)
        return tf.RaggedTensor.from_row_splits(ids, tf.gather(pieces.row_splits, words.row_splits), validate=False)

    def _marked(self, text: tf.Tensor, searches: Stages) -> tuple[tf.Tensor, tables.CharacterTable]:
        """Replaces added tokens by markers; returns the texts, and the table by which they are split into words."""
        text = mark_tokens(without_markers(text), searches.raw)
        if self._unsplit:
            white_space = tables.character_table(False, False, self._isolate_chinese, isolate_punctuation=False)
            words = split_words(text, white_space)
            strings = words.values
            for word, marker in self._unsplit:
                strings = tf.where(words.values == word, marker, strings)
            text = tf.strings.reduce_join(words.with_values(strings), axis=1, separator=" ")
        if not searches.normalized:
            return text, self._normalizer()
        spaces = tables.character_class("white_space")
        if searches.lstrip:
            text = tf.strings.regex_replace(text, f"{spaces}+([{searches.lstrip}])", r"\1")
        if searches.rstrip:
            text = tf.strings.regex_replace(text, f"([{searches.rstrip}]){spaces}+", r"\1")
        text = mark_tokens(normalize(text, self._normalizer(isolate_punctuation=False)), searches.normalized)
        return text, tables.character_table(False, False, False)  # the text is normalised and only has to be split


def _is_reachable(token: str) -> bool:
    """Returns whether the token can occur in a word after normalisation; the op's builder refuses most others."""
    characters = token.removeprefix("##")
    if not characters or len(characters) > MAX_WORD_CHARACTERS or "\0" in characters:
        return False
    if not characters.isascii() and re.search(_ANY_MARKER, characters):  # a search takes most of the time for a word
        return False
    if len(characters.encode()) > MAX_PIECE_BYTES:
        raise ValueError(
            f"the token {token[:20]!r}… has more than {MAX_PIECE_BYTES} bytes, more than tensorflow-text takes"
        )
    return True


def trace(function: Callable, inputs: int) -> tf.types.experimental.ConcreteFunction:
    """Traces a function of string vectors outside of any graph that is being built, so that every graph can call it."""
    signature = [tf.TensorSpec([None], tf.string, name=f"text_{i}") for i in range(inputs)]
    with tf.init_scope():
        return tf.function(function, input_signature=signature, autograph=False).get_concrete_function()


def without_markers(text: tf.Tensor) -> tf.Tensor:
    """Replaces characters that could be taken for markers by one that cleaning removes."""
    return tf.strings.regex_replace(text, _ANY_MARKER, REPLACEMENT)


def mark_tokens(text: tf.Tensor, patterns: Sequence[Pattern]) -> tf.Tensor:
    """Replaces each token by its marker; of overlapping matches the leftmost wins, then the longest.

    A match stands between `_LEAD` and `_TAIL` until it is known whether it counts. The texts may hold markers of other
    tokens, but not these two.
    """
    if not patterns:
        return text
    text = tf.strings.regex_replace(text, f"({_any_of(patterns)})", rf"{_LEAD}\1{_TAIL}")
    if single := [pattern for pattern in patterns if pattern.single_word]:
        word, token = tables.character_class("word"), f"{_LEAD}({_any_of(single)}){_TAIL}"
        # Twice, because the characters around a token are part of its match, which hides the token beside it.
        for _ in range(2):
            text = tf.strings.regex_replace(text, f"({word}{_TAIL}?){token}", r"\1\2")
        for _ in range(2):
            text = tf.strings.regex_replace(text, f"{token}({_LEAD}?{word})", r"\1\2")
    for pattern in patterns:
        found = re.escape(_LEAD + pattern.text + _TAIL)
        text = tf.strings.regex_replace(text, found, pattern.marker or _rewritten(pattern.text))
    return text


def _any_of(patterns: Iterable[Pattern]) -> str:
    return "|".join(re.escape(pattern.text) for pattern in patterns)


def _rewritten(text: str) -> str:
    """Escapes a text for use as the replacement of a regular expression."""
    return text.replace("\\", r"\\")


def normalize(text: tf.Tensor, table: tables.CharacterTable) -> tf.Tensor:
    """Normalises texts (batch,) as upstream's normaliser does; `table` must not isolate punctuation."""
    characters, splits = _characters(text, table)
    code_points = tf.bitwise.bitwise_and(characters, tables.CODE_POINT)
    is_marker = (code_points >= tables.FIRST_MARKER) & (code_points <= tables.LAST_MARKER)
    chinese = (tf.bitwise.bitwise_and(characters, tables.ISOLATED) != 0) & ~is_marker
    space = tf.fill(tf.shape(code_points), tables.SPACE)
    spaced = tf.stack([space, code_points, space], axis=1)
    kept = tf.stack([chinese, tf.ones_like(chinese), chinese], axis=1)
    counts = tf.where(chinese, tf.constant(3, tf.int64), 1)
    rows = tf.gather(_offsets(counts), splits)
    normalized = tf.RaggedTensor.from_row_splits(tf.boolean_mask(spaced, kept), rows, validate=False)
    return tf.strings.substr(tf.strings.unicode_encode(normalized, "UTF-8"), 1, tf.int32.max)  # drop the leading space


def split_words(text: tf.Tensor, table: tables.CharacterTable, unknown: str | None = None) -> tf.RaggedTensor:
    """Splits texts into normalised words (batch, words); a word that is too long becomes `unknown`, if given."""
    characters, text_splits = _characters(text, table)
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


def _characters(text: tf.Tensor, table: tables.CharacterTable) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks up the characters of all texts, with a space before each; returns them and the texts' row splits."""
    # The leading space keeps the words of two texts apart, so that the batch can be handled as one flat sequence.
    code_points = tf.strings.unicode_decode(tf.strings.join([" ", text]), "UTF-8", replacement_char=ord(REPLACEMENT))
    entries = _entries(code_points.values, table)  # (code points, WIDTH)
    keep = entries >= 0
    characters = tf.gather_nd(entries, tf.where(keep))  # (characters,)
    if table.reorders:
        has_class = tf.reduce_any(characters >= tables.CLASS_UNIT)
        characters = tf.cond(has_class, lambda: _canonical_order(entries), lambda: characters)
    counts = tf.reduce_sum(tf.cast(keep, tf.int64), axis=1)
    return characters, tf.gather(_offsets(counts), code_points.row_splits)


def _entries(code_points: tf.Tensor, table: tables.CharacterTable) -> tf.Tensor:
    """Looks code points (n,) up in the table; returns (n, WIDTH)."""
    page = tf.gather(table.pages, tf.bitwise.right_shift(code_points, tables.PAGE_BITS))
    within = tf.bitwise.bitwise_and(code_points, (1 << tables.PAGE_BITS) - 1)
    entries = tf.gather(table.entries, tf.bitwise.left_shift(page, tables.PAGE_BITS) + within)
    return entries + tf.pad(code_points[:, tf.newaxis], [[0, 0], [0, tables.WIDTH - 1]])


def _canonical_order(entries: tf.Tensor) -> tf.Tensor:
    """Sorts each run of combining marks in characters (n,) by combining class, stably, as NFD requires."""
    characters = tf.boolean_mask(entries, entries >= tables.BARRIER)
    combining_class = tf.maximum(characters, 0) // tables.CLASS_UNIT
    run = tf.cumsum(tf.cast(combining_class == 0, tf.int64))
    size = tf.size(characters, out_type=tf.int64)
    key = (run * 256 + tf.cast(combining_class, tf.int64)) * size + tf.range(size)
    characters = tf.gather(characters, tf.argsort(key))
    return tf.boolean_mask(characters, characters >= 0)


def _offsets(lengths: tf.Tensor) -> tf.Tensor:
    """Turns lengths (n,) into row splits (n + 1,)."""
    return tf.pad(tf.cumsum(lengths), [[1, 0]])

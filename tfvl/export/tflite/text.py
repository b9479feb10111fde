"""BERT's tokenizer inside a `.tflite` file, for the flavour `text`: the ids of `BertTokenizer`, from the raw question.

tf.text has a normaliser for TFLite, but its version of Unicode is not upstream's, and it splits special tokens. So the
text is converted to code points (`Utf8Binarize`), which are normalised by the same table that all our tokenizers use.
TFLite has no operation from code points back to strings; but only the vocabulary's characters matter, so each of them
is written as a symbol of our own, every other character as one unknown symbol, and the symbols are joined to a string
(`NgramsStringJoin`), split (`WhitespaceTokenize`) and looked up (`FastWordpieceTokenize`) in a vocabulary that is
written in symbols too. All symbols have the same number of bytes, so that the limit of a word's length, which tf.text
counts in bytes, is upstream's.

Two differences remain. Only `CHARACTERS_PER_TOKEN` code points of a text are read for each token of the file's length.
And combining marks stay in the text's order, where NFD sorts them; that matters only if the vocabulary holds two of
the few marks that stripping accents leaves.

The graph runs in TFLite only: in TensorFlow, the kernel of NgramsStringJoin (tf.text 2.21) crashes on several rows.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_text.core.pybinds.pywrap_fast_wordpiece_tokenizer_model_builder import build_fast_wordpiece_model
from tensorflow_text.core.pybinds.pywrap_whitespace_tokenizer_config_builder import build_whitespace_tokenizer_config
from tensorflow_text.python.ops import fast_wordpiece_tokenizer, ngrams_op, utf8_binarize_op, whitespace_tokenizer

from tfvl.export.texts import PHRASES, TEXT
from tfvl.export.tflite.search import INSIDE, look_up, marked, normalized, search_of, spaced, stripped
from tfvl.lite.tokenizer import MAX_WORD_CHARACTERS, PAGES, Tokenizer
from tfvl.preprocessing.text import unicode_tables as unicode
from tfvl.preprocessing.text.added_tokens import Stages

# The bare operations of tf.text: its Python functions add assertions about ragged tensors, which TFLite lacks.
utf8_binarize = utf8_binarize_op.gen_utf8_binarize_op.tf_text_utf8_binarize
join = ngrams_op.gen_ngrams_op.tf_text_ngrams_string_join
tokenize_at_white_space = whitespace_tokenizer.gen_whitespace_tokenizer_v2.tf_text_whitespace_tokenize_with_offsets_v2
tokenize_words = fast_wordpiece_tokenizer.gen_fast_wordpiece_tokenizer.fast_wordpiece_tokenize_with_offsets

CHARACTERS_PER_TOKEN = 16  # code points of a text that are read for each token that it may have
CODE_POINT_BITS = 21
# Ranges of code points, without white space, of two and of three bytes each in UTF-8; the first that suffices is used.
SYMBOLS = (range(0x100, 0x800), range(0x4E00, 0xD800))
MAX_PIECE_BYTES = 256  # the limit of FastWordpieceTokenize
UNKNOWN = "[UNK]"  # not made of symbols, so no text contains it

Encode = Callable[[tf.Tensor], dict[str, tf.Tensor]]


class Tables(NamedTuple):
    """The tables of the graph.

    Attributes:
        searches: the searches for added tokens.
        normalizer: the table that normalises between the two searches, by `search.spaced`; None without a second one.
        pages, rows: (4352,) and (pages · 256, up to 3): the indices in `strings` of what each code point becomes.
        strings: "", a space, and the symbols, alone and with spaces around them.
        model: the model of FastWordpieceTokenize.
        ids: the ids of its pieces.
        tokenizer: the exact tokenizer, from which the tables are made.
    """

    searches: Stages
    normalizer: tuple[np.ndarray, np.ndarray] | None
    pages: np.ndarray
    rows: np.ndarray
    strings: list[str]
    model: bytes
    ids: np.ndarray
    tokenizer: Tokenizer


def raw(
    specs: Mapping[str, tf.TensorSpec], tokenizer: Tokenizer, limit: int
) -> tuple[dict[str, tf.TensorSpec], Encode]:
    """Returns specs with `text` (batch,) in place of ids, types and mask, and the function that makes these from it."""
    batch, length = specs["input_ids"].shape
    rest = {name: spec for name, spec in specs.items() if name not in TEXT}
    tables = tables_of(tokenizer)
    return {"text": tf.TensorSpec([batch], tf.string, "text"), **rest}, lambda text: encode(text, tables, length, limit)


def check(name: str, specs: Mapping[str, tf.TensorSpec], quantize: str | None) -> None:
    """Raises ValueError if the model `name`, or a file in this quantization, cannot have the flavour `text`."""
    if specs["input_ids"].shape.rank != 2:
        raise ValueError(
            f"{name} takes several texts a row, which the text flavour does not; export the tensors flavour"
        )
    if PHRASES in specs:
        raise ValueError(
            f"{name} takes the places of phrases among the tokens, which a raw text does not tell; "
            "export the tensors flavour"
        )
    if quantize == "int8":
        raise ValueError(
            'quantize="int8" runs the file on examples, and that runs no operation of tf.text; '
            'export the tensors flavour, or quantize="dynamic"'
        )


def tables_of(tokenizer: Tokenizer) -> Tables:
    """Makes the tables of a tokenizer. Raises ValueError for options and vocabularies that are not possible here."""
    if tokenizer.unsplit:
        raise ValueError(
            f"the text flavour has no never_split ({min(tokenizer.unsplit)!r}); export the tensors flavour"
        )
    pieces = {piece: i for piece, i in tokenizer.pieces.items() if len(piece.removeprefix("##")) <= MAX_WORD_CHARACTERS}
    characters = sorted({character for piece in pieces for character in piece.removeprefix("##")})
    unknown, *symbols = symbols_for(characters, max(len(piece.removeprefix("##")) for piece in pieces))
    alphabet = dict(zip(characters, symbols, strict=True))
    written = [
        "##" * piece.startswith("##") + "".join(map(alphabet.__getitem__, piece.removeprefix("##"))) for piece in pieces
    ]
    most_bytes = MAX_WORD_CHARACTERS * len(unknown.encode())
    known = np.zeros(unicode.CODE_POINT + 1, np.int32)
    known[[ord(character) for character in characters]] = np.arange(len(characters)) + 1
    pages, rows = symbol_rows(*tokenizer.table, known)
    return Tables(
        searches=tokenizer.stages,
        normalizer=spaced(*tokenizer.normalizer) if tokenizer.normalizer else None,
        pages=pages,
        rows=rows,
        strings=["", " ", unknown, *symbols, *(f" {symbol} " for symbol in (unknown, *symbols))],
        model=build_fast_wordpiece_model([*written, UNKNOWN], most_bytes, "##", UNKNOWN, True, False),
        ids=np.array([*pieces.values(), tokenizer.unk_id], np.int32),
        tokenizer=tokenizer,
    )


def symbols_for(characters: Sequence[str], longest: int) -> list[str]:
    """Returns the unknown symbol, and one for each character of a vocabulary whose longest piece has this length."""
    for symbols in SYMBOLS:
        if len(symbols) > len(characters) and longest * len(chr(symbols[0]).encode()) <= MAX_PIECE_BYTES:
            return [chr(symbol) for symbol in symbols[: len(characters) + 1]]
    raise ValueError(
        f"the vocabulary has {len(characters)} different characters, and {longest} in one token, more than tf.text's "
        "operations can take; export the tensors flavour"
    )


def symbol_rows(pages: np.ndarray, entries: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts a table of characters to one of indices in `Tables.strings`; `known` numbers characters from 1 on."""
    code_points = np.arange(PAGES << unicode.PAGE_BITS)
    low = code_points & (1 << unicode.PAGE_BITS) - 1
    entries = entries[(pages[code_points >> unicode.PAGE_BITS] << unicode.PAGE_BITS) + low].copy()
    entries[:, 0] += code_points
    places = 2 + known[entries & unicode.CODE_POINT]
    places += np.where(entries & unicode.ISOLATED, known.max() + 1, 0).astype(np.int32)
    places = np.where(entries == unicode.SPACE, 1, np.where(entries < 0, 0, places))
    places[INSIDE] = 0
    places = places[:, : np.flatnonzero(places.any(axis=0)).max() + 1]
    places = places.astype(np.int32)
    numbers: dict[bytes, int] = {}  # of different pages; `np.unique` would sort all of them, which takes a second
    found = [numbers.setdefault(page.tobytes(), len(numbers)) for page in places.reshape(PAGES, -1)]
    blocks = np.frombuffer(b"".join(numbers), np.int32).reshape(-1, places.shape[1])
    return np.array(found, np.int32), blocks


def encode(text: tf.Tensor, tables: Tables, length: int | None, limit: int) -> dict[str, tf.Tensor]:
    """Encodes texts (batch,) as [CLS] text [SEP], padded: `input_ids`, `token_type_ids`, `attention_mask`, int32.

    Args:
        text: strings in UTF-8; bytes that are not are left out.
        tables: the tables of the tokenizer.
        length: the length of the rows; None: that of the longest, at most `limit`.
        limit: see `length`.
    """
    code_points = code_points_of(text, CHARACTERS_PER_TOKEN * (length or limit))
    is_marker = (code_points >= unicode.FIRST_MARKER) & (code_points <= unicode.LAST_MARKER)
    code_points = marked(tf.where(is_marker, 0, code_points), search_of(tables.searches.raw))
    if tables.normalizer:
        code_points = normalized(stripped(code_points, tables.searches), *tables.normalizer)
        code_points = marked(code_points, search_of(tables.searches.normalized))
    words, word_splits, *_ = tokenize_at_white_space(
        in_symbols(code_points, tables), build_whitespace_tokenizer_config()
    )
    _, pieces, piece_splits, *_ = tokenize_words(words, tf.constant(np.frombuffer(tables.model, np.uint8)))
    ids, splits = tf.gather(tables.ids, pieces), tf.gather(piece_splits, word_splits)
    return assembled(ids, splits, tables.tokenizer, length, limit)


def assembled(
    ids: tf.Tensor, splits: tf.Tensor, exact: Tokenizer, length: int | None, limit: int
) -> dict[str, tf.Tensor]:
    """Returns what `encode` returns, given the ids of all texts (ids,) and their row splits (batch + 1,)."""
    ids, splits = tf.concat([[exact.pad_id], ids], axis=0), tf.cast(splits, tf.int32)
    counts = splits[1:] - splits[:-1]
    kept = tf.minimum(counts, (length or limit) - 2)[:, tf.newaxis]  # (batch, 1)
    place = tf.range(tf.reduce_max(kept) + 2 if length is None else length)[tf.newaxis]  # (1, length)
    if exact.padding_side == "left":
        place -= tf.shape(place)[1] - (kept + 2)  # (batch, length), negative where there is padding
    within = (place > 0) & (place <= kept)
    first = splits[:-1, tf.newaxis]
    if exact.truncation_side == "left":
        first += counts[:, tf.newaxis] - kept
    rows = tf.gather(ids, tf.where(within, first + place, 0))
    rows = tf.where(place == 0, exact.cls_id, tf.where(place == kept + 1, exact.sep_id, rows))
    mask = tf.cast((place >= 0) & (place <= kept + 1), tf.int32)
    return {"input_ids": rows, "token_type_ids": tf.zeros_like(rows), "attention_mask": mask}


def code_points_of(text: tf.Tensor, count: int) -> tf.Tensor:
    """Converts texts (batch,) to code points (batch, count), with 0 behind a text."""
    bits = utf8_binarize(text, word_length=count, bits_per_char=CODE_POINT_BITS, replacement_char=0)
    bits = tf.cast(tf.reshape(bits, [-1, count, CODE_POINT_BITS]), tf.int32)
    return tf.reduce_sum(bits * (1 << np.arange(CODE_POINT_BITS, dtype=np.int32)), axis=2)


def in_symbols(code_points: tf.Tensor, tables: Tables) -> tf.Tensor:
    """Converts code points (batch, characters) to strings (batch,) of symbols, with spaces between the words."""
    count = code_points.shape[1] * tables.rows.shape[1]
    strings = tf.gather(tf.constant(tables.strings), look_up(code_points, tables.pages, tables.rows))
    joined, _ = join(tf.reshape(strings, [-1, count]), (), count, axis=-1, string_separator="")
    return tf.reshape(joined, [-1])

"""BERT's tokenizer inside a `.tflite` file, for the flavour `text`: the ids of `BertTokenizer`, from the raw question.

tf.text has a normaliser for TFLite, but its Unicode is not upstream's, and it takes special tokens apart. So the text
is taken to its code points (`Utf8Binarize`), and what becomes of them is looked up in the same table that all our
tokenizers use. TFLite has no operation from code points back to strings; but the vocabulary decides alone, so each of
its characters is written as a symbol of our own, every other character as one unknown symbol, and the symbols are
joined to a string (`NgramsStringJoin`), split (`WhitespaceTokenize`) and looked up (`FastWordpieceTokenize`) in a
vocabulary that is written in symbols too. All symbols have as many bytes, so that the limit of a word's length, which
tf.text counts in bytes, is upstream's.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from tensorflow_text.core.pybinds.pywrap_fast_wordpiece_tokenizer_model_builder import build_fast_wordpiece_model

from tfvl.lite.tokenizer import MAX_WORD_CHARACTERS, PAGES, Tokenizer
from tfvl.preprocessing import unicode_tables as unicode

MAX_CHARACTERS = 1024  # of a text; what comes after is not read
CUSTOM_OPERATORS = {  # tf.text's, as a TFLite file names them, and as TensorFlow's graph does
    "TFText>Utf8Binarize": "TFText>Utf8Binarize",
    "TFText>NgramsStringJoin": "TFText>NgramsStringJoin",
    "TFText>WhitespaceTokenizeWithOffsetsV2": "TFText>WhitespaceTokenizeWithOffsetsV2",
    "FastWordpieceTokenizeWithOffsets": "FastWordpieceTokenizeWithOffsets",
}
CODE_POINT_BITS = 21
# Code points whose UTF-8 has as many bytes each, and among which is no white space: enough of them, the fewest bytes.
SYMBOLS = (range(0x100, 0x800), range(0x4E00, 0xD800))
MAX_PIECE_BYTES = 256  # what FastWordpieceTokenize takes
UNKNOWN = "[UNK]"  # not made of symbols, so no text contains it


class Tables(NamedTuple):
    """What the graph looks things up in.

    Attributes:
        special: (tokens, longest) code points of the special tokens, the longest token first, 0 behind each.
        lengths, markers: (tokens,) their lengths, and the code points that stand for them.
        pages, rows: (4352,) and (pages · 256, 3): of each code point, up to three places in `strings`.
        strings: "", a space, and the symbols, alone and with spaces around them.
        model: of FastWordpieceTokenize.
        ids: of its pieces.
        cls, sep, pad: ids.
    """

    special: np.ndarray
    lengths: np.ndarray
    markers: np.ndarray
    pages: np.ndarray
    rows: np.ndarray
    strings: list[str]
    model: bytes
    ids: np.ndarray
    cls: int
    sep: int
    pad: int


def tables_of(tokenizer: Tokenizer) -> Tables:
    """Raises ValueError for options of a tokenizer that are not possible here."""
    if tokenizer.unsplit:
        raise ValueError(f"the text flavour has no never_split ({min(tokenizer.unsplit)!r}); export the tensors flavour")
    markers = dict(sorted(tokenizer.markers.items(), key=lambda item: -len(item[0])))
    for token in markers:
        for other in markers:
            if any(token[i:].startswith(other) or other.startswith(token[i:]) for i in range(1, len(token))):
                raise ValueError(
                    f"the special tokens {token!r} and {other!r} can overlap in a text; export the tensors flavour"
                )
    special = np.zeros([len(markers), max(2, *map(len, markers))], np.int32)
    for row, token in zip(special, markers, strict=True):
        row[: len(token)] = [ord(character) for character in token]

    pieces = {piece: i for piece, i in tokenizer.pieces.items() if len(piece.removeprefix("##")) <= MAX_WORD_CHARACTERS}
    characters = sorted({character for piece in pieces for character in piece.removeprefix("##")})
    symbols = next((each for each in SYMBOLS if len(each) > len(characters)), ())
    alphabet = {character: chr(symbol) for character, symbol in zip(characters, symbols, strict=False)}
    width = len(chr(symbols[-1]).encode()) if symbols else MAX_PIECE_BYTES
    if any(width * len(piece.removeprefix("##")) > MAX_PIECE_BYTES for piece in pieces):
        raise ValueError(f"the vocabulary's {len(characters)} characters, or its pieces, are more than tf.text can take")
    written = [
        "##" * piece.startswith("##") + "".join(map(alphabet.get, piece.removeprefix("##"))) for piece in pieces
    ]
    model = build_fast_wordpiece_model([*written, UNKNOWN], width * MAX_WORD_CHARACTERS, "##", UNKNOWN, True, False)

    known = np.zeros(PAGES << unicode.PAGE_BITS, np.int32)
    known[[ord(character) for character in characters]] = np.arange(len(characters)) + 1
    pages, rows = symbol_rows(*tokenizer.tables[0], known)
    drawn = [chr(symbols[len(characters)]), *alphabet.values()]  # the first is that of every unknown character
    return Tables(
        special,
        np.array([len(token) for token in markers], np.int32),
        np.array([ord(marker) for marker in markers.values()], np.int32),
        pages,
        rows,
        ["", " ", *drawn, *(f" {symbol} " for symbol in drawn)],
        model,
        np.array([*pieces.values(), tokenizer.unk_id], np.int32),
        tokenizer.cls_id,
        tokenizer.sep_id,
        tokenizer.pad_id,
    )


def symbol_rows(pages: np.ndarray, entries: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A tokenizer's table of characters as one of places in `Tables.strings`; `known` numbers characters from 1 on."""
    code_points = np.arange(PAGES << unicode.PAGE_BITS)
    low = code_points & (1 << unicode.PAGE_BITS) - 1
    entries = entries[(pages[code_points >> unicode.PAGE_BITS] << unicode.PAGE_BITS) + low].copy()
    entries[:, 0] += code_points
    places = 2 + known[entries & unicode.CODE_POINT & (known.size * 2 - 1)]
    places += np.where(entries & unicode.ISOLATED, known.max() + 1, 0).astype(np.int32)
    places = np.where(entries == unicode.SPACE, 1, np.where(entries < 0, 0, places))
    blocks, pages = np.unique(places.reshape(PAGES, -1), axis=0, return_inverse=True)
    return pages.ravel().astype(np.int32), blocks.reshape(-1, unicode.WIDTH).astype(np.int32)


def encode(text: tf.Tensor, tables: Tables, length: int | None, limit: int) -> dict[str, tf.Tensor]:
    """[CLS] text [SEP] of texts (batch,), cut and padded: `input_ids`, `token_type_ids`, `attention_mask`, int32.

    Args:
        text: strings in UTF-8; bytes that are not are left out.
        tables: of the tokenizer.
        length: of the rows; None: that of the longest, at most `limit`.
        limit: see `length`.
    """
    words = tf_text.WhitespaceTokenizer().tokenize(drawn(marked(code_points_of(text), tables), tables))
    wordpiece = tf_text.FastWordpieceTokenizer(
        model_buffer=tf.constant(np.frombuffer(tables.model, np.uint8)), token_out_type=tf.int32
    )
    pieces = wordpiece.tokenize(words.values)
    splits = tf.cast(tf.gather(pieces.row_splits, words.row_splits), tf.int32)  # (batch + 1,)
    ids = tf.concat([[tables.pad], tf.gather(tables.ids, pieces.values)], axis=0)
    kept = tf.minimum(splits[1:] - splits[:-1], (length or limit) - 2)[:, tf.newaxis]  # (batch, 1)
    place = tf.range(tf.reduce_max(kept) + 2 if length is None else length)[tf.newaxis]  # (1, length)
    within = (place > 0) & (place <= kept)
    rows = tf.gather(ids, tf.where(within, splits[:-1, tf.newaxis] + place, 0))
    rows = tf.where(place == 0, tables.cls, tf.where(place == kept + 1, tables.sep, rows))
    mask = tf.cast(place <= kept + 1, tf.int32)
    return {"input_ids": rows, "token_type_ids": tf.zeros_like(rows), "attention_mask": mask}


def code_points_of(text: tf.Tensor) -> tf.Tensor:
    """(batch, MAX_CHARACTERS), 0 behind the text."""
    bits = tf_text.utf8_binarize(text, word_length=MAX_CHARACTERS, bits_per_char=CODE_POINT_BITS)
    bits = tf.cast(tf.reshape(bits, [-1, MAX_CHARACTERS, CODE_POINT_BITS]), tf.int32)
    return tf.reduce_sum(bits * (1 << np.arange(CODE_POINT_BITS, dtype=np.int32)), axis=2)


def marked(code_points: tf.Tensor, tables: Tables) -> tf.Tensor:
    """With a marker in place of each special token's first character, and 0, which cleaning drops, of its others."""
    longest = tables.special.shape[1]
    is_marker = (code_points >= unicode.FIRST_MARKER) & (code_points <= unicode.LAST_MARKER)
    code_points = tf.where(is_marker, 0, code_points)
    windows = np.add.outer(np.arange(MAX_CHARACTERS), np.arange(longest))
    ahead = tf.gather(tf.pad(code_points, [[0, 0], [0, longest - 1]]), windows, axis=1)  # (batch, characters, longest)
    same = (tf.expand_dims(ahead, 2) == tables.special) | (tables.special == 0)
    matches = tf.cast(tf.reduce_all(same, axis=3), tf.int32)  # (batch, characters, tokens)
    numbers = np.arange(len(tables.lengths), 0, -1, dtype=np.int32)
    found = tf.reduce_max(matches * numbers, axis=2)  # 0: none; of several, the longest has the highest number
    lengths, markers = (np.append(0, each[::-1]).astype(np.int32) for each in (tables.lengths, tables.markers))
    behind = tf.gather(tf.pad(tf.gather(lengths, found), [[0, 0], [longest - 1, 0]]), windows[:, :-1], axis=1)
    inside = tf.reduce_any(behind > np.arange(longest - 1, 0, -1, dtype=np.int32), axis=2)
    return tf.where(found > 0, tf.gather(markers, found), tf.where(inside, 0, code_points))


def drawn(code_points: tf.Tensor, tables: Tables) -> tf.Tensor:
    """Code points (batch, characters) to strings (batch,) of symbols, with spaces between the words."""
    page_size = 1 << unicode.PAGE_BITS
    rows = tf.gather(tables.pages, code_points // page_size) * page_size + code_points % page_size
    strings = tf.gather(tf.constant(tables.strings), tf.gather(tables.rows, rows))  # (batch, characters, WIDTH)
    count = MAX_CHARACTERS * unicode.WIDTH
    joined = tf_text.ngrams(
        tf.reshape(strings, [-1, count]), count, axis=-1, reduction_type=tf_text.Reduction.STRING_JOIN, string_separator=""
    )
    return tf.reshape(joined, [-1])

"""Searches for added tokens (`tfvl.preprocessing.text.added_tokens`) in code points, by operations that TFLite has.

TFLite has no regular expressions, no loops over a text that end early and no cumulative maximum; each of these is
replaced by as many steps as a text's length has binary digits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfvl.preprocessing.text import unicode_tables as unicode
from tfvl.preprocessing.text.added_tokens import Pattern, Stages

INSIDE = unicode.LAST_MARKER  # replaces the characters of a token after the first, which its marker replaces


class Flags(NamedTuple):
    """The code points with a property: `rows[pages[c >> 8] * 256 + (c & 255)]` is 1 if c has it, else 0."""

    pages: np.ndarray
    rows: np.ndarray


class Search(NamedTuple):
    """The tokens of a search, as arrays.

    Attributes:
        texts: (tokens, longest) their code points, the longest token first, padded with 0.
        lengths: (tokens,) their lengths.
        markers: (tokens,) the code points that replace them; 0 leaves a token as it is.
        single_word: (tokens,) whether they count only if no character of a word is beside them.
        overlap: whether two of them can share characters of a text.
    """

    texts: np.ndarray
    lengths: np.ndarray
    markers: np.ndarray
    single_word: np.ndarray
    overlap: bool


def search_of(patterns: Sequence[Pattern]) -> Search:
    texts = np.zeros([len(patterns), max(2, *(len(pattern.text) for pattern in patterns))], np.int32)
    for row, pattern in zip(texts, patterns, strict=True):
        row[: len(pattern.text)] = [ord(character) for character in pattern.text]
    return Search(
        texts,
        np.array([len(pattern.text) for pattern in patterns], np.int32),
        np.array([ord(pattern.marker) if pattern.marker else 0 for pattern in patterns], np.int32),
        np.array([pattern.single_word for pattern in patterns]),
        any(_overlap(one.text, other.text) for one in patterns for other in patterns),
    )


def _overlap(token: str, other: str) -> bool:
    return any(token[i:].startswith(other) or other.startswith(token[i:]) for i in range(1, len(token)))


def flags_of(name: str) -> Flags:
    """Returns the flags of a property of `unicode_tables.spans`."""
    flags = np.zeros(0x110000, np.int32)
    for first, last in unicode.spans(name):
        flags[first : last + 1] = 1
    blocks, pages = np.unique(flags.reshape(-1, 1 << unicode.PAGE_BITS), axis=0, return_inverse=True)
    return Flags(pages.ravel().astype(np.int32), blocks.ravel())


def look_up(code_points: tf.Tensor, pages: np.ndarray, rows: np.ndarray) -> tf.Tensor:
    """Returns the rows of code points of any shape."""
    size = 1 << unicode.PAGE_BITS
    return tf.gather(rows, tf.gather(pages, code_points // size) * size + code_points % size)


def marked(code_points: tf.Tensor, search: Search) -> tf.Tensor:
    """Replaces the first character of each token in (batch, characters) by its marker, and the others by `INSIDE`."""
    longest, width = search.texts.shape[1], code_points.shape[1]
    windows = np.add.outer(np.arange(width), np.arange(longest)).astype(np.int32)
    ahead = tf.gather(tf.pad(code_points, [[0, 0], [0, longest - 1]]), windows, axis=1)  # (batch, characters, longest)
    same = (tf.expand_dims(ahead, 2) == search.texts) | (search.texts == 0)
    matches = tf.cast(tf.reduce_all(same, axis=3), tf.int32)  # (batch, characters, tokens)
    numbers = np.arange(len(search.lengths), 0, -1, dtype=np.int32)
    found = tf.reduce_max(matches * numbers, axis=2)  # 0: none; of several, the longest has the highest number

    def of_found(values: np.ndarray) -> tf.Tensor:
        return tf.gather(np.append(0, values[::-1]).astype(np.int32), found)

    if search.overlap:
        found = found * reached(tf.maximum(of_found(search.lengths), 1))
    if search.single_word.any():
        in_word = _beside_word(code_points, of_found(search.lengths))
        found = tf.where(in_word & (of_found(search.single_word) > 0), 0, found)
    markers = of_found(search.markers)
    lengths = tf.where(markers > 0, of_found(search.lengths), 0)
    behind = tf.gather(tf.pad(lengths, [[0, 0], [longest - 1, 0]]), windows[:, :-1], axis=1)
    inside = tf.reduce_any(behind > np.arange(longest - 1, 0, -1, dtype=np.int32), axis=2)
    return tf.where(markers > 0, markers, tf.where(inside, INSIDE, code_points))


def reached(steps: tf.Tensor) -> tf.Tensor:
    """Returns 1 for places that are reached from the first one, else 0, given the step from each (batch, places)."""
    width = steps.shape[1]
    rows = tf.range(tf.shape(steps)[0])[:, tf.newaxis]
    place = np.arange(width, dtype=np.int32)
    jump = tf.pad(tf.minimum(place + steps, width), [[0, 0], [0, 1]], constant_values=width)  # past the end stays there
    found = tf.zeros_like(jump) + np.eye(1, width + 1, dtype=np.int32)
    for _ in range(width.bit_length()):
        targets = tf.stack([rows + tf.zeros_like(jump), jump], axis=2)
        found = tf.minimum(found + tf.scatter_nd(targets, found, tf.shape(found)), 1)
        jump = tf.gather(jump, jump, batch_dims=1)
    return found[:, :-1]


def _beside_word(code_points: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """Returns for each place whether a character of a word is before it, or behind the token that begins there."""
    words = look_up(code_points, *flags_of("word"))
    place = np.arange(code_points.shape[1], dtype=np.int32)
    after = tf.gather(tf.pad(words, [[0, 0], [0, 1]]), place + lengths, batch_dims=1)
    return tf.pad(words, [[0, 0], [1, 0]])[:, :-1] + after > 0


def stripped(code_points: tf.Tensor, searches: Stages) -> tf.Tensor:
    """Replaces white space that belongs to a marker beside it by 0, which cleaning drops."""
    white = look_up(code_points, *flags_of("white_space"))
    solid = (white == 0) & (code_points != INSIDE)
    for markers, flip in ((searches.rstrip, False), (searches.lstrip, True)):
        if markers:
            beside = _last(code_points, solid, flip)[:, :, tf.newaxis]
            taken = tf.reduce_any(beside == np.array([ord(marker) for marker in markers], np.int32), axis=2)
            code_points = tf.where(taken & (white > 0), 0, code_points)
    return code_points


def _last(values: tf.Tensor, known: tf.Tensor, flip: bool) -> tf.Tensor:
    """Returns for each place the value at the nearest known one up to it, or from it on (`flip`); 0 without one."""
    if flip:
        return tf.reverse(_last(tf.reverse(values, [1]), tf.reverse(known, [1]), False), [1])
    width = values.shape[1]
    last = tf.where(known, np.arange(1, width + 1, dtype=np.int32)[np.newaxis], 0)
    for bit in range((width - 1).bit_length()):
        last = tf.maximum(last, tf.pad(last, [[0, 0], [1 << bit, 0]])[:, :width])
    return tf.gather(tf.pad(values, [[0, 0], [1, 0]]), last, batch_dims=1)


def normalized(code_points: tf.Tensor, pages: np.ndarray, entries: np.ndarray) -> tf.Tensor:
    """Normalises texts as upstream: (batch, characters) to (batch, 3 · characters), with 0 behind the text.

    Args:
        code_points: the code points of texts, and markers.
        pages, entries: a table that isolates no punctuation, whose entries are code points, as `spaced` makes it.
    """
    found = look_up(code_points, pages, entries)  # (batch, characters, 3), negative for none
    found = tf.reshape(found, [-1, code_points.shape[1] * unicode.WIDTH])
    kept = tf.cast(found >= 0, tf.int32)
    width = found.shape[1]
    place = tf.where(found >= 0, tf.cumsum(kept, axis=1) - 1, width)  # what is dropped goes past the end
    rows = tf.range(tf.shape(found)[0])[:, tf.newaxis] + tf.zeros_like(place)
    shape = tf.stack([tf.shape(found)[0], width + 1])
    return tf.scatter_nd(tf.stack([rows, place], axis=2), found * kept, shape)[:, :width]


def spaced(pages: np.ndarray, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts a normaliser's table to one whose entries are code points, with spaces around those that it isolates."""
    code_points = np.arange(len(pages) << unicode.PAGE_BITS, dtype=np.int32)
    found = entries[(pages[code_points >> unicode.PAGE_BITS] << unicode.PAGE_BITS) + (code_points & 0xFF)].copy()
    found[:, 0] += code_points
    is_marker = (code_points >= unicode.FIRST_MARKER) & (code_points <= unicode.LAST_MARKER)
    chinese = (found[:, 0] >= 0) & (found[:, 0] & unicode.ISOLATED != 0) & ~is_marker
    found = np.where(found < 0, -1, found & unicode.CODE_POINT)
    found[chinese, 1], found[chinese, 0], found[chinese, 2] = found[chinese, 0], unicode.SPACE, unicode.SPACE
    found[INSIDE] = -1
    blocks, pages = np.unique(found.reshape(len(pages), -1), axis=0, return_inverse=True)
    return pages.ravel().astype(np.int32), blocks.reshape(-1, unicode.WIDTH).astype(np.int32)

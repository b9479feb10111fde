"""The searches for added tokens (`tfvl.preprocessing.text.added_tokens`) among code points, as TFLite has operations.

TFLite has no regular expressions, no loops over a text that end early and no cumulative maximum; each of these is done
here in as many steps as a text's length has binary digits.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfvl.preprocessing.text import unicode_tables as unicode
from tfvl.preprocessing.text.added_tokens import Pattern, Stages

INSIDE = unicode.LAST_MARKER  # behind the marker of a token, in place of its other characters


class Flags(NamedTuple):
    """Code points with a property: of c, `rows[pages[c >> 8] * 256 + (c & 255)]` is 1, of others 0."""

    pages: np.ndarray
    rows: np.ndarray


class Search(NamedTuple):
    """What is looked for.

    Attributes:
        texts: (tokens, longest) code points, the longest token first, 0 behind each.
        lengths: (tokens,) of them.
        markers: (tokens,) the code points that stand for them; 0 where a token is to be left as it is.
        single_word: (tokens,) whether nothing of a word may be beside them.
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
    """Of `unicode_tables.spans`."""
    flags = np.zeros(0x110000, np.int32)
    for first, last in unicode.spans(name):
        flags[first : last + 1] = 1
    blocks, pages = np.unique(flags.reshape(-1, 1 << unicode.PAGE_BITS), axis=0, return_inverse=True)
    return Flags(pages.ravel().astype(np.int32), blocks.ravel())


def look_up(code_points: tf.Tensor, pages: np.ndarray, rows: np.ndarray) -> tf.Tensor:
    """The rows of code points of any shape."""
    size = 1 << unicode.PAGE_BITS
    return tf.gather(rows, tf.gather(pages, code_points // size) * size + code_points % size)


def marked(code_points: tf.Tensor, search: Search) -> tf.Tensor:
    """(batch, characters) with each token's marker in place of its first character, and `INSIDE` of its others."""
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
    """Of places (batch, places) 1 for those that are reached from the first one, the step from each being given."""
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
    """Whether a character of a word is before each place, or behind the token of that length that begins there."""
    words = look_up(code_points, *flags_of("word"))
    place = np.arange(code_points.shape[1], dtype=np.int32)
    after = tf.gather(tf.pad(words, [[0, 0], [0, 1]]), place + lengths, batch_dims=1)
    return tf.pad(words, [[0, 0], [1, 0]])[:, :-1] + after > 0


def stripped(code_points: tf.Tensor, searches: Stages) -> tf.Tensor:
    """Without the white space that goes with a marker beside it: 0 in its place, which cleaning drops."""
    white = look_up(code_points, *flags_of("white_space"))
    solid = (white == 0) & (code_points != INSIDE)
    for markers, flip in ((searches.rstrip, False), (searches.lstrip, True)):
        if markers:
            beside = _last(code_points, solid, flip)[:, :, tf.newaxis]
            taken = tf.reduce_any(beside == np.array([ord(marker) for marker in markers], np.int32), axis=2)
            code_points = tf.where(taken & (white > 0), 0, code_points)
    return code_points


def _last(values: tf.Tensor, known: tf.Tensor, flip: bool) -> tf.Tensor:
    """Of each place (batch, places) the value at the last known place up to it, or from it (`flip`); 0 for none."""
    if flip:
        return tf.reverse(_last(tf.reverse(values, [1]), tf.reverse(known, [1]), False), [1])
    width = values.shape[1]
    last = tf.where(known, np.arange(1, width + 1, dtype=np.int32)[np.newaxis], 0)
    for bit in range((width - 1).bit_length()):
        last = tf.maximum(last, tf.pad(last, [[0, 0], [1 << bit, 0]])[:, :width])
    return tf.gather(tf.pad(values, [[0, 0], [1, 0]]), last, batch_dims=1)


def normalized(code_points: tf.Tensor, pages: np.ndarray, entries: np.ndarray) -> tf.Tensor:
    """As upstream's normaliser leaves a text: (batch, characters) to (batch, 3 · characters), 0 behind the text.

    Args:
        code_points: of texts, and markers.
        pages, entries: a table that isolates no punctuation; but `entries` say themselves what a code point becomes.
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
    """A normaliser's table whose entries are code points themselves, with spaces around those that it isolates."""
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

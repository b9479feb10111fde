"""BERT's normalisation of each code point, as one small lookup table.

Upstream (`BertNormalizer` and `BertPreTokenizer` of the Rust library `tokenizers`) cleans the text, isolates Chinese
characters, decomposes (NFD) and strips accents, lower-cases, and splits at white space and punctuation. Each step but
one looks at a single code point, so their composition is a table: code point → up to three code points, each marked as
part of a word or as a word of its own. The exception is NFD's order of combining marks; the table holds their class.

The tables were measured on the library (tools/golden/unicode_tables.py): its Unicode version is not Python's, nor
ICU's.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

PAGE_BITS = 8
WIDTH = 3  # no code point becomes more than three
# An entry is a code point with flags above its 21 bits, or one of two negative marks.
CODE_POINT = (1 << 21) - 1
ISOLATED = 1 << 21  # a word of its own: punctuation, Chinese characters, special tokens
CLASS_UNIT = 1 << 22  # canonical combining class, times this
NOTHING = -(1 << 30)
BARRIER = -(1 << 29)  # nothing, but marks are not reordered across it
SPACE = 0x20
# Cleaning removes private-use code points from every text, so in the graph they can stand for special tokens.
FIRST_MARKER, LAST_MARKER = 0xF0000, 0xFFFFD
MARKERS = LAST_MARKER - FIRST_MARKER - 1  # the last two of them stand around special tokens while they are looked for
HANGUL = 0xAC00, 0xD7A3
_SPANS = ("nonspacing", "nonspacing_starters", "chinese", "dropped", "spaces")


class CharacterTable(NamedTuple):
    """`entries[pages[c >> 8] * 256 + (c & 255)]` is a row of WIDTH entries; the first is relative to `c`."""

    pages: np.ndarray  # (4352,) int32
    entries: np.ndarray  # (distinct pages · 256, WIDTH) int32
    reorders: bool  # whether some entry carries a combining class


@cache
def _measured() -> dict:
    return json.loads(Path(__file__).with_suffix(".json").read_text())


def spans(name: str) -> list[list[int]]:
    """Returns the measured code points with a property, "word" or "white_space", as pairs of first and last."""
    return _measured()[name]


def character_class(name: str) -> str:
    """Returns `spans(name)` as a class of characters in a regular expression."""
    return "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in spans(name)) + "]"


def look_up(text: str, pages: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Looks up a text's code points; returns the entries that are not negative, with marks in canonical order."""
    code_points = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int32)
    rows = entries[(pages[code_points >> PAGE_BITS] << PAGE_BITS) + (code_points & 0xFF)].copy()
    rows[:, 0] += code_points
    found = rows.ravel()
    if (found >= CLASS_UNIT).any():
        found = canonical_order(found[found >= BARRIER])
    return found[found >= 0]


def canonical_order(entries: np.ndarray) -> np.ndarray:
    """Sorts each run of combining marks in the entries by combining class, stably, as NFD requires."""
    classes = np.maximum(entries, 0) // CLASS_UNIT
    runs = np.cumsum(classes == 0)
    return entries[np.lexsort((classes, runs))]


def normalized(text: str, pages: np.ndarray, entries: np.ndarray) -> str:
    """Normalises a text as upstream's normaliser does; the table must be one without `isolate_punctuation`."""
    found = look_up(text, pages, entries)
    code_points = found & CODE_POINT
    chinese = (found & ISOLATED != 0) & ((code_points < FIRST_MARKER) | (code_points > LAST_MARKER))
    spaced = np.full([len(found), 3], SPACE, np.int32)
    spaced[:, 1] = code_points
    kept = np.stack([chinese, np.ones_like(chinese), chinese], axis=1)
    return spaced[kept].astype("<u4").tobytes().decode("utf-32-le")


def _members(name: str) -> list[int]:
    return [c for first, last in _measured()[name] for c in range(first, last + 1)]


def _mapping(name: str) -> dict[int, tuple[int, ...]]:
    return {c: tuple(target) for c, *target in _measured()[name]}


class _Rows:
    """The rows of the pages on which some code point changes, a quarter of a million; on other pages all stay the same.

    Attributes:
        touched: bool (4352,), which pages are included.
        table: (touched pages · 256, WIDTH).
    """

    def __init__(self, spans: Iterable[tuple[int, int]]):
        self.touched = np.zeros(0x110000 >> PAGE_BITS, bool)
        for first, last in spans:
            self.touched[first >> PAGE_BITS : (last >> PAGE_BITS) + 1] = True
        self._slots = np.cumsum(self.touched) - 1
        self.code_points = np.add.outer(np.flatnonzero(self.touched) << PAGE_BITS, np.arange(1 << PAGE_BITS)).ravel()
        self.table = np.full((len(self.code_points), WIDTH), NOTHING, np.int32)
        self.table[:, 0] = self.code_points

    def at(self, c):
        return (self._slots[c >> PAGE_BITS] << PAGE_BITS) + (c & (1 << PAGE_BITS) - 1)

    def span(self, first: int, last: int) -> np.ndarray:
        """Returns a view of the rows from one code point to another; all pages between them must be included."""
        return self.table[self.at(first) : self.at(last) + 1]

    def spans(self, name: str) -> list[np.ndarray]:
        return [self.span(first, last) for first, last in _measured()[name]]


def _hangul(rows: np.ndarray) -> None:
    """Decomposes the Hangul syllables (Unicode Standard, section 3.12) in place."""
    syllable = np.arange(len(rows))
    trailing = syllable % 28
    rows[:, 0] = 0x1100 + syllable // 588
    rows[:, 1] = 0x1161 + syllable % 588 // 28
    rows[:, 2] = np.where(trailing > 0, 0x11A7 + trailing, NOTHING)


@cache
def character_table(
    lowercase: bool, strip_accents: bool, isolate_chinese: bool, isolate_punctuation: bool = True
) -> CharacterTable:
    """Builds the table for a choice of `BertNormalizer`'s options; the markers of special tokens are isolated too."""
    lower = _mapping("lower") if lowercase else {}
    decompositions = _mapping("decompositions") if strip_accents else {}
    nonspacing = set(_members("nonspacing")) if strip_accents else set()
    flags = dict.fromkeys(_members("punctuation"), ISOLATED) if isolate_punctuation else {}
    if strip_accents:
        flags |= {c: combining_class * CLASS_UNIT for c, combining_class in _measured()["combining_class"]}

    changed = lower | decompositions | flags
    spans = [span for name in _SPANS for span in _measured()[name]]
    rows = _Rows([*spans, HANGUL, (FIRST_MARKER, LAST_MARKER), *((c, c) for c in changed)])
    if strip_accents:
        _hangul(rows.span(*HANGUL))
    for c in changed:
        parts = [part for part in decompositions.get(c, (c,)) if part not in nonspacing]
        parts = [letter for part in parts for letter in lower.get(part, (part,))]
        rows.table[rows.at(c)] = [part | flags.get(part, 0) for part in parts] + [NOTHING] * (WIDTH - len(parts))
    if strip_accents:
        for part in rows.spans("nonspacing"):
            part[:, 0] = NOTHING
        for part in rows.spans("nonspacing_starters"):
            part[:, 0] = BARRIER
    if isolate_chinese:
        for part in rows.spans("chinese"):
            part[:, 0] |= ISOLATED
    for part in rows.spans("dropped"):
        part[:] = NOTHING
    for part in rows.spans("spaces"):
        part[:, 0] = SPACE
    markers = np.arange(FIRST_MARKER, LAST_MARKER + 1)
    rows.span(FIRST_MARKER, LAST_MARKER)[:, 0] = markers | ISOLATED

    first = rows.table[:, 0]
    first -= np.where(first >= 0, rows.code_points, 0).astype(np.int32)
    same = np.array([[0, *[NOTHING] * (WIDTH - 1)]] * (1 << PAGE_BITS), np.int32).tobytes()
    blocks = iter(rows.table.reshape(-1, 1 << PAGE_BITS, WIDTH))
    numbers: dict[bytes, int] = {}
    contents = (next(blocks).tobytes() if touched else same for touched in rows.touched)
    pages = np.array([numbers.setdefault(content, len(numbers)) for content in contents], np.int32)
    distinct = np.frombuffer(b"".join(numbers), np.int32).reshape(-1, WIDTH)
    return CharacterTable(pages, distinct, reorders=strip_accents)

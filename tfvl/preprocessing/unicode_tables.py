"""What BERT's normalisation makes of each code point, as one small lookup table.

Upstream (`BertNormalizer` and `BertPreTokenizer` of the Rust library `tokenizers`) cleans the text, isolates Chinese
characters, decomposes (NFD) and strips accents, lower-cases, and splits at white space and punctuation. Each step but
one looks at a single code point, so their composition is a table: code point → up to three code points, each marked as
part of a word or as a word of its own. The exception is NFD's order of combining marks; the table holds their class.

The tables were measured on the library (tools/make_unicode_tables.py): its Unicode version is not Python's, nor ICU's.
"""

import json
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


class CharacterTable(NamedTuple):
    """`entries[pages[c >> 8] * 256 + (c & 255)]` is a row of WIDTH entries; the first is relative to `c`."""

    pages: np.ndarray  # (4352,) int32
    entries: np.ndarray  # (distinct pages · 256, WIDTH) int32
    reorders: bool  # whether some entry carries a combining class


@cache
def _measured() -> dict:
    return json.loads(Path(__file__).with_suffix(".json").read_text())


def _members(name: str) -> list[int]:
    return [c for first, last in _measured()[name] for c in range(first, last + 1)]


def _mapping(name: str) -> dict[int, tuple[int, ...]]:
    return {c: tuple(target) for c, *target in _measured()[name]}


def _hangul(table: np.ndarray) -> None:
    """Decompose the Hangul syllables (Unicode Standard, section 3.12) in place."""
    syllable = np.arange(11172)
    trailing = syllable % 28
    table[0xAC00:0xD7A4, 0] = 0x1100 + syllable // 588
    table[0xAC00:0xD7A4, 1] = 0x1161 + syllable % 588 // 28
    table[0xAC00:0xD7A4, 2] = np.where(trailing > 0, 0x11A7 + trailing, NOTHING)


@cache
def character_table(
    lowercase: bool, strip_accents: bool, isolate_chinese: bool, isolate_punctuation: bool = True
) -> CharacterTable:
    """The table for one choice of `BertNormalizer`'s options; the markers of special tokens are isolated too."""
    lower = _mapping("lower") if lowercase else {}
    decompositions = _mapping("decompositions") if strip_accents else {}
    nonspacing = set(_members("nonspacing")) if strip_accents else set()
    flags = dict.fromkeys(_members("punctuation"), ISOLATED) if isolate_punctuation else {}
    if strip_accents:
        flags |= {c: combining_class * CLASS_UNIT for c, combining_class in _measured()["combining_class"]}

    code_points = np.arange(0x110000, dtype=np.int32)
    table = np.full((0x110000, WIDTH), NOTHING, np.int32)
    table[:, 0] = code_points
    if strip_accents:
        _hangul(table)
    for c in lower | decompositions | flags:
        parts = [part for part in decompositions.get(c, (c,)) if part not in nonspacing]
        parts = [letter for part in parts for letter in lower.get(part, (part,))]
        table[c] = [part | flags.get(part, 0) for part in parts] + [NOTHING] * (WIDTH - len(parts))
    if strip_accents:
        table[_members("nonspacing"), 0] = NOTHING
        table[_members("nonspacing_starters"), 0] = BARRIER
    if isolate_chinese:
        table[_members("chinese"), 0] |= ISOLATED
    table[_members("dropped")] = NOTHING
    table[_members("spaces"), 0] = SPACE
    table[FIRST_MARKER : LAST_MARKER + 1, 0] = code_points[FIRST_MARKER : LAST_MARKER + 1] | ISOLATED

    table[:, 0] -= np.where(table[:, 0] >= 0, code_points, 0)
    numbers: dict[bytes, int] = {}
    blocks = table.reshape(-1, 1 << PAGE_BITS, WIDTH)
    pages = np.array([numbers.setdefault(block.tobytes(), len(numbers)) for block in blocks], np.int32)
    distinct = np.frombuffer(b"".join(numbers), np.int32).reshape(-1, WIDTH)
    return CharacterTable(pages, distinct, reorders=strip_accents)

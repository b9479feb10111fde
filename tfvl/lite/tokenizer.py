"""BERT's tokenizer in plain Python: the ids of `tfvl.BertTokenizer`, and so upstream's, without TensorFlow.

All that Unicode asks for is in one table, `characters.bin` of the file, so that a client in any language needs no
Unicode library: little-endian int32, first the number of pages P, then 4352 page numbers (one for each 256 code
points), then P · 256 rows of 3 entries. What code point c becomes is row `pages[c >> 8] * 256 + (c & 255)`, c being
added to its first entry. An entry then is a code point with flags above its 21 bits, as
`tfvl.preprocessing.text.unicode_tables` has them, or negative for none. A second such table may follow, for
`never_split`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfvl.preprocessing.text import unicode_tables as tables

PAGES = 0x110000 >> tables.PAGE_BITS
MAX_WORD_CHARACTERS = 100  # upstream's max_input_chars_per_word: a longer word is unknown as a whole
SPECIAL_TOKENS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_ANY_MARKER = re.compile(f"[{chr(tables.FIRST_MARKER)}-{chr(tables.LAST_MARKER)}]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def pack(options: Mapping[str, Any]) -> bytes:
    """`characters.bin` for a tokenizer's options, those of `BertTokenizer.get_config`."""
    lowercase, strip = options["do_lower_case"], options["strip_accents"]
    isolate_chinese = options["tokenize_chinese_chars"]
    packed = [tables.character_table(lowercase, lowercase if strip is None else strip, isolate_chinese)]
    if options["never_split"]:
        packed.append(tables.character_table(False, False, isolate_chinese, isolate_punctuation=False))
    parts = [np.concatenate([[table.pages.max() + 1], table.pages, table.entries.ravel()]) for table in packed]
    return b"".join(part.astype("<i4").tobytes() for part in parts)


def unpack(packed: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """The tables of `characters.bin`: pages (4352,) and entries (P · 256, 3). Raises ValueError for other bytes."""
    if len(packed) % 4:
        raise ValueError("characters.bin is no table of 32-bit numbers")
    numbers, found = np.frombuffer(packed, "<i4"), []
    while len(numbers):
        count = int(numbers[0])
        size = 1 + PAGES + (count << tables.PAGE_BITS) * tables.WIDTH
        pages, entries = numbers[1 : 1 + PAGES], numbers[1 + PAGES : size]
        if not 0 < count <= PAGES or len(numbers) < size or pages.min() < 0 or pages.max() >= count:
            raise ValueError("characters.bin is damaged")
        found.append((pages, entries.reshape(-1, tables.WIDTH)))
        numbers = numbers[size:]
    if not 0 < len(found) <= 2:
        raise ValueError("characters.bin holds no table")
    return found


class Tokenizer:
    """Texts to ids.

    Args:
        vocabulary: token to id, all of them.
        options: what `BertTokenizer.get_config` says, without the vocabulary.
        characters: the bytes of `characters.bin`.

    Attributes:
        tokens: by id.
        markers: the code points that stand for special tokens and for words of `never_split`.
        unsplit: the words of `never_split`.
        pieces: what words are made of, markers among them, to ids.
        tables: of `characters`, see `unpack`.

    Raises:
        ValueError: the three do not fit together.
    """

    def __init__(self, vocabulary: Mapping[str, int], options: Mapping[str, Any], characters: bytes):
        named = [options.get(name) for name in SPECIAL_TOKENS]
        added = options.get("additional_special_tokens") or []
        missing = [token for token in (*named, *added) if token not in vocabulary]
        if missing:
            raise ValueError(f"the vocabulary lacks the special token {missing[0]!r}")
        self.unk_id, self.sep_id, self.pad_id, self.cls_id, self.mask_id = (vocabulary[token] for token in named)
        self.mask_token = options["mask_token"]
        special = sorted({*named, *added}, key=len, reverse=True)
        unsplit = sorted(set(options.get("never_split") or ()) - set(special))
        markers = {token: chr(tables.FIRST_MARKER + i) for i, token in enumerate([*special, *unsplit])}
        self._special = re.compile("|".join(map(re.escape, special)))
        self.markers, self.unsplit = markers, set(unsplit)
        reachable = (token for token in vocabulary if token.removeprefix("##") and not _ANY_MARKER.search(token))
        self.pieces = {token: vocabulary[token] for token in reachable}
        self.pieces |= {marker: vocabulary.get(token, self.unk_id) for token, marker in markers.items()}
        self._longest = max(map(len, self.pieces))
        self.tables = unpack(characters)
        if unsplit and len(self.tables) < 2:
            raise ValueError("characters.bin lacks the table for never_split")
        self.tokens = {i: token for token, i in vocabulary.items()}

    def __call__(self, text: str | bytes) -> list[int]:
        """The ids of a text, without [CLS] and [SEP]. Bytes that are not UTF-8 are left out."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        text = _SURROGATES.sub("\ufffd", text)
        text = self._special.sub(lambda match: self.markers[match[0]], _ANY_MARKER.sub("\ufffd", text))
        if self.unsplit:
            words = self._split(text, self.tables[1])
            text = " ".join(self.markers[word] if word in self.unsplit else word for word in words)
        return [i for word in self._split(text, self.tables[0]) for i in self._word_ids(word)]

    def encode(self, text: str, pair: str | None = None, *, length: int) -> tuple[list[int], list[int]]:
        """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP], of at most `length` ids, and the token types.

        What is too long is cut at the end, of two texts the longer one first.
        """
        rows = [self(text)] if pair is None else [self(text), self(pair)]
        kept = truncated([len(row) for row in rows], max(length - len(rows) - 1, 0))
        ids, types = [self.cls_id], [0]
        for number, (row, count) in enumerate(zip(rows, kept, strict=True)):
            ids += [*row[:count], self.sep_id]
            types += [number] * (count + 1)
        return ids, types

    def _split(self, text: str, table: tuple[np.ndarray, np.ndarray]) -> list[str]:
        """Normalised words."""
        pages, entries = table
        code_points = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int32)
        rows = entries[(pages[code_points >> tables.PAGE_BITS] << tables.PAGE_BITS) + (code_points & 0xFF)].copy()
        rows[:, 0] += code_points
        flat = rows.ravel()
        if (flat >= tables.CLASS_UNIT).any():
            flat = canonical_order(flat[flat >= tables.BARRIER])
        words, word = [], []
        for entry in flat[flat >= 0].tolist():
            character = entry & tables.CODE_POINT
            isolated = entry & tables.ISOLATED
            if isolated or character == tables.SPACE:
                if word:
                    words.append("".join(word))
                    word = []
                if isolated:
                    words.append(chr(character))
            else:
                word.append(chr(character))
        return [*words, "".join(word)] if word else words

    def _word_ids(self, word: str) -> list[int]:
        """The longest pieces from left to right; the unknown token where the vocabulary cannot spell the word."""
        ids, start = [], 0
        if len(word) > MAX_WORD_CHARACTERS:
            return [self.unk_id]
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(min(len(word), start + self._longest), start, -1):
                if (piece := self.pieces.get(prefix + word[start:end])) is not None:
                    break
            else:
                return [self.unk_id]
            ids.append(piece)
            start = end
        return ids


def canonical_order(entries: np.ndarray) -> np.ndarray:
    """Entries with each run of combining marks sorted by combining class, stably, as NFD asks."""
    classes = np.maximum(entries, 0) // tables.CLASS_UNIT
    runs = np.cumsum(classes == 0)
    return entries[np.lexsort((classes, runs))]


def truncated(lengths: Sequence[int], room: int) -> list[int]:
    """What upstream's strategy "longest_first" leaves of one or two lengths."""
    if sum(lengths) <= room or len(lengths) == 1:
        return [min(length, room) for length in lengths]
    shorter = min(*lengths, room // 2)
    longer = room - shorter
    return [longer, shorter] if lengths[0] > lengths[1] else [shorter, longer]

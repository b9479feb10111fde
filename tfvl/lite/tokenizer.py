"""BERT's tokenizer in plain Python: it gives the ids of `tfvl.BertTokenizer`, and so upstream's, without TensorFlow.

All that is needed of Unicode is in one table, `characters.bin` of the file, so that a client in any language needs no
Unicode library: little-endian int32, first the number of pages P, then 4352 page numbers (one for each 256 code
points), then P · 256 rows of 3 entries. Code point c becomes row `pages[c >> 8] * 256 + (c & 255)`, with c added to its
first entry. An entry then is a code point with flags above its 21 bits, as `tfvl.preprocessing.text.unicode_tables`
defines them, or negative for none.

More such tables may follow: one for `never_split` if there are such words, and one that only normalises if an added
token is `normalized`. In that case the last table normalises the text, and the first one only splits it at white space
and punctuation.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfvl.preprocessing.text import unicode_tables as tables
from tfvl.preprocessing.text.added_tokens import AddedToken, Pattern, Stages, markers_of, searched, stages
from tfvl.preprocessing.text.options import SIDES
from tfvl.preprocessing.text.token_table import SPECIAL_TOKENS

PAGES = 0x110000 >> tables.PAGE_BITS
MAX_WORD_CHARACTERS = 100  # upstream's max_input_chars_per_word: a longer word is unknown as a whole
_ANY_MARKER = re.compile(f"[{chr(tables.FIRST_MARKER)}-{chr(tables.LAST_MARKER)}]")
_SURROGATES = re.compile("[\ud800-\udfff]")
ADDED = "added_tokens_decoder"


def described(config: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    """Returns a tokenizer's configuration as a file holds it: the vocabulary of word pieces, and the options.

    If a token counts only as a single word, the options have `word_characters`, pairs of the first and the last code
    point, which tell clients what characters belong to words.
    """
    options = {name: value for name, value in config.items() if name != "vocab"}
    if any(token["single_word"] for token in options.get(ADDED, {}).values()):
        options["word_characters"] = tables.spans("word")
    return dict(config["vocab"]), options


def normalizes(options: Mapping[str, Any]) -> bool:
    """Returns whether an added token is searched for in the normalised text."""
    return any(token["normalized"] for token in options.get(ADDED, {}).values())


def pack(options: Mapping[str, Any]) -> bytes:
    """Builds `characters.bin` for a tokenizer's options, those of `BertTokenizer.get_config`."""
    lowercase, strip = options["do_lower_case"], options["strip_accents"]
    isolate_chinese = options["tokenize_chinese_chars"]
    normalizer = lowercase, lowercase if strip is None else strip, isolate_chinese
    packed = [tables.character_table(*(False, False, False) if normalizes(options) else normalizer)]
    if options["never_split"]:
        packed.append(tables.character_table(False, False, isolate_chinese, isolate_punctuation=False))
    if normalizes(options):
        packed.append(tables.character_table(*normalizer, isolate_punctuation=False))
    parts = [np.concatenate([[table.pages.max() + 1], table.pages, table.entries.ravel()]) for table in packed]
    return b"".join(part.astype("<i4").tobytes() for part in parts)


def unpack(packed: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Reads the tables of `characters.bin`: pages (4352,) and entries (P · 256, 3).

    Raises ValueError for other bytes.
    """
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
    return found


class Tokenizer:
    """Converts texts to ids as `BertTokenizer` does, without TensorFlow.

    Args:
        vocabulary: the id of each token that words are made of.
        options: the result of `BertTokenizer.get_config`, without the vocabulary. If it has no `added_tokens_decoder`,
            the special tokens have their ids in the vocabulary.
        characters: the bytes of `characters.bin`.

    Attributes:
        tokens: all tokens by id.
        markers: the code points that stand for added tokens and for words of `never_split`.
        unsplit: the words of `never_split`.
        stages: the searches for added tokens, see `added_tokens`.
        pieces: the ids of the pieces of words, and of markers.
        table, normalizer: tables of `characters`, see `unpack`: one that splits words, one that normalises before, or
            None.
        padding_side, truncation_side: "right" or "left".

    Raises:
        ValueError: the arguments do not fit together.
    """

    def __init__(self, vocabulary: Mapping[str, int], options: Mapping[str, Any], characters: bytes):
        named = [options.get(name) for name in SPECIAL_TOKENS]
        added = _added(vocabulary, options, named)
        ids = {token.content: i for i, token in added.items()}
        self.unk_id, self.sep_id, self.pad_id, self.cls_id, self.mask_id = (ids[token] for token in named)
        self.mask_token = options["mask_token"]
        self.padding_side = options.get("padding_side", SIDES[0])
        self.truncation_side = options.get("truncation_side", SIDES[0])
        unsplit = sorted(set(options.get("never_split") or ()) - ids.keys())
        self.markers, self.unsplit = markers_of([*ids, *unsplit]), set(unsplit)
        self.table, *more = unpack(characters) or [None]
        normalized = normalizes(options)
        if self.table is None or len(more) != bool(options.get("never_split")) + normalized:
            raise ValueError("characters.bin has not the tables that the tokenizer's options need")
        self.normalizer = more[-1] if normalized else None
        self._white_space = more[0] if unsplit else None
        self.stages = stages(added.values(), self.markers, self._normalized, bool(options.get("split_special_tokens")))
        self._raw, self._later = Search(self.stages.raw), Search(self.stages.normalized)
        self._stripping = stripping(self.stages) if normalized else []
        reachable = (token for token in vocabulary if token.removeprefix("##") and not _ANY_MARKER.search(token))
        self.pieces = {token: vocabulary[token] for token in reachable}
        self.pieces |= {
            marker: ids.get(token, vocabulary.get(token, self.unk_id)) for token, marker in self.markers.items()
        }
        self._longest = max(map(len, self.pieces))
        self.tokens = {i: token for token, i in vocabulary.items()}
        self.tokens |= {i: searched(token, self._normalized) for i, token in added.items()}

    def _normalized(self, text: str) -> str:
        return tables.normalized(text, *self.normalizer)

    def __call__(self, text: str | bytes) -> list[int]:
        """Returns the ids of a text, without [CLS] and [SEP]. Bytes that are not UTF-8 are left out."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        text = self._raw(_ANY_MARKER.sub("\ufffd", _SURROGATES.sub("\ufffd", text)))
        if self.unsplit:
            words = split(text, self._white_space)
            text = " ".join(self.markers[word] if word in self.unsplit else word for word in words)
        if self.normalizer:
            for beside in self._stripping:
                text = beside.sub(r"\1", text)
            text = self._later(self._normalized(text))
        return [i for word in split(text, self.table) for i in self._word_ids(word)]

    def encode(self, text: str, pair: str | None = None, *, length: int) -> tuple[list[int], list[int]]:
        """Returns [CLS] text [SEP], or [CLS] text [SEP] pair [SEP], of at most `length` ids, and the token types.

        A text that is too long is cut at `truncation_side`; of two texts the longer one is cut first.
        """
        rows = [self(text), self(pair)] if pair else [self(text)]
        kept = truncated([len(row) for row in rows], max(length - len(rows) - 1, 0))
        ids, types = [self.cls_id], [0]
        for number, (row, count) in enumerate(zip(rows, kept, strict=True)):
            ids += [*(row[:count] if self.truncation_side == "right" else row[len(row) - count :]), self.sep_id]
            types += [number] * (count + 1)
        return ids, types

    def _word_ids(self, word: str) -> list[int]:
        """Splits a word into the longest pieces from left to right; if that is impossible, it is the unknown token."""
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


def _added(vocabulary: Mapping[str, int], options: Mapping[str, Any], named: Sequence[str]) -> dict[int, AddedToken]:
    """Returns the added tokens by id. Raises ValueError if one of the named special tokens is not among them."""
    decoder = options.get(ADDED)
    if decoder is not None:
        if not isinstance(decoder, Mapping):
            raise ValueError(f"{ADDED} is {decoder!r:.40}, expected an object")
        added = {int(i): AddedToken.of(token) for i, token in decoder.items()}
        known = {token.content for token in added.values()}
    else:
        special = dict.fromkeys([*named, *(options.get("additional_special_tokens") or ())])
        added = {vocabulary[token]: AddedToken.of(token, special=True) for token in special if token in vocabulary}
        known, named = set(vocabulary), tuple(special)
    missing = [token for token in named if token not in known]
    if missing:
        raise ValueError(f"the vocabulary lacks the special token {missing[0]!r}")
    return added


class Search:
    """Replaces each token that it finds in a text by a marker."""

    def __init__(self, patterns: Sequence[Pattern]):
        self._patterns = {pattern.text: pattern for pattern in patterns}  # longest first
        self._any = re.compile("|".join(map(re.escape, self._patterns)))
        single = any(pattern.single_word for pattern in patterns)
        self._word = re.compile(tables.character_class("word")) if single else None

    def __call__(self, text: str) -> str:
        return self._any.sub(self._marker, text) if self._patterns else text

    def _marker(self, found: re.Match) -> str:
        pattern = self._patterns[found[0]]
        beside = found.string[: found.start()][-1:] + found.string[found.end() :][:1] if pattern.single_word else ""
        return found[0] if beside and self._word.search(beside) else pattern.marker or found[0]


def stripping(searches: Stages) -> list[re.Pattern]:
    """Returns a pattern that removes white space beside the markers of tokens that strip it."""
    spaces = tables.character_class("white_space")
    sides = (searches.lstrip, f"{spaces}+([{searches.lstrip}])"), (searches.rstrip, f"([{searches.rstrip}]){spaces}+")
    return [re.compile(pattern) for markers, pattern in sides if markers]


def split(text: str, table: tuple[np.ndarray, np.ndarray]) -> list[str]:
    """Splits a text into words, normalised by the table."""
    words, word = [], []
    for entry in tables.look_up(text, *table).tolist():
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


def truncated(lengths: Sequence[int], room: int) -> list[int]:
    """Returns the lengths to which upstream's strategy "longest_first" cuts one or two texts."""
    if sum(lengths) <= room or len(lengths) == 1:
        return [min(length, room) for length in lengths]
    shorter = min(*lengths, room // 2)
    longer = room - shorter
    return [longer, shorter] if lengths[0] > lengths[1] else [shorter, longer]

"""Writes tfvl/preprocessing/text/unicode_tables.json: what the `tokenizers` library does to each code point.

The normalisation of `BertNormalizer` depends on the Unicode version inside the Rust crates, which is neither Python's
nor ICU's. So the tables are measured, one code point at a time, on the library itself.
Run where tokenizers is installed: python tools/golden/unicode_tables.py
"""

import json
import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import NFD, BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

OUTPUT = Path(__file__).parents[2] / "tfvl/preprocessing/text/unicode_tables.json"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by arithmetic, so not listed


def normalizer(step: str):
    steps = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    return BertNormalizer(**steps | {step: True}).normalize_str


def runs(code_points: Iterable[int]) -> list[list[int]]:
    """Groups sorted code points into runs, [first, last]."""
    result: list[list[int]] = []
    for c in code_points:
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def is_starter(c: int) -> bool:
    """Returns whether canonical ordering never moves it: U+0345 (class 240) and U+0334 (class 1) do not pass it."""
    after, before = f"a\u0345{chr(c)}", f"a{chr(c)}\u0334"
    return NFD().normalize_str(after) == after and NFD().normalize_str(before) == before


def beside_added_token(**flags: bool) -> Callable[[int], list[tuple[int, int]]]:
    """Returns a function of a code point c: the spans of "a" + c + "a" that an added token "a" with the flags takes."""
    tokenizer = Tokenizer(WordPiece({"?": 0}, unk_token="?"))
    tokenizer.add_tokens([AddedToken("a", normalized=False, **flags)])

    def taken(c: int) -> list[tuple[int, int]]:
        encoding = tokenizer.encode(f"a{chr(c)}a")
        return [offsets for offsets, i in zip(encoding.offsets, encoding.ids, strict=True) if i]

    return taken


def check_order(classes: dict[int, int]) -> None:
    """Checks that the library orders every pair by the canonical combining classes, which come from Python."""
    for a, class_a in classes.items():
        for b, class_b in classes.items():
            text = f"a{chr(a)}{chr(b)}"
            swapped = NFD().normalize_str(text) != text
            assert swapped == (class_b < class_a), (hex(a), hex(b))


def main() -> None:
    clean, chinese, strip, lower = map(normalizer, ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"))
    decompose, split = NFD().normalize_str, BertPreTokenizer().pre_tokenize_str
    single_word, stripping = beside_added_token(single_word=True), beside_added_token(rstrip=True)
    cleaned = {c: clean(chr(c)) for c in CODE_POINTS}
    dropped = {c for c, text in cleaned.items() if not text}
    spaces = [c for c, text in cleaned.items() if text == " "]
    decompositions = {c: decompose(chr(c)) for c in CODE_POINTS if c not in HANGUL}
    nonspacing = [c for c in CODE_POINTS if not strip(chr(c)) and decompose(chr(c)) == chr(c) and c not in dropped]
    lowered = {c: lower(chr(c)) for c in CODE_POINTS}
    pieces = {c: [piece for piece, _ in split(f"a{chr(c)}a")] for c in CODE_POINTS if c not in dropped}
    unsplit_spaces = {c for c, parts in pieces.items() if parts == ["a", "a"]} - set(spaces)
    assert not unsplit_spaces, "the pre-tokenizer knows white space that clean_text does not"
    reordered = {
        c: unicodedata.combining(chr(c))
        for c in CODE_POINTS
        if c not in dropped and decompositions.get(c) == chr(c) and strip(chr(c)) and not is_starter(c)
    }
    check_order(reordered)
    tables = {
        "source": f"tokenizers {tokenizers.__version__}",
        "dropped": runs(sorted(dropped)),
        "spaces": runs(spaces),
        "chinese": runs(c for c in CODE_POINTS if chinese(chr(c)) != chr(c)),
        "punctuation": runs(c for c, parts in pieces.items() if len(parts) == 3),
        "word": runs(c for c in CODE_POINTS if not single_word(c)),
        "white_space": runs(c for c in CODE_POINTS if (0, 2) in stripping(c)),
        "nonspacing": runs(nonspacing),
        "nonspacing_starters": runs(filter(is_starter, nonspacing)),
        "combining_class": sorted(reordered.items()),
        "lower": [[c, *map(ord, text)] for c, text in lowered.items() if text != chr(c)],
        "decompositions": [[c, *map(ord, text)] for c, text in decompositions.items() if text != chr(c)],
    }
    lines = (f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in tables.items())
    temporary = OUTPUT.with_suffix(".tmp")
    temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(temporary, OUTPUT)
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes, {tables['source']}")


if __name__ == "__main__":
    main()

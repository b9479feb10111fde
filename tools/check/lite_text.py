"""Counts where tokenizers in TFLite files differ from the exact one: `python tools/check/lite_text.py [--every]`.

There are two, the one that `tfvl.export.lite(…, flavour="text")` writes, and tf.text's `FastBertTokenizer`; both encode
several classes of texts. A text is counted if any of its ids differs from that of `tfvl.BertTokenizer`.
"""

import random
import sys
import unicodedata
from pathlib import Path

import typer

from tfvl.cli.console import print_table, run_script
from tfvl.files.quiet import quiet_tensorflow

quiet_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_text as tf_text  # noqa: E402

import tfvl  # noqa: E402
from tfvl import shapes  # noqa: E402
from tfvl.export.tflite import text as lite_text  # noqa: E402
from tfvl.lite import tokenizer as lite_tokenizer  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from support import bert_texts  # noqa: E402
from support.lite_text import BATCH, Ids, as_tflite, text_flavour  # noqa: E402

LENGTH, SEED = 64, 7
SHORT = 16  # tokens, enough for a single code point's text
EXAMPLE = 24  # characters of an example that are shown
ACCENTED = "àâäçéèêëîïñóôöõøùûüýÿæœßåšžłđÀÉÎÕÜŞĞİı"
LETTERS = "abcdefghij klmnopqrstuvwxyz "
SCRIPTS = {
    "Chinese, Japanese kana": ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x3041, 0x30FF)),
    "Hangul": ((0xAC00, 0xD7A3),),
    "Arabic, Hebrew, Devanagari, Thai": ((0x620, 0x6D3), (0x5D0, 0x5EA), (0x905, 0x94D), (0xE01, 0xE4E)),
    "Greek, Cyrillic": ((0x391, 0x3FF), (0x400, 0x4FF)),
    "emoji and symbols": ((0x1F300, 0x1FAFF), (0x2190, 0x27BF), (0x20, 0x7E)),
    "control and format characters": ((0x00, 0x1F), (0x7F, 0x9F), (0x2000, 0x200F), (0x2028, 0x202F), (0x61, 0x7A)),
    "combining marks": ((0x300, 0x36F), (0x61, 0x7A), (0x20, 0x20)),
}
CATEGORIES = {"Cn": "unassigned", "Co": "private use", "Cc": "control", "Cf": "format", "M": "marks"}


def classes() -> dict[str, list[str | bytes]]:
    """Makes texts by class, the same at each call."""
    rng = random.Random(SEED)

    def drawn(spans, count: int = 2000) -> list[str]:
        return ["".join(chr(rng.randint(*rng.choice(spans))) for _ in range(rng.randint(1, 20))) for _ in range(count)]

    def around(parts, count: int = 2000) -> list[str]:
        words = "what is the color of man's U.S.A. 3.14 red".split()
        return [
            "".join(rng.choice(("", " ")) + rng.choice(rng.choice((parts, words))) for _ in range(rng.randint(1, 6)))
            for _ in range(count)
        ]

    answers = bytes(np.load(bert_texts.TEXT, allow_pickle=False)["answers"]).decode().split("\n")
    return {
        "questions about drawn scenes": sorted({q.text for _, q in shapes.held_out_questions(5000)}),
        "English sentences": sorted(set(bert_texts.english(rng, 3000))),
        "answers of VQA and GQA": answers,
        "Latin letters with accents": ["".join(rng.choices(LETTERS + ACCENTED, k=20)) for _ in range(2000)],
        "the same, decomposed (NFD)": [
            unicodedata.normalize("NFD", "".join(rng.choices(LETTERS + ACCENTED, k=20))) for _ in range(2000)
        ],
        **{name: drawn(spans) for name, spans in SCRIPTS.items()},
        "special tokens ([MASK], …) in the text": [text for text in around(bert_texts.SPECIAL) if "[" in text],
        "nearly special tokens ([mask], …)": around(bert_texts.NEAR_SPECIAL),
        "words about as long as 100 characters": bert_texts.long_words(),
        "bytes, not all UTF-8": [rng.randbytes(rng.randint(1, 20)) for _ in range(2000)],
        "English, 5,000 characters": [" ".join(bert_texts.english(rng, 150))[:5000] for _ in range(200)],
        "English with 2,000 spaces within": [f"is it {' ' * 2000} {text}" for text in bert_texts.english(rng, 200)],
        "the hard strings of tests/support/bert_texts.py": bert_texts.corpus(),
    }


def code_points() -> dict[str, list[str]]:
    """Makes a text for each code point, in a word and alone, by Python's general category; leaves out surrogates."""
    found: dict[str, list[str]] = {}
    for c in range(0x110000):
        category = unicodedata.category(chr(c))
        name = next((name for start, name in CATEGORIES.items() if category.startswith(start)), "other")
        if category != "Cs":
            found.setdefault(f"code points: {name}", []).append(f"a{chr(c)}b {chr(c)}")
    return found


def tf_texts(client: lite_tokenizer.Tokenizer, vocab: dict[str, int], length: int) -> Ids:
    """Encodes by tf.text's `FastBertTokenizer`, with its own normaliser."""

    def encode(text: tf.Tensor) -> dict[str, tf.Tensor]:
        tokenizer = tf_text.FastBertTokenizer(list(vocab), lower_case_nfd_strip_accents=True, token_out_type=tf.int32)
        ids = tokenizer.tokenize(text)
        return lite_text.assembled(ids.values, ids.row_splits, client, length, length)

    return as_tflite(encode)


def differing(texts: list[str | bytes], exact: tfvl.BertTokenizer, ids_of: list[Ids], length: int) -> list[list]:
    """Returns, for each tokenizer, the texts whose ids differ from the exact ones."""
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    expected = [
        exact(raw[start : start + BATCH], padding="max_length", max_length=length)["input_ids"]
        for start in range(0, len(raw), BATCH)
    ]
    expected = np.concatenate(expected)
    wrong = [(ids(raw) != expected).any(axis=1) for ids in ids_of]
    return [[text for text, differs in zip(texts, rows, strict=True) if differs] for rows in wrong]


def check(every: bool = typer.Option(False, help="Also every code point: 1,112,064 texts, minutes.")) -> None:
    exact = tfvl.BertTokenizer(bert_texts.VOCAB)
    vocab, options = lite_tokenizer.described(exact.get_config())
    client = lite_tokenizer.Tokenizer(vocab, options, lite_tokenizer.pack(options))
    rows = []
    for length, groups in ((LENGTH, classes()), (SHORT, code_points() if every else {})):
        ids_of = [text_flavour(client, length), tf_texts(client, vocab, length)] if groups else []
        for name, texts in groups.items():
            ours, theirs = differing(texts, exact, ids_of, length)
            example = ascii(min([*ours, *theirs], key=len)[:EXAMPLE]) if ours or theirs else ""
            rows.append((name, f"{len(texts):,}", f"{len(ours):,}", f"{len(theirs):,}", example))
    print_table(
        "texts whose ids are not the exact tokenizer's",
        ("texts", "number", "the text flavour", "tf.text's FastBertTokenizer", "shortest example"),
        rows,
    )


if __name__ == "__main__":
    run_script(lambda: typer.run(check))

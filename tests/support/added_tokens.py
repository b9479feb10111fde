"""Cases of tokens that are added to a vocabulary, and texts that contain them, for all tokenizers of the project.

What upstream makes of them is in the golden file (tools/golden/added_tokens.py).
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from support.bert_texts import digest
from support.paths import GOLDEN

FILE = GOLDEN / "added_tokens.json"
LETTERS = "abcdeghimnorstuvxyz019éñß中国京[]#$._-'?"
WORDS = ("cat", "cats", "the", "new", "york", "co", "##vid", "##19", "##s", "##ing", "mask", "naive", "Cat", "ab")
TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(p + c for c in LETTERS for p in ("", "##")), *WORDS)
VOCABULARY = {token: i for i, token in enumerate(dict.fromkeys(TOKENS))}


class Case(NamedTuple):
    """A tokenizer's options, and the tokens added after it was made: strings, or the fields of an `AddedToken`."""

    options: Mapping[str, Any] = {}
    added: tuple = ()


def token(content: str, **flags: bool) -> dict[str, Any]:
    return {"content": content, **flags}


RAW = {"normalized": False}
CASES = {
    "special, of letters": Case({"additional_special_tokens": ["covid19", "YORK"]}),
    "plain, in capitals": Case(added=("COVID19", "$T$")),
    "plain, cased tokenizer": Case({"do_lower_case": False}, ("COVID19", "$T$", "É")),
    "looks like the end of a word": Case(added=("##x", token("##Y", **RAW), "##")),
    "one within another": Case(added=("new york", "york", "New York City", token("ork c", **RAW))),
    "overlapping": Case({"additional_special_tokens": ["<ab>", "<ab>c", "ab", "b><", "bcd", "dab"]}),
    "overlapping, normalised": Case(added=("<AB>", "<ab>c", "aB", "b><", "bcd", "dab", "中a", "a中")),
    "with accents": Case(added=("café", token("naïve", **RAW), token("É", **RAW))),
    "with accents that stay": Case({"strip_accents": False}, ("café", "É", token("E\u0301", **RAW))),
    "Chinese": Case(added=("中国", "x京")),
    "Chinese, raw": Case(added=(token("中国", **RAW), token("x京", **RAW))),
    "Chinese, no words of their own": Case({"tokenize_chinese_chars": False}, ("中国", "x京")),
    "single words": Case(added=(token("ab", single_word=True), token("$T$", single_word=True))),
    "single words, raw": Case(
        added=(token("ab", single_word=True, **RAW), token("bc", **RAW), token("_", single_word=True, **RAW))
    ),
    "white space goes with it": Case(
        added=(token("ab", lstrip=True, rstrip=True, **RAW), token(" cat"), token("x ", rstrip=True))
    ),
    "white space on the left": Case({"mask_token": token("[MASK]", lstrip=True, special=True)}, (" the ",)),
    "white space within": Case(added=("a b", "c\td", token("e  g", **RAW), " ")),
    "named and normalised": Case({"mask_token": token("[MASK]", normalized=True), "sep_token": token("<S>", **RAW)}),
    "special ones are split": Case(
        {"split_special_tokens": True, "additional_special_tokens": ["<ab>", "cat"]}, ("MASK", token("[", **RAW))
    ),
    "words of the vocabulary": Case(added=("cat", token("Cat", **RAW), token("##ing", **RAW))),
    "signs of regular expressions": Case(added=tuple(r"a.c \ ^ ( | + a|b ]- {2} \1 * ? .* $".split())),
    "beyond the first plane": Case(added=("🙂", token("👍🏽", **RAW), "𠀀", "e\u0301\u0327")),
    "long": Case(added=("ab" * 80, token("The " * 30, **RAW))),
    "many": Case(added=tuple(f"tok{i}{'x' * (i % 3)}" for i in range(60))),
    "a vocabulary without them": Case({"pad_token": "<p>", "mask_token": "<m>", "cls_token": "<c>"}, ("<q>",)),
    "other names": Case({"bos_token": "<s>", "image_token": "<Image>", "extra_special_tokens": ["<x>", "[MASK]"]}),
    "normalised and never": Case({"strip_accents": True, "do_lower_case": False}, ("Café", token("Cafe", **RAW))),
}
TEXTS = (
    "COVID19 today, covid19 and Covid-19 acovid19b COVID19COVID19",
    "$T$ is $t$ a$T$b _$T$ $T$'s $T$$T$ ab$T$",
    "##x ax a##x ##xing ##Y ##y #x ## a## ###x",
    "New York, new york city NEW  YORK york-new newyork New York Cit ork cork c",
    "<ab>c<ab>< b><ab> <AB>C abcdab dabcd bcdab <a<ab>> abab aBc",
    "café CAFÉ cafe\u0301 cafe NAÏVE naïve nai\u0308ve É E\u0301 é Cafés",
    "中国 a中国b 中 国 国中国京 x京 X京y x 京 中a国 a中a中",
    "ab AB ab-ab _ab ab_ éab ab\u0301 1ab ab中 中ab ab[MASK]ab ab. (ab) abc xabc xab bcab ab\u200dab",
    "x ab  cat the\u2003ab\x85\x0bcat ab cat ab\u00a0 cat, x  x\tx cat",
    "a [MASK] the [MASK]\n\t[MASK]the [mask] the [ MASK ] [MASK]the ",
    "a b A  B a\tb c d c\td C\u2003D e  g e g E  G aa bb",
    "[CLS] [SEP] <S> <s> [PAD][UNK] [sep] <c> <p> <m> <q> <x> <Image> <image>",
    "<ab> cat MASK mask [MASK] [ [[MASK]] CAT cats catcat",
    "cat Cat CATS cats ##ing ing aing thing cating",
    r"a.c abc \ \\ a\b ^a (a) a|b | a+b ++ ]- {2} \1 * ** ?! .* . $ $$",
    "🙂 a🙂b 👍🏽 👍 🏽 𠀀𠀀 e\u0301\u0327 e\u0327\u0301 \U000f0000🙂",
    f"{'ab' * 80} {'AB' * 80}x {'ab' * 79} {'The ' * 30} {'the ' * 30}",
    "tok1 tok1x tok2xx TOK59xx tok5 tok55x atok3b tok60 tok 1",
    "co\x00vid1\u200b9 CO\u0301VID\x0119 $\xadT$ new\u200byork",
    "",
    "   ",
    "what's this? U.S. cats. 'cats' \ufffd x",
)


def told(tokenizer) -> dict[str, Any]:
    """Returns what a tokenizer, upstream's or ours, makes of texts: ids, and digests of tokens and decoded texts."""
    rows = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    return {
        "ids": rows,
        "tokens": [digest(tokenizer.convert_ids_to_tokens(row)) for row in rows],
        "texts": [digest(tokenizer.decode(row, skip_special_tokens=True)) for row in rows],
        "added": {str(i): token.content for i, token in sorted(tokenizer.added_tokens_decoder.items())},
        "special": tokenizer.all_special_tokens,
        "length": len(tokenizer),
    }


def golden() -> dict[str, dict[str, Any]]:
    """Reads what `told` returned for upstream's tokenizers, by the name of the case."""
    return json.loads(FILE.read_text())["cases"]


def ours(case: Case):
    """Makes our tokenizer of a case."""
    from tfvl.preprocessing.text.tokenizer import BertTokenizer

    tokenizer = BertTokenizer(VOCABULARY, **case.options)
    tokenizer.add_tokens(list(case.added))
    return tokenizer


def theirs(case: Case):
    """Makes upstream's tokenizer of a case."""
    import tokenizers
    import transformers

    def upstream(token):
        return tokenizers.AddedToken(**token) if isinstance(token, dict) else token

    options = {name: upstream(value) for name, value in case.options.items()}
    tokenizer = transformers.BertTokenizer(dict(VOCABULARY), **options)
    tokenizer.add_tokens([upstream(token) for token in case.added])
    return tokenizer

"""A corpus that is hard on a BERT tokenizer, and compact digests of what a tokenizer makes of it.

The corpus comes from a seeded `random.Random` and lists of code points, not from `unicodedata`, so it never varies.
"""

import random
import zlib
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from support.paths import GOLDEN
from tfvl.porting.hub import BUNDLED_DIRECTORY

VOCAB = BUNDLED_DIRECTORY / "bert-base-uncased" / "vocab.txt"
TEXT = GOLDEN / "text.npz"

SPECIAL = ("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]")
NEAR_SPECIAL = (
    *(token.lower() for token in SPECIAL),
    *("[", "[MASK", "MASK]", "[[MASK]]", "[ MASK ]", "[MA\x01SK]", "[MA\u0301SK]", "[MASK]s", "[MA[MASK]SK]"),
    *("##ing", "##", "[unused1]", "\U000f0000", "\U000f0002", "\U000ffffd", "\U000ffffe", "\ufffd"),
)
SPACES = (
    *(
        "",
        " ",
        "\t",
        "\n",
        "\r",
        "\x0b",
        "\x0c",
        "\x1c",
        "\x85",
        "\xa0",
        "\u1680",
        "\u2003",
        "\u2028",
        "\u2029",
        "\u202f",
    ),
    *(
        "\u205f",
        "\u3000",
        "\u200b",
        "\u200c",
        "\u200d",
        "\u2060",
        "\ufeff",
        "\xad",
        "\x00",
        "\x01",
        "\x7f",
        "\u180e",
        "\u202e",
    ),
)
WORDS = (
    "the cat sat on Mat İstanbul ISTANBUL ıI ΟΔΥΣΣΕΥΣ Straße STRASSE ẞ ﬁne ½ Ⅷ ⅷ ǅ naïve Ångström café "
    "cafe\u0301 e\u0301\u0327 don't U.S.A. 3.14 $5 a_b x-ray 50% #tag @you 東京 京都 𠀀 豈 丽 한국어 각 "
    "\u1100\u1161\u11a8 がぎ カ\u3099 हिन्दी ไทย العربية ﷺ עִבְרִית "
    "👨\u200d👩\u200d👧 👍🏽 🇩🇪 e\ufe0f ΐ ᾂ ≠ ㎏ ① ¿qué? «là» „so“ …"
).split()
ANSWERS = (  # a few of VQA's answers and questions, beside the complete lists in the golden file
    "yes no 2 red brown/white black & white 10:35 nike's 1990's don't walk #1 5:00 pm t-shirt frisbee(s) $ 25 mph",
    "How many cats are there?",
    "What color is the man's shirt, and is he wearing glasses?",
    "Is this a Wi-Fi enabled café?",
)
# Combining marks: of all classes, stripped or not, known to the Unicode version upstream has, or newer than that.
MARKS = (
    *range(0x300, 0x370),
    *(
        0x5B0,
        0x5BF,
        0x64B,
        0x670,
        0x93C,
        0x94D,
        0xCCD,
        0xE38,
        0xF39,
        0xF71,
        0x1DFB,
        0x20D0,
        0x20DD,
        0x302A,
        0x3099,
        0xFE20,
    ),
    *(0x8D4, 0x8E0, 0x1B44, 0x1BAA, 0x1BF2, 0x302E, 0x302F, 0xA953, 0xA9C0, 0x111C0, 0x11235, 0x1134D, 0x11442, 0x11446)
    * 3,
    *(0x1D165, 0x1D166, 0x1D16D, 0x1D16E, 0x1D172, 0x1E000, 0x1E02A, 0x1E944, 0x1E94A) * 3,
    *(0x344, 0xF73, 0x1D15E, 0xDDA, 0x34F, 0x345, 0x334) * 3,
)
BASES = (*map(ord, "aZ1. İ"), 0xAC00, 0xAC01, 0x1100, 0x1161, 0x11A8, 0x4E00, 0xF900, 0xFB1D, 0x390, 0x1D15E)


@cache
def corpus() -> list[str]:
    """Returns more than 21,000 strings, the same at each call."""
    rng = random.Random(20)
    texts = [*ANSWERS, *SPECIAL, *NEAR_SPECIAL, *SPACES, *WORDS, *english(rng, 3000), *long_words()]
    for _ in range(4000):
        words = [
            rng.choice(rng.choice((SPECIAL, NEAR_SPECIAL, WORDS))) + rng.choice(SPACES)
            for _ in range(rng.randint(1, 7))
        ]
        texts.append("".join(words))
    for _ in range(4000):
        points = [rng.choice(MARKS if rng.random() < 0.7 else BASES) for _ in range(rng.randint(1, 12))]
        texts.append("".join(map(chr, points)))
    for _ in range(10000):
        texts.append("".join(random_character(rng) for _ in range(rng.randint(1, 25))))
    return texts


def english(rng: random.Random, count: int) -> list[str]:
    subjects = "cat,dogs,the man's hat,Two children,A red double-decker bus,umbrella,Mr. Smith,it,skateboarders".split(
        ","
    )
    verbs = "is,are,isn't,looks,hasn't been,will be,could've been".split(",")
    rest = "on the table,unbelievably tall,eating pizza at 5:30pm,made of polyurethane,in 1998,photobombed".split(",")
    ends = ("?", ".", "!", "...", "", " ?", '."')
    return [f"{rng.choice(subjects)} {rng.choice(verbs)} {rng.choice(rest)}{rng.choice(ends)}" for _ in range(count)]


def long_words() -> list[str]:
    """Returns words around the limit of 100 characters, which holds after normalisation."""
    letters = ("a", "é", "e\u0301", "İ", "ß", "中", "한", "각", "🙂", "\u0301", "a\u200d", "\U0001d15e")
    lengths = (33, 34, 49, 50, 51, 99, 100, 101, 200, 400)
    return [
        text.format(letter * length)
        for letter in letters
        for length in lengths
        for text in ("{}", "x{}", "the {}.", "{0}[MASK]{0}", "{0} {0}")
    ]


def random_character(rng: random.Random) -> str:
    limits = ((0x00, 0x7F), (0x80, 0x24F), (0x00, 0x33FF), (0x00, 0xFFFF), (0x1D000, 0x1F9FF), (0x00, 0x10FFFF))
    code_point = rng.randint(*rng.choice(limits))
    return "\ufffd" if 0xD800 <= code_point <= 0xDFFF else chr(code_point)


PAGE = 4096
PAGES = np.arange(0x110000 // PAGE)
# Most of what is assigned, and some of private use.
ASSIGNED_PAGES = np.array([*range(0x14000 // PAGE), 0x1D, 0x1E, 0x1F, 0x2F, 0xE0, 0xF0, 0x10F])


def code_point_texts(page: int) -> list[str]:
    """Returns a text for each code point of a page (except surrogates): within a word, and among combining marks."""
    code_points = (c for c in range(page * PAGE, (page + 1) * PAGE) if not 0xD800 <= c <= 0xDFFF)
    return [f"a{chr(c)}B \U0001d16e\u0345{chr(c)}\u0300\U0001d165" for c in code_points]


SEPARATOR, END = "\x1f", "\n"  # between what is digested, and after the words of each text


def digest(value: Iterable[int] | Iterable[str]) -> int:
    """Returns a digest of 32 bits of a sequence of ids, or of words."""
    return zlib.crc32(SEPARATOR.join(map(str, value)).encode())


def digests(rows: Iterable[Iterable[int]]) -> np.ndarray:
    return np.array([digest(row) for row in rows], np.uint32)


def page_digests(split: Callable[[list[str]], list[list[str]]], pages: Iterable[int] = PAGES) -> np.ndarray:
    """Returns a digest for each page, of the words into which `split` splits its texts."""
    rows = (split(code_point_texts(page)) for page in pages)
    return np.array([digest(word for words in row for word in [*words, END]) for row in rows], np.uint32)


# The options that are compared with upstream on the corpus: the first on all of it, the others on each seventh string.
VARIANTS = {
    "default": {},
    "cased": {"do_lower_case": False},
    "cased_stripped": {"do_lower_case": False, "strip_accents": True},
    "accents_kept": {"strip_accents": False},
    "chinese_joined": {"tokenize_chinese_chars": False},
    "accents_kept_chinese_joined": {"strip_accents": False, "tokenize_chinese_chars": False},
    "odd_special_tokens": {
        "mask_token": "the",
        "sep_token": "then",
        "cls_token": "he",
        "pad_token": "##ing",
        "unk_token": "a",
    },
}


def variant_corpus(name: str) -> list[str]:
    return corpus() if name == "default" else corpus()[::7]


# Upstream's BertNormalizer, by option; every code point is compared for each.
NORMALIZERS = {
    "uncased": {"lowercase": True, "strip_accents": True, "handle_chinese_chars": True},
    "cased": {"lowercase": False, "strip_accents": False, "handle_chinese_chars": True},
    "accents_kept": {"lowercase": True, "strip_accents": False, "handle_chinese_chars": False},
}

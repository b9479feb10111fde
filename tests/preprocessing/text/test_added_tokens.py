"""Tokens added to a vocabulary, in Python and in graphs: upstream's ids, whatever stands beside them."""

import random

import pytest
import tensorflow as tf
from support import added_tokens as helpers

from tfvl.preprocessing.text.added_tokens import AddedToken
from tfvl.preprocessing.text.tokenizer import BertTokenizer

PLAIN = {"padding": False, "add_special_tokens": False}


def ids(tokenizer, texts, **options):
    return tokenizer(texts, **PLAIN, **options)["input_ids"].to_list()


@pytest.mark.parametrize("name", helpers.CASES)
def test_tokens_are_upstreams(name):
    expected = helpers.golden()[name]
    tokenizer = helpers.ours(helpers.CASES[name])
    texts = list(helpers.TEXTS)
    wrong = {
        text: (row, right)
        for _ in ("op by op", "traced")
        for text, row, right in zip(texts, ids(tokenizer, texts), expected["ids"], strict=True)
        if row != right
    }
    assert not wrong
    assert helpers.told(tokenizer) == expected


@pytest.mark.parametrize("name", ["special, of letters", "single words, raw", "white space goes with it", "Chinese"])
def test_files_and_configurations_keep_them(tmp_path, name):
    tokenizer = helpers.ours(helpers.CASES[name])
    tokenizer.save_pretrained(tmp_path)
    for again in (BertTokenizer.from_pretrained(tmp_path), BertTokenizer.from_config(tokenizer.get_config())):
        assert helpers.told(again) == helpers.golden()[name]
        assert again.get_config() == tokenizer.get_config()
        assert again.added_tokens_decoder == tokenizer.added_tokens_decoder


def test_artefact(tmp_path):
    names = {"f0": "overlapping, normalised", "f1": "single words", "f2": "special ones are split"}
    strings, module = tf.TensorSpec([None], tf.string, "text"), tf.Module()

    def encoding(tokenizer):
        encode = tf.function(lambda text: {"ids": tokenizer(text, add_special_tokens=False)["input_ids"]})
        return encode.get_concrete_function(strings)

    signatures = {key: encoding(helpers.ours(helpers.CASES[name])) for key, name in names.items()}
    tf.saved_model.save(module, tmp_path, signatures=signatures)
    loaded = tf.saved_model.load(tmp_path).signatures
    for key, name in names.items():
        rows, right = loaded[key](tf.constant(list(helpers.TEXTS)))["ids"].numpy(), helpers.golden()[name]["ids"]
        assert [row[: len(ids)].tolist() for row, ids in zip(rows, right, strict=True)] == right


def test_what_was_traced_before_keeps_its_tokens():
    tokenizer = BertTokenizer(helpers.VOCABULARY)
    encode = tf.function(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
    before = encode(tf.constant(["new york"])).numpy().tolist()
    assert tokenizer.add_tokens("new york") == 1
    assert encode(tf.constant(["new york"])).numpy().tolist() == before
    assert ids(tokenizer, ["NEW YORK"]) == [[len(helpers.VOCABULARY)]]


def test_how_many_are_added():
    tokenizer = BertTokenizer(helpers.VOCABULARY)
    size = len(tokenizer)
    assert [tokenizer.add_tokens(new) for new in ("cat", "cat", ["<a>", "<a>", "<b>"], [], "")] == [1, 0, 2, 0, 0]
    assert (tokenizer.vocab_size, len(tokenizer)) == (size, size + 2)
    assert tokenizer.convert_tokens_to_ids(["<a>", "<b>", "cat"]) == [size, size + 1, helpers.VOCABULARY["cat"]]
    assert tokenizer.get_added_vocab()["<b>"] == size + 1
    assert tokenizer.add_tokens(AddedToken("<a>", special=True, normalized=False)) == 1  # other flags
    assert tokenizer.add_tokens([AddedToken("<c>")], special_tokens=True) == 1
    assert tokenizer.all_special_tokens == ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]


def test_special_tokens_get_names():
    tokenizer = BertTokenizer(helpers.VOCABULARY)
    size = len(tokenizer)
    assert tokenizer.add_special_tokens({"mask_token": "<m>", "extra_special_tokens": ["<a>"]}) == 2
    assert (tokenizer.mask_token, tokenizer.mask_token_id, tokenizer.extra_special_tokens) == ("<m>", size, ["<a>"])
    assert tokenizer.add_special_tokens({"additional_special_tokens": ["<b>"]}) == 1
    assert tokenizer.all_special_tokens[-2:] == ["<m>", "<b>"]
    tokenizer.add_special_tokens({"extra_special_tokens": ["<c>"]}, replace_extra_special_tokens=False)
    assert tokenizer.extra_special_tokens == ["<b>", "<c>"]
    assert tokenizer.tokenize("<m>[MASK]<a><b>") == ["<m>", "[MASK]", "<a>", "<b>"]
    assert tokenizer.decode(tokenizer.encode("cat <a> <m>"), skip_special_tokens=True) == "cat"
    tokenizer.pad_token = "<b>"
    assert tokenizer(["cat", "the cat"])["input_ids"].numpy()[0, 3] == tokenizer.pad_token_id == size + 2
    tokenizer.mask_token_id = helpers.VOCABULARY["cat"]
    assert tokenizer.mask_token == "cat"
    with pytest.raises(ValueError, match="pad_token is 'nonesuch', which the vocabulary lacks; add it by"):
        tokenizer.pad_token = "nonesuch"
    with pytest.raises(ValueError, match="image_token names no special token; give bos_token, eos_token, unk_token"):
        tokenizer.add_special_tokens({"image_token": "<i>"})


def test_of_two_with_one_normalised_content_the_first_is_meant():
    """Upstream takes one by chance, another in each process."""
    tokenizer = BertTokenizer(helpers.VOCABULARY)
    tokenizer.add_tokens(["Dog", "dog", "DOG"])
    assert ids(tokenizer, ["dog Dog DOG"]) == [[len(helpers.VOCABULARY)] * 3]


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (7, "7 is no token; expected a string, or a content with single_word, lstrip"),
        ({"content": "x", "single_word": "yes"}, r"is no token \(single_word\)"),
        ({"content": "x", "bold": True}, r"is no token \(bold\)"),
        ({"lstrip": True}, "is no token; expected a string"),
        ("\u0301", "nothing is left of the token .* once it is normalised"),
        ({"content": " ", "lstrip": True}, "the token ' ' is white space, which lstrip takes away"),
        ({"content": "\U000f0000", "normalized": False}, "holds a private-use character from U"),
    ],
)
def test_tokens_that_are_refused(token, message):
    tokenizer = BertTokenizer(helpers.VOCABULARY)
    before = tokenizer.get_config()
    with pytest.raises(ValueError, match=message):
        tokenizer.add_tokens([token])
    assert tokenizer.get_config() == before


def test_ids_with_gaps_leave_no_room():
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 6}
    tokenizer = BertTokenizer(vocab)
    with pytest.raises(ValueError, match="the token 'x' would get the id 6, which 'a' has"):
        tokenizer.add_tokens("x")


# ── against transformers ──

ATOMS = (
    *"abcxyzABCXYZ",
    *("é", "É", "e\u0301", "\u0301", "中", "国", " ", "  ", "\t", "\x85", "\u2003", "$", "#", "##", "[", "]", "-", "_"),
    *("1", ".", "ß", "İ", "\u200d", "[MASK]", "[mask]", "🙂", "\\", "+", "(", "|"),
)


def word(rng: random.Random, most: int) -> str:
    return "".join(rng.choices(ATOMS, k=rng.randint(1, most)))


def drawn_case(rng: random.Random) -> helpers.Case:
    options = {
        "do_lower_case": rng.random() < 0.7,
        "strip_accents": rng.choice([None, None, True, False]),
        "tokenize_chinese_chars": rng.random() < 0.8,
        "split_special_tokens": rng.random() < 0.3,
    }
    normalized, added = BertTokenizer(helpers.VOCABULARY, **options)._normalized, {}
    for _ in range(rng.randint(1, 6)):
        flags = {
            name: rng.random() < share
            for name, share in (
                ("single_word", 0.3),
                ("lstrip", 0.3),
                ("rstrip", 0.3),
                ("normalized", 0.5),
                ("special", 0.3),
            )
        }
        content = word(rng, 4)
        searched = normalized(content) if flags["normalized"] else content
        if searched.strip() and content != "[MASK]":  # one token for each content: of several upstream takes any
            added.setdefault((flags["normalized"], searched), helpers.token(content, **flags))
    unique = {each["content"]: each for each in added.values()}
    return helpers.Case(options, tuple(unique.values()))


def drawn_text(rng: random.Random, added) -> str:
    parts = []
    for _ in range(rng.randint(1, 6)):
        content = rng.choice(added)["content"] if added else ""
        parts.append(rng.choice([content, content, content.upper(), word(rng, 3), word(rng, 3)]))
    return "".join(parts)


@pytest.mark.parity
def test_golden_file_is_upstreams():
    pytest.importorskip("transformers", reason="the parity suite needs transformers")
    golden = helpers.golden()
    assert {name: helpers.told(helpers.theirs(case)) for name, case in helpers.CASES.items()} == golden


@pytest.mark.parity
def test_drawn_tokens_in_drawn_texts():
    pytest.importorskip("transformers", reason="the parity suite needs transformers")
    seed = random.randrange(10**6)  # another one in each run
    rng = random.Random(seed)
    for _ in range(40):
        case = drawn_case(rng)
        texts = [drawn_text(rng, case.added) for _ in range(60)]
        ours, theirs = helpers.ours(case), helpers.theirs(case)
        expected = theirs(texts, add_special_tokens=False)["input_ids"]
        rows = ids(ours, texts)
        assert not [text for text, row, right in zip(texts, rows, expected, strict=True) if row != right], (seed, case)
        assert ours.batch_decode(rows, True) == theirs.batch_decode(rows, skip_special_tokens=True), (seed, case)

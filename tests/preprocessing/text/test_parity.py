"""BertTokenizer against transformers: fresh random strings, calls, decoding, and files in both directions."""

import json
import random

import pytest
import tensorflow as tf
from support import bert_texts

from tfvl.preprocessing.text.tokenizer import BertTokenizer

transformers = pytest.importorskip("transformers", reason="the parity suite needs transformers")
pytestmark = pytest.mark.parity

SAVED = {
    "default": {},
    "cased": {"do_lower_case": False, "model_max_length": 40},
    "odd": {"strip_accents": False, "tokenize_chinese_chars": False, "mask_token": "sat"},
}
TEXTS = bert_texts.corpus()[::9]


@pytest.fixture(scope="module")
def pair():
    return BertTokenizer(bert_texts.VOCAB), transformers.BertTokenizer(str(bert_texts.VOCAB))


def check(ours, theirs, texts=TEXTS):
    expected = theirs(texts, truncation=ours.model_max_length < 1e9)["input_ids"]
    rows = ours(texts, padding=False)["input_ids"].to_list()
    assert not [text for text, row, ids in zip(texts, rows, expected, strict=True) if row != ids][:5]


@pytest.mark.parametrize("name", bert_texts.VARIANTS)
def test_fresh_random_strings(name):
    rng = random.Random()  # another seed in each run; a failure prints the strings
    texts = ["".join(bert_texts.random_character(rng) for _ in range(rng.randint(1, 25))) for _ in range(3000)]
    texts += ["".join(chr(rng.choice(bert_texts.MARKS + bert_texts.BASES)) for _ in range(10)) for _ in range(1000)]
    options = bert_texts.VARIANTS[name]
    theirs = transformers.BertTokenizer(str(bert_texts.VOCAB), **options)
    check(BertTokenizer(bert_texts.VOCAB, **options), theirs, texts)


def test_calls(pair):
    """Padding, truncation and pairs in 60 random combinations; where upstream refuses, so do we."""
    ours, theirs = pair
    rng = random.Random(3)
    words = "the cat sat on mat unaffable [MASK] . 你好 zzzz".split()
    for _ in range(60):
        texts, pairs = ([" ".join(rng.choices(words, k=rng.randint(0, 9))) for _ in range(5)] for _ in range(2))
        texts = [texts, pairs] if rng.random() < 0.7 else [texts]
        options = {
            "truncation": rng.choice([True, "longest_first", "only_first", "only_second"][: 2 + len(texts)]),
            "padding": rng.choice([True, "max_length"]),
            "max_length": rng.choice([3, 4, 5, 8, 12]),
            "pad_to_multiple_of": rng.choice([None, None, 4]),
            "add_special_tokens": rng.random() < 0.8,
            "return_special_tokens_mask": True,
        }
        try:
            expected = dict(theirs(*texts, **options))
        except Exception:  # upstream's library raises bare Exceptions
            with pytest.raises(ValueError, match=r"max_length|text_pair"):
                ours(*texts, **options)
        else:
            encoded = {name: value.numpy().tolist() for name, value in ours(*texts, **options).items()}
            assert encoded == expected, options


def test_decoding(pair):
    ours, theirs = pair
    rng = random.Random(4)
    frequent = theirs.convert_tokens_to_ids("[CLS] [SEP] [MASK] [PAD] . , ? ! ' ##s s don t not do ##ing".split())
    rows = [
        [rng.choice(frequent) if rng.random() < 0.5 else rng.randrange(30600) for _ in range(rng.randint(0, 12))]
        for _ in range(2000)
    ]
    for skip in (False, True):
        expected = theirs.batch_decode(rows, skip_special_tokens=skip)
        assert ours.batch_decode(rows, skip_special_tokens=skip) == expected
        in_graph = ours.detokenize(tf.ragged.constant(rows, dtype=tf.int32), skip_special_tokens=skip)
        assert [text.decode() for text in in_graph.numpy()] == expected
        cleaned = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": True}
        assert ours.batch_decode(rows, **cleaned) == theirs.batch_decode(rows, **cleaned)
        assert [ours.convert_ids_to_tokens(row, skip) for row in rows] == [
            theirs.convert_ids_to_tokens(row, skip) for row in rows
        ]


def test_tokens_to_string(pair):
    ours, theirs = pair
    rng = random.Random(5)
    tokens = ["a", "##b", ".", "##", "##.", "n't", "'m", "'s", " do not", " ' ", "x .", "[MASK]", "###", "", "'"]
    for _ in range(2000):
        row = rng.choices(tokens, k=rng.randint(0, 6))
        assert ours.convert_tokens_to_string(row) == theirs.convert_tokens_to_string(row), row


@pytest.mark.parametrize("name", SAVED)
def test_transformers_loads_what_we_save(tmp_path, name):
    ours = BertTokenizer(bert_texts.VOCAB, additional_special_tokens=["<img>"], **SAVED[name])
    ours.save_pretrained(tmp_path)
    for kind in (transformers.BertTokenizer, transformers.AutoTokenizer):
        theirs = kind.from_pretrained(tmp_path)
        assert theirs.get_vocab() == ours.get_vocab()
        assert theirs.all_special_tokens == ours.all_special_tokens
        assert theirs.vocab_size == ours.vocab_size
        assert theirs.model_max_length == pytest.approx(ours.model_max_length)
        check(ours, theirs, ["a <img>[MASK]sat<img>", *TEXTS])


@pytest.mark.parametrize("added", [{}, {"added_tokens_decoder": {"103": {"content": "[MASK]", "special": True}}}])
def test_special_tokens_of_old_layouts(tmp_path, added):
    (tmp_path / "vocab.txt").write_bytes(bert_texts.VOCAB.read_bytes())
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"mask_token": "sat", "cls_token": "cat"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"mask_token": "the", "do_lower_case": False, **added}))
    ours, theirs = (kind.from_pretrained(tmp_path) for kind in (BertTokenizer, transformers.BertTokenizer))
    assert (ours.mask_token, ours.cls_token) == (theirs.mask_token, theirs.cls_token)
    check(ours, theirs, ["the Cat[MASK]sat", *TEXTS])


@pytest.mark.parametrize("name", SAVED)
def test_we_load_what_transformers_saves(tmp_path, name):
    theirs = transformers.BertTokenizer(str(bert_texts.VOCAB), extra_special_tokens=["<img>"], **SAVED[name])
    theirs.save_pretrained(tmp_path)
    ours = BertTokenizer.from_pretrained(tmp_path)
    assert ours.get_vocab() == theirs.get_vocab()
    check(ours, theirs, ["a <img>[MASK]sat<img>", *TEXTS])

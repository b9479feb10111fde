"""BertTokenizer: ids against golden digests of upstream's, options, methods, bad input."""

import copy
import pickle
import zlib

import numpy as np
import pytest
import tensorflow as tf
from support import bert_texts

from tfvl.preprocessing.text import tokenizer as text_module
from tfvl.preprocessing.text import unicode_tables, wordpiece
from tfvl.preprocessing.text.tokenizer import BertTokenizer

LONG = "unaffable cats, [MASK]!"  # una ##ffa ##ble cats , [MASK] !


@pytest.fixture(scope="module")
def golden():
    return np.load(bert_texts.TEXT, allow_pickle=False)


@pytest.fixture(scope="module")
def tokenizer():
    return BertTokenizer(bert_texts.VOCAB)


def ids(tokenizer, texts, **options):
    return tokenizer(texts, padding=False, **options)["input_ids"].to_list()


def differing(texts, rows, expected):
    """Returns the first few texts whose ids are not upstream's."""
    return [text for text, wrong in zip(texts, bert_texts.digests(rows) != expected, strict=True) if wrong][:5]


@pytest.mark.parametrize("name", bert_texts.VARIANTS)
def test_ids_are_upstreams_on_the_corpus(golden, name):
    texts = bert_texts.variant_corpus(name)
    tokenizer = BertTokenizer(bert_texts.VOCAB, **bert_texts.VARIANTS[name])
    assert not differing(texts, ids(tokenizer, texts), golden[f"ids_{name}"])


def test_first_call_runs_op_by_op_and_the_next_ones_traced_to_the_same_ids(monkeypatch):
    traces, trace = [], text_module.trace
    monkeypatch.setattr(text_module, "trace", lambda *arguments: traces.append(1) or trace(*arguments))
    texts = bert_texts.variant_corpus("default")[:5000]
    for pair in (None, texts[::-1]):
        tokenizer = BertTokenizer(bert_texts.VOCAB)
        first, second, third = (tokenizer(texts, pair, return_special_tokens_mask=True) for _ in range(3))
        assert len(traces) == 1
        traces.clear()
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name])
            np.testing.assert_array_equal(value, third[name])


def test_ids_are_upstreams_on_the_answers(golden, tokenizer):
    answers = golden["answers"].tobytes().decode().split("\n")
    assert not differing(answers, ids(tokenizer, answers), golden["ids_answers"])


def test_the_corpus_is_large(golden):
    assert len(bert_texts.corpus()) + len(golden["ids_answers"]) > 20_000


def check_words(golden, name, pages):
    """Compares the words of texts, one for each code point of these blocks, with upstream's."""
    options = bert_texts.NORMALIZERS[name]
    table = unicode_tables.character_table(
        options["lowercase"], options["strip_accents"], options["handle_chinese_chars"]
    )
    split = wordpiece.trace(lambda text: wordpiece.split_words(wordpiece.without_markers(text), table), 1)

    def digest(page: int) -> int:
        """As `bert_texts.page_digests`, joined by TensorFlow, which takes a tenth of the time."""
        texts = bert_texts.code_point_texts(page)
        rows = split(tf.constant([text.encode() for text in texts]))
        words = tf.concat([rows, tf.fill([len(texts), 1], bert_texts.END)], axis=1).flat_values
        return zlib.crc32(tf.strings.reduce_join(words, separator=bert_texts.SEPARATOR).numpy())

    wrong = pages[[digest(page) != golden[f"words_{name}"][page] for page in pages]]
    assert not wrong.size, [hex(bert_texts.PAGE * page) for page in wrong]


def first_pages(name: str) -> np.ndarray:
    return bert_texts.PAGES[:1] if name == "cased" else bert_texts.ASSIGNED_PAGES


@pytest.mark.parametrize("name", bert_texts.NORMALIZERS)
def test_words_are_upstreams_for_code_points(golden, name):
    check_words(golden, name, first_pages(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", bert_texts.NORMALIZERS)
def test_words_are_upstreams_for_all_other_code_points(golden, name):
    check_words(golden, name, np.setdiff1d(bert_texts.PAGES, first_pages(name)))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("How many cats?", ["how", "many", "cats", "?"]),
        ("İstanbul", ["istanbul"]),  # NFD leaves I and a dot above, which is stripped
        ("ΣΑΣ", ["σ", "##α", "##σ"]),  # letter by letter: no final sigma
        ("naïve Café", ["naive", "cafe"]),
        ("a\x00b\ufffdc\u200bd\ue000e", ["abc", "##de"]),  # NUL, U+FFFD, format and private-use characters vanish
        ("a\tb\u00a0c\u2029d", ["a", "b", "c", "d"]),
        ("a\x85b", ["ab"]),  # NEL is a control character first and white space second
        ("中国a", ["中", "国", "a"]),
        ("[MASK][mask] [CLS]x", ["[MASK]", "[", "mask", "]", "[CLS]", "x"]),
        ("[MA\x01SK]", ["[", "mask", "]"]),  # special tokens are matched before the cleaning
        ("x" * 101 + " x", ["[UNK]", "x"]),
        ("\u0301x" * 100, ["xx", *["##xx"] * 49]),  # the limit of 100 characters counts what is left of a word
        ("\U000f0002", []),  # the marker of a special token in the graph is no such token in a text
    ],
)
def test_tokens(tokenizer, text, tokens):
    assert tokenizer.tokenize(text) == tokens


def test_one_text_pair_and_batch(tokenizer):
    single = tokenizer("cats")
    assert {name: value.numpy().tolist() for name, value in single.items()} == {
        "input_ids": [[101, 8870, 102]],
        "token_type_ids": [[0, 0, 0]],
        "attention_mask": [[1, 1, 1]],
    }
    assert all(value.dtype == tf.int32 for value in single.values())
    pair = tokenizer(["cats", ""], ("the dog", "red"), return_special_tokens_mask=True, return_length=True)
    assert pair["input_ids"].numpy().tolist() == [[101, 8870, 102, 1996, 3899, 102], [101, 102, 2417, 102, 0, 0]]
    assert pair["token_type_ids"].numpy().tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]]
    assert pair["attention_mask"].numpy().tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]]
    assert pair["special_tokens_mask"].numpy().tolist() == [[1, 0, 1, 0, 0, 1], [1, 1, 0, 1, 1, 1]]
    assert pair["length"].numpy().tolist() == [6, 6]  # padding included
    unpadded = tokenizer(["cats", ""], ("the dog", "red"), padding=False, return_length=True)
    assert unpadded["length"].numpy().tolist() == [6, 4]
    assert list(tokenizer("cats", return_token_type_ids=False, return_attention_mask=False)) == ["input_ids"]


@pytest.mark.parametrize("text", [["cats"], ("cats",), np.array(["cats"]), np.array([b"cats"], object), b"cats"])
def test_kinds_of_input(tokenizer, text):
    assert tokenizer(text)["input_ids"].numpy().tolist() == [[101, 8870, 102]]


def test_empty_text_and_empty_batch(tokenizer):
    assert tokenizer("")["input_ids"].numpy().tolist() == [[101, 102]]
    assert tokenizer([])["input_ids"].shape == (0, 0)
    assert tokenizer([], [], padding="max_length", max_length=5)["token_type_ids"].shape == (0, 5)
    assert tokenizer("", add_special_tokens=False)["input_ids"].shape == (1, 0)


def test_padding(tokenizer):
    texts = ["cats", "the cats"]
    assert tokenizer(texts, padding="max_length", max_length=7)["input_ids"].shape == (2, 7)
    assert tokenizer(texts, pad_to_multiple_of=8)["attention_mask"].numpy().sum(axis=1).tolist() == [3, 4]
    ragged = tokenizer(texts, padding=False)
    assert all(isinstance(value, tf.RaggedTensor) for value in ragged.values())
    assert ragged["input_ids"].to_list() == [[101, 8870, 102], [101, 1996, 8870, 102]]


@pytest.mark.parametrize(
    ("strategy", "max_length", "first", "second"),
    [(True, 9, 3, 3), ("longest_first", 8, 3, 2), ("only_first", 9, 3, 3), ("only_second", 12, 7, 2), (True, 5, 1, 1)],
)
def test_truncation_of_pairs(tokenizer, strategy, max_length, first, second):
    encoded = tokenizer(LONG, "red blue green", truncation=strategy, max_length=max_length, return_length=True)
    kept = [encoded["token_type_ids"].numpy().tolist()[0].count(i) for i in (0, 1)]
    assert kept == [first + 2, second + 1]
    assert encoded["length"] == max_length


def test_model_max_length_is_the_default_limit():
    tokenizer = BertTokenizer(bert_texts.VOCAB, model_max_length=5)
    assert tokenizer(LONG)["input_ids"].shape == (1, 5)
    assert tokenizer(LONG, truncation=False)["input_ids"].shape == (1, 9)
    assert tokenizer("a", padding="max_length")["input_ids"].shape == (1, 5)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (None, {}, "text is None; it must be a string"),
        (7, {}, "text is 7; it must be a string"),
        (["a", None], {}, "text row 1 is None; it must be a string"),
        (tf.constant([1]), {}, "must hold strings"),
        (tf.constant([["a"]]), {}, "must hold strings"),
        ("a\ud800", {}, "text row 0, character 1, is half a surrogate pair"),
        (["a", LONG], {"truncation": False, "max_length": 4}, "text row 1 has 9 tokens, more than max_length=4"),
        (LONG, {"text_pair": "a", "truncation": "only_second", "max_length": 6}, "'only_second' cannot shorten"),
        (LONG, {"truncation": "only_second", "max_length": 6}, "'only_second' cannot shorten"),
        ([("a", "b"), "c"], {}, r"text row 0 is \('a', 'b'\); it must be a string, or each row a pair of strings"),
        ([("a", "b", "c")], {}, "text row 0 is .* it must be a string"),
        ("a", {"text_pair": ["a", "b"]}, "text has 1 rows and text_pair 2"),
        ("a", {"padding": "left"}, "padding is 'left'; it must be one of True"),
        ("a", {"truncation": "first"}, "truncation is 'first'; it must be one of True"),
        ("a", {"max_length": 1, "truncation": False}, "text row 0 has 3 tokens, more than max_length=1"),
        ("a", {"max_length": 2.5}, "max_length is 2.5; it must be a whole number from 0 on"),
        ("a", {"max_length": -1}, "max_length is -1; it must be a whole number from 0 on"),
        ("a", {"padding_side": "up"}, "padding_side is 'up'; it must be one of 'right', 'left'"),
        ("a", {"return_tensors": "pt"}, "return_tensors is 'pt'; it must be one of None, 'tf', 'np'"),
        ("a", {"is_split_into_words": True}, "BertTokenizer has no is_split_into_words=True here"),
        ("a", {"return_offsets_mapping": True}, "BertTokenizer has no return_offsets_mapping=True here"),
        ("a", {"wibble": None}, "BertTokenizer has no wibble=None here"),
        ("a", {"max_length": 10, "pad_to_multiple_of": 8}, "not a multiple"),
    ],
)
def test_bad_calls(tokenizer, text, options, message):
    with pytest.raises(ValueError, match=message):
        tokenizer(text, **options)


# What upstream 5.23 gives for these calls, padding and truncation being asked for.
TAKEN = {
    "max_length of nothing": (("the cats", None, {"padding": "max_length"}), [[101, 1996, 8870, 102]]),
    "second of one": (("the cats", None, {"truncation": "only_second"}), [[101, 1996, 8870, 102]]),
    "second of one, short": (
        ("the cats", None, {"truncation": "only_second", "max_length": 4}),
        [[101, 1996, 8870, 102]],
    ),
    "no room": (("the cats", None, {"max_length": 1}), [[101, 1996, 8870, 102]]),
    "no room at all": (("the cats", None, {"max_length": 0}), [[101, 1996, 8870, 102]]),
    "no room for a pair": (("the cats", "a", {"max_length": 2}), [[101, 1996, 8870, 102, 1037, 102]]),
    "room for special tokens": (("the cats", "a", {"max_length": 3}), [[101, 102, 102]]),
    "no special tokens": (("the cats", None, {"max_length": 0, "add_special_tokens": False}), [[]]),
    "no pair": (("a", "", {}), [[101, 1037, 102]]),
    "a pair": ((["a"], [""], {}), [[101, 1037, 102, 102]]),
    "tuples": (([("a", "the"), ("cats", "")], None, {}), [[101, 1037, 102, 1996, 102], [101, 8870, 102, 102, 0]]),
    "lists": (([["a", "the"]], None, {}), [[101, 1037, 102, 1996, 102]]),
    "padded before": ((["a", ""], None, {"padding_side": "left"}), [[101, 1037, 102], [0, 101, 102]]),
    "split": (("[MASK]", None, {"split_special_tokens": True}), [[101, 1031, 7308, 1033, 102]]),
}


@pytest.mark.parametrize("name", TAKEN)
def test_calls_that_upstream_takes(tokenizer, name):
    (text, pair, options), expected = TAKEN[name]
    for _ in ("op by op", "traced"):
        found = tokenizer(text, pair, **options)["input_ids"]
        assert found.numpy().tolist() == expected
    assert tokenizer(text, pair, **options, return_tensors="np")["input_ids"].tolist() == expected


def test_sides():
    tokenizer = BertTokenizer(bert_texts.VOCAB, padding_side="left", truncation_side="left")
    encoded = tokenizer(["a", LONG], return_special_tokens_mask=True, return_length=True, max_length=6)
    assert encoded["input_ids"].numpy().tolist() == [[0, 0, 0, 101, 1037, 102], [101, 8870, 1010, 103, 999, 102]]
    assert encoded["attention_mask"].numpy().tolist() == [[0, 0, 0, 1, 1, 1], [1] * 6]
    assert encoded["special_tokens_mask"].numpy().tolist() == [[1, 1, 1, 1, 0, 1], [1, 0, 0, 0, 0, 1]]
    assert encoded["length"].numpy().tolist() == [6, 6]
    pair = tokenizer(["a", LONG], ["red", "the cats"], max_length=8)
    assert pair["input_ids"].numpy().tolist() == [
        [0, 0, 0, 101, 1037, 102, 2417, 102],
        [101, 1010, 103, 999, 102, 1996, 8870, 102],
    ]
    assert pair["token_type_ids"].numpy().tolist() == [[0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1, 1]]
    tokenizer.padding_side = "right"
    assert tokenizer(["a", ""])["input_ids"].numpy().tolist() == [[101, 1037, 102], [101, 102, 0]]


def test_model_input_names():
    tokenizer = BertTokenizer(bert_texts.VOCAB, model_input_names=["input_ids"])
    assert list(tokenizer("a")) == ["input_ids"]
    assert list(tokenizer("a", return_attention_mask=True)) == ["input_ids", "attention_mask"]
    assert BertTokenizer(bert_texts.VOCAB).model_input_names == ["input_ids", "token_type_ids", "attention_mask"]


PADDED = {
    "rows": ({"input_ids": [[7, 8], [9]]}, {}, [[7, 8], [9, 0]], [[1, 1], [1, 0]]),
    "dicts": (
        [{"input_ids": [7, 8]}, {"input_ids": [9]}],
        {"padding_side": "left"},
        [[7, 8], [0, 9]],
        [[1, 1], [0, 1]],
    ),
    "longer": ({"input_ids": [[7, 8], [9]]}, {"pad_to_multiple_of": 4}, [[7, 8, 0, 0], [9, 0, 0, 0]], None),
    "to a length": ({"input_ids": [[7]]}, {"padding": "max_length", "max_length": 3}, [[7, 0, 0]], [[1, 0, 0]]),
    "to no length": ({"input_ids": [[7]]}, {"padding": "max_length"}, [[7]], [[1]]),
    "one": ({"input_ids": [7]}, {"padding": "max_length", "max_length": 3}, [7, 0, 0], [1, 0, 0]),
    "mask": ({"input_ids": [[7, 8], [9]], "attention_mask": [[0, 1], [1]]}, {}, [[7, 8], [9, 0]], [[0, 1], [1, 0]]),
    "array": ({"input_ids": np.array([[7, 8]])}, {"pad_to_multiple_of": 3}, [[7, 8, 0]], [[1, 1, 0]]),
    "ragged": ({"input_ids": tf.ragged.constant([[7, 8], [9]])}, {}, [[7, 8], [9, 0]], [[1, 1], [1, 0]]),
}


@pytest.mark.parametrize("name", PADDED)
def test_pad(tokenizer, name):
    rows, options, ids, mask = PADDED[name]
    padded = tokenizer.pad(rows, **options)
    assert padded["input_ids"].numpy().tolist() == ids
    assert padded["input_ids"].dtype == tf.int32
    if mask is not None:
        assert padded["attention_mask"].numpy().tolist() == mask
    assert list(tokenizer.pad(rows, **options, return_attention_mask=False)) == ["input_ids"]


def test_pad_of_encoded_texts_is_the_call(tokenizer):
    texts, options = ["a", LONG, ""], {"return_special_tokens_mask": True}
    expected = tokenizer(texts, **options)
    for rows in (
        tokenizer(texts, padding=False, **options),
        [{name: value[0] for name, value in tokenizer(text, padding=False, **options).items()} for text in texts],
    ):
        padded = tokenizer.pad(rows, return_tensors="np")
        assert padded.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(padded[name], value)
    labelled = tokenizer.pad([{"input_ids": [7], "label": 1}, {"input_ids": [7, 8], "label": 0}])
    assert labelled["label"].numpy().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ({"ids": [[1]]}, {}, "pad takes what a tokenizer returned, input_ids among it; got ids"),
        ([], {}, "got nothing"),
        ({"input_ids": [[1], [2, 3]], "token_type_ids": [[0], [0]]}, {}, "rows of token_type_ids are not as long as"),
        ({"input_ids": [[1], [2, 3]], "labels": [[0], [0, 1]]}, {}, "the rows of labels differ in length"),
        ({"input_ids": [[1]]}, {"padding": False}, "padding is False; it must be one of True"),
    ],
)
def test_what_cannot_be_padded(tokenizer, rows, options, message):
    with pytest.raises(ValueError, match=message):
        tokenizer.pad(rows, **options)


def test_bytes_that_are_not_utf8_are_left_out(tokenizer):
    assert tokenizer.tokenize(b"ca\xffts \xed\xa0\x80red\xc3") == ["cats", "red"]


def test_decode(tokenizer):
    encoded = tokenizer("It's unaffable, isn't it?")["input_ids"]
    assert tokenizer.batch_decode(encoded, skip_special_tokens=True) == ["it ' s unaffable, isn ' t it?"]
    assert tokenizer.decode(encoded[0]) == "[CLS] it ' s unaffable, isn ' t it? [SEP]"
    assert tokenizer.decode([2009, 1005, 1055, 99999], clean_up_tokenization_spaces=True) == "it's"
    assert tokenizer.decode(np.array([])) == ""
    ragged = tf.ragged.constant([[101, 8870, 1012], [], [2075, 2075]], dtype=tf.int32)
    assert tokenizer.batch_decode(ragged) == ["[CLS] cats.", "", "##inging"]
    assert tokenizer.detokenize(ragged).numpy().tolist() == [b"cats.", b"", b"##inging"]
    assert tokenizer.detokenize(tf.constant([[101, 8870, -1, 40000]]), False).numpy().tolist() == [b"[CLS] cats"]


def test_conversions(tokenizer):
    assert tokenizer.convert_tokens_to_ids("cats") == 8870
    assert tokenizer.convert_tokens_to_ids(["cats", "nonesuch"]) == [8870, tokenizer.unk_token_id]
    assert tokenizer.convert_ids_to_tokens(8870) == "cats"
    assert tokenizer.convert_ids_to_tokens(tf.constant([101, 8870]), skip_special_tokens=True) == ["cats"]
    assert tokenizer.convert_ids_to_tokens([99999]) == [None]
    assert tokenizer.convert_tokens_to_string(["un", "##able", "?"]) == "unable?"


def test_special_token_methods(tokenizer):
    first, second = [7, 8], [9]
    built = tokenizer.build_inputs_with_special_tokens(first, second)
    assert built == [101, 7, 8, 102, 9, 102]
    assert tokenizer.create_token_type_ids_from_sequences(first, second) == [0, 0, 0, 0, 1, 1]
    assert tokenizer.get_special_tokens_mask(first, second) == [1, 0, 0, 1, 0, 1]
    assert tokenizer.get_special_tokens_mask(built, already_has_special_tokens=True) == [1, 0, 0, 1, 0, 1]
    assert tokenizer.build_inputs_with_special_tokens(first) == [101, 7, 8, 102]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 103)
    assert tokenizer.vocab_size == len(tokenizer) == 30522
    assert tokenizer.get_vocab()["cats"] == 8870


def test_additional_special_tokens_follow_the_vocabulary():
    tokenizer = BertTokenizer(bert_texts.VOCAB, additional_special_tokens=["<img>", "[unused7]"])
    assert ids(tokenizer, "a<img>b[unused7]", add_special_tokens=False) == [[1037, 30522, 1038, 8]]
    assert (tokenizer.vocab_size, len(tokenizer)) == (30522, 30523)
    assert tokenizer.decode([1037, 30522], skip_special_tokens=True) == "a"


def test_overlapping_special_tokens_match_leftmost_then_longest():
    tokenizer = BertTokenizer(bert_texts.VOCAB, additional_special_tokens=["<ab>", "<ab>c", "ab", "b><"])
    assert tokenizer.tokenize("<ab>c <ab>< b><ab>") == ["<ab>c", "<ab>", "<", "b><", "ab", ">"]


def test_never_split():
    tokenizer = BertTokenizer(bert_texts.VOCAB, never_split=["[unused5]", "U.S."])
    assert tokenizer.tokenize("[unused5] [unused5]\u200b\t[unused5]") == ["[unused5]"] * 3
    assert tokenizer.tokenize("[unused5]中[MASK][unused5]") == ["[unused5]", "中", "[MASK]", "[unused5]"]
    assert tokenizer.tokenize("x[unused5]") == ["x", "[", "unused", "##5", "]"]
    assert tokenizer.tokenize("U.S. u.s.") == ["[UNK]", "u", ".", "s", "."]  # kept whole, but not in the vocabulary


@pytest.mark.parametrize("gap", [1, 3])
def test_vocabulary_as_list_or_mapping(gap):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "", "##", " ", "\U000f0000", "x" * 300]
    vocab = tokens if gap == 1 else {token: gap * i for i, token in enumerate(tokens)}
    tokenizer = BertTokenizer(vocab)
    assert ids(tokenizer, "cats cat dog") == [[2 * gap, 5 * gap, 6 * gap, 5 * gap, gap, 3 * gap]]


def test_a_vocabulary_without_special_tokens():
    tokenizer = BertTokenizer(["[CLS]", "a", "[SEP]"])
    assert tokenizer.get_vocab() == {"[CLS]": 0, "a": 1, "[SEP]": 2, "[UNK]": 3, "[PAD]": 4, "[MASK]": 5}
    assert ids(tokenizer, ["a [MASK] b", ""]) == [[0, 1, 5, 3, 2], [0, 2]]
    assert tokenizer(["a", ""])["input_ids"].numpy().tolist() == [[0, 1, 2], [0, 2, 4]]
    assert (tokenizer.vocab_size, len(tokenizer)) == (3, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding_side": "up"}, "padding_side is 'up'; it must be one of 'right', 'left'"),
        ({"truncation_side": None}, "truncation_side is None"),
        ({"split_special_tokens": 1}, "split_special_tokens is 1; it must be true or false"),
        ({"model_input_names": "input_ids"}, "model_input_names is 'input_ids'; it must list some of input_ids"),
        ({"model_input_names": ["ids"]}, r"model_input_names is \['ids'\]"),
        ({"pad_token": None}, "pad_token is None; a BertTokenizer has one"),
        ({"pad_tokens": "x"}, "BertTokenizer has no option pad_tokens; it takes vocab, do_lower_case"),
        ({"added_tokens_decoder": {9: "x"}}, "the added token 'x' has the id 9; it can only be 2"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        BertTokenizer(["a", "b"], **options)


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        (["a", "b", "a"], "holds the token 'a' twice, as number 0 and as number 2"),
        ({"[PAD]": 0, "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[MASK]": 3}, "one id to two tokens"),
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "한" * 90], "more than 256 bytes"),
        ("nowhere/vocab.txt", "there is no vocabulary file nowhere/vocab.txt"),
    ],
)
def test_bad_vocabularies(vocab, message):
    with pytest.raises(ValueError, match=message):
        BertTokenizer(vocab)


def test_copies_are_equal():
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Red", "<x>"]
    tokenizer = BertTokenizer(vocab, do_lower_case=False, never_split=["<x>"], model_max_length=12)
    for twin in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert twin.get_config() == tokenizer.get_config()
        assert ids(twin, "Red <x> red") == [[2, 5, 6, 1, 3]]

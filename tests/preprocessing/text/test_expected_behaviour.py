"""What users of upstream's BertTokenizer may rely on, a check for each: ours passes it, and so does upstream's.

The list was drawn up from what transformers' own tests of its tokenizers look at, in our own words. What is not so here
stands in tfvl/README.md, "Coming from transformers", with its reason.
"""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.not_here import left_out, refused

from tfvl.preprocessing.text.tokenizer import BertTokenizer

WORDS = (
    "want ##want ##ed wa un runn ##ing , low lowest a b ##b test this is the sentence . ? ' new york 的 人 h ##e é e"
)
TOKENS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *WORDS.split()]
VOCABULARY = {token: i for i, token in enumerate(TOKENS)}
TEXT, SPELT = "UNwant\u00e9d,running", ["un", "##want", "##ed", ",", "runn", "##ing"]
CHECKS = {}


def expected(check):
    CHECKS[check.__name__] = check
    return check


def rows(tokenizer, texts, pairs=None, **options):
    """Returns a call's outputs as lists; nothing is padded or cut unless asked for."""
    given = (texts,) if pairs is None else (texts, pairs)
    encoded = tokenizer(*given, **{"padding": False, "truncation": False} | options)
    return {name: lists(value) for name, value in encoded.items()}


def lists(value):
    value = value.to_list() if hasattr(value, "to_list") else value
    return value.numpy().tolist() if hasattr(value, "numpy") else value


def ids(tokenizer, text, **options):
    return rows(tokenizer, [text], add_special_tokens=False, **options)["input_ids"][0]


# ── words ──


@expected
def words_are_spelt_from_the_vocabulary(make, tmp_path):
    assert make().tokenize(TEXT) == SPELT
    assert make().convert_tokens_to_ids(SPELT) == [VOCABULARY[token] for token in SPELT]


@expected
def ids_are_those_of_the_tokens(make, tmp_path):
    tokenizer = make()
    for text in (TEXT, "this is the test.", "low, lowest?", ""):
        assert ids(tokenizer, text) == tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
        assert tokenizer.encode(text, add_special_tokens=False) == ids(tokenizer, text)


@expected
def case_and_accents_go_by_default(make, tmp_path):
    assert make().tokenize("H\u00c9 h\u00e9") == ["h", "##e", "h", "##e"]


@expected
def accents_stay_on_request(make, tmp_path):
    assert make(strip_accents=False).tokenize("\u00c9 e") == ["é", "e"]


@expected
def accents_go_without_lower_casing(make, tmp_path):
    assert make(do_lower_case=False, strip_accents=True).tokenize("\u00e9 LOW low") == ["e", "[UNK]", "low"]


@expected
def case_stays_on_request(make, tmp_path):
    assert make(do_lower_case=False).tokenize("Low low \u00e9") == ["[UNK]", "low", "é"]


@expected
def chinese_characters_are_words(make, tmp_path):
    assert make().tokenize("的人low") == ["的", "人", "low"]
    assert make(tokenize_chinese_chars=False).tokenize("的人 的") == ["[UNK]", "的"]


@expected
def punctuation_is_split_off(make, tmp_path):
    assert make().tokenize("low.the?a'b,") == ["low", ".", "the", "?", "a", "'", "b", ","]


@expected
def white_space_of_every_kind_separates(make, tmp_path):
    assert make().tokenize(" \tlow\r\nthe\u00a0a\u3000b ") == ["low", "the", "a", "b"]


@expected
def control_characters_vanish(make, tmp_path):
    assert [make().tokenize(text) for text in ("lo\x05w", "\xad", "\u200e\u200f")] == [["low"], [], []]


@expected
def a_word_that_cannot_be_spelt_is_unknown(make, tmp_path):
    assert make().tokenize("unwantx running") == ["[UNK]", "runn", "##ing"]
    assert make().tokenize(f"a{'b' * 100} a{'b' * 99}") == ["[UNK]", "a", *["##b"] * 99]


@expected
def special_tokens_within_a_text_are_kept_whole(make, tmp_path):
    assert make().tokenize("This, [MASK] test[SEP].") == ["this", ",", "[MASK]", "test", "[SEP]", "."]


@expected
def special_tokens_are_not_lower_cased(make, tmp_path):
    tokenizer = make()
    found = tokenizer.tokenize("A " + " yEs ".join(tokenizer.all_special_tokens) + " B")
    assert [token for token in found if token in tokenizer.all_special_tokens[1:]] == tokenizer.all_special_tokens[1:]


@expected
def special_tokens_are_split_on_request(make, tmp_path):
    assert "[MASK]" not in make(split_special_tokens=True).tokenize("low [MASK]")
    assert ids(make(), "[MASK]", split_special_tokens=True) != ids(make(), "[MASK]") == [VOCABULARY["[MASK]"]]


# ── rows ──


@expected
def special_tokens_stand_around_texts(make, tmp_path):
    cls, sep, low, test = (VOCABULARY[token] for token in ("[CLS]", "[SEP]", "low", "test"))
    tokenizer = make()
    assert tokenizer.encode("low") == [cls, low, sep]
    assert tokenizer.encode("low", "test") == [cls, low, sep, test, sep]
    assert tokenizer.encode("low", "test", add_special_tokens=False) == [low, test]


@expected
def as_many_as_are_announced_are_added(make, tmp_path):
    tokenizer = make()
    for pair in (None, "this test"):
        added, plain = (tokenizer.encode("low the", pair, add_special_tokens=whether) for whether in (True, False))
        assert tokenizer.num_special_tokens_to_add(pair=pair is not None) == len(added) - len(plain)


@expected
def token_types_tell_the_texts_apart(make, tmp_path):
    assert rows(make(), ["low"], ["the test"])["token_type_ids"] == [[0, 0, 0, 1, 1, 1]]
    assert rows(make(), ["low"], return_token_type_ids=True)["token_type_ids"] == [[0, 0, 0]]


@expected
def an_empty_text_is_its_special_tokens(make, tmp_path):
    assert make().encode("") == [VOCABULARY["[CLS]"], VOCABULARY["[SEP]"]]


@expected
def an_empty_second_text_of_one_text_is_none(make, tmp_path):
    assert make().encode("low", "") == make().encode("low")
    assert rows(make(), ["low"], [""])["input_ids"] != [make().encode("low")]


@expected
def a_batch_is_its_texts(make, tmp_path):
    tokenizer, texts = make(), [TEXT, "low", ""]
    assert rows(tokenizer, texts)["input_ids"] == [tokenizer.encode(text) for text in texts]


@expected
def pairs_come_as_tuples_too(make, tmp_path):
    texts, pairs = ["low", TEXT], ["the test", ""]
    assert rows(make(), list(zip(texts, pairs, strict=True))) == rows(make(), texts, pairs)


@expected
def as_many_second_texts_as_first_ones(make, tmp_path):
    with pytest.raises(ValueError, match=r"agree|does not match"):
        rows(make(), ["low", "a"], ["b"])


@expected
def a_mask_marks_the_special_tokens(make, tmp_path):
    tokenizer = make()
    encoded = rows(tokenizer, ["low", "low the"], ["a", "b"], padding=True, return_special_tokens_mask=True)
    assert encoded["special_tokens_mask"] == [[1, 0, 1, 0, 1, 1], [1, 0, 0, 1, 0, 1]]
    for row, mask in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
        assert tokenizer.get_special_tokens_mask(row, already_has_special_tokens=True) == mask


@expected
def lengths_count_what_is_returned(make, tmp_path):
    assert rows(make(), ["low", ""], return_length=True)["length"] == [3, 2]
    assert rows(make(), ["low", ""], return_length=True, padding=True)["length"] == [3, 3]


@expected
def outputs_are_those_the_model_takes(make, tmp_path):
    assert make().model_input_names[0] == "input_ids"
    assert list(rows(make(model_input_names=["input_ids"]), ["low"])) == ["input_ids"]
    assert list(rows(make(), ["low"], return_attention_mask=False)) == ["input_ids", "token_type_ids"]


# ── padding ──


@expected
def padding_is_on_either_side(make, tmp_path):
    pad, row = VOCABULARY["[PAD]"], make().encode("low")
    for side, padded in (("right", [*row, pad, pad]), ("left", [pad, pad, *row])):
        for tokenizer, options in ((make(padding_side=side), {}), (make(), {"padding_side": side})):
            encoded = rows(tokenizer, ["low"], padding="max_length", max_length=5, **options)
            assert encoded["input_ids"] == [padded]
            assert encoded["attention_mask"] == [[int(i != pad) for i in padded]]


@expected
def rows_without_padding_are_whole_on_either_side(make, tmp_path):
    texts, pairs = [TEXT, "low", ""], ["the", TEXT, "a"]
    for given in ((texts,), (texts, pairs)):
        encoded = [make().encode(*each) for each in zip(*given, strict=True)]
        for options in ({"padding": False}, {"padding": "max_length"}):  # there is no limit to pad to
            left, right = (rows(make(padding_side=side), *given, **options) for side in ("left", "right"))
            assert left["input_ids"] == encoded
            assert left == right


@expected
def the_side_can_be_set_later(make, tmp_path):
    tokenizer = make()
    tokenizer.padding_side = "left"
    assert rows(tokenizer, ["low", ""], padding=True)["attention_mask"] == [[1, 1, 1], [0, 1, 1]]


@expected
def another_side_is_refused(make, tmp_path):
    for option in ("padding_side", "truncation_side"):
        with pytest.raises(ValueError, match="authorized"):
            make(**{option: "authorized"})


@expected
def one_row_is_the_longest(make, tmp_path):
    for padding in (True, "longest", False):
        assert rows(make(), ["low"], padding=padding)["input_ids"] == [make().encode("low")]


@expected
def nothing_is_padded_to_no_limit(make, tmp_path):
    assert rows(make(), ["low"], padding="max_length")["input_ids"] == [make().encode("low")]
    assert len(rows(make(model_max_length=7), ["low"], padding="max_length")["input_ids"][0]) == 7


@expected
def padding_goes_in_steps(make, tmp_path):
    assert [len(row) for row in rows(make(), ["low", ""], padding=True, pad_to_multiple_of=8)["input_ids"]] == [8, 8]
    assert len(rows(make(), ["low"], pad_to_multiple_of=8)["input_ids"][0]) == 3
    with pytest.raises(ValueError, match="multiple"):
        rows(make(), ["low"], padding=True, truncation=True, max_length=12, pad_to_multiple_of=8)


@expected
def rows_are_padded_afterwards(make, tmp_path):
    tokenizer, texts = make(), [TEXT, "low", ""]
    whole, unpadded = rows(tokenizer, texts, padding=True), rows(tokenizer, texts)
    single = [{name: values[i] for name, values in unpadded.items()} for i in range(len(texts))]
    for given in (unpadded, single):
        assert {name: lists(value) for name, value in tokenizer.pad(given).items()} == whole
    longer = tokenizer.pad(unpadded, padding="max_length", max_length=10, padding_side="left")
    assert [len(row) for row in lists(longer["input_ids"])] == [10] * 3
    assert lists(longer["attention_mask"])[1] == [0] * 7 + [1] * 3
    with pytest.raises(ValueError, match="input_ids"):
        tokenizer.pad([{"words": [1]}])


@expected
def an_array_is_padded_as_rows_are(make, tmp_path):
    padded = make().pad({"input_ids": np.array([[5, 6]])}, pad_to_multiple_of=4, return_tensors="np")
    assert np.asarray(padded["attention_mask"]).tolist() == [[1, 1, 0, 0]]


# ── truncation ──


@expected
def texts_are_cut_on_either_side(make, tmp_path):
    cls, sep = VOCABULARY["[CLS]"], VOCABULARY["[SEP]"]
    for side, kept in (("right", SPELT[:3]), ("left", SPELT[-3:])):
        (row,) = rows(make(truncation_side=side), [TEXT], truncation=True, max_length=5)["input_ids"]
        assert row == [cls, *(VOCABULARY[token] for token in kept), sep]


@expected
def the_tokenizers_limit_is_the_default(make, tmp_path):
    for padding in (True, False, "longest"):
        for truncation in (True, "longest_first", "only_first"):
            options = {"padding": padding, "truncation": truncation}
            assert len(rows(make(model_max_length=6), [TEXT], **options)["input_ids"][0]) == 6
    assert len(rows(make(model_max_length=6), [TEXT])["input_ids"][0]) == 8
    assert len(rows(make(), [TEXT], truncation=True)["input_ids"][0]) == 8


@expected
def of_two_texts_the_longer_one_is_cut_first(make, tmp_path):
    (types,) = rows(make(), [TEXT], ["low the a b"], truncation="longest_first", max_length=11)["token_type_ids"]
    assert (types.count(0), types.count(1)) == (6, 5)


@expected
def either_text_can_be_the_one_that_is_cut(make, tmp_path):
    for strategy, counts in (("only_first", (5, 5)), ("only_second", (8, 2))):
        (types,) = rows(make(), [TEXT], ["low the a b"], truncation=strategy, max_length=10)["token_type_ids"]
        assert (types.count(0), types.count(1)) == counts


@expected
def a_text_too_short_to_be_cut_is_refused(make, tmp_path):
    with pytest.raises(Exception, match=r"too short|cannot shorten"):
        rows(make(), ["low"], [TEXT], truncation="only_first", max_length=6)


@expected
def a_second_text_is_needed_only_where_it_is_cut(make, tmp_path):
    assert rows(make(), ["low"], truncation="only_second", max_length=6)["input_ids"] == [make().encode("low")]
    with pytest.raises(Exception, match=r"not provided|cannot shorten"):
        rows(make(), [TEXT], truncation="only_second", max_length=6)


@expected
def nothing_is_cut_where_special_tokens_have_no_room(make, tmp_path):
    assert rows(make(), ["low"], truncation=True, max_length=1)["input_ids"] == [make().encode("low")]
    assert len(rows(make(), ["low"], truncation=True, max_length=2)["input_ids"][0]) == 2


@expected
def room_for_texts_is_known(make, tmp_path):
    tokenizer = make(model_max_length=20)
    assert (tokenizer.max_len_single_sentence, tokenizer.max_len_sentences_pair) == (18, 17)


# ── back to text ──


@expected
def ids_become_text(make, tmp_path):
    tokenizer = make()
    assert tokenizer.decode(ids(tokenizer, TEXT)) == "unwanted, running"
    assert tokenizer.decode(tokenizer.encode("low"), skip_special_tokens=True) == "low"
    assert tokenizer.decode(tokenizer.encode("low")) == "[CLS] low [SEP]"
    assert tokenizer.decode(VOCABULARY["low"]) == "low"


@expected
def several_rows_become_texts(make, tmp_path):
    encoded = rows(make(), [TEXT, "low"])["input_ids"]
    texts = [make().decode(row) for row in encoded]
    assert make().batch_decode(encoded) == make().decode(encoded) == texts
    assert make().batch_decode(np.array(encoded[1:])) == texts[1:]


@expected
def spaces_are_cleaned_up_on_request(make, tmp_path):
    row = ids(make(), "the ' a")
    assert make().decode(row) == "the ' a"
    assert make(clean_up_tokenization_spaces=True).decode(row) == make().decode(row, clean_up_tokenization_spaces=True)
    assert make().decode(row, clean_up_tokenization_spaces=True) == "the'a"


@expected
def tokens_become_text(make, tmp_path):
    assert make().convert_tokens_to_string(["this", "is", "runn", "##ing"]) == "this is running"


@expected
def tokens_and_ids_are_each_others_inverse(make, tmp_path):
    tokenizer = make()
    vocab = tokenizer.get_vocab()
    assert vocab == tokenizer.vocab == VOCABULARY
    assert tokenizer.convert_ids_to_tokens(list(vocab.values())) == list(vocab)
    assert tokenizer.convert_tokens_to_ids("nonesuch") == tokenizer.unk_token_id
    assert tokenizer.convert_ids_to_tokens([999]) == [None]
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("low"), skip_special_tokens=True) == ["low"]


# ── special tokens ──


@expected
def special_tokens_have_names(make, tmp_path):
    tokenizer = make()
    for name in ("unk", "sep", "pad", "cls", "mask"):
        token = getattr(tokenizer, f"{name}_token")
        assert token == f"[{name.upper()}]" == tokenizer.special_tokens_map[f"{name}_token"]
        assert getattr(tokenizer, f"{name}_token_id") == VOCABULARY[token]
    assert (tokenizer.bos_token, tokenizer.bos_token_id, tokenizer.eos_token) == (None, None, None)
    assert tokenizer.all_special_ids == tokenizer.convert_tokens_to_ids(tokenizer.all_special_tokens)


@expected
def names_can_be_given_to_other_tokens(make, tmp_path):
    tokenizer = make()
    for name in ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"):
        setattr(tokenizer, f"{name}_id", VOCABULARY["low"])
        assert (getattr(tokenizer, name), getattr(tokenizer, f"{name}_id")) == ("low", VOCABULARY["low"])
    tokenizer.extra_special_tokens = ["the"]
    assert tokenizer.extra_special_tokens_ids == [VOCABULARY["the"]]


@expected
def names_can_be_given_to_new_tokens(make, tmp_path):
    tokenizer = make()
    assert tokenizer.add_special_tokens({"eos_token": ">>>>|||<", "pad_token": "<<<|>"}) == 2
    row = ids(tokenizer, ">>>>|||< low<<<|>")
    assert row == [tokenizer.eos_token_id, VOCABULARY["low"], tokenizer.pad_token_id]
    assert min(row[0], row[2]) >= tokenizer.vocab_size
    with pytest.raises(ValueError, match="wrong_name"):
        tokenizer.add_special_tokens({"wrong_name": "x"})


@expected
def extra_special_tokens_are_kept_whole_and_skipped(make, tmp_path):
    tokenizer = make(extra_special_tokens=["<Extra>"])
    assert tokenizer.extra_special_tokens == ["<Extra>"]
    assert tokenizer.tokenize("low<Extra>") == ["low", "<Extra>"]
    assert tokenizer.decode(ids(tokenizer, "low <Extra>"), skip_special_tokens=True) == "low"


@expected
def the_older_name_of_extra_special_tokens_is_known(make, tmp_path):
    assert make(additional_special_tokens=["<x>"]).extra_special_tokens == ["<x>"]
    tokenizer = make()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<y>"]})
    assert tokenizer.extra_special_tokens == ["<y>"]


@expected
def a_list_of_extra_ones_replaces_or_extends(make, tmp_path):
    tokenizer = make(extra_special_tokens=["<x>"])
    tokenizer.add_special_tokens({"extra_special_tokens": ["<y>"]}, replace_extra_special_tokens=False)
    assert tokenizer.extra_special_tokens == ["<x>", "<y>"]
    tokenizer.add_special_tokens({"extra_special_tokens": ["<z>"]})
    assert tokenizer.extra_special_tokens == ["<z>"]
    assert tokenizer.tokenize("<x>") == ["<x>"]


@expected
def extra_ones_with_names_are_attributes(make, tmp_path):
    tokenizer = make(extra_special_tokens={"image_token": "<image>"})
    assert tokenizer.image_token == "<image>"
    assert tokenizer.image_token_id == len(VOCABULARY)


# ── added tokens ──


@expected
def added_tokens_get_the_ids_behind_the_vocabulary(make, tmp_path):
    tokenizer = make(do_lower_case=False)
    assert tokenizer.add_tokens(["aaaaa bbbbbb", "cccccccccdddddddd"]) == 2
    assert (tokenizer.vocab_size, len(tokenizer)) == (len(VOCABULARY), len(VOCABULARY) + 2)
    assert ids(tokenizer, "aaaaa bbbbbb low cccccccccdddddddd") == [
        len(VOCABULARY),
        VOCABULARY["low"],
        len(VOCABULARY) + 1,
    ]
    assert tokenizer.get_added_vocab().items() <= tokenizer.get_vocab().items()
    assert tokenizer.added_tokens_encoder == {t.content: i for i, t in tokenizer.added_tokens_decoder.items()}


@expected
def tokens_are_added_once(make, tmp_path):
    tokenizer = make()
    assert [tokenizer.add_tokens(tokens) for tokens in ("<n>", "<n>", [], ["<n>", "<o>"])] == [1, 0, 0, 1]


@expected
def added_tokens_are_found_in_any_case(make, tmp_path):
    tokenizer = make()
    tokenizer.add_tokens(["AAAA bbbb", "CCdd"])
    assert ids(tokenizer, "aaaa BBBB low ccDD") == ids(tokenizer, "AAAA bbbb low ccdd")
    assert len(ids(tokenizer, "aaaa BBBB low ccDD")) == 3


@expected
def added_special_tokens_are_found_as_they_are_written(make, tmp_path):
    tokenizer = make()
    tokenizer.add_tokens(["[LOW]"], special_tokens=True)
    assert tokenizer.tokenize("[LOW]the") == ["[LOW]", "the"]
    assert "[LOW]" not in tokenizer.tokenize("[low]")


@expected
def a_lower_cased_word_is_no_special_token(make, tmp_path):
    tokenizer = make(extra_special_tokens=["unlow"])
    assert tokenizer.tokenize("UNLOW unlow") == ["[UNK]", "unlow"]


@expected
def added_tokens_beside_one_another(make, tmp_path):
    tokenizer = make()
    tokenizer.add_tokens(["[ABC]", "[DEF]", "GHI IHG"], special_tokens=True)
    row = ids(tokenizer, "[ABC][DEF][ABC]GHI IHG[DEF]")
    assert tokenizer.decode(row) == "[ABC] [DEF] [ABC] GHI IHG [DEF]"


@expected
def added_tokens_of_words_leave_the_words_around_them(make, tmp_path):
    tokenizer = make()
    tokenizer.add_tokens("new york")
    assert tokenizer.tokenize("the New York, low") == ["the", "new york", ",", "low"]


# ── files and copies ──


def same(first, second):
    for text in (TEXT, "low [MASK] <x> bim BIM", "的"):
        assert ids(first, text) == ids(second, text)
    assert first.get_vocab() == second.get_vocab()
    assert first.all_special_tokens == second.all_special_tokens


def with_more(make, **options):
    tokenizer = make(extra_special_tokens=["<x>"], **options)
    tokenizer.add_tokens(["bim", "bambam"])
    return tokenizer


@expected
def saved_and_loaded_it_is_the_same(make, tmp_path):
    tokenizer = with_more(make, model_max_length=42, padding_side="left", do_lower_case=False)
    tokenizer.save_pretrained(tmp_path / "1")
    again = type(tokenizer).from_pretrained(tmp_path / "1")
    same(tokenizer, again)
    assert (again.model_max_length, again.padding_side, again.do_lower_case) == (42, "left", False)
    shutil.rmtree(tmp_path / "1")
    again.save_pretrained(tmp_path / "2")
    same(tokenizer, type(tokenizer).from_pretrained(tmp_path / "2"))


@expected
def options_can_be_changed_while_loading(make, tmp_path):
    tokenizer = with_more(make, model_max_length=42)
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path, model_max_length=43, extra_special_tokens=["<y>"])
    assert (again.model_max_length, again.extra_special_tokens) == (43, ["<y>"])
    assert again.tokenize("<x><y>") == ["<x>", "<y>"]


@expected
def the_configuration_names_the_class(make, tmp_path):
    make().save_pretrained(tmp_path)
    text = (tmp_path / "tokenizer_config.json").read_text()
    assert json.loads(text)["tokenizer_class"] == "BertTokenizer"
    assert text.startswith("{\n  ")
    assert text.endswith("}\n")


@expected
def pickled_it_is_the_same(make, tmp_path):
    tokenizer = with_more(make)
    same(tokenizer, pickle.loads(pickle.dumps(tokenizer)))


@expected
def a_vocabulary_file_is_enough(make, tmp_path):
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    same(make(), type(make()).from_pretrained(tmp_path))


@expected
def special_tokens_that_a_vocabulary_lacks_are_added(make, tmp_path):
    tokenizer = type(make())({"[UNK]": 0, "low": 1, "[CLS]": 2, "[SEP]": 3})
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (4, 5)
    assert rows(tokenizer, ["low", ""], padding=True)["input_ids"] == [[2, 1, 3], [2, 3, 4]]


@expected
def it_is_never_false(make, tmp_path):
    assert make()


# ── ──


def ours(**options):
    return BertTokenizer(VOCABULARY, **options)


@pytest.mark.parametrize("name", CHECKS)
def test_ours(tmp_path, name):
    CHECKS[name](ours, tmp_path)


@pytest.mark.parity
@pytest.mark.parametrize("name", CHECKS)
def test_upstreams(tmp_path, name):
    transformers = pytest.importorskip("transformers", reason="the parity suite needs transformers")
    CHECKS[name](lambda **options: transformers.BertTokenizer(dict(VOCABULARY), **options), tmp_path)


def written(directory: Path, **config) -> Path:
    ours().save_pretrained(directory)
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return directory


NOT_HERE = {
    "`return_offsets_mapping`": lambda _: refused(lambda: ours()("a", return_offsets_mapping=True), "offsets_mapping"),
    "`return_overflowing_tokens`": lambda _: refused(
        lambda: ours()("a", return_overflowing_tokens=True), "overflowing"
    ),
    "`is_split_into_words`": lambda _: refused(lambda: ours()(["a"], is_split_into_words=True), "is_split_into_words"),
    "`text_target`": lambda _: refused(lambda: ours()("a", text_target="b"), "text_target"),
    "`BatchEncoding`": lambda _: type(ours()("a")) is dict or pytest.fail("no plain dict"),
    "`apply_chat_template`": lambda _: refused(lambda: ours().apply_chat_template, "apply_chat_template"),
    "`train_new_from_iterator`": lambda _: refused(lambda: ours().train_new_from_iterator, "train_new_from_iterator"),
    "`backend_tokenizer`, `init_kwargs`": lambda _: refused(lambda: ours().backend_tokenizer, "backend_tokenizer"),
    "`save_vocabulary`": lambda _: refused(lambda: ours().save_vocabulary, "save_vocabulary"),
    "single texts": lambda _: ours()("a")["input_ids"].shape == (1, 3) or pytest.fail("not a batch"),
    "defaults of a call": lambda _: ours()(["a", ""])["input_ids"].shape == (2, 3) or pytest.fail("not padded"),
    "`truncation=False`": lambda _: refused(
        lambda: ours()("a b", truncation=False, max_length=3), "more than max_length"
    ),
    "singles among pairs": lambda _: refused(lambda: ours()([("a", "b"), "a"]), "each row a pair"),
    "special tokens of `None`": lambda _: refused(lambda: ours(pad_token=None), "pad_token is None"),
    "tokens of which nothing is left": lambda _: refused(lambda: ours().add_tokens("\u0301"), "nothing is left"),
    "one normalised content": lambda _: ours().add_tokens(["Dog", "dog"]) == 2 or pytest.fail("not both"),
    "an unknown word without `[UNK]`": lambda _: (
        BertTokenizer({"a": 0}).encode("x")[1] == 1 or pytest.fail("not added")
    ),
    "stripped white space": lambda _: added_with_space() == ["[MASK]"] or pytest.fail("shown"),
    "other ids of added tokens": lambda path: refused(
        lambda: BertTokenizer.from_pretrained(written(path, added_tokens_decoder={"99": {"content": "<x>"}})), "only be"
    ),
    "`init_inputs`": lambda path: refused(
        lambda: BertTokenizer.from_pretrained(written(path, init_inputs=["x"])), "init_inputs"
    ),
    "options that nobody knows": lambda _: refused(lambda: ours(wibble=1), "no option wibble"),
}


def added_with_space() -> list[str]:
    return ours(mask_token={"content": "[MASK]", "lstrip": True, "normalized": False}).tokenize("  [MASK]")


@pytest.mark.parametrize("name", NOT_HERE)
def test_what_is_not_so_here(tmp_path, name):
    assert name in left_out("The tokenizer")
    NOT_HERE[name](tmp_path)


def test_the_readme_lists_no_more():
    assert left_out("The tokenizer").keys() == NOT_HERE.keys()

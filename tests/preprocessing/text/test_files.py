"""The tokenizer's files: vocab.txt, tokenizer.json, tokenizer_config.json in old and new spellings, and broken ones."""

import json

import pytest
from support import tokenizer_files as helpers

from tfvl.errors import CheckpointError
from tfvl.preprocessing.text.tokenizer import NO_LIMIT, BertTokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "é", "Cat", "中"]
TEXT = "Cats [MASK] é 中cat <x>"


def write(directory, **files):
    for name, content in files.items():
        path = directory / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return directory


def vocab_txt(tokens=TOKENS):
    return "".join(f"{token}\n" for token in tokens).encode()


def backend(tokens=TOKENS, added=(), **model):
    added = [{"id": i, "content": token, "special": True} for i, token in added]
    vocab = {token: i for i, token in enumerate(tokens)}
    return {"added_tokens": added, "model": {"type": "WordPiece", "vocab": vocab, **model}}


def ids(tokenizer):
    return tokenizer.encode(TEXT)


@pytest.mark.parametrize("options", [{}, {"do_lower_case": False, "model_max_length": 40, "never_split": ["é"]}])
@pytest.mark.parametrize("added", [[], ["<x>", "<y>"]])
@pytest.mark.parametrize("removed", ["tokenizer.json", "vocab.txt", "special_tokens_map.json"])
def test_round_trip(tmp_path, options, added, removed):
    tokenizer = BertTokenizer(TOKENS, additional_special_tokens=added, mask_token="[MASK]", **options)
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / removed).unlink()
    again = BertTokenizer.from_pretrained(tmp_path / "saved")
    assert again.get_config() == tokenizer.get_config()
    assert ids(again) == ids(tokenizer)
    assert not [path for path in (tmp_path / "saved").iterdir() if path.suffix == ".tmp"]


def test_from_pretrained_overrides_and_single_file(tmp_path):
    write(tmp_path, vocab__txt=vocab_txt(), tokenizer_config__json={"do_lower_case": True})
    assert BertTokenizer.from_pretrained(tmp_path, do_lower_case=False).tokenize("Cat") == ["Cat"]
    assert BertTokenizer.from_pretrained(tmp_path / "vocab.txt").tokenize("Cat") == ["cat"]


@pytest.mark.parametrize("name", helpers.CASES)
def test_each_key_is_upstreams(tmp_path, name):
    tokenizer = BertTokenizer.from_pretrained(helpers.write(tmp_path / "read", helpers.CASES[name]))
    assert helpers.told(tokenizer) == helpers.golden()[name]
    tokenizer.save_pretrained(tmp_path / "written")
    again = BertTokenizer.from_pretrained(tmp_path / "written")
    assert helpers.told(again) == helpers.golden()[name]
    assert again.get_config() == tokenizer.get_config()


@pytest.mark.parity
def test_the_golden_file_of_keys_is_upstreams(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the parity suite needs transformers")
    golden = helpers.golden()
    for number, (name, files) in enumerate(helpers.CASES.items()):
        theirs = transformers.BertTokenizer.from_pretrained(helpers.write(tmp_path / str(number), files))
        assert helpers.told(theirs) == golden[name], name


@pytest.mark.parity
@pytest.mark.parametrize("name", helpers.CASES)
def test_transformers_reads_what_we_write_of_each_key(tmp_path, name):
    transformers = pytest.importorskip("transformers", reason="the parity suite needs transformers")
    tokenizer = BertTokenizer.from_pretrained(helpers.write(tmp_path / "read", helpers.CASES[name]))
    tokenizer.save_pretrained(tmp_path / "written")
    assert helpers.told(transformers.BertTokenizer.from_pretrained(tmp_path / "written")) == helpers.golden()[name]


OVERRIDES = {
    "padding_side": {"padding_side": "left"},
    "mask_token": {"mask_token": "cat"},
    "extra": {"additional_special_tokens": ["<x>"]},
    "lower case": {"do_lower_case": False},
    "limit": {"model_max_length": 6},
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_overrides_are_what_files_would_say(tmp_path, name):
    files = {helpers.CONFIG: {"truncation_side": "left", "mask_token": "x"}, helpers.SPECIAL: {"cls_token": "the"}}
    overridden = BertTokenizer.from_pretrained(helpers.write(tmp_path / "1", files), **OVERRIDES[name])
    files[helpers.CONFIG] |= OVERRIDES[name]
    said = BertTokenizer.from_pretrained(helpers.write(tmp_path / "2", files))
    assert overridden.get_config() == said.get_config()
    with pytest.raises(TypeError, match="BertTokenizer has no option wibble; it takes vocab, do_lower_case"):
        BertTokenizer.from_pretrained(tmp_path / "1", wibble=3)


def test_windows_line_ends(tmp_path):
    write(tmp_path, vocab__txt=vocab_txt().replace(b"\n", b"\r\n"))
    assert BertTokenizer.from_pretrained(tmp_path).get_vocab() == {token: i for i, token in enumerate(TOKENS)}


def test_line_separators_of_unicode_end_no_line(tmp_path):
    write(tmp_path, vocab__txt=vocab_txt([*TOKENS, "a\u2028b", "\x85", "c"]))
    assert BertTokenizer.from_pretrained(tmp_path).get_vocab()["c"] == 12


def test_version_4_layout(tmp_path):
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    named = [(0, "[PAD]"), (1, "[UNK]"), (2, "[CLS]"), (3, "[SEP]"), (4, "[MASK]"), (10, "<x>")]
    config = {
        "added_tokens_decoder": {str(i): {"content": token, **flags} for i, token in named},
        "additional_special_tokens": ["<x>"],
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "mask_token": {"content": "[MASK]", "__type": "AddedToken", **flags},
        "model_max_length": 1000000000000000019884624838656,
        "strip_accents": None,
        "tokenizer_class": "BertTokenizer",
    }
    special = {"mask_token": "cat", "pad_token": {"content": "[PAD]", **flags}}  # the configuration wins
    write(tmp_path, vocab__txt=vocab_txt(), tokenizer_config__json=config, special_tokens_map__json=special)
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.model_max_length >= NO_LIMIT
    assert tokenizer.additional_special_tokens == ("<x>",)
    assert tokenizer.tokenize(TEXT) == ["cat", "##s", "[MASK]", "[UNK]", "中", "cat", "<x>"]


def test_version_5_layout(tmp_path):
    config = {"backend": "tokenizers", "mask_token": "[MASK]", "extra_special_tokens": ["<x>"], "strip_accents": False}
    write(tmp_path, tokenizer__json=backend(added=[(4, "[MASK]"), (10, "<x>")]), tokenizer_config__json=config)
    tokenizer = BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize(TEXT) == ["cat", "##s", "[MASK]", "é", "中", "cat", "<x>"]
    assert tokenizer.all_special_tokens == ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]", "<x>"]


def test_special_tokens_map_wins_in_the_oldest_layout(tmp_path):
    config, special = {"mask_token": "cat"}, {"mask_token": {"content": "é"}}
    write(tmp_path, vocab__txt=vocab_txt(), tokenizer_config__json=config, special_tokens_map__json=special)
    assert BertTokenizer.from_pretrained(tmp_path).mask_token == "é"


@pytest.mark.parametrize("limit", [1e30, 10**30, 1000000000000000019884624838656, None])
def test_no_limit_in_all_its_spellings(tmp_path, limit):
    write(tmp_path, vocab__txt=vocab_txt(), tokenizer_config__json={"model_max_length": limit})
    assert len(BertTokenizer.from_pretrained(tmp_path).encode("cat " * 1000)) == 1002


def test_added_tokens_file(tmp_path):
    special = {"additional_special_tokens": ["<x>", "<y>"]}
    write(tmp_path, vocab__txt=vocab_txt(), added_tokens__json={"<y>": 11, "<x>": 10}, special_tokens_map__json=special)
    assert BertTokenizer.from_pretrained(tmp_path).tokenize("<y>cat<x>") == ["<y>", "cat", "<x>"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither tokenizer.json nor vocab.txt"),
        ({"vocab__txt": b"[PAD]\n\xff\n"}, "vocab.txt is not UTF-8 text: byte 6"),
        ({"vocab__txt": vocab_txt([*TOKENS, "cat"])}, "holds the token 'cat' twice, as number 5 and as number 10"),
        ({"vocab__txt": b""}, "holds no vocabulary: there is no token in"),
        ({"tokenizer__json": b"{"}, "tokenizer.json is not valid JSON"),
        ({"tokenizer__json": b"[" * 100_000}, "tokenizer.json is not valid JSON"),
        ({"tokenizer__json": [1]}, "tokenizer.json holds a JSON list, not an object"),
        ({"tokenizer__json": {"model": {"type": "BPE", "vocab": {}}}}, "describes a 'BPE' tokenizer"),
        ({"tokenizer__json": {"model": {"type": "WordPiece", "vocab": ["a"]}}}, "'WordPiece'"),
        ({"tokenizer__json": {"model": 7}}, "tokenizer.json"),
        ({"tokenizer__json": backend(["[UNK]", "\ud800a"])}, "tokenizer.json has a text with half a surrogate pair"),
        ({"tokenizer__json": backend(["[UNK]", "a"]) | {"model": {"vocab": {"[UNK]": "zero"}}}}, "tokenizer.json"),
        ({"tokenizer__json": backend(continuing_subword_prefix="@@")}, "has the prefix '@@'"),
        ({"tokenizer__json": backend(added=[(12, "<x>")])}, "the added token '<x>' the id 12; it can only be 10"),
        ({"tokenizer__json": backend() | {"added_tokens": [7]}}, "tokenizer.json"),
        ({"vocab__txt": vocab_txt(), "tokenizer_config__json": {"mask_token": 7}}, "mask_token"),
        ({"vocab__txt": vocab_txt(), "tokenizer_config__json": {"pad_token": None}}, r"has no pad_token \(null\)"),
        ({"vocab__txt": vocab_txt(), "tokenizer_config__json": {"init_inputs": ["x"]}}, "has init_inputs, which"),
        ({"vocab__txt": vocab_txt(), "tokenizer_config__json": {"padding_side": "up"}}, "padding_side is 'up'"),
        (
            {"vocab__txt": vocab_txt(), "added_tokens__json": {"<x>": 12}},
            "the added token '<x>' the id 12; it can only",
        ),
        ({"vocab__txt": vocab_txt(), "added_tokens__json": {"<x>": "ten"}}, "added_tokens.json has not the structure"),
        (
            {"tokenizer__json": backend() | {"padding": {"direction": 7}}},
            "tokenizer.json, padding, has not the structure",
        ),
        ({"vocab__txt": vocab_txt(), "tokenizer_config__json": {"model_max_length": "long"}}, "model_max_length"),
        ({"vocab__txt": vocab_txt(), "tokenizer_config__json": {"do_lower_case": "yes"}}, "do_lower_case"),
        ({"vocab__txt": vocab_txt(), "tokenizer_config__json": {"added_tokens_decoder": 3}}, "added_tokens"),
    ],
)
def test_broken_files(tmp_path, files, message):
    write(tmp_path, **files)
    with pytest.raises(ValueError, match=message):
        BertTokenizer.from_pretrained(tmp_path)


def test_a_file_beyond_all_measure_is_not_read(tmp_path):
    with (tmp_path / "vocab.txt").open("wb") as file:
        file.truncate(1 << 34)  # sparse
    with pytest.raises(CheckpointError, match="has 17179869184 bytes"):
        BertTokenizer.from_pretrained(tmp_path)

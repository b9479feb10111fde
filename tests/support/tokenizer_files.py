"""Changes the keys of a tokenizer's files, each alone, and records what a tokenizer that reads them does.

What upstream's does is in the golden file (tools/golden/tokenizer_files.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.paths import GOLDEN

FILE = GOLDEN / "tokenizer_files.json"
TOKENS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "é", "Cat", "中", "the", "e", "b", "##b", "x"),
    *("[", "]", "mask", "<", ">", "$", "t", "'", ".", "a", "##a"),
)
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
NEW = len(TOKENS)
CONFIG, BACKEND, SPECIAL, ADDED = (
    *("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"),
    "added_tokens.json",
)
TEXTS = ("Cats é [MASK] the x", "a", "b[SEP]<x> $T$ $t$ [mask]")
PAIRS = ("the cat", "", "中 <x>")
DECODED = (2, 11, 5, 6, 22, 12, 23, 3)


def token(content: str, **flags: bool) -> dict[str, Any]:
    return {"content": content, **FLAGS, **flags}


def typed(content: str, **flags: bool) -> dict[str, Any]:
    return {"__type": "AddedToken", **token(content, **flags)}


def backend(**changes: Any) -> dict[str, Any]:
    """Returns tokenizer.json as upstream writes it, with changes."""
    cls, sep = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]"))
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, **token(TOKENS[i])} for i in range(5)],
        "normalizer": {
            **{"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True},
            **{"strip_accents": None, "lowercase": True},
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, first, sep],
            "pair": [cls, first, sep, second, sep],
            "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for i, t in ((2, "[CLS]"), (3, "[SEP]"))},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            **{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"},
            **{"max_input_chars_per_word": 100, "vocab": {token: i for i, token in enumerate(TOKENS)}},
        },
    }
    return whole | changes


def inside(name: str, **changes: Any) -> dict[str, Any]:
    """Returns tokenizer.json with changes within one of its parts."""
    return {BACKEND: backend(**{name: backend()[name] | changes})}


def config(**values: Any) -> dict[str, Any]:
    return {CONFIG: values}


CUT = {"max_length": 6, "strategy": "OnlyFirst", "stride": 0}
FILLED = {"strategy": {"Fixed": 40}, "pad_to_multiple_of": 8, "pad_id": 5, "pad_type_id": 1, "pad_token": "cat"}
MORE = [*backend()["added_tokens"], {"id": NEW, **token("<x>")}, {"id": NEW + 1, **token("$T$", normalized=True)}]
CASES: dict[str, dict[str, Any]] = {
    "vocab.txt alone": {},
    "tokenizer.json": {BACKEND: backend()},
    # tokenizer_config.json
    "do_lower_case": config(do_lower_case=False),
    "strip_accents": config(strip_accents=False),
    "tokenize_chinese_chars": config(tokenize_chinese_chars=False),
    "model_max_length": config(model_max_length=7),
    "model_max_length, null": config(model_max_length=None),
    "model_max_length, none at all": config(model_max_length=1000000000000000019884624838656),
    "max_len": config(max_len=7),
    "max_len beside model_max_length": config(max_len=7, model_max_length=9),
    "padding_side": config(padding_side="left"),
    "truncation_side": config(truncation_side="left", model_max_length=7),
    "split_special_tokens": config(split_special_tokens=True),
    "model_input_names": config(model_input_names=["input_ids", "attention_mask"]),
    "clean_up_tokenization_spaces": config(clean_up_tokenization_spaces=True),
    "unk_token": config(unk_token="x"),
    "sep_token": config(sep_token="x"),
    "pad_token": config(pad_token="x"),
    "cls_token": config(cls_token="x"),
    "mask_token": config(mask_token="x"),
    "mask_token, new": config(mask_token="<x>"),
    "mask_token with flags": config(mask_token=typed("[MASK]", lstrip=True, normalized=True)),
    "bos_token": config(bos_token="<x>"),
    "bos_token, null": config(bos_token=None),
    "eos_token": config(eos_token="<x>"),
    "a token of another name": config(image_token="<x>"),
    "a token of another name with flags": config(image_token=typed("<x>", rstrip=True)),
    "model_specific_special_tokens": config(model_specific_special_tokens={"image_token": "<x>"}),
    "additional_special_tokens": config(additional_special_tokens=["<x>", "the"]),
    "additional_special_tokens with flags": config(additional_special_tokens=[typed("<x>", lstrip=True), "$T$"]),
    "extra_special_tokens": config(extra_special_tokens=["<x>"]),
    "extra_special_tokens, named": config(extra_special_tokens={"image_token": "<x>"}),
    "extra_ and additional_special_tokens": config(extra_special_tokens=["<x>"], additional_special_tokens=["$T$"]),
    "added_tokens_decoder": config(added_tokens_decoder={str(NEW): token("<x>")}),
    "added_tokens_decoder, plain": config(added_tokens_decoder={NEW: token("$T$", special=False, normalized=True)}),
    "added_tokens_decoder, few flags": config(added_tokens_decoder={NEW: {"content": "$T$"}}),
    "added_tokens_decoder, named": config(added_tokens_decoder={4: token("[MASK]", normalized=True, special=False)}),
    "add_bos_token": config(add_bos_token=True),
    "add_prefix_space": config(add_prefix_space=True),
    "do_basic_tokenize": config(do_basic_tokenize=False),
    "tokenizer_class": config(tokenizer_class="RobertaTokenizer"),
    "backend": config(backend="sentencepiece"),
    "chat_template": config(chat_template="{{ messages }}"),
    "truncation_strategy": config(truncation_strategy="only_first", stride=1, max_length=4, pad_to_multiple_of=8),
    "pad_token_type_id": config(pad_token_type_id=1),
    "processor_class": config(processor_class="ViltProcessor"),
    "a key that nobody knows": config(wibble=3),
    # tokenizer.json
    "truncation": {BACKEND: backend(truncation={"direction": "Left", **CUT})},
    "truncation to the right": {BACKEND: backend(truncation={"direction": "Right", **CUT})},
    "truncation beside truncation_side": {
        BACKEND: backend(truncation={"direction": "Left", **CUT}),
        CONFIG: {"truncation_side": "right"},
    },
    "padding": {BACKEND: backend(padding={"direction": "Left", **FILLED})},
    "padding to the right": {BACKEND: backend(padding={"direction": "Right", **FILLED})},
    "added_tokens": {BACKEND: backend(added_tokens=MORE)},
    "added_tokens beside added_tokens_decoder": {
        BACKEND: backend(added_tokens=MORE),
        CONFIG: {"added_tokens_decoder": {"4": token("[MASK]")}},
    },
    "normalizer": inside("normalizer", lowercase=False, strip_accents=True, handle_chinese_chars=False),
    "normalizer, none": {BACKEND: backend(normalizer=None)},
    "pre_tokenizer": {BACKEND: backend(pre_tokenizer={"type": "Whitespace"})},
    "post_processor": {BACKEND: backend(post_processor=None)},
    "decoder": inside("decoder", cleanup=False),
    "model.unk_token": inside("model", unk_token="x"),
    "model.max_input_chars_per_word": inside("model", max_input_chars_per_word=2),
    # special_tokens_map.json and added_tokens.json
    "special_tokens_map.json": {SPECIAL: {"mask_token": "x", "cls_token": token("cat", normalized=True)}},
    "special_tokens_map.json, more": {SPECIAL: {"additional_special_tokens": ["<x>"]}},
    "special_tokens_map.json over the configuration": {SPECIAL: {"mask_token": "x"}, CONFIG: {"mask_token": "the"}},
    "special_tokens_map.json under added_tokens_decoder": {
        SPECIAL: {"mask_token": "x", "additional_special_tokens": ["<x>"]},
        CONFIG: {"added_tokens_decoder": {"4": token("[MASK]")}},
    },
    "special_tokens_map.json, extra": {
        SPECIAL: {"extra_special_tokens": ["$T$", {"content": "<x>", "lstrip": True}]},
        CONFIG: {"extra_special_tokens": ["the"]},
    },
    "added_tokens.json": {ADDED: {"<x>": NEW, "$T$": NEW + 1}},
    "added_tokens.json, special": {ADDED: {"$T$": NEW + 1, "<x>": NEW}, CONFIG: {"extra_special_tokens": ["<x>"]}},
    "added_tokens.json, named": {ADDED: {"[MASK]": 4}, CONFIG: {"cls_token": "[CLS]"}},
    "added_tokens.json under tokenizer.json": {ADDED: {"<x>": NEW}, BACKEND: backend(added_tokens=MORE)},
}


def write(directory: Path, files: Mapping[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    if BACKEND not in files:
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    return directory


def told(tokenizer) -> dict[str, Any]:
    """Returns what a tokenizer, upstream's or ours, says and does by default."""
    limited = tokenizer.model_max_length < 10**9
    asked = {"padding": True, "truncation": limited}
    pairs = [tokenizer(*texts, **asked) for texts in ((list(TEXTS),), (list(TEXTS), list(PAIRS)))]
    return {
        "limit": tokenizer.model_max_length if limited else None,
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
        "names": list(tokenizer.model_input_names),
        "special": tokenizer.all_special_tokens,
        "special_ids": tokenizer.all_special_ids,
        "added": {str(i): token.content for i, token in sorted(tokenizer.added_tokens_decoder.items())},
        "encoded": [{name: _lists(value) for name, value in encoded.items()} for encoded in pairs],
        "cut": _lists(tokenizer(list(TEXTS), padding=True, truncation=True, max_length=6)["input_ids"]),
        "decoded": tokenizer.decode(DECODED, skip_special_tokens=True),
        "length": len(tokenizer),
    }


def _lists(value: Any) -> list:
    return value.numpy().tolist() if hasattr(value, "numpy") else value


def golden() -> dict[str, dict[str, Any]]:
    """Reads what `told` returned for upstream's tokenizer, by the name of the case."""
    return json.loads(FILE.read_text())["cases"]

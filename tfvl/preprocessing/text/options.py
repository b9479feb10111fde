"""The options of `BertTokenizer` other than tokens: their names, defaults and possible values."""

from collections.abc import Mapping
from typing import Any

NO_LIMIT = int(1e30)  # upstream's model_max_length if a checkpoint sets none
LARGEST_LIMIT = 2**31 - 1  # a larger limit means that there is none
SIDES = ("right", "left")
INPUT_NAMES = ("input_ids", "token_type_ids", "attention_mask")
OPTIONS = {
    "do_lower_case": True,
    "never_split": None,
    "tokenize_chinese_chars": True,
    "strip_accents": None,
    "model_max_length": NO_LIMIT,
    "padding_side": "right",
    "truncation_side": "right",
    "split_special_tokens": False,
    "model_input_names": INPUT_NAMES,
    "clean_up_tokenization_spaces": False,
}
# Defaults of a processor's calls that a tokenizer's files may hold; as upstream, the tokenizer itself ignores them.
CALL_OPTIONS = (
    *("padding", "truncation", "max_length", "stride", "is_split_into_words", "pad_to_multiple_of", "verbose"),
    *("return_token_type_ids", "return_attention_mask", "return_overflowing_tokens", "return_special_tokens_mask"),
    *("return_offsets_mapping", "return_length"),
)
ALWAYS_SAID = tuple(OPTIONS)[:5]  # a configuration holds the others only if they are not the default


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options as a tokenizer keeps them. Raises ValueError for a value of the wrong type."""
    for name, default in OPTIONS.items():
        if isinstance(default, bool) and not isinstance(options[name], bool):
            raise ValueError(f"{name} is {options[name]!r}; it must be true or false")
    if options["strip_accents"] not in (None, True, False):
        raise ValueError(f"strip_accents is {options['strip_accents']!r}; it must be true, false or null")
    for name in ("padding_side", "truncation_side"):
        one_of(name, options[name], SIDES)
    names, limit = options["model_input_names"], options["model_max_length"]
    limit = NO_LIMIT if limit is None else limit
    if not isinstance(limit, (int, float)) or not limit >= 1:
        raise ValueError(f"model_max_length is {limit!r}; it must be a positive number")
    if not isinstance(names, (list, tuple)) or not names or not {*names} <= {*INPUT_NAMES}:
        raise ValueError(f"model_input_names is {names!r}; it must list some of {', '.join(INPUT_NAMES)}")
    return {
        **{name: options[name] for name in OPTIONS},
        "never_split": tuple(options["never_split"] or ()),
        "model_max_length": int(limit) if limit <= LARGEST_LIMIT else NO_LIMIT,
        "model_input_names": list(names),
    }


def said(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that a configuration holds, as JSON values."""
    options = {**options, "never_split": list(options["never_split"]) or None}
    default = OPTIONS | {"model_input_names": list(INPUT_NAMES)}
    return {name: options[name] for name in OPTIONS if name in ALWAYS_SAID or options[name] != default[name]}


def one_of(name: str, value: Any, choices: Any) -> Any:
    """Returns a value that is among the choices, or what it means if they are a dict. Raises ValueError for others."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
    return choices[value] if isinstance(choices, dict) else value

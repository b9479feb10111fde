"""The tokenizer's files in the hub's layout: vocab.txt, tokenizer.json, tokenizer_config.json, special_tokens_map.json.

Plain Python: nothing here needs TensorFlow.
"""

import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfvl.errors import CheckpointError
from tfvl.files.reading import holds_half_surrogate, parse_json, read_text_file, reason, shown
from tfvl.files.whole import write_text
from tfvl.preprocessing.text.added_tokens import AddedToken
from tfvl.preprocessing.text.options import CALL_OPTIONS, OPTIONS
from tfvl.preprocessing.text.token_table import NAMES, SPECIAL_TOKENS

VOCAB_FILE, TOKENIZER_FILE = "vocab.txt", "tokenizer.json"
CONFIG_FILE, SPECIAL_TOKENS_FILE = "tokenizer_config.json", "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
MAX_FILE_BYTES = 64 << 20  # the largest multilingual BERT vocabularies take 10 MB
MAX_TOKENS = 1 << 20  # and half a million lines
MAX_ID = 1 << 31
MAX_ADDED_TOKENS = 1000  # each is an operation of the graph


def load(vocab: str | Path | Sequence[str] | Mapping[str, int]) -> dict[str, int]:
    """Returns a vocabulary of any accepted kind as token → id. Raises ValueError if there is no such file."""
    if isinstance(vocab, (str, Path)):
        if not Path(vocab).exists():
            raise ValueError(f"there is no vocabulary file {vocab}; give a vocab.txt, a list of tokens or a mapping")
        return read_vocab(Path(vocab))
    return dict(vocab) if isinstance(vocab, Mapping) else index_tokens(vocab, "the vocabulary")


def read_vocab(path: Path) -> dict[str, int]:
    """Reads a vocab.txt, with one token on each line; the line number, from zero, is the id."""
    text = _read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    if text.count("\n") > MAX_TOKENS:
        raise CheckpointError(f"{path} has {text.count(chr(10))} lines; a vocabulary has at most {MAX_TOKENS}")
    tokens = text.split("\n")
    if tokens[-1] == "":
        tokens.pop()
    return index_tokens(tokens, str(path))


def index_tokens(tokens: Sequence[str], source: str) -> dict[str, int]:
    """Returns token → position. Raises CheckpointError for a token that occurs twice."""
    vocab: dict[str, int] = {}
    for index, token in enumerate(tokens):
        first = vocab.setdefault(token, index)
        if first != index:
            raise CheckpointError(
                f"{source} holds the token {shown(token)} twice, as number {first} and as number {index} (from 0); "
                "each token must stand there once"
            )
    return vocab


def read_directory(directory: Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Reads the arguments of `BertTokenizer` from the files of a directory.

    As upstream, tokenizer.json wins over vocab.txt. If tokenizer_config.json has `added_tokens_decoder`, that alone
    defines the added tokens; in older layouts special_tokens_map.json wins over tokenizer_config.json. What upstream's
    class ignores in the files (tokenizer.json's normaliser, a chat template, …) is ignored here too.

    Args:
        directory: the directory.
        overrides: values that replace those of tokenizer_config.json.
    """
    overrides = dict(overrides or {})
    backend = _read_json(directory / TOKENIZER_FILE)
    if backend:
        with _structure(directory / TOKENIZER_FILE):
            vocab = _backend_vocab(backend, directory / TOKENIZER_FILE)
    elif (directory / VOCAB_FILE).is_file():
        vocab = read_vocab(directory / VOCAB_FILE)
    else:
        raise CheckpointError(f"{directory} holds no vocabulary: neither {TOKENIZER_FILE} nor {VOCAB_FILE} is there")
    if not vocab:
        raise CheckpointError(f"{directory} holds no vocabulary: there is no token in {TOKENIZER_FILE} or {VOCAB_FILE}")
    config = _read_json(directory / CONFIG_FILE) | overrides
    if config.get("init_inputs"):
        raise CheckpointError(f"{directory / CONFIG_FILE} has init_inputs, which a BertTokenizer takes none of")
    extra = config.pop("extra_special_tokens", None) or config.pop("additional_special_tokens", None) or []
    if "added_tokens_decoder" in config:
        with _structure(directory / CONFIG_FILE, "added_tokens_decoder"):
            tokens = {int(i): AddedToken.of(token) for i, token in config["added_tokens_decoder"].items()}
    else:
        config, extra = _with_special_tokens(directory, config, extra, overrides)
        tokens = _older_added_tokens(directory, backend, config, extra)
    for key in ("truncation", "padding"):
        with _structure(directory / TOKENIZER_FILE, key):
            for name, value in _of_backend(key, backend.get(key)).items():
                config.setdefault(name, value)
    config.setdefault("model_max_length", config.get("max_len"))
    arguments = {name: config[name] for name in OPTIONS if name in config}
    arguments |= {name: config[name] for name in CALL_OPTIONS if config.get(name) is not None}
    for name, value in config.items():
        if value is None and name in SPECIAL_TOKENS:
            raise CheckpointError(f"{directory / CONFIG_FILE} has no {name} (null); a BertTokenizer needs one")
        if name in NAMES or (name.endswith("_token") and _is_token(value)):
            arguments[name] = value
    with _structure(directory / CONFIG_FILE, "model_specific_special_tokens"):
        arguments |= config.get("model_specific_special_tokens") or {}
    with _structure(directory / CONFIG_FILE, "the added tokens"):
        never_split = arguments.get("never_split")
        counted = {"added tokens": tokens, "special tokens": extra, "words in never_split": never_split}
        _check_counts(directory, counted)
        _check_ids(directory, vocab, tokens)
        decoder = {i: token.to_dict() for i, token in tokens.items()}
    given = {"vocab": overrides.get("vocab", vocab), "extra_special_tokens": extra, "added_tokens_decoder": decoder}
    return overrides | arguments | given


def _of_backend(key: str, said: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns tokenizer.json's options of "truncation" or "padding", under the names of tokenizer_config.json."""
    if said is None:
        return {}
    found = {f"{key}_side": said["direction"].lower()}
    if key == "truncation":
        return found | {"max_length": said["max_length"], "stride": said["stride"]}
    fixed = said["strategy"]["Fixed"] if isinstance(said["strategy"], Mapping) else None
    return found | {"max_length": fixed, "pad_to_multiple_of": said["pad_to_multiple_of"]}


def _with_special_tokens(
    directory: Path, config: Mapping[str, Any], extra: Any, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], Any]:
    """Returns the configuration and the tokens without a name, updated by special_tokens_map.json."""
    special = _read_json(directory / SPECIAL_TOKENS_FILE)
    special = {name: value for name, value in special.items() if not overrides.get(name)}
    more, older = special.pop("extra_special_tokens", None), special.pop("additional_special_tokens", None)
    if isinstance(more, list) and isinstance(extra, list):
        more = [*extra, *(token for token in more if token not in extra)]
    named = {
        name: {"__type": "AddedToken", **value, "special": True} if isinstance(value, Mapping) else value
        for name, value in special.items()
    }
    return {**config, **named}, more or extra or older or []


def _older_added_tokens(
    directory: Path, backend: Mapping[str, Any], config: Mapping[str, Any], extra: Any
) -> dict[int, AddedToken]:
    """Reads added tokens by id from added_tokens.json, which has no flags, updated by those of tokenizer.json."""
    special = set()
    for name in (*NAMES, "extra_special_tokens"):
        tokens = extra if name not in NAMES else [config[name]] if config.get(name) else []
        with _structure(directory / CONFIG_FILE, name):
            special |= {AddedToken.of(token).content for token in tokens}
    found: dict[int, AddedToken] = {}
    with _structure(directory / ADDED_FILE):
        for content, i in _read_json(directory / ADDED_FILE).items():
            found[operator.index(i)] = AddedToken.of(content, special=content in special)
    with _structure(directory / TOKENIZER_FILE, "added_tokens"):
        return found | {operator.index(entry["id"]): AddedToken.of(entry) for entry in backend.get("added_tokens", [])}


def files_of(directory: Path) -> str:
    """Names a directory and the tokenizer's files in it, for an error that concerns several of them."""
    names = (TOKENIZER_FILE, VOCAB_FILE, CONFIG_FILE, SPECIAL_TOKENS_FILE, ADDED_FILE)
    return f"{directory} ({', '.join(name for name in names if (directory / name).exists())})"


def _check_counts(directory: Path, lists: Mapping[str, Any]) -> None:
    """Raises CheckpointError if one of the named lists has more than `MAX_ADDED_TOKENS`."""
    for name, tokens in lists.items():
        if isinstance(tokens, list | tuple | Mapping) and len(tokens) > MAX_ADDED_TOKENS:
            raise CheckpointError(
                f"{files_of(directory)}: {len(tokens)} {name}, at most {MAX_ADDED_TOKENS} are supported"
            )


def _check_ids(directory: Path, vocab: Mapping[str, int], tokens: Mapping[int, AddedToken]) -> None:
    """Raises CheckpointError for a token that would not get its stored id, whose embedding the model has trained."""
    behind = len(vocab)
    for i, token in sorted(tokens.items()):
        expected = vocab.get(token.content, behind)
        if i != expected:
            raise CheckpointError(
                f"{files_of(directory)} gives the added token {shown(token.content)} the id {i}; "
                f"it can only be {expected}"
            )
        behind += token.content not in vocab


def _is_token(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, Mapping) and value.get("__type") == "AddedToken")


def _backend_vocab(backend: dict, path: Path) -> dict[str, int]:
    model = backend.get("model", {})
    vocab = model.get("vocab")
    if model.get("type", "WordPiece") != "WordPiece" or not isinstance(vocab, dict):
        raise CheckpointError(
            f"{path} describes a {shown(model.get('type'))} tokenizer; BertTokenizer reads 'WordPiece'"
        )
    if model.get("continuing_subword_prefix", "##") != "##":
        prefix = model["continuing_subword_prefix"]
        raise CheckpointError(f"{path} has the prefix {shown(prefix)}; BertTokenizer knows only '##'")
    ids = {str(token): operator.index(i) for token, i in vocab.items()}
    if wrong := [token for token, i in ids.items() if not 0 <= i < MAX_ID]:
        raise ValueError(f"the id of {shown(wrong[0])} is {shown(ids[wrong[0]])}, expected 0 to {MAX_ID - 1}")
    return ids


@contextmanager
def _structure(path: Path, key: str = "") -> Iterator[None]:
    """A context in which errors about a file's structure become a CheckpointError that names the file and the key."""
    try:
        yield
    except CheckpointError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        where = f"{path}, {key}," if key else f"{path}"
        raise CheckpointError(f"{where} has not the structure of a tokenizer's file: {reason(error)}") from None


def _read_text(path: Path) -> str:
    try:
        return read_text_file(path, MAX_FILE_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def _read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file, or {} if there is no such file."""
    if not path.exists():
        return {}
    text = _read_text(path)
    try:
        value = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a JSON {type(value).__name__}, not an object")
    if "\\ud" in text.lower() and holds_half_surrogate(json.dumps(value, ensure_ascii=False)):
        raise CheckpointError(f"{path} has a text with half a surrogate pair, which no vocabulary can hold")
    return value


def write_directory(directory: Path, vocab: Mapping[str, int], config: Mapping[str, Any]) -> None:
    """Writes the four files; `vocab` has no added tokens, `config` has all of them and the other options."""
    directory.mkdir(parents=True, exist_ok=True)
    named = {name: token for name, token in config.items() if name.endswith("_token") and isinstance(token, str)}
    extra = [token for token in config["additional_special_tokens"] if token not in named.values()]
    decoder = {str(i): token for i, token in sorted(config["added_tokens_decoder"].items())}
    lists = {"added_tokens_decoder": decoder, "additional_special_tokens": extra}
    tokenizer_config = {
        **{name: value for name, value in config.items() if name not in lists},
        **lists,
        "tokenizer_class": "BertTokenizer",
    }
    write_text(directory / TOKENIZER_FILE, _dump(_backend(vocab, config, decoder)))
    write_text(directory / CONFIG_FILE, _dump(tokenizer_config))
    write_text(directory / SPECIAL_TOKENS_FILE, _dump(named | ({"additional_special_tokens": extra} if extra else {})))
    lines = sorted(vocab, key=vocab.__getitem__)
    if [vocab[token] for token in lines] == list(range(len(vocab))) and not any("\n" in t or "\r" in t for t in lines):
        write_text(directory / VOCAB_FILE, "".join(f"{token}\n" for token in lines))


def _backend(vocab: Mapping[str, int], config: Mapping[str, Any], decoder: Mapping[str, dict]) -> dict[str, Any]:
    """Returns the content of tokenizer.json, in the layout of the `tokenizers` library."""
    cls, sep = config["cls_token"], config["sep_token"]
    ids = {token["content"]: int(i) for i, token in decoder.items()}

    def special(token: str, type_id: int) -> dict:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    def sequence(name: str, type_id: int) -> dict:
        return {"Sequence": {"id": name, "type_id": type_id}}

    single = [special(cls, 0), sequence("A", 0), special(sep, 0)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": int(i), **token} for i, token in decoder.items()],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config["tokenize_chinese_chars"],
            "strip_accents": config["strip_accents"],
            "lowercase": config["do_lower_case"],
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, sequence("B", 1), special(sep, 1)],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in (cls, sep)},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": config["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": dict(vocab),
        },
    }


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"

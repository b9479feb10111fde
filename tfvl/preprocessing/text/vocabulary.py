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
from tfvl.files.whole import write_text

VOCAB_FILE, TOKENIZER_FILE = "vocab.txt", "tokenizer.json"
CONFIG_FILE, SPECIAL_TOKENS_FILE = "tokenizer_config.json", "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
MAX_FILE_BYTES = 64 << 20  # the largest multilingual BERT vocabularies take 10 MB
SPECIAL_TOKENS = {  # argument → default
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
OPTIONS = ("do_lower_case", "never_split", "tokenize_chinese_chars", "strip_accents", "model_max_length")


def read_vocab(path: Path) -> dict[str, int]:
    """Read a vocab.txt, one token a line; the line number, from zero, is the id."""
    tokens = _read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if tokens[-1] == "":
        tokens.pop()
    return index_tokens(tokens, str(path))


def index_tokens(tokens: Sequence[str], source: str) -> dict[str, int]:
    """token → position; raises CheckpointError for a token that stands there twice."""
    vocab: dict[str, int] = {}
    for index, token in enumerate(tokens):
        first = vocab.setdefault(token, index)
        if first != index:
            raise CheckpointError(
                f"{source} holds the token {token!r} twice, as number {first} and as number {index} (from 0); "
                "each token must stand there once"
            )
    return vocab


def read_directory(directory: Path) -> dict[str, Any]:
    """The arguments of `BertTokenizer` that a directory's files ask for.

    As upstream, tokenizer.json wins over vocab.txt. Where tokenizer_config.json lists `added_tokens_decoder`, it alone
    tells the special tokens; in older layouts special_tokens_map.json wins over it.
    """
    backend = _read_json(directory / TOKENIZER_FILE)
    if backend:
        with _structure(directory / TOKENIZER_FILE):
            vocab = _backend_vocab(backend, directory / TOKENIZER_FILE)
    elif (directory / VOCAB_FILE).is_file():
        vocab = read_vocab(directory / VOCAB_FILE)
    else:
        raise CheckpointError(f"{directory} holds no vocabulary: neither {TOKENIZER_FILE} nor {VOCAB_FILE} is there")
    config = _read_json(directory / CONFIG_FILE)
    if "added_tokens_decoder" not in config:
        config |= _read_json(directory / SPECIAL_TOKENS_FILE)
    arguments = {name: config[name] for name in OPTIONS if name in config}
    for name in SPECIAL_TOKENS:
        if config.get(name) is not None:
            with _structure(directory / CONFIG_FILE, name):
                arguments[name] = _content(config[name])
    if arguments.get("model_max_length", 0) is None:
        del arguments["model_max_length"]
    added = _added_tokens(directory, backend, config, vocab)
    return {"vocab": vocab, **arguments, "additional_special_tokens": added}


def _added_tokens(directory: Path, backend: dict, config: dict, vocab: Mapping[str, int]) -> list[str]:
    """Special tokens beyond the named five, or beyond the vocabulary, in the order of their ids."""
    named = {_content(config.get(name) or default) for name, default in SPECIAL_TOKENS.items()}
    listed = []
    for name in ("additional_special_tokens", "extra_special_tokens"):
        with _structure(directory / CONFIG_FILE, name):
            values = config.get(name) or ()
            listed += [_content(token) for token in (values.values() if isinstance(values, Mapping) else values)]
    entries: dict[int, Mapping[str, Any]] = {}
    if "added_tokens_decoder" in config:
        with _structure(directory / CONFIG_FILE, "added_tokens_decoder"):
            entries |= {int(i): _flags(entry) for i, entry in config["added_tokens_decoder"].items()}
    else:
        with _structure(directory / ADDED_FILE):
            for token, i in _read_json(directory / ADDED_FILE).items():
                entries[int(i)] = {"content": token, "special": token in named or token in listed}
        with _structure(directory / TOKENIZER_FILE, "added_tokens"):
            entries |= {int(entry["id"]): _flags(entry) for entry in backend.get("added_tokens", [])}
    tokens: list[str] = []
    for i, entry in sorted(entries.items()):
        token = entry["content"]
        if not entry.get("special", True) or entry.get("single_word"):
            raise CheckpointError(
                f"the added token {token!r} of {directory} is not a plain special token "
                "(special: true, single_word: false), and only those are supported"
            )
        expected = vocab.get(token, len(vocab) + sum(t not in vocab for t in tokens))
        if i != expected:
            raise CheckpointError(f"{directory} gives the added token {token!r} the id {i}; it can only be {expected}")
        tokens.append(token)
    return [token for token in dict.fromkeys([*tokens, *listed]) if token not in vocab or token not in named]


def _backend_vocab(backend: dict, path: Path) -> dict[str, int]:
    model = backend.get("model", {})
    vocab = model.get("vocab")
    if model.get("type", "WordPiece") != "WordPiece" or not isinstance(vocab, dict):
        raise CheckpointError(f"{path} describes a {model.get('type')!r} tokenizer; BertTokenizer reads 'WordPiece'")
    if model.get("continuing_subword_prefix", "##") != "##":
        prefix = model["continuing_subword_prefix"]
        raise CheckpointError(f"{path} has the prefix {prefix!r}; BertTokenizer knows only '##'")
    return {str(token): operator.index(i) for token, i in vocab.items()}


def _flags(token: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """A special token is written as a string or as an object with its flags."""
    flags = token if isinstance(token, Mapping) else {"content": token}
    if not isinstance(flags["content"], str):
        raise TypeError(f"{flags['content']!r} is no token")
    return flags


def _content(token: str | Mapping[str, Any]) -> str:
    return _flags(token)["content"]


@contextmanager
def _structure(path: Path, key: str = "") -> Iterator[None]:
    """Name the file and the key where what a file holds is not of the expected kind."""
    try:
        yield
    except CheckpointError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        where = f"{path}, {key}," if key else f"{path}"
        raise CheckpointError(f"{where} has not the structure of a tokenizer's file: {error}") from None


def _read_text(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise CheckpointError(f"{path} has {size} bytes; a tokenizer's file has at most {MAX_FILE_BYTES}")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text: byte {error.start} cannot be decoded") from None


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def write_directory(directory: Path, vocab: Mapping[str, int], config: Mapping[str, Any], added: Sequence[str]) -> None:
    """Write the four files. `vocab` is without the `added` tokens that follow it; `config` holds the rest."""
    directory.mkdir(parents=True, exist_ok=True)
    special = list(dict.fromkeys([*(config[name] for name in SPECIAL_TOKENS), *added]))
    all_ids = with_added(vocab, added)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    entries = sorted(({"id": all_ids[t], "content": t, **flags} for t in special), key=lambda entry: entry["id"])
    named = {name: config[name] for name in SPECIAL_TOKENS}
    extra = [token for token in added if token not in named.values()]
    decoder = {str(entry["id"]): {k: v for k, v in entry.items() if k != "id"} for entry in entries}
    tokenizer_config = {
        **config,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": extra,
        "tokenizer_class": "BertTokenizer",
    }
    write_text(directory / TOKENIZER_FILE, _dump(_backend(vocab, all_ids, config, entries)))
    write_text(directory / CONFIG_FILE, _dump(tokenizer_config))
    write_text(directory / SPECIAL_TOKENS_FILE, _dump(named | ({"additional_special_tokens": extra} if extra else {})))
    lines = sorted(vocab, key=vocab.__getitem__)
    if [vocab[token] for token in lines] == list(range(len(vocab))) and not any("\n" in t or "\r" in t for t in lines):
        write_text(directory / VOCAB_FILE, "".join(f"{token}\n" for token in lines))


def with_added(vocab: Mapping[str, int], added: Sequence[str]) -> dict[str, int]:
    """The vocabulary with the tokens that it lacks behind it, numbered from its length on, as upstream numbers them."""
    missing = [token for token in dict.fromkeys(added) if token not in vocab]
    return {**vocab, **{token: len(vocab) + i for i, token in enumerate(missing)}}


def _backend(
    vocab: Mapping[str, int], all_ids: Mapping[str, int], config: Mapping[str, Any], added: list[dict]
) -> dict[str, Any]:
    """tokenizer.json, in the layout of the `tokenizers` library."""
    cls, sep = config["cls_token"], config["sep_token"]

    def special(token: str, type_id: int) -> dict:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    def sequence(name: str, type_id: int) -> dict:
        return {"Sequence": {"id": name, "type_id": type_id}}

    single = [special(cls, 0), sequence("A", 0), special(sep, 0)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
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
            "special_tokens": {t: {"id": t, "ids": [all_ids[t]], "tokens": [t]} for t in (cls, sep)},
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

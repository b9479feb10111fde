"""A `.tflite` file of tfvl: the model, followed by a ZIP archive with everything else that answers need.

TFLite reads the model from the front and ignores what follows; ZIP readers begin at the end (`unzip -l model.tflite`
lists the members). That is also how TFLite's own metadata packs a model's associated files. The members:

    tfvl.json       the description: head, configuration, tokenizer, image processor, sizes, versions
    vocab.json      token to id
    labels.txt      one label on each line, in the order of ids
    characters.bin  the tokenizer's normalisation of each code point, see `tfvl.lite.tokenizer`
"""

import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c

from tfvl.files.archive import ERRORS, open_archive, read_member
from tfvl.files.reading import open_regular, parse_json, shown
from tfvl.files.whole import written_files

DESCRIPTION, VOCABULARY, LABELS, CHARACTERS = "tfvl.json", "vocab.json", "labels.txt", "characters.bin"
# The members, and the most bytes of each that are read.
MEMBERS = {DESCRIPTION: 1 << 24, VOCABULARY: 64 << 20, LABELS: 1 << 24, CHARACTERS: 64 << 20}
MAX_LABELS = 1 << 20
BLOCK = 1 << 20  # bytes of the model that are read at once
MAX_ELEMENTS = 2**28  # of an input
FORMAT = 1  # version of the archive; a reader refuses any other
IDENTIFIER = b"TFL3"  # at byte 4 of every model
ADVICE = "write one with `tfvl export SRC FILE.tflite --format tflite`"
# The operators of tf.text that files of each flavour hold beside TFLite's; to run a file, they have to be registered.
CUSTOM_OPERATORS = {
    "tensors": frozenset(),
    "text": frozenset(
        (
            "TFText>Utf8Binarize",
            "TFText>NgramsStringJoin",
            "TFText>WhitespaceTokenizeWithOffsetsV2",
            "FastWordpieceTokenizeWithOffsets",
        )
    ),
}
FLAVOURS = tuple(CUSTOM_OPERATORS)  # each is also the name of its files' signature
TEXTS = {"input_ids", "text"}  # the input of texts, one for each flavour
DTYPES = ("int32", "float32", "string")  # of inputs
REQUIRED = {
    "head": str,
    "class": str,
    "config": dict,
    "tokenizer": dict,
    "inputs": dict,
    "outputs": list,
    "model_bytes": int,
    "top_k": int,
    "sensitivity": list,
}


@dataclass(frozen=True)
class LiteFile:
    """The archive behind the model of a `.tflite` file: tokenizer, labels, configuration.

    Attributes:
        path: the file.
        description: the content of `tfvl.json`.
        vocabulary: token to id.
        labels: the labels, by their ids.
        characters: the bytes of `characters.bin`.
    """

    path: Path
    description: dict[str, Any]
    vocabulary: dict[str, int]
    labels: tuple[str, ...]
    characters: bytes

    @property
    def config(self) -> dict[str, Any]:
        """Returns the content of the model's `config.json`."""
        return self.description["config"]

    @property
    def flavour(self) -> str:
        """The flavour of the file, one of `FLAVOURS`; files written before there were two do not name it."""
        return flavour_of(self.description)


def flavour_of(description: Mapping[str, Any]) -> Any:
    return description.get("signature", FLAVOURS[0])


def write(described: LiteFile, model: bytes) -> None:
    """Writes a model with its archive to `described.path`; a reader never sees half a file."""
    path = described.path
    checksum = google_crc32c.value(model)
    description = {"format": FORMAT, **described.description, "model_bytes": len(model), "model_crc32c": checksum}
    members = {
        DESCRIPTION: json.dumps(description, ensure_ascii=False, indent=1).encode(),
        VOCABULARY: json.dumps(described.vocabulary, ensure_ascii=False).encode(),
        LABELS: "\n".join(label.replace("\n", " ") for label in described.labels).encode(),
        CHARACTERS: described.characters,
    }
    with written_files(path) as (new,):
        new.write_bytes(model)
        with zipfile.ZipFile(new, "a", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # ZipInfo has a constant date


def read(path: str | os.PathLike) -> LiteFile:
    """Reads the archive behind the model.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no `.tflite` file, has no description of tfvl, or is cut short or damaged.
    """
    path = Path(path)
    with open_regular(path) as file:
        if file.read(8)[4:] != IDENTIFIER:
            raise ValueError(f"{path} is no .tflite file; {ADVICE}")
    try:
        with open_archive(path) as archive:
            contents = {name: read_member(archive, name, limit) for name, limit in MEMBERS.items()}
            model_bytes = min(info.header_offset for info in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} has no description of tfvl behind its model, or is cut short ({error}); {ADVICE}"
        ) from None
    except (KeyError, ValueError, zlib.error, *ERRORS) as error:
        raise ValueError(
            f"{path}: what stands behind the model is not tfvl's, or is damaged ({error}); {ADVICE}"
        ) from None
    try:
        description, vocabulary = (_object(contents, name) for name in (DESCRIPTION, VOCABULARY))
        _check(description, model_bytes)
        if not all(type(i) is int and 0 <= i < 2**31 for i in vocabulary.values()):
            raise ValueError(f"{VOCABULARY} holds ids that are no whole numbers from 0 to 2**31 - 1")
        if contents[LABELS].count(b"\n") >= MAX_LABELS:
            raise ValueError(f"{LABELS} holds more than {MAX_LABELS} labels")
        _check_model(path, description)
        labels = tuple(contents[LABELS].decode().split("\n"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {ADVICE}") from None
    return LiteFile(path, description, vocabulary, labels, contents[CHARACTERS])


def _check_model(path: Path, description: Mapping[str, Any]) -> None:
    """Raises ValueError if the model does not have the stored checksum; older files store none."""
    if "model_crc32c" not in description:
        return
    crc, left = 0, description["model_bytes"]
    with open_regular(path) as file:
        while content := file.read(min(left, BLOCK)):
            crc, left = google_crc32c.extend(crc, content), left - len(content)
    if crc != description["model_crc32c"]:
        raise ValueError("the model is damaged (its checksum does not fit)")


def _object(contents: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        value = parse_json(contents[name])
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds a JSON {type(value).__name__}, not an object")
    return value


def _check(description: Mapping[str, Any], model_bytes: int) -> None:
    if description.get("format") != FORMAT:
        raise ValueError(f"its description has format {shown(description.get('format'))}; this tfvl reads {FORMAT}")
    for name, kind in REQUIRED.items():
        if not isinstance(description.get(name), kind):
            raise ValueError(
                f"{name} in {DESCRIPTION} is {shown(description.get(name), 40)}, expected a {kind.__name__}"
            )
    if flavour_of(description) not in FLAVOURS:
        raise ValueError(
            f"signature in {DESCRIPTION} is {shown(description['signature'], 40)}, expected {' or '.join(FLAVOURS)}"
        )
    if description["model_bytes"] != model_bytes:
        raise ValueError(f"the model has {model_bytes} bytes, but was written with {description['model_bytes']}")
    for name, spec in description["inputs"].items():
        sizes = spec.get("shape") if isinstance(spec, dict) else None
        if not isinstance(sizes, list) or not all(type(size) is int and -1 <= size < 2**24 for size in sizes):
            raise ValueError(f"the input {shown(name)} in {DESCRIPTION} has no shape")
        if spec.get("dtype") not in DTYPES:
            raise ValueError(
                f"the input {shown(name)} is of {shown(spec.get('dtype'), 40)}, expected {', '.join(DTYPES)}"
            )
        if math.prod(map(abs, sizes)) > MAX_ELEMENTS:
            raise ValueError(
                f"the input {shown(name)} has {' × '.join(map(str, sizes))} numbers, at most 2**28 are taken"
            )
    limit = description["tokenizer"].get("model_max_length")
    if type(limit) is not int or limit < 3 or description["top_k"] < 1 or not TEXTS & description["inputs"].keys():
        raise ValueError(f"{DESCRIPTION} lacks a length of texts, a number of answers, or the input of texts")

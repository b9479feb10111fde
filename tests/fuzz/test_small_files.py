"""Pickles, texts, archives that once ended, hung or swelled the process that read them; each is refused in limits."""

import io
import json
import os
import struct
import zipfile

import numpy as np
import pytest
from support.limited import refused
from support.porting import Global, Raw, encoded, pickled, tensor, write_header, write_zip

# --- pickles ---------------------------------------------------------------------------------------------------------


def push_memo(place: int) -> bytes:
    return b"h" + bytes([place])


DOUBLED = b")" + b"".join(b"q" + bytes([n]) + push_memo(n) + b"\x86" for n in range(60))
NESTED = b")" + b"\x85" * 200_000
NUMBERS = b"](" + b"K\x01" * 80_000 + b"e"


PAIRS = b"](" + b"K\x01K\x01\x86" * 40_000 + b"e"
ARGUMENTS = b"(" + encoded(tensor()) + b"N" * 80_000 + b"t"
REFERENCE = (
    b"(" + b"".join(map(encoded, ("storage", Global("torch", "FloatStorage"), "0", "cpu", 6))) + b"N" * 80_000 + b"t"
)
TEXT = b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20)
STEPS = "more than 524288 steps"


def again(value: bytes, code: bytes) -> dict:
    """Makes a pickle whose instructions use one value again and again."""
    return {"a": Raw(value + b"q\0" + code * 20_000)}


def shaped(shape: Raw) -> dict:
    return {"weight": tensor(shape=shape)}


PICKLES = {
    "a shape that doubles 60 times": (shaped(Raw(DOUBLED)), "impossible shape (2 values)"),
    "a shape nested 200,000 deep": (shaped(Raw(NESTED)), "impossible shape (1 values)"),
    "a size rebuilt again and again": (again(NUMBERS, b"ctorch\nSize\nh\0\x85R"), STEPS),
    "pairs of a dict, again and again": (again(PAIRS, b"ccollections\nOrderedDict\nh\0\x85R"), STEPS),
    "arguments of many values": (again(ARGUMENTS, b"ctorch._utils\n_rebuild_parameter\nh\0R"), STEPS),
    "a reference of many values": (again(REFERENCE, b"h\0Q"), STEPS),
    "names of a megabyte": (again(TEXT, b"h\0h\0\x93"), "a class whose name has 2097152 characters"),
    "a key of three megabytes": ({"x" * 3_000_000: 5}, "its entry 'xxx"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_short_pickle_does_not_work_for_ever(worker, tmp_path, name):
    value, sentence = PICKLES[name]
    refused(worker, "checkpoint", write_zip(tmp_path / "weights.bin", value), sentence)


def test_instructions_are_counted(worker, tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02" + b"}" * 30_000_000 + b".")
    refused(worker, "numpy pickle", path, "more than 524288 steps")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (b"X" + struct.pack("<I", 3 << 30), "an instruction has 3221225472 bytes, at most 65536 are read"),
        (b"\x8e" + struct.pack("<Q", 1 << 40), "an array of 1099511627776 bytes begins at byte 11"),
        (b"c" + b"x" * 70_000, "truncated or its pickle is malformed"),
    ],
)
def test_what_an_instruction_claims_is_not_read(worker, tmp_path, code, sentence):
    path = tmp_path / "weights.pkl"
    with open(path, "wb") as file:
        file.write(b"\x80\x02" + code)
        file.truncate(4 << 30)  # a hole
    refused(worker, "numpy pickle", path, sentence)


def test_the_state_of_an_array_is_short(worker, tmp_path):
    array = b"cnumpy.core.multiarray\n_reconstruct\n)R"
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02" + NUMBERS + b"q\0" + (array + b"h\0b") * 20_000 + b".")
    refused(worker, "numpy pickle", path, "the state of an array is no short tuple")


# --- JSON, YAML and text ---------------------------------------------------------------------------------------------

LISTS = b'{"nobody reads this": [' + b"[]," * 20_000_000 + b"[]]}"
DEEP = b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}"
LONG = b'{"hidden_size": ' + b"9" * 5000 + b"}"
TEXTS = {
    ("vilt config", "config.json"): [
        (LISTS[:15_000_000] + b"[]]}", "it has 9999988 values, at most 2097152 are read"),
        (LISTS, "has 60000027 bytes; at most 16777216 are read"),
        (DEEP, "it is nested deeper than 64 levels"),
        (b"[" * 100_000, "it is nested deeper than 64 levels"),
        (LONG, "it has a whole number of 5000 digits, at most 40 are read"),
        (b'{"num_labels": 16777216}', "num_labels is 16777216, expected an integer in 1…131072"),
        (b'{"layer_norm_eps": 1' + b"0" * 39 + b"}", ""),
    ],
    ("lxmert config", "config.json"): [(b'{"num_qa_labels": 16777216}', "expected an integer in 1…131072")],
    ("image processor", "preprocessor_config.json"): [(LONG, "5000 digits"), (LISTS, "at most 16777216 are read")],
    ("tokenizer", "tokenizer.json"): [
        (LISTS, "it has 40000003 values, at most 2097152 are read"),
        (b'{"model": {"vocab": {"a": ' + b"9" * 5000 + b"}}}", "5000 digits"),
    ],
    ("vocabulary", "vocab.txt"): [(b"\n" * (64 << 20), "67108864 lines; a vocabulary has at most 1048576")],
    ("checkpoint", "model.safetensors.index.json"): [(LISTS[:15_000_000] + b"[]]}", "it has 9999988 values")],
    ("detector config", "config.yaml"): [
        *((f"a: !!{tag}\n".encode(), "cannot be read as YAML") for tag in ("int", "bool", "float", "timestamp")),
        (b"a: " + b"9" * 5000, "a number of 5000 digits; at most 40 are read"),
        (b"a: 0x" + b"9" * 5000, "a number of 5002 digits; at most 40 are read"),
        (b"- " * 30_000, "nested deeper than 16 levels"),
    ],
}


@pytest.mark.parametrize(
    ("reader", "name", "number"), [(*place, number) for place, texts in TEXTS.items() for number in range(len(texts))]
)
def test_a_text_is_bounded(worker, tmp_path, reader, name, number):
    content, sentence = TEXTS[reader, name][number]
    (tmp_path / name).write_bytes(content)
    if sentence:
        refused(worker, reader, tmp_path / name, sentence)
    else:
        assert not worker.read(reader, tmp_path / name).wrong(name)


LONG_VALUES = {
    ("vilt config", "config.json"): [
        b'{"hidden_size": ' + b"[" + b'"x",' * 5000 + b'"x"]}',
        b'{"hidden_size": "' + b"x" * 50_000 + b'"}',
        b'{"id2label": {"' + b"9" * 4000 + b'": "a", "' + b"8" * 4000 + b'": "b"}}',
        b'{"architectures": "' + b"x" * 50_000 + b'"}',
        b'{"model_type": "' + b"x" * 50_000 + b'"}',
    ],
    ("image processor", "preprocessor_config.json"): [
        b'{"size": {"' + b"x" * 50_000 + b'": 3}}',
        b'{"image_mean": [' + b"3," * 50_000 + b"3]}",
    ],
    ("detector config", "config.yaml"): [b"RPN: {NMS_THRESH: " + b"x" * 50_000 + b"}"],
    ("settings", "run.yaml"): [b"epochs: " + b"x" * 50_000, b"x" * 50_000 + b": 3", b"a: 1\n" * 2],
}


@pytest.mark.parametrize(
    ("reader", "name", "number"),
    [(*place, number) for place, texts in LONG_VALUES.items() for number in range(len(texts))],
)
def test_a_sentence_stays_short_whatever_a_value_is(worker, tmp_path, reader, name, number):
    (tmp_path / name).write_bytes(LONG_VALUES[reader, name][number])
    outcome = worker.read(reader, tmp_path / name)
    assert outcome.kind == "refused"
    assert not outcome.wrong(name)
    assert len(outcome.text) < 2500


SMALL_FILES = {
    "config.json": "vilt config",
    "preprocessor_config.json": "image processor",
    "vocab.txt": "vocabulary",
    "tokenizer.json": "tokenizer",
    "config.yaml": "detector config",
    "objects_vocab.txt": "detector config",
    "model.safetensors.index.json": "checkpoint",
}


@pytest.mark.parametrize("name", SMALL_FILES)
@pytest.mark.parametrize("kind", ["pipe", "device", "hole"])
def test_only_regular_files_of_a_bounded_size_are_read(worker, tmp_path, kind, name):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with open(path, "wb") as file:
            file.truncate(8 << 30)
    if name == "objects_vocab.txt":
        (tmp_path / "config.yaml").write_text("{}")
    outcome = worker.read(SMALL_FILES[name], tmp_path / "config.yaml" if name == "objects_vocab.txt" else path)
    if kind != "hole" and name == "objects_vocab.txt":
        assert outcome.kind == "value"  # as where there is none
    else:
        assert outcome.kind == "refused"
        assert not outcome.wrong(name)


def test_special_tokens_are_counted(worker, tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens))
    config = {"additional_special_tokens": [f"<{number}>" for number in range(300_000)]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    refused(worker, "tokenizer", tmp_path / "vocab.txt", "300000 special tokens, at most 1000 are supported")
    added = [{"id": 5 + number, "content": f"<{number}>", "special": True} for number in range(200_000)]
    vocab = {token: number for number, token in enumerate(tokens)}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": added}))
    refused(worker, "tokenizer", tmp_path / "vocab.txt", "200000 added tokens, at most 1000 are supported")


def test_a_safetensors_header_is_bounded(worker, tmp_path):
    path = write_header(tmp_path / "a.safetensors", b'{"a": [' + b"[]," * 5_000_000 + b"[]]}")
    refused(worker, "checkpoint", path, "it has 10000003 values, at most 2097152 are read")
    entry = {"dtype": "F32", "shape": [10**30] * 3, "data_offsets": [0, 0]}
    refused(worker, "checkpoint", write_header(path, {"a": entry}), "impossible shape")
    refused(worker, "checkpoint", write_header(path, {"a": entry | {"dtype": [[["x"]]]}}), "element type [1 values]")


# --- archives --------------------------------------------------------------------------------------------------------


def zeros(kind: str, *shape: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((0, *shape[1:]), kind))
    header = file.getvalue().replace(b"(0,", f"({shape[0]},".encode())[: -len(str(shape[0])) + 1]
    return header[:-2].ljust(len(file.getvalue()) - 1) + b"\n" + bytes(np.dtype(kind).itemsize * int(np.prod(shape)))


def bomb(path, members: dict[str, bytes], method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_members_of_an_npz_are_bounded_together(worker, tmp_path):
    big = zeros("<f4", 60_000, 1000)  # 240 MB
    names = ("x", "bbox", "image_w", "image_h", "num_bbox", "objects_id", "objects_conf", "attrs_id")
    path = bomb(tmp_path / "a.npz", {f"{name}.npy": big for name in names})
    refused(worker, "npz", path, "bytes, at most")
    path = bomb(tmp_path / "b.npz", {"x.npy": zeros("|i1", 200_000, 1000)})
    refused(worker, "npz", path, "features has 200000000 numbers, too many for 268435456 bytes as float32")


def test_a_member_is_only_unpacked_by_what_can_be_bounded(worker, tmp_path):
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x.npy", zeros("<f4", 1000, 1000))
        refused(worker, "npz", path, f"features is compressed by method {method}, expected none or deflate")


@pytest.mark.parametrize("reader", ["npz", "checkpoint"])
def test_an_archives_directory_is_bounded(worker, tmp_path, reader):
    path = bomb(tmp_path / ("a.npz" if reader == "npz" else "a.bin"), {"a/data.pkl": pickled({}), "x.npy": b""})
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    with open(path, "r+b") as file:
        file.truncate(3 << 30)  # a hole before the directory's end
        file.seek(3 << 30)
        file.write(content[end : end + 12] + struct.pack("<II", (3 << 30) - 100, 0) + content[end + 20 :])
    refused(worker, reader, path, "its directory claims")


@pytest.mark.parametrize("line", [b"x\n", b"\n"])
def test_a_file_of_bad_lines_is_not_read_to_its_end(worker, tmp_path, line):
    path = tmp_path / "a.tsv"
    path.write_bytes(line * 15_000_000)
    refused(worker, "regions", path, "no line could be used of 10000")

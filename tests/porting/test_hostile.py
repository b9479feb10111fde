"""Checkpoint files from strangers: nothing in them runs, nothing they claim is allocated, each gets one sentence."""

import json
import os
import pickle
import random
import resource
import struct
import zipfile

import numpy as np
import pytest
from support.paths import GOLDEN
from support.porting import (
    MACHINE,
    Call,
    Global,
    Persistent,
    Raw,
    pickled,
    storage,
    tensor,
    write_header,
    write_legacy,
    write_zip,
)

from tfvl.errors import CheckpointError
from tfvl.porting.formats import open_checkpoint

CHECKPOINTS = GOLDEN / "checkpoints"
HUGE = 2**62
# Headers are a few kB: whatever they claim, no more than this may be allocated to refuse them.
ALLOWED_KB = 100_000


def read_all(path) -> None:
    for entry in open_checkpoint(path).values():
        entry.read()


def refusal(path) -> str:
    """Returns the sentence with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        read_all(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 600
    return message


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("nested", [False, True])
def test_code_in_a_pickle_does_not_run(tmp_path, protocol, write, nested):
    evil = Evil(tmp_path / "ran")
    program = pickle.dumps({"weight": evil} if nested else evil, protocol)
    message = refusal(write(tmp_path / "evil.bin", program))
    assert not (tmp_path / "ran").exists()
    assert "the pickle wants" in message or "malformed" in message
    if protocol >= 2:
        assert "to call 'posix.system'" in message


@pytest.mark.parametrize("place", ["magic", "machine", "keys"])
def test_code_in_the_other_pickles_of_a_legacy_file(tmp_path, place):
    evil = Call(Global("os", "system"), (f"touch {tmp_path}/ran",))
    assert "to call 'os.system'" in refusal(
        write_legacy(tmp_path / "evil.bin", {"a": tensor()}, **{place: pickled(evil)})
    )
    assert not (tmp_path / "ran").exists()


EMPTY = Call(Global("collections", "OrderedDict"), ())
REFUSED = {
    "eval": (Call(Global("builtins", "eval"), ("1",)), "to call 'builtins.eval'"),
    "import": (Call(Global("importlib", "import_module"), ("os",)), "to call 'importlib.import_module'"),
    "nested load": (Call(Global("torch.storage", "_load_from_bytes"), ("x",)), "'torch.storage._load_from_bytes'"),
    "numpy": (Call(Global("numpy.core.multiarray", "_reconstruct"), ()), "'numpy.core.multiarray._reconstruct'"),
    "module": (Call(Global("torch.nn.modules.linear", "Linear"), ()), "'torch.nn.modules.linear.Linear'"),
    "storage called": (Call(Global("torch", "FloatStorage"), (5,)), "to call 'torch.FloatStorage'"),
    "a string called": (Call("collections OrderedDict", ()), "to call 'collections.OrderedDict'"),
    "a number called": (Call(7, ()), "to call a int"),
    "new object": (Raw(b"cos\nsystem\n)\x81"), "to call 'os.system'"),
    "instance": (Raw(b"(ios\nsystem\n"), "the instruction INST"),
    "object": (Raw(b"(cos\nsystem\no"), "the instruction OBJ"),
    "extension": (Raw(b"\x82\x01"), "the instruction EXT1"),
    "text persistent id": (Raw(b"Pstorage\n"), "the instruction PERSID"),
    "buffer": (Raw(b"\x97"), "the instruction NEXT_BUFFER"),
    "old container": (Persistent(("module", Global("os", "x"), "file", "source")), "malformed"),
    "other object": (Persistent(("thing", 1, 2, 3, 4)), "an object of kind 'thing' from outside the file"),
    "quantised": (tensor(kind="QInt8Storage"), "a storage of type 'torch.QInt8Storage'"),
    "type as text": (Persistent(("storage", "torch FloatStorage", "0", "cpu", 6)), "of type 'torch.FloatStorage'"),
    "dtype function": (Call(Global("torch._utils", "_rebuild_tensor_v3"), ()), "'torch._utils._rebuild_tensor_v3'"),
}


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_state_dict_needs_is_refused_by_name(tmp_path, name, write):
    value, message = REFUSED[name]
    assert message in refusal(write(tmp_path / "x.bin", {"weight": value}))


IMPOSSIBLE = {
    "huge": {"shape": (HUGE, HUGE), "strides": (HUGE, 1)},
    "huge without bytes": {"shape": (HUGE, HUGE), "strides": (0, 0)},
    "expanded": {"shape": (10**6, 6), "strides": (0, 1)},
    "overlapping": {"shape": (5, 3), "strides": (1, 1)},
    "beyond the storage": {"shape": (3, 3), "strides": (3, 1)},
    "offset": {"offset": 1},
    "huge offset": {"offset": HUGE**3},
    "negative offset": {"offset": -1},
    "negative shape": {"shape": (-2, 3)},
    "negative stride": {"offset": 5, "strides": (-3, -1)},
    "boolean": {"shape": (True, 3)},
    "text": {"shape": ("2", 3)},
    "a list": {"shape": [2, 3]},
    "nested": {"shape": ((2,), 3)},
    "too few strides": {"strides": (1,)},
    "many axes": {"shape": (1,) * 64, "strides": (1,) * 64},
    "claimed storage": {"numel": 7},
    "huge storage": {"numel": HUGE},
    "negative storage": {"numel": -6},
    "another type": {"kind": "DoubleStorage"},
    "no such storage": {"key": "17"},
    "path as key": {"key": "../../../../etc/passwd"},
}


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_tensors(tmp_path, name, write):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal(write(tmp_path / "x.bin", {"weight": tensor(**IMPOSSIBLE[name])}))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ALLOWED_KB


@pytest.mark.parametrize(
    "value", [[], "text", None, {"epoch": 3}, {"weights": {"weight": tensor()}}, {3: tensor()}, {"a": [tensor()]}]
)
def test_pickles_of_something_else(tmp_path, value):
    for write in (write_zip, write_legacy):
        assert "state dict" in refusal(write(tmp_path / "x.bin", value))


def test_a_legacy_file_that_lies_about_its_storages(tmp_path):
    value, data = {"weight": tensor()}, np.zeros(6, "<f4").tobytes()
    for numel in (7, -1, HUGE, 2**63 - 1):
        refusal(write_legacy(tmp_path / "x.bin", value, {"0": (numel, data)}))
    for keys in ([], ["0", "0"], ["1"], "0", [["0"]], {"0": 1}):
        refusal(write_legacy(tmp_path / "x.bin", value, keys=keys))
    assert "little-endian" in refusal(
        write_legacy(tmp_path / "x.bin", value, machine=MACHINE | {"little_endian": False})
    )
    assert "magic number" in refusal(write_legacy(tmp_path / "x.bin", value, magic=7))


def test_compressed_archives_are_refused(tmp_path):
    bomb = {"0": bytes(24)}
    assert "is compressed" in refusal(write_zip(tmp_path / "x.bin", {"a": tensor()}, bomb, zipfile.ZIP_DEFLATED))
    path = write_zip(tmp_path / "y.bin", {"a": tensor()}, {})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10**7))
    assert "archive/data/0 is compressed" in refusal(path)


def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("readme", "hello")
    assert "no data.pkl in one folder" in refusal(tmp_path / "x.bin")
    two = write_zip(tmp_path / "two.bin", {"a": tensor()})
    with zipfile.ZipFile(two, "a") as archive:
        archive.writestr("b/data.pkl", pickled({}))
    assert "no data.pkl in one folder" in refusal(two)
    assert "little-endian" in refusal(write_zip(tmp_path / "big.bin", {"a": tensor()}, more={"byteorder": "big"}))
    assert "missing from the file" in refusal(write_zip(tmp_path / "none.bin", {"a": tensor()}, {}))
    big_pickle = pickled({"a": "x" * (1 << 22)})
    assert "claims 4194" in refusal(write_zip(tmp_path / "long.bin", big_pickle))


@pytest.mark.parametrize(
    "code",
    [
        b"\x85" * 100_000 + b"K\x01s.",  # a tuple nested deep, as a key: hashing it would overflow the C stack
        b"]" * 100_000 + b".",
        b"r\xff\xff\xff\xff.",  # memo place 2^32
        b"\x8d" + struct.pack("<Q", HUGE) + b"x.",
        b"\x96" + struct.pack("<Q", HUGE) + b"x.",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
        b"X\xff\xff\xff\xffx.",
        b"t.",
        b"(R.",
        b"a.",
        b"0.",
        b"h\x07.",
        b"}N]s.",
        b"..",
        b"",
        b"\x80\xff.",
        b"I" + b"9" * 10_000 + b"\n.",
        b"\xff.",
    ],
)
def test_malformed_and_exhausting_programs(tmp_path, code):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for write in (write_zip, write_legacy):
        refusal(write(tmp_path / "x.bin", b"\x80\x02})" + code))
        refusal(write(tmp_path / "x.bin", b"\x80\x02" + code))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ALLOWED_KB


ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
HEADERS = {
    "beyond the file": {"a": ENTRY | {"data_offsets": [8, 32]}},
    "huge shape": {"a": ENTRY | {"shape": [HUGE, HUGE]}},
    "huge with a zero": {"a": ENTRY | {"shape": [0, HUGE]}},
    "shape and place differ": {"a": ENTRY | {"shape": [2, 2]}},
    "negative": {"a": ENTRY | {"shape": [-2, -3]}},
    "float shape": {"a": ENTRY | {"shape": [2.0, 3]}},
    "true": {"a": ENTRY | {"shape": [True, 3]}},
    "text shape": {"a": ENTRY | {"shape": "23"}},
    "many axes": {"a": ENTRY | {"shape": [1] * 60}},
    "backwards": {"a": ENTRY | {"data_offsets": [24, 0]}},
    "one offset": {"a": ENTRY | {"data_offsets": [24]}},
    "text offsets": {"a": ENTRY | {"data_offsets": ["0", "24"]}},
    "huge offset": {"a": ENTRY | {"data_offsets": [0, 10**400]}},
    "unknown type": {"a": ENTRY | {"dtype": "F4"}},
    "type is a list": {"a": ENTRY | {"dtype": ["F32"]}},
    "no type": {"a": {"shape": [6]}},
    "no entry": {"a": 5},
    "null": {"a": None},
    "overlap": {"a": ENTRY, "b": {"dtype": "F32", "shape": [3], "data_offsets": [12, 24]}},
    "gap": {"a": {"dtype": "F32", "shape": [3], "data_offsets": [12, 24]}},
    "unexplained rest": {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}},
    "a list": [1, 2],
    "twice": b'{"a":' + json.dumps(ENTRY).encode() + b',"a":' + json.dumps(ENTRY).encode() + b"}",
    "no JSON": b"{nonsense",
    "no text": b"{\xff\xfe",
    "deep": b'{"a":' + b"[" * 100_000,
    "long number": b'{"a":' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", HEADERS)
def test_forged_safetensors_headers(tmp_path, name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name == "huge with a zero":  # no bytes and no allocation: allowed, and no variable has such a shape
        header = {"a": {"dtype": "F32", "shape": [0, HUGE], "data_offsets": [0, 0]}}
        assert open_checkpoint(write_header(tmp_path / "x.safetensors", header))["a"].nbytes == 0
    refusal(write_header(tmp_path / "x.safetensors", HEADERS[name], bytes(24)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ALLOWED_KB


def test_a_header_longer_than_the_file(tmp_path):
    for length in (1000, 2**31, 2**63):
        refusal(write_header(tmp_path / "x.safetensors", {"a": ENTRY}, bytes(24), length))


def golden_safetensors(tmp_path) -> bytes:
    header = {"a": ENTRY, "b": {"dtype": "F16", "shape": [2], "data_offsets": [24, 28]}}
    return write_header(tmp_path / "good.safetensors", header, bytes(28)).read_bytes()


@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin", "x.safetensors"])
def test_every_truncation_is_refused(tmp_path, name):
    whole = golden_safetensors(tmp_path) if name.endswith("safetensors") else (CHECKPOINTS / name).read_bytes()
    for length in range(0, len(whole), 1 if len(whole) < 500 else 11):
        (tmp_path / name).write_bytes(whole[:length])
        refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin", "ordered_dict.bin", "x.safetensors"])
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # of pickletools, on damaged text
def test_damaged_files_are_refused_or_read(tmp_path, name):
    """Whatever byte is wrong: either the file still describes tensors within itself, or it is refused in a sentence."""
    whole = golden_safetensors(tmp_path) if name.endswith("safetensors") else (CHECKPOINTS / name).read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 5))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / name).write_bytes(damaged)
        try:
            for entry in open_checkpoint(tmp_path / name).values():
                assert entry.read().shape == entry.shape
        except CheckpointError as error:
            refused += "\n" not in str(error)
    assert 0 < refused < 400


def test_empty_values_are_read(tmp_path):
    """The refusals above are not because nothing is ever accepted."""
    for write in (write_zip, write_legacy):
        checkpoint = open_checkpoint(
            write(tmp_path / "x.bin", {"weight": tensor(), "bias": tensor(shape=(), strides=(), offset=5)})
        )
        assert checkpoint["weight"].read().tolist() == [[0, 1, 2], [3, 4, 5]]
        assert checkpoint["bias"].read() == 5
    assert open_checkpoint(write_zip(tmp_path / "x.bin", EMPTY, {})) == {}
    assert storage(numel=3).reference[-1] == 3

"""Files of every kind with something changed in them, each from a number; and what is wrong with how they are read.

PYTHONPATH=tests:. python -m support.fuzz 20000      # as TFVL_FUZZ=20000 does in tests/fuzz
"""

import io
import json
import pickle
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import yaml
from safetensors.numpy import save

from support import regions as made
from support.images import encode, photo
from support.limited import Outcome, Worker
from support.porting import tensor as described
from support.porting import write_legacy, write_zip
from tfvl.lite.file import LiteFile, write
from tfvl.preprocessing.regions.store import RegionStore

SEED = "16"
RENEWED_AFTER = 500  # files
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1)
TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "tiny", "cat", "##s")


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Attributes:
        readers: of `support.readers`; those that read it, must all read the same.
        files: name to content; the first is the one that is changed and read.
        reference: of `support.references`, or "".
        own: whether nothing but what was written may be read of a changed file.
    """

    readers: tuple[str, ...]
    files: dict[str, bytes]
    reference: str = ""
    own: bool = False


@dataclass
class Report:
    """Counts of outcomes, and what is wrong: number of the file, its kind, and a sentence."""

    outcomes: Counter = field(default_factory=Counter)
    wrong: list[tuple[int, str, str]] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


def kinds() -> dict[str, Kind]:
    """Every kind, with a sound file of it."""
    with tempfile.TemporaryDirectory() as name:
        return _checkpoints(Path(name)) | _texts() | _regions(Path(name)) | _images() | _lite(Path(name))


def _checkpoints(scratch: Path) -> dict[str, Kind]:
    arrays = {"a.weight": np.arange(6, dtype="<f4").reshape(2, 3), "b": np.arange(5, dtype="<i8")}
    state = {"weight": described(), "bias": described(numel=6, shape=(6,), strides=(1,))}
    with h5py.File(scratch / "keras.h5", "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        for layer in "ab":
            file.create_group(layer).attrs["weight_names"] = [b"x:0"]
            file[layer][f"{layer}:0"] = np.arange(6.0)
    index = {"weight_map": {"a.weight": "part.safetensors", "b": "part.safetensors"}}
    checkpoint = ("checkpoint",)
    return {
        "safetensors": Kind(checkpoint, {"model.safetensors": save(arrays)}, "safetensors"),
        "torch": Kind(checkpoint, {"model.bin": write_zip(scratch / "a", state).read_bytes()}, "torch"),
        "legacy torch": Kind(checkpoint, {"model.bin": write_legacy(scratch / "b", state).read_bytes()}, "torch"),
        "keras": Kind(checkpoint, {"tf_model.h5": (scratch / "keras.h5").read_bytes()}, "keras"),
        "numpy pickle": Kind(("numpy pickle",), {"model.pkl": pickle.dumps({"model": arrays}, 4)}),
        "index": Kind(
            checkpoint,
            {"model.safetensors.index.json": json.dumps(index).encode(), "part.safetensors": save(arrays)},
        ),
    }


def _texts() -> dict[str, Kind]:
    sizes = {"hidden_size": 24, "num_attention_heads": 4, "layer_norm_eps": 1e-12, "id2label": {"0": "no", "1": "yes"}}
    processor = {"size": {"shortest_edge": 96}, "size_divisor": 32, "image_mean": [0.5, 0.5, 0.5], "do_pad": True}
    detector = {
        "INPUT": {"MIN_SIZE_TEST": 800},
        "MODEL": {"PIXEL_MEAN": [102.9, 115.9, 122.7]},
        "RPN": {"NMS_THRESH": 0.7},
    }
    vocabulary = "".join(f"{token}\n" for token in TOKENS).encode()
    options = {"do_lower_case": True, "model_max_length": 40, "mask_token": {"content": "[MASK]", "special": True}}
    options |= {"added_tokens_decoder": {"4": {"content": "[MASK]", "special": True}}, "additional_special_tokens": []}
    backend = {"model": {"type": "WordPiece", "vocab": {token: number for number, token in enumerate(TOKENS)}}}
    backend |= {"added_tokens": [{"id": 4, "content": "[MASK]", "special": True}]}
    return {
        **{
            f"{family} config": Kind((f"{family} config",), {"config.json": json.dumps(sizes).encode()})
            for family in ("vilt", "lxmert", "visual_bert")
        },
        "detector config": Kind(("detector config",), {"config.yaml": yaml.safe_dump(detector).encode()}),
        "image processor": Kind(("image processor",), {"preprocessor_config.json": json.dumps(processor).encode()}),
        "vocabulary": Kind(("tokenizer",), {"vocab.txt": vocabulary}),
        "tokenizer.json": Kind(("tokenizer",), {"tokenizer.json": json.dumps(backend).encode()}),
        "tokenizer config": Kind(
            ("tokenizer",), {"tokenizer_config.json": json.dumps(options).encode(), "vocab.txt": vocabulary}
        ),
    }


def _regions(scratch: Path) -> dict[str, Kind]:
    found = made.images(4)
    rows = [made.as_regions(number, number % 3 + 1) for number in range(5)]
    for suffix in ("h5", "tfrecord"):
        RegionStore.write(scratch / f"own.{suffix}", rows)
    with h5py.File(scratch / "rows.h5", "w") as file:
        for name in found[0]:
            file["image_ids" if name == "image_id" else name] = [row[name] for row in found]
    with h5py.File(scratch / "groups.h5", "w") as file:
        for row in found:
            group = file.create_group(row["image_id"])
            group["x"], group["bbox"] = row["features"], row["boxes"]
            group.attrs["image_w"], group.attrs["image_h"] = row["image_w"], row["image_h"]
    archive, shape = io.BytesIO(), {"image_w": found[0]["image_w"], "image_h": found[0]["image_h"], "num_bbox": 5}
    np.savez_compressed(archive, x=found[0]["features"], bbox=found[0]["boxes"], **shape)
    content = {path.name: path.read_bytes() for path in sorted(scratch.glob("*.h5")) + sorted(scratch.glob("own.tf*"))}
    records, index = content["own.tfrecord"], content["own.tfrecord.index"]
    return {
        "own h5": Kind(("store",), {"own.h5": content["own.h5"]}, own=True),
        "own tfrecord": Kind(("store",), {"own.tfrecord": records, "own.tfrecord.index": index}, own=True),
        "rows": Kind(("store",), {"rows.h5": content["rows.h5"]}, "rows"),
        "groups": Kind(("store",), {"groups.h5": content["groups.h5"]}, "groups"),
        "h5 in order": Kind(("regions",), {"rows.h5": content["rows.h5"]}),
        "npz": Kind(("npz",), {"a.npz": archive.getvalue()}, "npz"),
        "tsv": Kind(("regions",), {"a.tsv": b"".join(made.tsv_line(row) + b"\n" for row in found)}),
    }


def _images() -> dict[str, Kind]:
    everywhere, picture = ("image", "graph image"), photo(41, 33)
    contents = {
        "JPEG": encode(picture, "JPEG"),
        "progressive JPEG": encode(picture, "JPEG", progressive=True),
        "PNG": encode(picture, "PNG"),
        "palette PNG": encode(picture.quantize(16), "PNG", transparency=3),
        "GIF": encode(picture.quantize(32), "GIF"),
        "BMP": encode(picture, "BMP"),
    }
    others = {kind: encode(picture, kind) for kind in ("WEBP", "TIFF", "ICO", "PPM", "TGA", "AVIF", "JPEG2000")}
    return {
        **{name: Kind(everywhere, {"image": content}, "image") for name, content in contents.items()},
        **{name: Kind(("image",), {"image": content}, "image") for name, content in others.items()},
    }


def _lite(scratch: Path) -> dict[str, Kind]:
    description = {"head": "vqa", "class": "ViltForQuestionAnswering", "config": {}, "outputs": [], "top_k": 3}
    description |= {"tokenizer": {"model_max_length": 40}, "sensitivity": []}
    description |= {"inputs": {"input_ids": {"shape": [1, 40], "dtype": "int32"}}}
    vocabulary = {token: number for number, token in enumerate(TOKENS)}
    path = scratch / "a.tflite"
    write(LiteFile(path, description, vocabulary, ("no", "yes"), b"characters"), b"\x1c\0\0\0TFL3" + bytes(64))
    return {"lite": Kind(("lite",), {"a.tflite": path.read_bytes()})}


# --- changes ---------------------------------------------------------------------------------------------------------


def flip(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def overwrite(content: bytearray, chance: random.Random) -> None:
    size = chance.choice((1, 2, 4, 8))
    place = chance.randrange(max(1, len(content) - size + 1))
    value = chance.choice((chance.choice(INTERESTING), chance.getrandbits(64))) % (1 << 8 * size)
    content[place : place + size] = value.to_bytes(size, chance.choice(("little", "big")))


def cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content)) :]


def remove(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content))
    del content[place : place + chance.randrange(1, 64)]


def repeat(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content))
    content[place:place] = content[place : place + chance.randrange(1, 64)] * chance.choice((1, 2, 1000))


def blank(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content))
    size = min(chance.randrange(1, 512), len(content) - place)
    content[place : place + size] = bytes([chance.choice((0, 0, 0xFF))]) * size


def number(content: bytearray, chance: random.Random) -> None:
    """Another number where one is written in digits."""
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()] or [0]
    place = chance.choice(places)
    content[place : place + 1] = chance.choice((b"-1", b"1e999", b"99999999", b"9" * 30, b"9" * 5000, b"null", b"[]"))


def brackets(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content))
    content[place:place] = chance.choice((b"[", b"{", b'{"a":', b"(", b"]", b"}", b'"')) * chance.choice(
        (1, 100, 20_000)
    )


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(flip, flip, flip, overwrite, overwrite, cut, remove, repeat, blank, number, brackets),
)


def changed(content: bytes, chance: random.Random) -> bytes:
    result = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if result:
            chance.choice(CHANGES)(result, chance)
    return bytes(result)


# --- a run -----------------------------------------------------------------------------------------------------------


class Fuzzer:
    """Reads changed files by their numbers; the same number is always the same file."""

    def __init__(self, directory: Path):
        self.kinds, self.directory, self.report = kinds(), directory, Report()
        self._ours, self._theirs, self._read = Worker("support.readers"), Worker("support.references"), 0
        self._written = {name: self._values(kind, kind.files) for name, kind in self.kinds.items()}
        for name, outcomes in self._written.items():
            assert all(outcome.kind == "value" for outcome in outcomes), (name, outcomes)

    def _values(self, kind: Kind, files: dict[str, bytes]) -> list[Outcome]:
        for old in self.directory.iterdir():
            old.unlink()
        for name, content in files.items():
            (self.directory / name).write_bytes(content)
        return [self._ours.read(reader, self.directory / next(iter(files))) for reader in kind.readers]

    def run(self, place: int) -> None:
        """Reads the file of that number, and reports."""
        chance = random.Random(f"{SEED} {place}")
        name = list(self.kinds)[place % len(self.kinds)]
        kind = self.kinds[name]
        first, content = next(iter(kind.files.items()))
        outcomes = self._values(kind, kind.files | {first: changed(content, chance)})
        for reader, outcome in zip(kind.readers, outcomes, strict=True):
            self.report.outcomes[outcome.kind] += 1
            self.report.slowest = max(self.report.slowest, outcome.seconds)
            self.report.largest = max(self.report.largest, outcome.memory)
            if problem := outcome.wrong(first):
                self._wrong(place, name, f"{reader}: {problem}")
        values = {outcome.value for outcome in outcomes if outcome.kind == "value"}
        if len(values) > 1:
            self._wrong(place, name, f"{' and '.join(kind.readers)} read different values")
        if kind.own and values - {outcome.value for outcome in self._written[name]}:
            self._wrong(place, name, "not what was written")
        if values and kind.reference in self._references():
            reference = self._theirs.read(kind.reference, self.directory / first)
            if reference.kind == "value" and reference.value not in values:
                self._wrong(place, name, "not what the format's own library reads")
        self._read += 1
        if self._read % RENEWED_AFTER == 0:
            self.close()

    def _references(self) -> tuple[str, ...]:
        from support.references import READERS

        return tuple(READERS)

    def _wrong(self, place: int, name: str, sentence: str) -> None:
        self.report.wrong.append((place, name, sentence[:300]))

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


def main(count: int, start: int = 0, seconds: float = float("inf")) -> None:
    """Reads files until they are done or the time is over, and prints the counts."""
    began, done = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name:
        fuzzer = Fuzzer(Path(name))
        for place in range(start, start + count):
            if time.monotonic() - began > seconds:
                break
            before = len(fuzzer.report.wrong)
            fuzzer.run(place)
            done += 1
            for problem in fuzzer.report.wrong[before:]:
                print(*problem, sep=" | ", flush=True)
        fuzzer.close()
    report = fuzzer.report
    print(f"{done} files of {len(fuzzer.kinds)} kinds, {dict(report.outcomes)}, {len(report.wrong)} wrong;")
    print(f"at most {report.slowest:.1f} s of processor time and {report.largest / 1e6:.0f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(int, sys.argv[2:4]))

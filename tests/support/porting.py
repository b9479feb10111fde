"""Makes checkpoint files by hand: pickles from single instructions, archives, safetensors headers."""

import io
import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfvl.porting.tensors import Checkpoint, Tensor

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
MACHINE = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"int": 4}}


@dataclass(frozen=True)
class Global:
    """A function or class named in a pickle."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call in a pickle."""

    function: object
    arguments: tuple


@dataclass(frozen=True)
class Persistent:
    """An object outside the pickle."""

    reference: object


@dataclass(frozen=True)
class Raw:
    """Instructions that are written unchanged."""

    code: bytes


def encoded(value) -> bytes:
    """Returns the instructions that put `value` on the stack."""
    match value:
        case Raw():
            return value.code
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return encoded(value.function) + encoded(value.arguments) + b"R"
        case Persistent():
            return encoded(value.reference) + b"Q"
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(encoded, value)) + b"t"
        case list():
            return b"](" + b"".join(map(encoded, value)) + b"e"
        case dict():
            return b"}(" + b"".join(encoded(item) for pair in value.items() for item in pair) + b"u"
    raise TypeError(type(value))


def pickled(value) -> bytes:
    return b"\x80\x02" + encoded(value) + b"."


def storage(numel=6, key="0", kind="FloatStorage", view=()) -> Persistent:
    return Persistent(("storage", Global("torch", kind), key, "cpu", numel, *view))


def tensor(numel=6, offset=0, shape=(2, 3), strides=(3, 1), **options) -> Call:
    arguments = (
        storage(numel, **options),
        offset,
        shape,
        strides,
        False,
        Call(Global("collections", "OrderedDict"), ()),
    )
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), arguments)


def write_zip(path: Path, value, storages=None, compression=zipfile.ZIP_STORED, more=None) -> Path:
    """Writes a `torch.save` file of the zip format; by default it has one storage, of six floats."""
    storages = {"0": np.arange(6, dtype="<f4").tobytes()} if storages is None else storages
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", value if isinstance(value, bytes) else pickled(value))
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in (more or {}).items():
            archive.writestr(f"archive/{name}", data)
    return path


def write_legacy(path: Path, value, storages=None, magic=MAGIC, machine=MACHINE, keys=None) -> Path:
    """Writes a `torch.save` file of the format before torch 1.6."""
    storages = {"0": (6, np.arange(6, dtype="<f4").tobytes())} if storages is None else storages
    file = io.BytesIO()
    for part in (magic, VERSION, machine, value, list(storages) if keys is None else keys):
        file.write(part if isinstance(part, bytes) else pickled(part))
    for numel, data in storages.values():
        file.write(struct.pack("<q", numel) + data)
    path.write_bytes(file.getvalue())
    return path


def write_header(path: Path, header, data: bytes = b"", length: int | None = None) -> Path:
    """Writes a safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def checkpoint(shapes: dict[str, tuple[int, ...]], dtype: str = "float32") -> Checkpoint:
    """Makes a checkpoint for tests that use only names, shapes and types."""
    path = Path("some.safetensors")
    return Checkpoint(
        path, [Tensor(name, path, 64 * n, shape, dtype) for n, (name, shape) in enumerate(shapes.items())]
    )

"""Makes tfvl/export/op_check/*.json.gz: the ops that each release of TF Serving links, from the published wheels.

    python tools/golden/serving_tables.py [--wheels DIRECTORY]

A release of TF Serving links the core ops of its TensorFlow and the ops of one version of tensorflow-text (the table
`RELEASES`). For each, the shared libraries are taken out of the wheels of both and opened with ctypes in a process of
their own, where `TF_GetAllOpList` gives the registry; nothing is installed. The headers in the wheel say which
versions of a graph the release reads. A wheel that is not in DIRECTORY is downloaded there first (1.2 GB in all).
"""

import ctypes
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import typer

# By release: its TensorFlow, and the tensorflow-text that tensorflow_serving/workspace.bzl pins. Up to 2.19.1 it embeds
# 2.12.1; 2.20.0 embeds 2.20.0, and so do its sources of mid-2026, later than TensorFlow 2.21.0.
RELEASES = {"2.19": ("2.19.1", "2.12.1"), "2.20": ("2.20.0", "2.20.0"), "2.21": ("2.21.0", "2.20.0")}
# A library of tensorflow-text opens with the TensorFlow that it was built for, which registers what both know.
BUILT_FOR = {"2.12.1": "2.12.1", "2.20.0": "2.20.0"}
WHEELS = Path(tempfile.gettempdir(), "tfvl-wheels")
TARGETS = Path(__file__).resolve().parents[2] / "tfvl/export/op_check"
VERSIONS = {
    "producer": "TF_GRAPH_DEF_VERSION",
    "min_producer": "TF_GRAPH_DEF_VERSION_MIN_PRODUCER",
    "min_consumer": "TF_GRAPH_DEF_VERSION_MIN_CONSUMER",
}


def main(wheels: Path = WHEELS) -> None:
    """Writes one table for each release."""
    for release, (tensorflow, text) in RELEASES.items():
        core = op_list(wheels, tensorflow)
        both = op_list(wheels, BUILT_FOR[text], text)
        alone = op_list(wheels, BUILT_FOR[text])
        table = {
            "tensorflow": tensorflow,
            "tensorflow_text": text,
            "graph_def": graph_versions(wheel(wheels, "tensorflow-cpu", tensorflow)),
            "ops": dict(sorted((core | {name: op for name, op in both.items() if name not in alone}).items())),
        }
        path = TARGETS / f"{release}.json.gz"
        data = gzip.compress(json.dumps(table, separators=(",", ":")).encode(), mtime=0)
        path.write_bytes(data)
        print(f"{path.name}: {len(table['ops'])} ops, {len(data):,} bytes, graph versions {table['graph_def']}")


def wheel(wheels: Path, package: str, version: str) -> Path:
    pattern = f"{package.replace('-', '_')}-{version}-*.whl"
    if not list(wheels.glob(pattern)):
        options = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.11", "--dest", str(wheels)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options, f"{package}=={version}"], check=True)
    return next(wheels.glob(pattern))


def graph_versions(file: Path) -> dict[str, int]:
    with zipfile.ZipFile(file) as archive:
        header = archive.read("tensorflow/include/tensorflow/core/public/version.h").decode()
    return {key: int(re.search(rf"#define {name} (\d+)", header)[1]) for key, name in VERSIONS.items()}


def op_list(wheels: Path, tensorflow: str, text: str = "") -> dict[str, dict]:
    """Returns the ops of a TensorFlow, with those of a tensorflow-text, in the form of the tables."""
    from tensorflow.core.framework import op_def_pb2

    with tempfile.TemporaryDirectory() as directory:
        extract(
            wheel(wheels, "tensorflow-cpu", tensorflow), r"tensorflow/libtensorflow_(cc|framework)\.so\.2", directory
        )
        if text:
            extract(wheel(wheels, "tensorflow-text", text), r"tensorflow_text/python/ops/_\w+\.so", directory)
        done = subprocess.run([sys.executable, __file__, directory], stdout=subprocess.PIPE, check=True)
    ops = op_def_pb2.OpList.FromString(done.stdout).op
    return {op.name: {attr.name: compact(attr) for attr in op.attr} for op in ops}


def extract(file: Path, pattern: str, directory: str) -> None:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(directory, [name for name in archive.namelist() if re.fullmatch(pattern, name)])


def compact(attr) -> list:
    """Returns an attribute's type, whether it has a default (0 or 1), and the allowed values if these are limited."""
    allowed = attr.allowed_values.list
    values = [*allowed.type] or [value.decode() for value in allowed.s]
    return [attr.type, int(attr.HasField("default_value")), *([values] if values else [])]


def print_registry(directory: str) -> None:
    """Writes the serialized OpList of the libraries in a directory to stdout; runs in a process of its own."""

    class Buffer(ctypes.Structure):
        _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))

    ctypes.CDLL(f"{directory}/tensorflow/libtensorflow_framework.so.2", ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(f"{directory}/tensorflow/libtensorflow_cc.so.2", ctypes.RTLD_GLOBAL)
    library.TF_NewStatus.restype = library.TF_LoadLibrary.restype = ctypes.c_void_p
    library.TF_GetAllOpList.restype = ctypes.POINTER(Buffer)
    library.TF_Message.restype = ctypes.c_char_p
    status = ctypes.c_void_p(library.TF_NewStatus())
    for path in sorted(Path(directory).glob("tensorflow_text/python/ops/_*.so")):
        library.TF_LoadLibrary(str(path).encode(), status)
        if library.TF_GetCode(status):
            raise OSError(f"{path}: {library.TF_Message(status).decode()}")
    ops = library.TF_GetAllOpList().contents
    sys.stdout.buffer.write(ctypes.string_at(ops.data, ops.length))
    sys.stdout.flush()
    os._exit(0)  # without the libraries' destructors


if __name__ == "__main__":
    if len(sys.argv) == 2 and Path(sys.argv[1], "tensorflow").is_dir():
        print_registry(sys.argv[1])
    typer.run(main)

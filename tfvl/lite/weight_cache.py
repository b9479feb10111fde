"""XNNPACK's weight cache: a file, mapped into memory, of a model's weights in the order in which the processor reads.

Without it, every process that loads a model reorders the weights into memory of its own. XNNPACK checks that a cache is
complete and of its own version, but accepts the cache of another model of the same structure, and then gives that
model's answers. So a cache's name says which file it belongs to, by a checksum of that file's content, its size, the
version of `ai-edge-litert`, the processor, and the cache's own size, so that one that was cut short is not used.
"""

import hashlib
import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import google_crc32c

from tfvl.files.whole import scratch

Model = TypeVar("Model")
SUFFIX = ".xnnpack"
BLOCK = 1 << 20  # bytes that are read at once
ROOM = 3  # disk space needed, as a multiple of the file's size: 16-bit weights become 32-bit ones


def load(path: Path, directory: Path, compile_with: Callable[[Path], Model]) -> Model:
    """Loads a model with its cache in `directory`; a cache that does not exist yet is made.

    Args:
        path: the `.tflite` file.
        directory: the directory of caches; nobody else should be able to write there, as a cache decides the answers.
        compile_with: a function that loads the model with a cache, which it writes if there is no such file.

    Raises:
        ValueError: the directory cannot be written, or has too little room.
    """
    name = name_of(path)
    found = [each for each in directory.glob(f"{name}-*{SUFFIX}") if each.name == with_size(name, each)]
    if found:
        return compile_with(found[0])
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        free, needed = shutil.disk_usage(directory).free, ROOM * path.stat().st_size
        if free < needed:  # XNNPACK would end the process
            raise ValueError(
                f"weight_cache is {str(directory)!r}, where {free / 1e6:.0f} MB are free, but {needed / 1e6:.0f} MB "
                "may be needed; name another directory, or leave it out"
            )
        with scratch(directory / name) as temporary:
            built = temporary / "weights"
            model = compile_with(built)
            if built.exists():
                os.replace(built, directory / with_size(name, built))
    except OSError as error:
        raise ValueError(
            f"weight_cache is {str(directory)!r}, which cannot be written ({error.strerror}); name a directory that "
            "can, or leave it out"
        ) from None
    return model


def with_size(name: str, cache: Path) -> str:
    """Returns the name of a file that holds a complete cache."""
    return f"{name}-{cache.stat().st_size}{SUFFIX}"


def name_of(path: Path) -> str:
    """Returns the beginning of the names of all caches of a `.tflite` file."""
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            crc = google_crc32c.extend(crc, block)
    known = (crc, path.stat().st_size, version("ai-edge-litert"), processor())
    return hashlib.blake2b(repr(known).encode(), digest_size=16).hexdigest()


def processor() -> str:
    """Returns the instruction sets of this processor, as Linux lists them, or else its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())

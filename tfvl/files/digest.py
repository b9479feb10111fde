"""Digests of files' contents, by which a continued run notices that its inputs have changed."""

import hashlib
from collections.abc import Collection
from pathlib import Path

from tfvl.files.reading import open_regular


def digest_of_files(path: Path, suffixes: Collection[str] | None = None) -> str:
    """Returns a digest of the names and contents of the files in a directory, or of a single file.

    Args:
        path: the directory or file.
        suffixes: if given, files with other name endings do not count.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not a regular one.
    """
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        if (suffixes is None or file.suffix in suffixes) and not file.is_dir():
            with open_regular(file) as opened:
                digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0")
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()

"""Which versions of a model there are, and what it is called: what `tfvl serve` makes of the path that it is given."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

Find = Callable[[], Mapping[int, Path]]
NUMBER = "[0-9]{1,18}"


def finder(path: Path) -> Find:
    """A function that lists the versions to serve: those in a model's directory, or the one that `path` is.

    A version is a directory with a SavedModel or with one `.tflite` file, or such a file itself.

    Raises ValueError if there are none.
    """
    if path.is_file() and path.suffix == ".tflite":
        return partial(dict, {version_of(path.resolve().parent): path})
    if not path.is_dir():
        raise ValueError(
            f"{path} is no directory; give that of a model, as `tfvl export` writes it, or a file that ends in .tflite"
        )
    if (path / "saved_model.pb").is_file() or (lite_files(path) and not numbered(path)):
        return partial(dict, {version_of(path.resolve()): path})
    find = partial(numbered, path)
    if not find():
        raise ValueError(
            f"{path} holds neither a SavedModel nor numbered versions; export to {path / '1'}, or give the "
            "directory of a model, or a .tflite file"
        )
    return find


def numbered(directory: Path) -> dict[int, Path]:
    """The version directories of a model's directory."""
    paths = [path for path in directory.iterdir() if re.fullmatch(NUMBER, path.name) and path.is_dir()]
    return {int(path.name): path for path in paths}


def version_of(directory: Path) -> int:
    """The number that a directory is called; 1 for another name."""
    return int(directory.name) if re.fullmatch(NUMBER, directory.name) else 1


def lite_files(version: Path) -> list[Path]:
    """The `.tflite` files of a version, of which there should be one; none for a SavedModel."""
    return [version] if version.is_file() else sorted(version.glob("*.tflite"))


def default_name(path: Path) -> str:
    """That of the model's directory, also where one of its versions is given; a file's own outside of a version."""
    path = path.resolve()
    directory = path.parent if path.is_file() else path
    if directory.name.isdecimal():
        return directory.parent.name
    return path.stem if path.is_file() else directory.name

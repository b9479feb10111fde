"""Finds the versions and the name of a model below the path that `tfvl serve` is given."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

Find = Callable[[], Mapping[int, Path]]
NUMBER = "[0-9]{1,18}"


def finder(path: Path) -> Find:
    """Returns a function that finds the versions to serve, each with its number.

    `path` is a model's directory, which holds numbered versions, or a single version. A version is a directory with a
    SavedModel or with one `.tflite` file, or such a file itself.

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
    """Returns the version directories of a model's directory, by number."""
    paths = [path for path in directory.iterdir() if re.fullmatch(NUMBER, path.name) and path.is_dir()]
    return {int(path.name): path for path in paths}


def version_of(directory: Path) -> int:
    """Returns the number that is the directory's name; 1 if its name is not a number."""
    return int(directory.name) if re.fullmatch(NUMBER, directory.name) else 1


def lite_files(version: Path) -> list[Path]:
    """Returns the `.tflite` files of a version, of which there should be one; none for a SavedModel."""
    return [version] if version.is_file() else sorted(version.glob("*.tflite"))


def default_name(path: Path) -> str:
    """Returns the name of the model's directory, also if `path` is a version in it; or a file's name without suffix."""
    path = path.resolve()
    directory = path.parent if path.is_file() else path
    if directory.name.isdecimal():
        return directory.parent.name
    return path.stem if path.is_file() else directory.name

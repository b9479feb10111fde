"""Loads the backbone of `GridFeatures` from a `.keras` file, which may be a stranger's."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from tfvl.files import archive
from tfvl.files.isolated import Isolated, seconds_for
from tfvl.files.reading import MAX_TEXT_BYTES, parse_json
from tfvl.porting.keras_h5_file import WeightsFile

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MAX_WEIGHTS_BYTES = 1 << 32
LEAST = 1 << 16  # a number in the configuration may be this large, however few the weights are
NO_SIZES = ("seed", "shared_object_id")


def load_backbone(path: Path) -> keras.Model:
    """Loads a model that `keras.Model.save` wrote, after a look at whether that can be done within limits.

    The configuration is parsed with the limits of `files.reading`, and the weights are read in a separate process
    first. Keras itself executes no code of the file ("safe mode").

    Raises:
        ValueError: the file is missing, damaged, exceeds a limit or is none that Keras loads; the sentence names it.
    """
    try:
        with archive.open_archive(path) as members:
            config = parse_json(archive.read_member(members, CONFIG, MAX_TEXT_BYTES))
            count = _weights_in(members)
    except (KeyError, ValueError, OSError, *archive.ERRORS) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip("'\"")
        raise ValueError(f"{path}: {reason}") from None
    for name, number in _numbers(config):
        if number > max(count, LEAST):
            raise ValueError(f"{path}: {name} is {number} in {CONFIG}, but it holds only {count} weights")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever a damaged file provokes
        raise ValueError(f"{path}: Keras cannot load it ({' '.join(str(error).split())[:300]})") from None


def _weights_in(members) -> int:
    """Returns the number of weights in an archive, all of which are read on the way, in a separate process."""
    info = members.getinfo(WEIGHTS)
    archive.check_member(info, MAX_WEIGHTS_BYTES, WEIGHTS)
    if info.compress_size < info.file_size:
        raise ValueError(f"{WEIGHTS} is compressed, which Keras does not do")
    with tempfile.NamedTemporaryFile(prefix="tfvl-", suffix=".h5") as copy:
        with members.open(info) as content:
            shutil.copyfileobj(content, copy)
        copy.flush()
        file = Isolated(WeightsFile, copy.name, seconds=seconds_for(copy.name))
    file.close()
    return file.opening[0]


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Yields the whole numbers of a configuration, each with the name of its field."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key not in NO_SIZES:
                yield from _numbers(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _numbers(each, name)
    elif isinstance(value, int):
        yield name, value

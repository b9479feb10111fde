"""Reads and writes JSON objects in files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfvl.errors import CheckpointError
from tfvl.files.reading import parse_json, read_text_file
from tfvl.files.whole import write_text


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from `path`. Raises CheckpointError, which names the file, if that is not possible."""
    try:
        text = read_text_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; expected a directory in the hub's layout.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    try:
        values = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}, expected an object.")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes `values` to `path` as JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")

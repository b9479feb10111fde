"""YAML from strangers: plain values only, and no more of them than a configuration needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfvl.errors import CheckpointError
from tfvl.files.whole import write_text

MAX_BYTES = 1 << 16
MAX_DEPTH = 16
MAX_ALIASES = 64  # of one value each: an alias inside what another one stands for is refused


def read_yaml(path: Path, expected: str = "a YAML file") -> dict[str, Any]:
    """The mapping that a YAML file holds; `expected` says in the error what is looked for.

    Raises:
        CheckpointError: the file is missing, is too large or too deep, is no YAML, has a tag other than YAML's own
            (which may stand for code), aliases inside aliases, or no mapping.
    """
    import yaml

    try:
        content = _limited(path)
        _check_events(yaml, content, path)
        document = yaml.safe_load(content)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; expected {expected}.") from None
    except yaml.constructor.ConstructorError as error:
        raise CheckpointError(f"{path}: refused, {_line(error)}; only plain values are read.") from None
    except (yaml.YAMLError, ValueError, OverflowError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as YAML ({_line(error)}).") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds a YAML {type(document).__name__}, expected a mapping.")
    return document


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Writes `values` to `path`."""
    import yaml

    write_text(path, yaml.safe_dump(dict(values), sort_keys=True, allow_unicode=True))


def _limited(path: Path) -> bytes:
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise CheckpointError(f"{path}: more than {MAX_BYTES} bytes are too many for a configuration.")
    return content


def _check_events(yaml, content: bytes, path: Path) -> None:
    """Looks at the events of the parser, which needs no recursion, before anything is built from them."""
    depth = aliases = 0
    anchored: list[int] = []  # depths of the anchored values that are open
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
            if anchored or aliases > MAX_ALIASES:
                raise CheckpointError(f"{path}: aliases inside aliases, or more than {MAX_ALIASES}; refused.")
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if event.anchor:
                anchored.append(depth)
            if depth > MAX_DEPTH:
                raise CheckpointError(f"{path}: nested deeper than {MAX_DEPTH} levels, refused.")
        elif isinstance(event, yaml.CollectionEndEvent):
            if anchored and anchored[-1] == depth:
                anchored.pop()
            depth -= 1


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

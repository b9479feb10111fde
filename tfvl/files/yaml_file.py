"""Reads untrusted YAML: plain values only, and no more of them than a configuration needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfvl.errors import CheckpointError
from tfvl.files.reading import MAX_DIGITS, read_file
from tfvl.files.whole import write_text

MAX_BYTES = 1 << 16
MAX_DEPTH = 16
MAX_ALIASES = 64  # aliases inside values that have an anchor are refused


def read_yaml(path: Path, expected: str = "a YAML file") -> dict[str, Any]:
    """Reads the mapping in a YAML file; if the file is missing, the error says that `expected` was expected.

    Raises:
        CheckpointError: the file is missing, is too large or too deep, is not YAML, has a tag other than YAML's own
            (which may stand for code), aliases inside aliases, or no mapping.
    """
    import yaml

    try:
        content = read_file(path, MAX_BYTES)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; expected {expected}.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    try:
        _check_events(yaml, content, path)
        document = yaml.safe_load(content)
    except CheckpointError:
        raise
    except yaml.constructor.ConstructorError as error:
        raise CheckpointError(f"{path}: refused, {_line(error)}; only plain values are read.") from None
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        # The last three come from PyYAML's constructors: of `!!int`, `!!bool` and `!!timestamp` without a value.
        raise CheckpointError(f"{path} cannot be read as YAML ({_line(error)}).") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds a YAML {type(document).__name__}, expected a mapping.")
    return document


def write_yaml(path: Path, values: Mapping[str, Any]) -> None:
    """Writes `values` to `path`."""
    import yaml

    write_text(path, yaml.safe_dump(dict(values), sort_keys=True, allow_unicode=True))


def _check_events(yaml, content: bytes, path: Path) -> None:
    """Checks the events of the parser, which needs no recursion, before anything is built from them."""
    depth = aliases = 0
    anchored: list[int] = []  # depths of the anchored values that are open
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.ScalarEvent):
            if _is_long_number(event.value):
                raise CheckpointError(f"{path}: a number of {len(event.value)} digits; at most {MAX_DIGITS} are read.")
        elif isinstance(event, yaml.AliasEvent):
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


def _is_long_number(text: str) -> bool:
    """Returns whether PyYAML may read the text as a whole number that is slow to build and to print."""
    digits = text.lstrip("+-").removeprefix("0")
    allowed = "0123456789abcdefABCDEF_" if digits.startswith("x") else "0123456789_:"
    return len(digits) > MAX_DIGITS and not set(digits.removeprefix("x")) - set(allowed)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

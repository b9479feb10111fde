"""Dataclass fields for configurations and settings, each with a default, a check of its value and an error message."""

import dataclasses
from collections.abc import Callable
from typing import Any

from tfvl.files.reading import shown

MAX_SIZE = 2**24  # no real model comes near
MAX_NUMBER = 1e30  # products of larger ones are no float32


def checked(default: Any, check: Callable[[Any], bool], expected: str, *, optional: bool = False):
    """A dataclass field whose value must pass `check`; an `optional` one may be None too."""
    passes = (lambda value: value is None or check(value)) if optional else check
    return dataclasses.field(default=default, metadata={"check": passes, "expected": expected})


def flag(default: bool | None = False, *, optional: bool = False):
    """A field that holds true or false."""
    return checked(default, lambda value: isinstance(value, bool), "true or false", optional=optional)


def choice(default: str, allowed: tuple[str, ...]):
    """A field that holds one of the `allowed` words."""
    return checked(default, lambda value: isinstance(value, str) and value in allowed, f"one of {', '.join(allowed)}")


def text(default: str | None = None):
    """A field that holds a text, not an empty one, or None."""
    return checked(default, lambda value: isinstance(value, str) and value != "", "a text", optional=True)


def size(default: int, most: int = MAX_SIZE):
    """A field that holds an integer from 1 to `most`."""
    return checked(default, lambda value: is_size(value) and value <= most, f"an integer in 1…{most}")


def limit(default: int):
    """A field that holds a size, or -1 for "no limit"."""
    return checked(default, lambda value: value == -1 or is_size(value), f"-1 or an integer in 1…{MAX_SIZE}")


def side(default: int):
    """A field that holds a side in pixels: one size, or (height, width)."""
    return checked(default, _is_side, f"an integer in 1…{MAX_SIZE}, or two (height, width)")


def count(default: int | None, low: int = 1, most: int | None = None, *, optional: bool = False):
    """A field that holds a whole number from `low` on, or to `most`."""
    expected = f"a whole number from {low} on" if most is None else f"an integer in {low}…{most}"
    limits = range(low, 2**63 if most is None else most + 1)
    return checked(default, lambda value: type(value) is int and value in limits, expected, optional=optional)


def number(default: float | None, low: float, *, optional: bool = False):
    """A field that holds a number from `low` on."""
    expected = f"a number from {low:g} on"
    return checked(default, lambda value: is_number(value) and value >= low, expected, optional=optional)


def positive(default: float):
    """A field that holds a finite number above zero."""
    return checked(default, is_positive, "a finite number above 0")


def probability(default: float | None, *, optional: bool = False):
    """A field that holds a number p with 0 <= p < 1."""
    return checked(default, lambda value: is_number(value) and 0 <= value < 1, "a number in [0, 1)", optional=optional)


def share(default: float):
    """A field that holds a number s with 0 < s <= 1."""
    return checked(default, is_share, "a number in (0, 1]")


def numbers(default: tuple[float, ...], expected: str, check: Callable[[Any], bool], length: int | None = None):
    """A field that holds `length` numbers, or 1 to 64 where that is None, each of which passes `check`."""

    def valid(values) -> bool:
        is_list = isinstance(values, list | tuple) and 0 < len(values) <= 64 and len(values) == (length or len(values))
        return is_list and all(map(check, values))

    return checked(default, valid, expected)


def is_size(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIZE


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER  # no NaN either


def is_positive(value) -> bool:
    return is_number(value) and value > 0


def is_share(value) -> bool:
    return is_number(value) and 0 < value <= 1


def _is_side(value) -> bool:
    return is_size(value) or (isinstance(value, tuple | list) and len(value) == 2 and all(map(is_size, value)))


def check_fields(config, prefix: str | None = None) -> None:
    """Raises ValueError for the first field whose value its `check` does not pass.

    Args:
        config: a dataclass instance.
        prefix: stands before the field's name; None: the class and a dot.
    """
    prefix = f"{type(config).__name__}." if prefix is None else prefix
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if "check" in each.metadata and not each.metadata["check"](value):
            raise ValueError(f"{prefix}{each.name} is {shown(value)}, expected {each.metadata['expected']}.")

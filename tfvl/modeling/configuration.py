"""The frozen base of every model's configuration: read `config.json`, check it, write it back."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from tfvl.errors import CheckpointError

MAX_SIZE = 2**24  # no real model comes near
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def size(default: int, most: int = MAX_SIZE):
    """A dataclass field that holds an integer from 1 to `most`."""
    return dataclasses.field(
        default=default,
        metadata={"check": lambda value: _is_size(value) and value <= most, "expected": f"an integer in 1…{most}"},
    )


def count(default: int, most: int):
    """A dataclass field that holds an integer from 0 to `most`."""
    return dataclasses.field(
        default=default,
        metadata={
            "check": lambda value: (value == 0 and not isinstance(value, bool)) or (_is_size(value) and value <= most),
            "expected": f"an integer in 0…{most}",
        },
    )


def probability(default: float):
    """A dataclass field that holds a number p with 0 <= p < 1."""
    return dataclasses.field(default=default, metadata={"check": _is_probability, "expected": "a number in [0, 1)"})


def positive(default: float):
    """A dataclass field that holds a finite number above zero."""
    return dataclasses.field(default=default, metadata={"check": _is_positive, "expected": "a finite number above 0"})


def flag(default: bool):
    """A dataclass field that holds true or false."""
    return dataclasses.field(
        default=default, metadata={"check": lambda value: isinstance(value, bool), "expected": "true or false"}
    )


def choice(default: str, allowed: tuple[str, ...]):
    """A dataclass field that holds one of the `allowed` words."""
    return dataclasses.field(
        default=default,
        metadata={
            "check": lambda value: isinstance(value, str) and value in allowed,
            "expected": "one of " + ", ".join(allowed),
        },
    )


def limit(default: int):
    """A dataclass field that holds a size, or -1 for "no limit"."""
    return dataclasses.field(
        default=default,
        metadata={
            "check": lambda value: value == -1 or _is_size(value),
            "expected": f"-1 or an integer in 1…{MAX_SIZE}",
        },
    )


def side(default: int):
    """A dataclass field that holds a side in pixels: one size, or (height, width)."""
    return dataclasses.field(
        default=default, metadata={"check": _is_side, "expected": f"an integer in 1…{MAX_SIZE}, or two (height, width)"}
    )


def _is_size(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIZE


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_probability(value) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_positive(value) -> bool:
    return _is_number(value) and value > 0


def _is_side(value) -> bool:
    return _is_size(value) or (isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_size, value)))


def check_fields(config, shown: Callable[[Any], str] = repr) -> None:
    """Raises ValueError for the first field whose value its `check` does not pass; `shown` makes the value readable."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if "check" in field.metadata and not field.metadata["check"](value):
            raise ValueError(
                f"{type(config).__name__}.{field.name} is {shown(value)}, expected {field.metadata['expected']}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What all three models' configurations share (upstream: `PreTrainedConfig`).

    Attributes:
        id2label: class index to label; `{0: "LABEL_0", …}` where neither it nor `num_labels` nor `label2id` is given.
        label2id: label to class index, always the inverse of `id2label` (the first index wins where labels repeat).
        num_labels: the number of classes, always `len(id2label)`.
        problem_type: one of `PROBLEM_TYPES`, or None; upstream's models do not read it, nor do these.
        architectures: names of the classes that the checkpoint was saved from.
        output_attentions: whether a call returns attentions when it is not told.
        output_hidden_states: whether a call returns hidden states when it is not told.
        pad_token_id: id of the padding token, if the file names one; a negative one counts from the vocabulary's end.
        extra: every other key of the file; written back unchanged by `save_pretrained`.

    Raises:
        ValueError: a value is outside its range; the sentence names the field, the value and the range.
    """

    model_type: ClassVar[str] = ""

    id2label: Mapping[int, str] | None = None
    label2id: Mapping[str, int] | None = None
    num_labels: int | None = None
    problem_type: str | None = dataclasses.field(
        default=None,
        metadata={
            "check": lambda value: value is None or (isinstance(value, str) and value in PROBLEM_TYPES),
            "expected": "one of " + ", ".join(PROBLEM_TYPES),
        },
    )
    architectures: tuple[str, ...] = ()
    output_attentions: bool = flag(False)
    output_hidden_states: bool = flag(False)
    pad_token_id: int | None = dataclasses.field(
        default=None,
        metadata={
            "check": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
            "expected": "an integer, or none",
        },
    )
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_fields(self)
        labels, count = self.id2label, self.num_labels
        if count is not None and not _is_size(count):
            raise ValueError(f"{type(self).__name__}.num_labels is {count!r}, expected an integer in 1…{MAX_SIZE}.")
        if labels is None and self.label2id is not None:
            labels = {index: label for label, index in self.label2id.items()}
        elif labels is None:
            labels = {index: f"LABEL_{index}" for index in range(2 if count is None else count)}
        labels = _checked_labels(labels)
        if count is not None and count != len(labels):
            raise ValueError(f"num_labels is {count} but id2label holds {len(labels)} labels; give one of them only.")
        object.__setattr__(self, "id2label", labels)
        object.__setattr__(self, "label2id", {label: index for index, label in reversed(labels.items())})
        object.__setattr__(self, "num_labels", len(labels))
        architectures = self.architectures or ()
        if not isinstance(architectures, list | tuple) or not all(isinstance(name, str) for name in architectures):
            raise ValueError(f"architectures is {architectures!r}, expected a list of class names.")
        object.__setattr__(self, "architectures", tuple(architectures))
        object.__setattr__(self, "extra", dict(self.extra))
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):  # what JSON makes of a tuple
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))

    def replace(self, **changes) -> Self:
        """Returns a copy with `changes`; a new `num_labels`, `id2label` or `label2id` replaces all three."""
        if changes.keys() & {"id2label", "label2id"} or changes.get("num_labels", self.num_labels) != self.num_labels:
            changes = {"num_labels": None, "id2label": None, "label2id": None} | changes
        unknown = changes.keys() - {field.name for field in dataclasses.fields(self)}
        if unknown:
            raise ValueError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}.")
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds the configuration from the content of a `config.json`.

        Raises:
            ValueError: the file is another model's, or a value is outside its range.
        """
        values = dict(values)
        model_type = values.pop("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"model_type is {model_type!r}, but {cls.__name__} reads {cls.model_type!r}; "
                "load it with that model's classes."
            )
        if values.get("id2label") is not None:
            values |= {"num_labels": None, "label2id": None}  # "through id2label only", as upstream's files do
        known = {field.name for field in dataclasses.fields(cls)} - {"extra"}
        own = {key: value for key, value in values.items() if key in known and value is not None}
        return cls(**own, extra={key: value for key, value in values.items() if key not in known})

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of `config.json`: upstream's names, `extra` keys as they came."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        del values["extra"], values["num_labels"]
        values["id2label"] = {str(index): label for index, label in self.id2label.items()}
        own = {key: value for key, value in values.items() if value is not None}
        return {**self.extra, "model_type": self.model_type, **own}

    @classmethod
    def from_pretrained(cls, src: str | Path, *, overrides: Mapping[str, Any] | None = None, **hub) -> Self:
        """Reads `config.json` of a hub id, a directory or a bundled model.

        Args:
            src: hub id, directory, path of a `config.json`, or the name of a bundled model.
            overrides: fields that replace the file's.
            **hub: `revision`, `token`, `cache_dir`, `local_files_only`, as `tfvl.porting.hub.resolve` takes them.

        Raises:
            CheckpointError: the file is missing, is no JSON object, or holds an impossible value; names the file.
        """
        from tfvl.porting.hub import resolve

        path = resolve(src, weights=False, **hub)
        return cls.from_file(path if path.name == "config.json" else path / "config.json", overrides)

    @classmethod
    def from_file(cls, path: Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Reads the `config.json` at `path`; errors as in `from_pretrained`."""
        return cls.from_values(read_json(path), path, overrides)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], path: Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """As `from_dict`, with `overrides`; an error names the file, `path`, that the values come from."""
        try:
            config = cls.from_dict(values)
            return config.replace(**overrides) if overrides else config
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes `config.json` into `directory` (made if missing); never leaves a half-written file."""
        write_json(Path(directory) / "config.json", self.to_dict())


def is_placeholder(id2label: Mapping[int, str]) -> bool:
    """Whether labels are only those that a configuration without any gets: LABEL_0, LABEL_1, …"""
    return all(label == f"LABEL_{index}" for index, label in id2label.items())


def _checked_labels(labels) -> dict[int, str]:
    if not isinstance(labels, Mapping):
        raise ValueError(f"id2label is {labels!r}, expected a mapping from class index to label.")
    try:
        checked = {int(index): str(label) for index, label in labels.items()}
    except ValueError as error:
        raise ValueError(f"id2label has a key that is no class index ({error}).") from error
    if sorted(checked) != list(range(len(checked))) or not checked:
        raise ValueError(
            f"id2label names classes {sorted(checked)[:5]}…, expected every index from 0 on, at least one."
        )
    return dict(sorted(checked.items()))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object from `path`; raises CheckpointError that names the file."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; expected a directory in the hub's layout.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a JSON {type(values).__name__}, expected an object.")
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes `values` to `path` as JSON."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file, through a temporary name so that no half-written one is ever seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(text.encode("utf-8"))
    os.replace(temporary, path)

"""The frozen base of every model's configuration: read `config.json`, check it, write it back."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from tfvl.errors import CheckpointError
from tfvl.files.json_file import read_json, write_json
from tfvl.files.reading import holds_half_surrogate, reason, shown
from tfvl.modeling.fields import check_fields, checked, flag, is_size
from tfvl.porting.hub import resolve, split_options

MAX_LABELS = 2**17  # each gets a name
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The base of the three models' configurations (upstream: `PreTrainedConfig`).

    Attributes:
        id2label: class index to label; `{0: "LABEL_0", …}` if neither it nor `num_labels` nor `label2id` is given.
        label2id: label to class index, always the inverse of `id2label` (the first index wins if labels repeat).
        num_labels: the number of classes, always `len(id2label)`.
        problem_type: one of `PROBLEM_TYPES`, or None; upstream's models do not read it, nor do these.
        architectures: names of the classes that the checkpoint was saved from.
        output_attentions: whether a call returns attentions by default.
        output_hidden_states: whether a call returns hidden states by default.
        pad_token_id: id of the padding token, if the file names one; a negative one counts from the vocabulary's end.
        extra: every other key of the file; written back unchanged by `save_pretrained`.

    Raises:
        ValueError: a value is outside its range; the sentence names the field, the value and the range.
    """

    model_type: ClassVar[str] = ""
    answers_field: ClassVar[str] = "num_labels"  # the field with the number of answers of a question answering head

    id2label: Mapping[int, str] | None = None
    label2id: Mapping[str, int] | None = None
    num_labels: int | None = None
    problem_type: str | None = checked(
        None,
        lambda value: isinstance(value, str) and value in PROBLEM_TYPES,
        f"one of {', '.join(PROBLEM_TYPES)}",
        optional=True,
    )
    architectures: tuple[str, ...] = ()
    output_attentions: bool = flag(False)
    output_hidden_states: bool = flag(False)
    pad_token_id: int | None = checked(None, lambda value: type(value) is int, "an integer, or none", optional=True)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_fields(self)
        labels, count = self.id2label, self.num_labels
        if count is not None and not (is_size(count) and count <= MAX_LABELS):
            raise ValueError(
                f"{type(self).__name__}.num_labels is {shown(count)}, expected an integer in 1…{MAX_LABELS}."
            )
        if labels is None and self.label2id is not None:
            labels = {index: label for label, index in self.label2id.items()}
        elif labels is None:
            labels = _placeholders(2 if count is None else count)
        labels = _checked_labels(labels)
        if count is not None and count != len(labels):
            raise ValueError(f"num_labels is {count} but id2label holds {len(labels)} labels; give one of them only.")
        object.__setattr__(self, "id2label", labels)
        object.__setattr__(self, "label2id", {label: index for index, label in reversed(labels.items())})
        object.__setattr__(self, "num_labels", len(labels))
        architectures = self.architectures or ()
        if not isinstance(architectures, list | tuple) or not all(isinstance(name, str) for name in architectures):
            raise ValueError(f"architectures is {shown(architectures)}, expected a list of class names.")
        object.__setattr__(self, "architectures", tuple(architectures))
        object.__setattr__(self, "extra", dict(self.extra))
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):  # what JSON makes of a tuple
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))

    @property
    def answer_names(self) -> tuple[str, ...]:
        """Returns the answers that the classes of a head stand for.

        They are LABEL_0, LABEL_1, … if `id2label` has another number of labels.
        """
        count = getattr(self, self.answers_field)
        return tuple(self.id2label.values()) if count == self.num_labels else tuple(_placeholders(count).values())

    @classmethod
    def answer_fields(cls, names: Iterable[str]) -> dict[str, Any]:
        """Returns the fields that give a configuration these `answer_names`, in the form that `replace` takes."""
        labels = dict(enumerate(names))
        return {"id2label": labels, cls.answers_field: len(labels)}

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
                f"model_type is {shown(model_type)}, but {cls.__name__} reads {cls.model_type!r}; "
                "load it with that model's classes."
            )
        if values.get("id2label") is not None:
            values |= {"num_labels": None, "label2id": None}  # "through id2label only", as upstream's files do
        known = {field.name for field in dataclasses.fields(cls)} - {"extra"}
        own = {key: value for key, value in values.items() if key in known and value is not None}
        return cls(**own, extra={key: value for key, value in values.items() if key not in known})

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of `config.json`: upstream's names, and the keys of `extra` unchanged."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        del values["extra"], values["num_labels"]
        values["id2label"] = {str(index): label for index, label in self.id2label.items()}
        own = {key: value for key, value in values.items() if value is not None}
        return {**self.extra, "model_type": self.model_type, **own}

    @classmethod
    def from_pretrained(cls, src: str | Path, *, overrides: Mapping[str, Any] | None = None, **options) -> Self:
        """Reads `config.json` of a hub id, a directory or a bundled model.

        Args:
            src: hub id, directory, path of a `config.json`, or the name of a bundled model.
            overrides: fields that replace the file's.
            **options: `revision`, `token`, `cache_dir`, `local_files_only`, `subfolder`, as in huggingface_hub; and
                fields that replace the file's, as in upstream.

        Raises:
            CheckpointError: the file is missing, is not a JSON object, or holds an impossible value; the message names
                the file.
        """
        hub_options, fields = split_options(options)
        path = resolve(src, weights=False, **hub_options)
        file = path if path.name == "config.json" else path / "config.json"
        return cls.from_file(file, {**(overrides or {}), **fields})

    @classmethod
    def from_file(cls, path: Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Reads the `config.json` at `path`; errors as in `from_pretrained`."""
        return cls.from_values(read_json(path), path, overrides)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], path: Path, overrides: Mapping[str, Any] | None = None) -> Self:
        """Builds the configuration as `from_dict` does, with `overrides`; errors name the file `path`."""
        try:
            config = cls.from_dict(values)
            return config.replace(**overrides) if overrides else config
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: {reason(error)}") from error

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes `config.json` into `directory` (made if missing); never leaves a half-written file."""
        write_json(Path(directory) / "config.json", self.to_dict())


def is_placeholder(labels: Iterable[str]) -> bool:
    """Returns whether the labels are LABEL_0, LABEL_1, …, those of a configuration that names none."""
    return all(label == f"LABEL_{index}" for index, label in enumerate(labels))


def _placeholders(count: int) -> dict[int, str]:
    return {index: f"LABEL_{index}" for index in range(count)}


def _checked_labels(labels) -> dict[int, str]:
    if not isinstance(labels, Mapping):
        raise ValueError(f"id2label is {shown(labels)}, expected a mapping from class index to label.")
    try:
        checked = {int(index): str(label) for index, label in labels.items()}
    except ValueError as error:
        raise ValueError(f"id2label has a key that is no class index ({reason(error)}).") from error
    if sorted(checked) != list(range(len(checked))) or not checked:
        raise ValueError(
            f"id2label names classes {shown(sorted(checked)[:5])}…, expected every index from 0 on, at least one."
        )
    for index, label in checked.items():
        if holds_half_surrogate(label):
            raise ValueError(f"id2label[{index}] is {shown(label)}, which holds half a surrogate pair and is no text.")
    return dict(sorted(checked.items()))

"""The papers' own weight files, recognised by their keys, and read under the names of transformers' state dicts.

Each family's `original.py` holds an `Original`: a table of renames that stands in front of the family's porting table,
and what of the configuration follows from the shapes of the tensors, since such files come without a `config.json`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tfvl.configuration import read_json
from tfvl.errors import CheckpointError
from tfvl.families import FAMILIES
from tfvl.porting.formats import open_checkpoint
from tfvl.porting.rules import template_pattern, unwrapped
from tfvl.porting.tensors import STORED, Checkpoint, Tensor

BASE_SIZE, BASE_HEADS = 768, 12  # of all published originals

# Sizes of a BERT, by the field of the configuration: a tensor under transformers' name, and one of its axes.
BERT_SIZES = {
    "vocab_size": ("embeddings.word_embeddings.weight", 0),
    "hidden_size": ("embeddings.word_embeddings.weight", 1),
    "max_position_embeddings": ("embeddings.position_embeddings.weight", 0),
    "type_vocab_size": ("embeddings.token_type_embeddings.weight", 0),
    "intermediate_size": ("encoder.layer.0.intermediate.dense.weight", 0),
}

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Original:
    """The layout of one paper's own files.

    Attributes:
        model_type: the family, as in `config.json`.
        prefix: what stands before the base model's names in transformers' state dicts, such as `vilt.`.
        marks: names of which such a file has one, and no other file any.
        renames: beginning of a name to what stands there in transformers' state dicts; `{i}` is a number. Several
            beginnings: the tensor is cut along its first axis into as many. None: no model here reads it. The first
            row that fits counts; names that no row fits stay as they are.
        sizes: field of the configuration to a tensor, under transformers' name without `prefix`, and one of its axes.
        layers: field of the configuration to the name, with `{i}`, of a tensor that each layer has.
        more: from the shapes by name, the other fields: `architectures` above all.
    """

    model_type: str
    prefix: str
    marks: tuple[str, ...]
    renames: Mapping[str, str | tuple[str, ...] | None]
    sizes: Mapping[str, tuple[str, int]]
    layers: Mapping[str, str]
    more: Callable[[Shapes], dict]


def recognise(names: Mapping[str, object]) -> Original | None:
    """The layout of a file with these names, once they are freed of a wrapper's prefix; None if it is no original."""
    for family in FAMILIES:
        original: Original = importlib.import_module(f"tfvl.{family}.original").ORIGINAL
        if any(mark in names for mark in original.marks):
            return original
    return None


def hub_names(tensors: Mapping[str, Tensor]) -> tuple[list[tuple[str, Tensor]], list[str]]:
    """The tensors with transformers' names, and the names of those that no model reads; as they came if no original.

    Raises:
        CheckpointError: a tensor that holds several cannot be cut into equal parts.
    """
    original = recognise(tensors)
    if original is None:
        return list(tensors.items()), []
    renamed, dropped = [], []
    for name, tensor in tensors.items():
        targets = _renamed(name, original)
        renamed += zip(targets, _parts(tensor, len(targets)), strict=True)
        dropped += [] if targets else [tensor.name]
    return renamed, dropped


def _renamed(name: str, original: Original) -> tuple[str, ...]:
    for source, target in original.renames.items():
        match = template_pattern(source).match(name)
        if match:
            targets = (target,) if isinstance(target, str) else target or ()
            return tuple(start.format(**match.groupdict()) + name[match.end() :] for start in targets)
    return (name,)


def _parts(tensor: Tensor, count: int) -> list[Tensor]:
    """The tensor cut along its first axis; nothing is read."""
    if count < 2:
        return [tensor] * count
    if not tensor.shape or tensor.shape[0] % count:
        raise CheckpointError(f"{tensor.path}: {tensor.name} {tensor.shape} is not {count} equal parts in one tensor.")
    rows = tensor.shape[0] // count
    step = rows * tensor.steps[0] * np.dtype(STORED[tensor.dtype]).itemsize
    shape = (rows, *tensor.shape[1:])
    return [replace(tensor, offset=tensor.offset + part * step, shape=shape) for part in range(count)]


def is_alone(path: Path) -> bool:
    """Whether `path` is a weight file without a `config.json` beside it, as originals are."""
    return path.is_file() and not (path.parent / "config.json").is_file()


def config_values(path: Path, checkpoint: Checkpoint | None = None, heads: int | None = None) -> dict:
    """The content of the `config.json` of a checkpoint, or, for an original without one, what its tensors tell.

    The family's defaults stand for all that does not follow from shapes: activation, dropout rates, the epsilon of
    layer norms. The number of attention heads is 12 at base size, which all published originals have.

    Args:
        path: a directory, or a weight file with or without a `config.json` beside it.
        checkpoint: what is in the weight file, if it is open already.
        heads: the number of attention heads of an original of another size.

    Raises:
        CheckpointError: there is no `config.json` and the file is no original, or is one of another size and `heads` is
            None; or one of the two files is damaged.
    """
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not is_alone(path):
        return read_json(file)
    values = describe(open_checkpoint(path) if checkpoint is None else checkpoint)
    if values is None:
        return read_json(file)  # which says that it is missing
    heads = heads or {BASE_SIZE: BASE_HEADS}.get(values.get("hidden_size"))
    if heads is None:
        raise CheckpointError(
            f"{path}: the number of attention heads does not follow from the weights, and hidden_size is "
            f"{values.get('hidden_size')}, not {BASE_SIZE}; pass num_attention_heads=, or put a config.json beside it."
        )
    return values | {"num_attention_heads": heads}


def describe(checkpoint: Checkpoint) -> dict | None:
    """What follows from an original's tensors, as `config.json` would say it; None if it is no original."""
    tensors = {name: checkpoint[old] for old, name in unwrapped(list(checkpoint)).items()}
    original = recognise(tensors)
    if original is None:
        return None
    shapes = {name.removeprefix(original.prefix): tensor.shape for name, tensor in hub_names(tensors)[0]}
    sizes = {field: size_of(shapes, name, axis) for field, (name, axis) in original.sizes.items()}
    layers = {
        field: sum(template_pattern(name).fullmatch(source) is not None for source in shapes)
        for field, name in original.layers.items()
    }
    more = original.more(shapes)
    return {"model_type": original.model_type} | {k: v for k, v in (sizes | layers | more).items() if v is not None}


def size_of(shapes: Shapes, name: str, axis: int) -> int | None:
    """The length of one axis of a tensor; None where there is no such tensor or axis."""
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else None

"""The papers' own weight files, recognised by their keys, and read under the names of transformers' state dicts.

Each family's module beside this one holds an `Original`: a table of renames that stands in front of the family's
porting table, and what of the configuration follows from the shapes of the tensors, since such files come without a
`config.json`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfvl.errors import CheckpointError
from tfvl.files.json_file import read_json
from tfvl.porting.formats import open_checkpoint
from tfvl.porting.originals import lxmert, vilt, visual_bert
from tfvl.porting.originals.layout import Original, size_of
from tfvl.porting.rules import template_pattern, unwrapped
from tfvl.porting.tensors import STORED, Checkpoint, Tensor

BASE_SIZE, BASE_HEADS = 768, 12  # of all published originals


def recognise(names: Mapping[str, object]) -> Original | None:
    """Returns the layout of a file with these names, ignoring a wrapper's prefix; None for any other file."""
    for original in (vilt.ORIGINAL, visual_bert.ORIGINAL, lxmert.ORIGINAL):
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
    """Splits a tensor along its first axis, without reading it."""
    if count < 2:
        return [tensor] * count
    if not tensor.shape or tensor.shape[0] % count:
        raise CheckpointError(f"{tensor.path}: {tensor.name} {tensor.shape} is not {count} equal parts in one tensor.")
    rows = tensor.shape[0] // count
    step = rows * tensor.steps[0] * np.dtype(STORED[tensor.dtype]).itemsize
    shape = (rows, *tensor.shape[1:])
    return [replace(tensor, offset=tensor.offset + part * step, shape=shape) for part in range(count)]


def is_alone(path: Path) -> bool:
    """Returns whether `path` is a weight file without a `config.json` beside it, as originals are."""
    return path.is_file() and not (path.parent / "config.json").is_file()


def config_values(path: Path, checkpoint: Checkpoint | None = None, heads: int | None = None) -> dict:
    """Returns the content of a checkpoint's `config.json`; for an original without one, what follows from its tensors.

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
    """Returns what follows from an original's tensors, as `config.json` would say it; None for other files."""
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

"""Writes a model's variables as a hub checkpoint, by reading the porting table from target to source."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfvl.files.whole import written_files
from tfvl.layers.quantization import refuse_quantized
from tfvl.porting.rules import Rule, Table
from tfvl.porting.safetensors_file import write_safetensors
from tfvl.porting.tensors import STORED

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

# A tensor still to be written: element type, shape, and a function that returns its values.
Pending = tuple[str, tuple[int, ...], Callable[[], np.ndarray]]


def save_weights(model, directory: str | os.PathLike, max_shard_size: int | str = "5GB") -> list[Path]:
    """Writes the weights of `model` into `directory` as safetensors, as transformers saves and loads them.

    The files appear under their names only when all are complete; those of an earlier save are then removed.

    Args:
        model: a model with `weight_names`, `weight_rules` and `base_model_prefix`.
        directory: the directory, which is made if it is missing.
        max_shard_size: bytes, or a text such as "5GB"; a larger model is written in several files and an index.

    Returns:
        The files written.

    Raises:
        ValueError: `max_shard_size` is not a size, the model is quantized, or the table has no row for a variable.
    """
    refuse_quantized(model, "save_pretrained")
    limit = _bytes(max_shard_size)
    shards = _shards(_pending(model), limit)
    directory = Path(directory)
    names = [WEIGHTS] if len(shards) == 1 else [*(_shard_name(n, len(shards)) for n in range(len(shards))), INDEX]
    replaced = [directory / name for name in (WEIGHTS, INDEX) if INDEX in names]  # old and new must never load as one
    with written_files(*(directory / name for name in names), removing=replaced) as new:
        for path, shard in zip(new, shards, strict=False):
            write_safetensors(path, {key: array for key, (_, _, array) in shard.items()})
        if INDEX in names:
            new[-1].write_text(_index(names[:-1], shards))
    stale = {path for path in directory.glob("model*.safetensors*") if path.name not in names and _is_ours(path.name)}
    for path in stale:
        path.unlink()
    return [directory / name for name in names]


def _pending(model) -> dict[str, Pending]:
    """Returns every tensor of the checkpoint by its name."""
    table, prefix, pending = Table(model.weight_rules), model.base_model_prefix, {}
    for path, variable in model.weight_names().items():
        short = path.removeprefix(f"{prefix}/")
        rows = [row for row in table.by_target(short) if not row[0].fallback]
        if len(rows) != 1:
            raise ValueError(f"stale table: {len(rows)} rows fill the variable {path}, expected one.")
        rule, numbers = rows[0]
        start = f"{prefix}." if short != path else ""
        for part, source in enumerate(rule.sources):
            pending[start + source.format(**numbers)] = _part(variable, rule, part)
    untied = {rule.head for rule in table.rules if rule.same_as and rule.target and rule.source in pending}
    copies = [rule for rule in table.rules if rule.saved_untied and rule.head in untied]
    return pending | {str(rule.source): pending[rule.same_as] for rule in copies}


def _part(variable, rule: Rule, part: int) -> Pending:
    parts = len(rule.sources)
    shape = rule.transform.source_shape(tuple(variable.shape), parts)
    return variable.dtype, shape, lambda: rule.transform.backward(variable.numpy(), parts)[part]


def _shards(pending: dict[str, Pending], limit: int) -> list[dict[str, Pending]]:
    """Splits the tensors, in the model's order, into files of at most `limit` bytes."""
    shards: list[dict[str, Pending]] = [{}]
    filled = 0
    for name, entry in pending.items():
        nbytes = _nbytes(entry)
        if shards[-1] and filled + nbytes > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = entry
        filled += nbytes
    return shards


def _nbytes(entry: Pending) -> int:
    return int(np.prod(entry[1], dtype=np.int64)) * np.dtype(STORED[entry[0]]).itemsize


def _shard_name(number: int, count: int) -> str:
    return f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def _is_ours(name: str) -> bool:
    return name in (WEIGHTS, INDEX) or re.fullmatch(r"model-\d{5}-of-\d{5}\.safetensors", name) is not None


def _index(names: list[str], shards: list[dict[str, Pending]]) -> str:
    weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    total = sum(_nbytes(entry) for shard in shards for entry in shard.values())
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return json.dumps(content, indent=2) + "\n"


def _bytes(size: int | str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?I?B)?", str(size).strip().upper())
    factor = _UNITS.get(match.group(2) or "" if match else None)
    if isinstance(size, bool) or factor is None or float(match.group(1)) * factor < 1:
        raise ValueError(f"max_shard_size is {size!r}, expected a number of bytes or a text such as '5GB' or '200MB'.")
    return int(float(match.group(1)) * factor)

"""Porting rules, rows of a table that say which tensors of a state dict fill which variable.

A family's `weights.py` holds a tuple of `Rule`, to which a class may add rows of its own head (`weight_rules`).
`load.py` reads the rows from source to target, `save.py` from target to source.
Names in the table leave out the base model's own prefix (`vilt.` on the left, `vilt/` on the right): a file with or
without the prefix and a model with or without a head then need the same rows.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

# Last parts of names in old files, and what they are today.
OLD_LAST_PARTS = {"gamma": "weight", "beta": "bias"}

# Wrappers (DataParallel, training scripts, Lightning, Accelerate) put these prefixes before every name of a file, also
# several of them. The parts that torch.compile, FSDP and checkpointing add may stand within names too, if only a part
# of the model was wrapped.
WRAPPER_PREFIXES = ("module.", "model.", "_forward_module.", "network.", "net.")
WRAPPER_PARTS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


@dataclass(frozen=True)
class Transform:
    """How source tensors become a variable; several sources are each transposed, then joined on the last axis.

    Attributes:
        axes: the order of axes that turns a source into its part of the variable; None keeps it.
        row: (index, count): use only this row of a source that has `count` rows; such a transform has no inverse.
    """

    axes: tuple[int, ...] | None = None
    row: tuple[int, int] | None = None

    def source_shape(self, target_shape: Sequence[int], parts: int) -> tuple[int, ...]:
        """Returns the shape that each of the `parts` sources must have to fill a variable of `target_shape`."""
        part = tuple(target_shape)
        if parts > 1:
            part = (*part[:-1], part[-1] // parts)
        if self.axes:
            part = tuple(part[self.axes.index(axis)] for axis in range(len(part)))
        return (self.row[1], *part[1:]) if self.row else part

    def forward(self, sources: Sequence, ops):
        """Computes the variable's value. `ops` is `numpy` or `keras.ops`, whichever the sources belong to."""
        if self.row:
            sources = [source[self.row[0] : self.row[0] + 1] for source in sources]
        if self.axes:
            sources = [ops.transpose(source, self.axes) for source in sources]
        return sources[0] if len(sources) == 1 else ops.concatenate(sources, axis=-1)

    def backward(self, value: np.ndarray, parts: int) -> list[np.ndarray]:
        """Returns the sources, as views, that `forward` would turn into `value`."""
        pieces = np.split(value, parts, axis=-1) if parts > 1 else [value]
        return [piece.transpose(np.argsort(self.axes)) for piece in pieces] if self.axes else pieces


KEEP = Transform()  # norms, biases, embedding tables; several sources: a fused bias
DENSE = Transform(axes=(1, 0))  # (out, in) to (in, out); several sources: a fused kernel
CONV = Transform(axes=(2, 3, 1, 0))  # OIHW to HWIO
BIAS_OF_ROW_1 = Transform(row=(1, 2))  # the second output of a layer with two
DENSE_OF_ROW_1 = Transform(axes=(1, 0), row=(1, 2))


@dataclass(frozen=True)
class Rule:
    """One row of a porting table.

    Attributes:
        source: name of the tensor in the state dict, or several names for a fused variable. `{i}` stands for a number.
        target: path of the variable, with the same `{i}`; None drops the source (an old buffer).
        transform: the transform that makes the variable's value of the source.
        head: the head that the row belongs to, which a checkpoint may lack as a whole; None for the body, which every
            checkpoint has.
        optional: some configurations have no such variable.
        fallback: used only if the checkpoint has nothing else for the whole head; never used to save.
        same_as: the source that this one repeats, if the model has no own variable for it: a tied weight, or a tensor
            stored under two names. A file may have only one of them. A tied weight must equal the other; if two
            tensors stored under two names differ, the one that transformers reads is read here too.
        wins: this copy, and not the source that it repeats, is the one that transformers reads.
        saved_untied: this copy is also written if the decoder of its head is untied, since transformers looks for it.
    """

    source: str | tuple[str, ...]
    target: str | None
    transform: Transform = KEEP
    head: str | None = None
    optional: bool = False
    fallback: bool = False
    same_as: str | None = None
    wins: bool = False
    saved_untied: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,) if isinstance(self.source, str) else self.source


class Table:
    """The rows of a family, looked up by source name or by variable path."""

    def __init__(self, rules: Iterable[Rule]):
        self.rules = tuple(rules)
        self._sources = _Index((source, rule) for rule in self.rules for source in rule.sources)
        self._targets = _Index((rule.target, rule) for rule in self.rules if rule.target)

    def by_source(self, name: str) -> list[tuple[Rule, dict[str, str]]]:
        """Returns the rows that name this source, each with the numbers for its `{i}`."""
        return self._sources.find(name)

    def by_target(self, path: str) -> list[tuple[Rule, dict[str, str]]]:
        """Returns the rows that fill this variable, each with the numbers for its `{i}`."""
        return self._targets.find(path)


class _Index:
    """Rows by name: plain names in a dict, names with `{i}` as patterns."""

    def __init__(self, rows: Iterator[tuple[str, Rule]]):
        self._plain: dict[str, list[Rule]] = {}
        self._patterns: list[tuple[re.Pattern, Rule]] = []
        for name, rule in rows:
            if "{" in name:
                self._patterns.append((template_pattern(name), rule))
            else:
                self._plain.setdefault(name, []).append(rule)

    def find(self, name: str) -> list[tuple[Rule, dict[str, str]]]:
        found = [(rule, {}) for rule in self._plain.get(name, ())]
        matches = ((pattern.fullmatch(name), rule) for pattern, rule in self._patterns)
        return found + [(rule, match.groupdict()) for match, rule in matches if match]


@cache
def template_pattern(template: str) -> re.Pattern:
    """Compiles `a.{i}.b` to a pattern, in which `{i}` matches a number without sign or leading zeros."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>0|[1-9][0-9]*)", re.escape(template)))


def unwrapped(names: Sequence[str]) -> dict[str, str]:
    """Returns today's name for each name in a file: what wrappers added is removed, `gamma` and `beta` are renamed."""
    bare = {name: _without_parts(name) for name in names}
    shift = 0
    while prefix := next((each for each in WRAPPER_PREFIXES if names and _all_have(each, shift, bare.values())), None):
        shift += len(prefix)
    return {name: _renamed(short[shift:]) for name, short in bare.items()}


def _all_have(prefix: str, shift: int, names: Iterable[str]) -> bool:
    return all(name.startswith(prefix, shift) for name in names)


def _without_parts(name: str) -> str:
    for part in WRAPPER_PARTS:
        name = re.sub(rf"(^|\.){re.escape(part)}", r"\1", name)
    return name


def _renamed(name: str) -> str:
    stem, dot, last = name.rpartition(".")
    return stem + dot + OLD_LAST_PARTS.get(last, last)

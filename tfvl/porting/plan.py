"""Plans how a checkpoint fills a model: every tensor and every variable must be accounted for, or the load fails.

Only names, shapes and element types are used (and the values of tensors that are stored twice), so a checkpoint that
does not fit is refused before any variable has a value.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfvl.errors import CheckpointError
from tfvl.files.reading import listed
from tfvl.porting.keras_names import as_state_dict
from tfvl.porting.originals.reading import hub_names
from tfvl.porting.rules import Rule, Table, unwrapped
from tfvl.porting.tensors import FLOATS, Checkpoint, Tensor

SHOWN = 5  # problems of a kind in a message; a base-size model has 200 tensors

# A function that brings a checkpoint's table to another length, given its values and the shape of the variable.
Refit = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Fill:
    """One variable and the tensors that fill it; `refit`, if given, brings the tensor to the variable's length."""

    path: str
    rule: Rule
    tensors: tuple[Tensor, ...]
    refit: Refit | None = None


@dataclass
class Plan:
    """The plan of a load.

    Attributes:
        fills: the variables that the checkpoint fills.
        initialised: paths of the variables of heads that the checkpoint lacks, and of those whose shapes do not fit.
        left_out: names of tensors that belong to a head that the model does not have.
        dropped: names of tensors that no model needs: old buffers, and the authors' weights that transformers lacks.
        repeated: names of tensors that repeat another: tied weights, biases stored twice.
        overruled: a phrase for each tensor that is stored twice with different values, which names the copy that
            transformers does not read.
        mismatched: a sentence for each of `initialised` whose shape does not fit.
        refitted: a phrase for each table that is brought to another length.
    """

    fills: list[Fill] = field(default_factory=list)
    initialised: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    overruled: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    refitted: list[str] = field(default_factory=list)


def make_plan(
    checkpoint: Checkpoint,
    shapes: Mapping[str, tuple[int, ...]],
    rules: Sequence[Rule],
    prefix: str,
    model_name: str,
    ignore_mismatched_sizes: bool = False,
    others: Iterable[Rule] = (),
    refits: Mapping[str, Refit] | None = None,
) -> Plan:
    """Plans how `checkpoint` fills the variables of a model.

    Args:
        checkpoint: the tensors by name.
        shapes: the shape of every variable of the model by its path, without the model's own name.
        rules: the table of the model's class.
        prefix: the name under which a model with a head holds the base model, such as `vilt`.
        model_name: the model's name in messages.
        ignore_mismatched_sizes: initialise a variable anew if its shape differs from the checkpoint's.
        others: rows of other classes of the family, whose heads the checkpoint may hold too.
        refits: maps the path of a variable, without `prefix`, to the function that brings a table to its length.

    Raises:
        CheckpointError: one message with every unknown tensor, variable that nothing fills, row of the table that is
            out of date, double match, and difference in shape.
    """
    account = _Account(checkpoint, shapes, Table(rules), prefix, ignore_mismatched_sizes, Table(others), refits or {})
    if account.sources and not any(account.table.by_source(name) for name in account.sources):
        examples = ", ".join(list(checkpoint)[:3])
        raise CheckpointError(f"{checkpoint.path}: no weight in it is one of {model_name}'s (it has {examples}, ...).")
    account.fill_variables()
    account.explain_the_rest()
    account.find_stale_rules()
    if account.problems:
        lines = "\n  ".join(_first_of_each_kind(account.problems))
        raise CheckpointError(f"{checkpoint.path} does not fit {model_name}:\n  {lines}", account.problems)
    return account.plan


def _first_of_each_kind(problems: Iterable[str]) -> list[str]:
    """Returns the first problems of each kind ("missing: …"), and the number of the others."""
    kinds: dict[str, list[str]] = {}
    for problem in sorted(problems):
        kinds.setdefault(problem.partition(":")[0], []).append(problem)
    lines = []
    for kind, found in kinds.items():
        lines += found[:SHOWN]
        if len(found) > SHOWN:
            lines.append(f"{kind}: {len(found) - SHOWN} more")
    return lines


def decoder_is_untied(checkpoint: Checkpoint, rules: Sequence[Rule], prefix: str) -> bool:
    """Returns whether the checkpoint stores a tied weight whose values differ from the weight that it is tied to."""
    sources = _canonical(checkpoint, prefix, [], [])
    ties = ((sources.get(rule.sources[0]), sources.get(rule.same_as)) for rule in rules if rule.same_as and rule.target)
    return any(own and tied and not own.equals(tied) for own, tied in ties)


def _canonical(checkpoint: Checkpoint, prefix: str, dropped: list[str], problems: list[str]) -> dict[str, Tensor]:
    """Returns the tensors by the names that the table uses; adds those that no model reads to `dropped`."""
    tensors = as_state_dict(checkpoint)
    modern = [(name, tensors[old]) for old, name in unwrapped(list(tensors)).items()]
    problems += _doubles(modern)
    renamed, unread = hub_names(dict(modern))
    dropped += unread
    short = [(name.removeprefix(f"{prefix}."), tensor) for name, tensor in renamed]
    problems += _doubles(short)
    return dict(short)


def _doubles(tensors: Sequence[tuple[str, Tensor]]) -> list[str]:
    """Returns a sentence for each tensor that has the same name as an earlier one."""
    first: dict[str, Tensor] = {}
    return [
        f"double: {first[name].name} and {tensor.name} are both {name}"
        for name, tensor in tensors
        if first.setdefault(name, tensor) is not tensor
    ]


class _Account:
    """Matches tensors and variables in three steps, and keeps account of both."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        shapes: Mapping,
        table: Table,
        prefix: str,
        ignore_mismatched_sizes: bool,
        others: Table,
        refits: Mapping[str, Refit],
    ) -> None:
        self.plan, self.problems, self.table, self.others = Plan(), [], table, others
        self.sources = _canonical(checkpoint, prefix, self.plan.dropped, self.problems)
        self.shapes = shapes
        self.ignore_mismatched_sizes, self.prefix, self.refits = ignore_mismatched_sizes, prefix, refits
        self.used: dict[str, str] = {}  # source: the variable it fills
        self.matched: set[Rule] = set()  # the rows whose variable the model has
        self.stand_ins = self._stand_ins()
        self.wanted: dict[str, list[tuple[Rule, dict]]] = {
            path: table.by_target(path.removeprefix(f"{prefix}/")) for path in shapes
        }
        self.matched.update(rule for rows in self.wanted.values() for rule, _ in rows)
        self.heads = {rule.head for rule in self.matched}

    def _stand_ins(self) -> dict[str, str]:
        """Returns the copies that are read in place of another source, which is missing or has lower precedence."""
        copies = [rule for rule in self.table.rules if rule.same_as and rule.sources[0] in self.sources]
        return {rule.same_as: rule.sources[0] for rule in copies if rule.wins or rule.same_as not in self.sources}

    def fill_variables(self) -> None:
        """Finds the tensors for each variable, head by head, since a checkpoint may lack a whole head."""
        heads: dict[str | None, dict[str, list[tuple[Rule, dict]]]] = {}
        for path, rows in self.wanted.items():
            own = [rule for rule, _ in rows if not rule.fallback]
            if not own:
                self.problems.append(f"stale table: no row fills the variable {path}")
            elif len(own) > 1:
                self.problems.append(f"double: {len(own)} rows of the table fill the variable {path}")
            else:
                heads.setdefault(own[0].head, {})[path] = rows
        for head, paths in heads.items():
            self._fill_head(head, paths)

    def _fill_head(self, head: str | None, paths: dict[str, list[tuple[Rule, dict]]]) -> None:
        for fallback in (False, True):
            chosen = {
                path: next(((rule, numbers) for rule, numbers in rows if rule.fallback is fallback), None)
                for path, rows in paths.items()
            }
            names = {path: self._source_names(*row) for path, row in chosen.items() if row}
            if head is None or any(self._find(name) for listed in names.values() for name in listed):
                for path, listed in names.items():
                    self._fill(path, chosen[path][0], listed)
                return
        self.plan.initialised += paths

    @staticmethod
    def _source_names(rule: Rule, numbers: dict[str, str]) -> list[str]:
        return [source.format(**numbers) for source in rule.sources]

    def _find(self, name: str) -> Tensor | None:
        return self.sources.get(self.stand_ins.get(name, name))

    def _fill(self, path: str, rule: Rule, names: list[str]) -> None:
        missing = [name for name in names if not self._find(name)]
        for name in missing:
            self.problems.append(f"missing: {name}, for the variable {path} {self.shapes[path]}")
        if missing:
            return
        tensors = tuple(self._find(name) for name in names)
        for name in names:
            name = self.stand_ins.get(name, name)
            if name in self.used:
                self.problems.append(f"double: {name} fills both {self.used[name]} and {path}")
            self.used[name] = path
        refit = self._refit(path, tensors)
        if refit or self._fits(path, rule, tensors):
            self.plan.fills.append(Fill(path, rule, tensors, refit))

    def _refit(self, path: str, tensors: tuple[Tensor, ...]) -> Refit | None:
        """Returns the function that brings a table to the variable's length, if only the length differs."""
        refit, shape = self.refits.get(path.removeprefix(f"{self.prefix}/")), self.shapes[path]
        (first, *_) = tensors
        if refit is None or first.shape == shape or len(first.shape) != len(shape) or first.shape[-1] != shape[-1]:
            return None
        self.plan.refitted.append(f"{path} from {first.shape} to {shape}")
        return refit

    def _fits(self, path: str, rule: Rule, tensors: tuple[Tensor, ...]) -> bool:
        expected = rule.transform.source_shape(self.shapes[path], len(tensors))
        wrong = [
            f"shape: {tensor.name} is {tensor.shape} in {tensor.path.name}, the variable {path} needs {expected}"
            for tensor in tensors
            if tensor.shape != expected
        ]
        if wrong and self.ignore_mismatched_sizes:
            self.plan.mismatched += wrong
            self.plan.initialised.append(path)
            return False
        wrong += [
            f"element type: {tensor.name} holds {tensor.dtype}; weights must be {', '.join(FLOATS)}"
            for tensor in tensors
            if tensor.dtype not in FLOATS
        ]
        self.problems += wrong
        return not wrong

    def explain_the_rest(self) -> None:
        """Notes why each tensor that fills no variable is not needed, or that it is unknown."""
        for name in sorted(self.sources.keys() - self.used.keys()):
            rows = [rule for rule, _ in self.table.by_source(name)]
            foreign = not rows and self.others.by_source(name)  # belongs to the head of another class
            original = self.sources[name].name
            read = self._read_instead(name, rows)
            if read:
                self._copy(
                    self.sources[name], self.sources[read], tied=any(rule.same_as and rule.target for rule in rows)
                )
            elif any(rule.target is None and not rule.same_as for rule in rows):
                self.plan.dropped.append(original)
            elif foreign or any(rule.head and rule.head not in self.heads for rule in rows):
                self.plan.left_out.append(original)
            elif rows:
                self.problems.append(f"unknown: the model has no variable for {original} {self.sources[name].shape}")
            else:
                self.problems.append(f"unknown: no row of the table names {original} {self.sources[name].shape}")

    def _read_instead(self, name: str, rows: list[Rule]) -> str | None:
        """Returns the source that is read instead of this one, since one of them is a copy of the other."""
        active = [rule for rule in rows if rule.head in self.heads]
        if active and name in self.stand_ins:
            return self.stand_ins[name]
        return next((rule.same_as for rule in active if rule.same_as in self.sources), None)

    def _copy(self, copy: Tensor, read: Tensor, tied: bool) -> None:
        """Notes whether `copy`, which is not read, equals `read`, as it should."""
        if copy.equals(read):
            self.plan.repeated.append(copy.name)
        elif tied:
            self.problems.append(
                f"contradiction: {copy.name} differs from {read.name}, of which it should be a copy; the decoder is "
                "untied, so build the model with tie_word_embeddings=False"
            )
        else:
            self.plan.overruled.append(f"{copy.name} differs from {read.name}, which is read here as in transformers")

    def find_stale_rules(self) -> None:
        """Notes rows, of the body and of heads that the model has, whose variable it does not have.

        Rows of a stack of blocks do not count if the model has no block of it: a stack may be empty.
        """
        stacks = {stack for rule in self.matched if (stack := _stack(rule))}
        for rule in self.table.rules:
            active = (rule.head is None or rule.head in self.heads) and _stack(rule) in {None, *stacks}
            if rule.target and active and not rule.optional and rule not in self.matched:
                self.problems.append(f"stale table: the model has no {rule.target}, which {rule.sources[0]} would fill")


def _stack(rule: Rule) -> str | None:
    """Returns the stack of blocks, such as `encoder/layer_`, of which the rule fills a variable; None if of none."""
    return rule.target.partition("{i}")[0] if rule.target and "{i}" in rule.target else None


def warning_of(plan: Plan, path: Path, model_name: str) -> str:
    """Returns a warning that names what the checkpoint lacks and which of its tensors are left out, or ""."""
    parts = []
    if plan.initialised:
        why = f" ({listed(plan.mismatched, '; ')})" if plan.mismatched else ""
        parts.append(
            f"has no weights for {listed(sorted(plan.initialised))} of {model_name}{why}: these are newly "
            "initialised, so fine-tune the model before use"
        )
    borrowed = [fill for fill in plan.fills if fill.rule.fallback]
    if borrowed:
        lenders = listed([tensor.name for fill in borrowed for tensor in fill.tensors])
        parts.append(
            f"lends {listed([fill.path for fill in borrowed])} of {model_name} the values of {lenders}: a start "
            "for fine-tuning"
        )
    if plan.refitted:
        parts.append(f"has tables of another length, which were resized: {'; '.join(plan.refitted)}")
    if plan.overruled:
        parts.append(f"stores the same tensor twice with different values: {listed(plan.overruled, '; ')}")
    if plan.left_out:
        parts.append(f"has weights of a head that {model_name} has not, left out: {listed(plan.left_out)}")
    return f"{path} {'; it '.join(parts)}." if parts else ""

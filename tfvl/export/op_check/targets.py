"""The releases of TF Serving that an artefact is checked against; tools/golden/serving_tables.py makes their tables."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf.message import Message
from tensorflow.core.framework import types_pb2

TARGETS = ("2.19", "2.20", "2.21")
NEWEST = TARGETS[-1]

# Core ops that call the Python process that made them; only TensorFlow for Python has their kernels.
PYTHON_OPS = frozenset(("EagerPyFunc", "PyFunc", "PyFuncStateless"))
# The field of an AttrValue that holds a value of each attribute type; lists of all types are in one field.
_FIELDS = {"string": "s", "int": "i", "float": "f", "bool": "b", "type": "type", "shape": "shape", "tensor": "tensor"}


@dataclass(frozen=True)
class Target:
    """The ops that a release of TF Serving links.

    Attributes:
        release: name of the release, e.g. "2.20".
        tensorflow: the TensorFlow whose core ops it links.
        tensorflow_text: the tensorflow-text whose ops it links.
        graph_def: the version of the graphs that it writes itself ("producer"), the oldest that it reads
            ("min_producer").
        ops: for each op and each of its attributes, `[type, 1 if there is a default, allowed values if limited]`.
    """

    release: str
    tensorflow: str
    tensorflow_text: str
    graph_def: dict[str, int]
    ops: dict[str, dict[str, list]]


@cache
def target(release: str) -> Target:
    """Returns the table of a release. Raises ValueError for a release without one."""
    if release not in TARGETS:
        raise ValueError(f"there is no table for TF Serving {release!r}; the targets are {', '.join(TARGETS)}")
    with gzip.open(Path(__file__).with_name(f"{release}.json.gz"), "rt", encoding="utf-8") as file:
        return Target(release, **json.load(file))


def problems(graph: Message, release: str) -> tuple[str, ...]:
    """Returns why that release would not load a GraphDef: a sentence for each op, attribute or version it lacks.

    All functions are read, even if nothing calls them, since the loader parses them all.
    """
    table, found = target(release), dict.fromkeys(_version_problems(graph.versions, target(release)))
    for node in nodes_of(graph):
        found |= dict.fromkeys(_node_problems(node, table))
    return tuple(sorted(found))


def nodes_of(graph: Message) -> Iterator[Message]:
    """Yields the nodes of a GraphDef and of its functions, without those that call these functions."""
    functions = {function.signature.name for function in graph.library.function}
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        yield from (node for node in nodes if node.op not in functions)


def _version_problems(versions: Message, table: Target) -> Iterator[str]:
    own, oldest = table.graph_def["producer"], table.graph_def["min_producer"]
    if versions.min_consumer > own:
        yield f"the graph needs a reader of version {versions.min_consumer}, but TensorFlow {table.tensorflow} is {own}"
    if versions.producer < oldest:
        yield f"the graph is of version {versions.producer}, but TensorFlow {table.tensorflow} reads {oldest} and later"
    if own in versions.bad_consumers:
        yield f"the graph refuses readers of version {own}, which TensorFlow {table.tensorflow} is"


def _node_problems(node: Message, table: Target) -> Iterator[str]:
    if node.op in PYTHON_OPS:
        yield f"op {node.op}: runs Python code, which a server does not have"
    elif node.op not in table.ops:
        yield (
            f"op {node.op}: neither in TensorFlow {table.tensorflow} nor in tensorflow-text {table.tensorflow_text}, "
            f"which TF Serving {table.release} links"
        )
    else:
        known = table.ops[node.op]
        for name, value in node.attr.items():
            if name.startswith("_"):  # an internal attribute of the runtime, which loaders ignore
                continue
            if name not in known:
                yield f"op {node.op}: TensorFlow {table.tensorflow} does not know its attribute {name}"
            elif problem := _value_problem(value, *known[name]):
                yield f"op {node.op}: its attribute {name} {problem} in TensorFlow {table.tensorflow}"
        for name, (_, has_default, *_) in known.items():
            if not has_default and name not in node.attr:
                yield f"op {node.op}: TensorFlow {table.tensorflow} needs its attribute {name}"


def _value_problem(value: Message, kind: str, _: int, allowed: list | None = None) -> str:
    """Returns why an attribute cannot have a value, or ""; an attribute of the function around it may stand for it."""
    field = value.WhichOneof("value")
    if field == "placeholder":
        return ""
    expected = "list" if kind.startswith("list(") else _FIELDS.get(kind, kind)  # "func" is a field of its own
    if field != expected:
        return f"is not of the type {kind}"
    if allowed is None:
        return ""
    inner = kind.removeprefix("list(").removesuffix(")")
    values = getattr(value.list, _FIELDS[inner]) if expected == "list" else [getattr(value, field)]
    values = [item.decode() if isinstance(item, bytes) else item for item in values]
    wrong = [_shown(item) for item in values if item not in allowed]
    return f"cannot be {wrong[0]}" if wrong else ""


def _shown(value: str | int) -> str:
    return repr(value) if isinstance(value, str) else types_pb2.DataType.Name(value)

"""Finds ops by which a graph reaches beyond its inputs and outputs: files, other processes, Python.

A SavedModel is a program. The ops in this table may affect the machine that runs it; all other ops only compute.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from google.protobuf.message import Message

# What a graph can reach, and the names of the ops that reach it.
REACHES = {
    "files": (
        r"ReadFile|WriteFile|MatchingFiles|ImmutableConst|RecordInput|LoadAndRemapMatrix|GenerateVocabRemapping",
        r"(Save|Restore)(V2|Slice|Slices)?|DTensorRestoreV2|MergeV2Checkpoints|CalibrationStatisticsSaver",
        r"InitializeTableFromTextFile(V2)?|DecodeProtoV2|EncodeProto|FileSystemSetConfiguration|DistributedSave",
        r"(WholeFile|TextLine|FixedLengthRecord|TFRecord|LMDB)Reader(V2)?|ImportEvent",
        r"(Create|Write|Flush|Close)\w*Summary\w*|Debug(Identity\w*|NanCount|NumericSummary)",
        r"(Experimental)?(TextLine|FixedLengthRecord|TFRecord|LMDB|Sql|CSV|MatchingFiles)Dataset(V2)?",
        r"(Cache|Snapshot|SnapshotChunk|Save|Load)Dataset(V2)?|Snapshot(Nested)?DatasetReader|ListSnapshotChunksDataset",
        r"(Experimental)?DatasetToTFRecord",
    ),
    "other processes": (
        r"_?(Host)?(Send|Recv)|Rpc\w*|DeleteRpcFutureResource|Remote\w*|DataServiceDataset(V\d)?|RegisterDataset(V2)?",
        r"Collective\w*|_?Nccl\w*|\w*DistributedTPU|TPU(PartitionedCall|Execute\w*)|XlaHostCompute|_?Xla(Send|Recv)\w*",
    ),
    "Python": (r"EagerPyFunc|PyFunc(Stateless)?",),
    "the end of its process": (r"Abort",),
}
_PATTERNS = {kind: re.compile("|".join(names)) for kind, names in REACHES.items()}
_TO_A_FILE = {"PrintV2": ("output_stream", b"file://")}  # ops that write files if an attribute begins so
# The ops that save variables and read them back, in the functions that TensorFlow makes for it.
_SAVING, _RESTORING = {"SaveV2", "MergeV2Checkpoints"}, {"RestoreV2"}


def reached(meta_graph: Message) -> dict[str, tuple[str, ...]]:
    """Returns what a MetaGraphDef can reach, each with the names of the ops by which it does.

    The ops that save its variables and read them back are left out if they are in the functions that it names for
    saving and restoring, and nothing else calls these.
    """
    graph, saver = meta_graph.graph_def, meta_graph.saver_def
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    named = {saver.save_tensor_name.partition(":")[0]: _SAVING, saver.restore_op_name: _RESTORING}
    savers = [(node, named[node.name]) for node in graph.node if node.name in named]
    called = {name: allowed for node, allowed in savers for name in _called([node], functions)}
    others = [node for node in graph.node if node.name not in named]
    others += [node for name, nodes in functions.items() if name not in called for node in nodes]
    for name in _called(others, functions) | _of_objects(meta_graph):
        called.pop(name, None)
    everywhere = [(node, set()) for name, nodes in functions.items() if name not in called for node in nodes]
    everywhere += [(node, set()) for node in graph.node]
    everywhere += [(node, allowed) for name, allowed in called.items() for node in functions[name]]
    found: dict[str, set[str]] = {}
    for node, allowed in everywhere:
        if node.op not in functions and node.op not in allowed and (kind := _kind(node)):
            found.setdefault(kind, set()).add(node.op)
    return {kind: tuple(sorted(found[kind])) for kind in REACHES if kind in found}


def sentence(found: Mapping[str, Iterable[str]]) -> str:
    """Puts the result of `reached` into words: "files (ReadFile, WriteFile) and Python (PyFunc)"; "" for nothing."""
    return " and ".join(f"{kind} ({', '.join(ops)})" for kind, ops in found.items())


def _kind(node: Message) -> str:
    """Returns what an op reaches; "" if it only computes."""
    if node.op in _TO_A_FILE:
        name, start = _TO_A_FILE[node.op]
        return "files" if node.attr[name].placeholder or node.attr[name].s.startswith(start) else ""
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(node.op)), "")


def _called(nodes: Iterable[Message], functions: Mapping[str, Iterable[Message]]) -> set[str]:
    """Returns the functions that nodes call, directly or through other functions."""
    found: set[str] = set()
    left = list(nodes)
    while left:
        node = left.pop()
        for name in {node.op, *_in_attributes(node.attr)} & functions.keys() - found:
            found.add(name)
            left += functions[name]
    return found


def _in_attributes(attributes: Mapping[str, Message]) -> Iterator[str]:
    """Yields the names of functions in attributes."""
    for value in attributes.values():
        for function in [value.func] if value.HasField("func") else value.list.func:
            yield function.name
            yield from _in_attributes(function.attr)


def _of_objects(meta_graph: Message) -> set[str]:
    """Returns the functions that belong to saved objects, which Python's loader can call."""
    names: set[str] = set()
    for node in meta_graph.object_graph_def.nodes:
        names |= {node.bare_concrete_function.concrete_function_name, *node.function.concrete_functions}
    return names


def assets(directory: Path, meta_graph: Message) -> list[str]:
    """Returns a sentence for each asset whose name leads out of the artefact's directory of assets."""
    names = sorted({asset.filename for asset in meta_graph.asset_file_def})
    led_out = [name for name in names if os.path.isabs(name) or ".." in Path(name).parts]
    return [f"the asset {name!r} leads out of {directory / 'assets'}" for name in led_out]

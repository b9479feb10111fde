"""What is in a SavedModel, and what in it would keep TF Serving from loading or running it: `check(directory)`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf import saved_model_pb2

# Ops of tensorflow-text that both 2.12.1 (in TF Serving's images up to 2.19.1) and 2.20.0 (in 2.20.0) register. Later
# additions, e.g. TFText>RoundRobinTrim and TFText>Utf8Binarize, are left out on purpose.
TEXT_OPS = frozenset(
    (
        *("CaseFoldUTF8", "ConstrainedSequence", "FastBertNormalize", "FastWordpieceTokenizeWithOffsets"),
        *("FindSourceOffsets", "MaxSpanningTree", "NormalizeUTF8", "NormalizeUTF8WithOffsetsMap", "PhraseTokenize"),
        *("RegexSplitWithOffsets", "RougeL", "SentenceFragments", "SentenceFragmentsV2", "SentencepieceDetokenizeOp"),
        *("SentencepieceIdToStringOp", "SentencepieceOp", "SentencepieceStringToIdOp", "SentencepieceTokenizeOp"),
        *("SentencepieceTokenizeWithOffsetsOp", "SentencepieceVocabSizeOp", "SplitMergeTokenizeWithOffsets"),
        *("TFText>BoiseTagsToOffsets", "TFText>ByteSplitByOffsets", "TFText>ByteSplitWithOffsets"),
        *("TFText>FastSentencepieceDetokenize", "TFText>FastSentencepieceTokenize", "TFText>FastWordpieceDetokenize"),
        *("TFText>NgramsStringJoin", "TFText>OffsetsToBoiseTags", "TFText>PhraseDetokenize", "TokenizerFromLogits"),
        *(
            "TFText>WhitespaceTokenizeWithOffsetsV2",
            "UnicodeScriptTokenizeWithOffsets",
            "WhitespaceTokenizeWithOffsets",
        ),
        "WordpieceTokenizeWithOffsets",
    )
)
# Core ops that call back into the Python process that made them.
PYTHON_OPS = frozenset(("EagerPyFunc", "PyFunc", "PyFuncStateless"))
# A file of the machine that exported: below a usual top directory (names of ops have slashes too), or on a drive.
LOCAL_PATH = re.compile(
    r"(?<![\w.:/>-])/(?:home|root|Users|tmp|var|usr|opt|mnt|srv|private|work|workspace|content)/[\w./@+-]+"
    r"|\b[A-Za-z]:\\[\w.\\-]+"
)


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes:
        directory: the SavedModel.
        signatures: name to `{"inputs": {name: "dtype (shape)"}, "outputs": ...}`.
        ops: every op in the graph and its functions, with how often it occurs.
        problems: one sentence for each thing that would keep TF Serving from loading or running it; empty if none.
        graph_bytes: size of saved_model.pb.
        variable_bytes: size of the variables.
    """

    directory: Path
    signatures: dict[str, dict[str, dict[str, str]]]
    ops: dict[str, int]
    problems: tuple[str, ...]
    graph_bytes: int
    variable_bytes: int


def check(directory: str | Path) -> Report:
    """Reads a SavedModel without running it and reports what is in it.

    Raises:
        ValueError: the directory holds no SavedModel that can be read.
    """
    directory = Path(directory)
    file = directory / "saved_model.pb"
    try:
        serialized = file.read_bytes()
        meta_graph = saved_model_pb2.SavedModel.FromString(serialized).meta_graphs[0]
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{file} is missing; give the directory of a SavedModel, e.g. models/vilt_vqa/1") from None
    except (DecodeError, IndexError):
        raise ValueError(f"{file} is not a SavedModel, or is cut short; export it again") from None
    ops = _count_ops(meta_graph)
    paths = {path for text in _strings(meta_graph) for path in LOCAL_PATH.findall(text)}
    return Report(
        directory=directory,
        signatures={
            name: {"inputs": _tensors(signature.inputs), "outputs": _tensors(signature.outputs)}
            for name, signature in sorted(meta_graph.signature_def.items())
            if not name.startswith("__")
        },
        ops=ops,
        problems=(
            *(f"op {op}: {problem}" for op in ops if (problem := _problem(op))),
            *(f"path of the machine that exported it: {path}" for path in sorted(paths)),
        ),
        graph_bytes=len(serialized),
        variable_bytes=sum(part.stat().st_size for part in (directory / "variables").glob("*")),
    )


def _problem(op: str) -> str:
    """Why TF Serving could not run an op, or ""."""
    if op in PYTHON_OPS:
        return "runs Python code, which a server does not have"
    if op in TEXT_OPS or hasattr(tf.raw_ops, op):
        return ""
    return "neither a core op nor one of tensorflow-text 2.12.1, which TF Serving up to 2.19.1 links"


def _count_ops(meta_graph: Message) -> dict[str, int]:
    graph = meta_graph.graph_def
    functions = {function.signature.name for function in graph.library.function}
    counts: dict[str, int] = {}
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            if node.op not in functions:
                counts[node.op] = counts.get(node.op, 0) + 1
    return dict(sorted(counts.items()))


def _tensors(infos) -> dict[str, str]:
    return {name: f"{tf.as_dtype(info.dtype).name} {_shape(info.tensor_shape)}" for name, info in sorted(infos.items())}


def _shape(shape: Message) -> str:
    sizes = ["?" if dim.size < 0 else str(dim.size) for dim in shape.dim]
    return "of unknown shape" if shape.unknown_rank else f"({', '.join(sizes)})"


def _strings(message: Message) -> Iterator[str]:
    """Every string and bytes value anywhere inside a message."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING, field.TYPE_BYTES):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            values = [*value.keys(), *value.values()]
        else:
            values = value if field.is_repeated else [value]
        for item in values:
            if isinstance(item, Message):
                yield from _strings(item)
            elif isinstance(item, bytes | str):
                yield item if isinstance(item, str) else item.decode("utf-8", "ignore")

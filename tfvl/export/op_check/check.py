"""Checks whether TF Serving can load and run a SavedModel: `check(directory)`."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf import saved_model_pb2

from tfvl.export import warmup
from tfvl.export.op_check import outside, targets, variables
from tfvl.files.reading import read_file
from tfvl.serving.server import kernels

GRAPH = "saved_model.pb"
MAX_SENTENCE = 500  # characters of a problem
MAX_GRAPH_BYTES = (1 << 31) - 1  # the largest size of a protocol buffer

# A file of the machine that exported: below a usual top directory (names of ops have slashes too), or on a drive.
LOCAL_PATH = re.compile(
    r"(?<![\w.:/>-])/(?:home|root|Users|tmp|var|usr|opt|mnt|srv|private|work|workspace|content)/[\w./@+-]+"
    r"|\b[A-Za-z]:\\[\w.\\-]+"
)


@dataclass(frozen=True)
class OpReport:
    """The result of `check`.

    Attributes:
        directory: the SavedModel.
        target: the release of TF Serving that `problems` are about.
        signatures: `{"inputs": {name: "dtype (shape)"}, "outputs": ...}` of each signature, by name.
        ops: every op in the graph and its functions, with the number of its occurrences.
        problems: one sentence for each thing that would keep the target from loading or running it; empty if none.
            The variables have been compared with their checksums. Also ops that the TensorFlow of this process lacks,
            of those that not every build has.
        reaches: what the graph reaches beyond its inputs and outputs ("files", "other processes", "Python") and the
            ops by which it does; empty for what tfvl exports.
        releases: the same for every release that there is a table of, e.g. `{"2.19": (), "2.20": (), …}`: problems
            with ops, attributes and the graph's version only.
        warmup: the inputs of each warm-up request, name to "dtype (shape)".
        assets: file below `assets` to its bytes.
        eight_bits: the layers whose products are in 8 bits; empty if there are none.
        floats: the layers whose products are in floats, if others are in 8 bits.
        graph_bytes: size of saved_model.pb.
        variable_bytes: size of the variables.
    """

    directory: Path
    target: str
    signatures: dict[str, dict[str, dict[str, str]]]
    ops: dict[str, int]
    problems: tuple[str, ...]
    reaches: dict[str, tuple[str, ...]]
    releases: dict[str, tuple[str, ...]]
    warmup: tuple[dict[str, str], ...]
    assets: dict[str, int]
    eight_bits: tuple[str, ...]
    floats: tuple[str, ...]
    graph_bytes: int
    variable_bytes: int

    @property
    def served_by(self) -> tuple[str, ...]:
        """The releases of TF Serving that know every op and attribute of the SavedModel."""
        return tuple(release for release, problems in self.releases.items() if not problems)


def check(directory: str | Path, target: str = targets.NEWEST) -> OpReport:
    """Reads a SavedModel without running it, reports what is in it and compares it with what TF Serving links.

    Args:
        directory: the SavedModel's directory, e.g. models/vilt_vqa/1.
        target: the release of TF Serving that it is for: "2.19", "2.20" or "2.21".

    Raises:
        ValueError: the directory holds no SavedModel that can be read, or there is no table for the target.
    """
    targets.target(target)
    directory = Path(directory)
    meta_graph = read_meta_graph(directory)
    try:
        return _report(directory, meta_graph, target)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"{directory / GRAPH} is damaged ({str(error)[:200]}); export it again") from None


def read_meta_graph(directory: Path) -> Message:
    """Reads the MetaGraphDef of a SavedModel.

    Raises:
        ValueError: it is missing or cannot be read; names the file.
    """
    file = directory / GRAPH
    try:
        return saved_model_pb2.SavedModel.FromString(read_file(file, MAX_GRAPH_BYTES)).meta_graphs[0]
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{file} is missing; give the directory of a SavedModel, e.g. models/vilt_vqa/1") from None
    except (DecodeError, IndexError):
        raise ValueError(f"{file} is not a SavedModel, or is cut short; export it again") from None
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror})") from None


def _report(directory: Path, meta_graph: Message, target: str) -> OpReport:
    signatures = {
        name: {"inputs": _tensors(signature.inputs), "outputs": _tensors(signature.outputs)}
        for name, signature in sorted(meta_graph.signature_def.items())
        if not name.startswith("__")
    }
    releases = {release: _one_line_each(targets.problems(meta_graph.graph_def, release)) for release in targets.TARGETS}
    eight_bits = _layers(meta_graph.graph_def, "_QuantizedMatMul")
    paths = {path for text in _strings(meta_graph) for path in LOCAL_PATH.findall(text)}
    requests, warmup_problems = _warmup(directory, meta_graph.signature_def)
    return OpReport(
        directory=directory,
        target=target,
        signatures=signatures,
        ops=dict(sorted(Counter(node.op for node in targets.nodes_of(meta_graph.graph_def)).items())),
        problems=_one_line_each(
            (
                *releases[target],
                *kernels.problems(meta_graph.graph_def),
                *(f"path of the machine that exported it: {path}" for path in sorted(paths)),
                *warmup_problems,
                *variables.problems(directory, meta_graph),
                *_asset_problems(directory, meta_graph),
            )
        ),
        reaches=outside.reached(meta_graph),
        releases=releases,
        warmup=requests,
        assets=_sizes(directory / "assets"),
        eight_bits=eight_bits,
        floats=_layers(meta_graph.graph_def, "MatMul") if eight_bits else (),
        graph_bytes=(directory / GRAPH).stat().st_size,
        variable_bytes=sum(_sizes(directory / "variables").values()),
    )


def _one_line_each(sentences: Iterable[str]) -> tuple[str, ...]:
    """Escapes what is not printable, and cuts what is long, in sentences with names from a file that may be damaged."""

    def plain(each: str) -> str:
        return each if each.isprintable() else each.encode("unicode_escape").decode()

    return tuple("".join(map(plain, sentence[:MAX_SENTENCE])) for sentence in sentences)


def _layers(graph: Message, op: str) -> tuple[str, ...]:
    """Returns the paths of the layers that have such an op, from its nodes' names, without the `_1` of the trace."""
    names = dict.fromkeys(node.name.rpartition("/")[0] for node in targets.nodes_of(graph) if node.op == op)
    return tuple(dict.fromkeys(re.sub(r"_1(?=/|$)", "", name) for name in names))


def _warmup(directory: Path, signatures) -> tuple[tuple[dict[str, str], ...], list[str]]:
    """Reads the warm-up requests; returns their inputs, and why TF Serving would fail to run them and so to load."""
    requests, problems = [], []
    try:
        for name, inputs in warmup.read(directory):
            if name not in signatures:
                problems.append(f"warm-up request {len(requests)}: there is no signature {name!r}")
            elif differing := set(inputs) ^ set(signatures[name].inputs):
                problems.append(
                    f"warm-up request {len(requests)}: signature {name} and the request differ in the inputs "
                    f"{', '.join(sorted(differing))}"
                )
            requests.append(
                {
                    key: f"{tf.as_dtype(proto.dtype).name} {_shape(proto.tensor_shape)}"
                    for key, proto in sorted(inputs.items())
                }
            )
    except (OSError, DecodeError, ValueError):
        problems.append(f"{directory / warmup.FILE} is not a file of warm-up requests, or is cut short")
    return tuple(requests), problems


def _asset_problems(directory: Path, meta_graph: Message) -> list[str]:
    if led_out := outside.assets(directory, meta_graph):
        return led_out
    paths = [directory / "assets" / asset.filename for asset in meta_graph.asset_file_def]
    return [f"{path} is missing" for path in paths if not path.is_file()]


def _sizes(directory: Path) -> dict[str, int]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.stat().st_size for path in files}


def _tensors(infos) -> dict[str, str]:
    return {name: f"{tf.as_dtype(info.dtype).name} {_shape(info.tensor_shape)}" for name, info in sorted(infos.items())}


def _shape(shape: Message) -> str:
    sizes = ["?" if dim.size < 0 else str(dim.size) for dim in shape.dim]
    return "of unknown shape" if shape.unknown_rank else f"({', '.join(sizes)})"


def _strings(message: Message) -> Iterator[str]:
    """Yields every string and bytes value anywhere inside a message."""
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

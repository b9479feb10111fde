"""The ops of a SavedModel that the TensorFlow of this process cannot run."""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError, Message
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import kernels, op_def_registry

OF_ONEDNN = "_Quantized"  # the beginning of the names of ops that only oneDNN has kernels for


def has_kernel(op: str) -> bool:
    """Returns whether the TensorFlow of this process knows the op and has a kernel for CPUs of it."""
    return op_def_registry.get(op) is not None and any(
        kernel.device_type == "CPU" for kernel in kernels.get_registered_kernels_for_op(op).kernel
    )


def problems(graph: Message) -> Iterator[str]:
    """Yields a sentence for each op of a GraphDef that only oneDNN runs, if this TensorFlow lacks its kernel."""
    functions = (function.node_def for function in graph.library.function)
    ops = {node.op for nodes in (graph.node, *functions) for node in nodes if node.op.startswith(OF_ONEDNN)}
    for op in sorted(ops):
        if not has_kernel(op):
            yield f"op {op}: this TensorFlow has no kernel for it; it needs one that is built with oneDNN, on x86-64"


def problems_in(directory: Path) -> list[str]:
    """Returns the `problems` of the SavedModel in a directory; none if it cannot be read."""
    try:
        read = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    except (OSError, DecodeError):
        return []
    return [problem for meta_graph in read.meta_graphs for problem in problems(meta_graph.graph_def)]

"""The ops of a graph that the TensorFlow of this process cannot run."""

from collections.abc import Iterator

from google.protobuf.message import Message
from tensorflow.python.framework import kernels, op_def_registry

from tfvl.export.op_check.targets import nodes_of

OF_ONEDNN = "_Quantized"  # how the names of ops begin whose only kernels are oneDNN's


def has_kernel(op: str) -> bool:
    """Whether the TensorFlow of this process knows the op, and has a kernel of it for processors."""
    return op_def_registry.get(op) is not None and any(
        kernel.device_type == "CPU" for kernel in kernels.get_registered_kernels_for_op(op).kernel
    )


def problems(graph: Message) -> Iterator[str]:
    """A sentence for each op of a GraphDef, of those that not every build of TensorFlow runs, that this one lacks."""
    ops = {node.op for node in nodes_of(graph) if node.op.startswith(OF_ONEDNN)}
    for op in sorted(ops):
        if not has_kernel(op):
            yield f"op {op}: this TensorFlow has no kernel for it; it needs one that is built with oneDNN, on x86-64"

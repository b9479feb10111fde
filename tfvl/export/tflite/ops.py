"""Checks that TFLite's builtin operators can run a graph, before a conversion that takes a minute."""

import warnings
from collections import Counter

import tensorflow as tf
from tensorflow.lite.python import schema_py_generated

from tfvl.export.op_check.targets import nodes_of
from tfvl.lite.file import CUSTOM_OPERATORS

MAX_WEIGHT_BYTES = 1_900_000_000  # protocol buffers and flatbuffers end at 2 GiB

# TensorFlow's operations that become TFLite's builtin operators, or nothing (constants, wiring), as far as models of
# tfvl can have them; any other needs TensorFlow's own kernels (the Flex delegate), which phones lack.
BUILTIN = frozenset(
    """
    Const Identity NoOp Placeholder PartitionedCall StatefulPartitionedCall StopGradient PreventGradient IdentityN Shape
    ReadVariableOp
    Add AddV2 Sub Mul RealDiv Div FloorDiv FloorMod Neg Maximum Minimum Square SquaredDifference Rsqrt Sqrt Exp Log Abs
    Tanh Sigmoid Relu Relu6 Elu LeakyRelu Erf Erfc Softmax LogSoftmax Pow Sign Floor Ceil Round Sin Cos Fill Range Rank
    MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd Conv2D Einsum Cumsum
    Mean Sum Max Min Prod All Any ArgMax ArgMin TopKV2 Cast Size
    Reshape ExpandDims Squeeze Transpose ConcatV2 Pack Unpack Split SplitV StridedSlice Slice Pad PadV2 Tile BroadcastTo
    Gather GatherV2 GatherNd Select SelectV2 Where ZerosLike OnesLike
    Equal NotEqual Less LessEqual Greater GreaterEqual LogicalAnd LogicalOr LogicalNot
    """.split()
)
WHY = {
    "Selu": "TFLite has no SELU; choose another hidden_act, or serve the model as a SavedModel",
}


def check_graph(function: tf.types.experimental.ConcreteFunction, name: str, flavour: str = "tensors") -> None:
    """Raises ValueError if `name`'s graph holds an operation that a TFLite file of the flavour cannot hold."""
    counts = Counter(node.op for node in nodes_of(function.graph.as_graph_def()))
    for op in sorted(counts.keys() - BUILTIN - CUSTOM_OPERATORS[flavour]):
        reason = WHY.get(op, "it is none of TFLite's builtin operators, and needs TensorFlow's kernels")
        raise ValueError(f"{name} cannot be converted: {counts[op]} × {op} in its graph: {reason}")


def check_weights(model) -> None:
    """Raises ValueError if the weights do not fit into one file."""
    size = 4 * model.count_params()
    if size > MAX_WEIGHT_BYTES:
        raise ValueError(
            f"{type(model).__name__} has {size / 1e9:.1f} GB of weights; a .tflite file holds {MAX_WEIGHT_BYTES / 1e9}"
        )


def operators(content: bytes, flavour: str = "tensors") -> Counter:
    """Counts the operators of a model. Raises ValueError for one that is neither builtin nor of the flavour."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's warning that it will delete the class
        interpreter = tf.lite.Interpreter(
            model_content=content,
            experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    counts = Counter(each["op_name"] for each in interpreter._get_ops_details())
    for name in sorted(counts.keys() - vars(schema_py_generated.BuiltinOperator).keys() - CUSTOM_OPERATORS[flavour]):
        raise ValueError(f"the converted model holds {name}, which is no builtin operator of TFLite")
    return counts

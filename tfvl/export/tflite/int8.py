"""Full 8-bit matrix products: fixed ranges of activations from examples, and floats for the layers that need them.

Norms, softmax, GELU and the products of the attention stay in floats: their values span ranges that 256 levels cannot
hold (the masked scores alone would take all of them), and they are a small part of the time. Matrix products stay in
floats, too, if their output in 8 bits is far from that in floats, as TensorFlow's `QuantizationDebugger` measures it.
"""

import csv
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

FLOAT_OPERATORS = (
    "ABS ADD BATCH_MATMUL CAST CONCATENATION DIV EXPAND_DIMS GATHER GELU LOGISTIC MAXIMUM MEAN MINIMUM MUL PACK RELU "
    "RESHAPE RSQRT SELECT SELECT_V2 SLICE SOFTMAX SPLIT SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE UNPACK"
).split()
# Root mean square error in steps of the 8-bit scale; rounding gives 0.29, and the errors of earlier layers add to it.
MOST_STEPS = 1.0
DEBUG_EXAMPLES = 10


@dataclass(frozen=True)
class Layer:
    """A matrix product: the name of its output, its error in steps of the 8-bit scale, whether it stays in floats."""

    name: str
    steps: float
    in_float: bool


def convert(make_converter: Callable[[], tf.lite.TFLiteConverter], examples: Sequence[dict], signature: str):
    """Converts the graph; returns the flatbuffer, and its `Layer`s in the order of their error, the largest first."""

    names: list[str] = []  # the inputs, in the order of the debugger's model

    def debugger(nodes: Sequence[str]):
        converter = make_converter()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ((signature, example) for example in examples)
        return tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=lambda: ([example[name] for name in names] for example in examples[:DEBUG_EXAMPLES]),
            debug_options=tf.lite.experimental.QuantizationDebugOptions(
                denylisted_ops=FLOAT_OPERATORS, denylisted_nodes=list(nodes)
            ),
        )

    first = debugger(())
    names += input_order(first.get_nondebug_quantized_model(), signature)
    first.run()
    layers = sensitivity(first)
    in_float = [layer.name for layer in layers if layer.in_float]
    model = debugger(in_float) if in_float else first
    return model.get_nondebug_quantized_model(), layers


def sensitivity(debugger) -> list[Layer]:
    """Returns the error of each matrix product that a debugger measured when it ran."""
    text = io.StringIO()
    debugger.layer_statistics_dump(text)
    layers = []
    for row in csv.DictReader(io.StringIO(text.getvalue())):
        if row["op_name"] == "FULLY_CONNECTED":
            steps = float(np.sqrt(float(row["mean_squared_error"])) / float(row["scale"]))
            layers.append(Layer(row["tensor_name"], steps, steps > MOST_STEPS))
    return sorted(layers, key=lambda layer: -layer.steps)


def input_order(model: bytes, signature: str) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's warning that it will delete the class
        interpreter = tf.lite.Interpreter(model_content=model)
    places = {each["index"]: place for place, each in enumerate(interpreter.get_input_details())}
    details = interpreter.get_signature_runner(signature).get_input_details()
    return sorted(details, key=lambda name: places[details[name]["index"]])

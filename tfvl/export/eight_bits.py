"""Layers that multiply in 8 bits: the form of a SavedModel with `quantize="dynamic"`.

Every product is TensorFlow's own `_QuantizedMatMul`, whose kernel is oneDNN's: unsigned activations times signed
weights, summed exactly in 32 bits. (TensorFlow: core/kernels/mkl/mkl_matmul_op_fused.cc, `QuantizedFusedMatMulOp`.)
Weights have a scale for each output channel; activations one for each row, taken from that row alone, so that no row
of a batch changes another's answer.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_library

from tfvl.export.forms import in_form
from tfvl.layers.attention import Dense, shape_of
from tfvl.layers.embeddings import PatchEmbeddings, TextEmbeddings
from tfvl.layers.heads import MaskedLMHead
from tfvl.layers.transformer import PostNormBlock, PreNormBlock

PRODUCT = "_QuantizedMatMul"
# Processors without VNNI add products in pairs in 16 bits, where 2 · 255 · 64 is too much.
MAX_WEIGHT = 63
MAX_ACTIVATION = 255
_WEIGHT_STEPS = 127  # number of steps into which the op divides a channel's range, whatever the weights
# The level that stands for 0: in the middle, or low after an activation with hardly any values below 0 (GELU: -0.17).
MIDDLE = 128
LOW_ZEROS = {"relu": 0, "relu6": 0, "relu2": 0, "gelu": 28, "gelu_python": 28, "gelu_new": 28, "gelu_fast": 28}
# A layer stays in floats if rounding changes its kernel by more than this share of the kernel's norm; normally
# distributed weights change by less than 0.02.
LARGEST_ERROR = 0.05


def eight_bits(model) -> AbstractContextManager[list[tf.Variable]]:
    """A context in which functions traced from `model` multiply in 8 bits; yields the variables made for that.

    Args:
        model: a model of tfvl with weights in float32, which has its own form again afterwards.
    """
    return in_form(model, form_of, {})


def levels_of(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts a kernel (inputs, outputs) to int8 levels of -63 … 63 and a float32 scale (outputs,) for each column."""
    scales = np.maximum(np.abs(kernel).max(axis=0), np.finfo(np.float32).tiny) / np.float32(MAX_WEIGHT)
    return np.round(kernel / scales).astype(np.int8), scales.astype(np.float32)


def product_weights(kernel: np.ndarray, zero: int = MIDDLE) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the weights of `product` for a kernel (inputs, outputs), by name; none if rounding changes it too much."""
    levels, scales = levels_of(kernel)
    if np.linalg.norm(levels * scales - kernel) <= LARGEST_ERROR * np.linalg.norm(kernel):
        yield "levels", levels
        yield from product_scales(levels, scales, zero)


def product_scales(levels: np.ndarray, scales: np.ndarray, zero: int = MIDDLE) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what `product` needs beside the levels: the columns' ranges, and what the level of 0 adds to sums."""
    sums = levels.sum(axis=0, dtype=np.int64)
    yield "ranges", scales * np.float32(_WEIGHT_STEPS)
    yield "offsets", (-zero / (MAX_ACTIVATION - zero) * sums * scales).astype(np.float32)


def product(rows, levels, ranges, offsets, zero: int = MIDDLE, transposed: bool = False):
    """Multiplies rows in 8 bits.

    Args:
        rows: float32 (rows, inputs).
        levels: int8 (inputs, outputs), or (outputs, inputs) if `transposed`.
        ranges, offsets: float32 (outputs,), as `product_scales` gives them; read from variables, since the kernel
            identifies its scales by their place in memory.
        zero: the level of the number 0, in 0 … 254.

    Returns:
        float32 (rows, outputs).
    """
    highest = tf.reduce_max(rows, axis=1, keepdims=True)  # (rows, 1)
    if zero:
        below = np.float32((MAX_ACTIVATION - zero) / zero)
        highest = tf.maximum(highest, tf.reduce_min(rows, axis=1, keepdims=True) * -below)
    steps = MAX_ACTIVATION - zero
    scaled = rows * (1 / tf.maximum(highest, np.finfo(np.float32).tiny))  # -zero / steps … 1
    activations, *_ = tf.raw_ops.QuantizeV2(input=scaled, min_range=-zero / steps, max_range=1.0, T=tf.quint8)
    inputs = [activations, tf.bitcast(levels, tf.qint8), offsets, 0.0, MAX_ACTIVATION / steps, ranges, ranges]
    outputs, _ = op_def_library.apply_op(
        PRODUCT,
        name="product",  # its own would begin with _
        device_inputs=[inputs[0], inputs[1], *(tf.convert_to_tensor(each, tf.float32) for each in inputs[2:])],
        host_inputs=[],
        Tdevice_outputs=[tf.float32],
        Thost_outputs=[],
        T1=tf.quint8,
        T2=tf.qint8,
        Tbias=tf.float32,
        U=tf.float32,
        Tout=tf.float32,
        transpose_a=False,
        transpose_b=transposed,
        is_weight_const=True,
        is_bias_const=True,
        fused_ops=["BiasAdd", "Dequantize"],
        input_quant_mode="SCALED",
        output_quant_mode="SCALED",
        leakyrelu_alpha=0.0,
    )
    return outputs[0] * highest


if TYPE_CHECKING:  # each class takes the place of a layer's class for a while, and has all that the layer has
    Part: TypeAlias = Any
else:
    Part = object


class EightBitProduct(Part):
    """The form of a layer with one kernel."""

    zero: int = MIDDLE

    def weights_made(self, tables: dict) -> Iterator[tuple[str, np.ndarray]]:
        yield from product_weights(self.kernel.numpy().reshape(-1, self.kernel.shape[-1]), self.zero)

    def multiply(self, rows):
        """Maps (rows, inputs) to (rows, outputs)."""
        levels, ranges, offsets = (self.made[name].read_value() for name in ("levels", "ranges", "offsets"))
        return product(rows, levels, ranges, offsets, self.zero)


class EightBitDense(EightBitProduct):
    def call(self, inputs, training=None):
        if not self.made:
            return super().call(inputs, training=training)
        outputs = self.multiply(tf.reshape(inputs, [-1, inputs.shape[-1]]))  # (rows, units)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias.value)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return tf.reshape(outputs, [*shape_of(inputs)[:-1], self.units])


class EightBitPatches(EightBitProduct):
    def embed(self, patches):
        return tf.nn.bias_add(self.multiply(patches), self.bias.value) if self.made else super().embed(patches)


class EightBitBlock(Part):
    """The form of a block, in which the activation of the first dense layer decides the second one's level of 0."""

    def weights_made(self, tables: dict) -> Iterator[tuple[str, np.ndarray]]:
        name = self.intermediate.activation.__name__
        self.output_dense.zero = LOW_ZEROS.get(name, MIDDLE)
        yield from ()


class EightBitTable(Part):
    """The form of word embeddings: 8 bits, with a scale for each word; a tied decoder multiplies with them."""

    def weights_made(self, tables: dict) -> Iterator[tuple[str, np.ndarray]]:
        table = self.word_embeddings.embeddings
        tables[id(table)] = self
        levels, scales = levels_of(table.numpy().T)
        yield "levels", np.ascontiguousarray(levels.T)  # (words, hidden)
        yield "scales", scales
        yield from product_scales(levels, scales)

    def rows(self, table, indices):
        if table is not self.word_embeddings:
            return super().rows(table, indices)
        levels, scales = (tf.gather(self.made[name].read_value(), indices) for name in ("levels", "scales"))
        return tf.cast(levels, tf.float32) * scales[..., None]


class EightBitDecoder(Part):
    """The form of the head over the vocabulary; an untied decoder is a layer with a form of its own."""

    def weights_made(self, tables: dict) -> Iterator[tuple[str, np.ndarray]]:
        object.__setattr__(self, "tables", tables)  # past Keras, which would take the layers in it for this one's
        yield from ()

    def __call__(self, hidden_states, word_embeddings=None):
        """Replaces Keras' own method, which would read the table in floats."""
        table = self.tables.get(id(word_embeddings))
        if self.decoder is not None or table is None:
            return super().__call__(hidden_states, word_embeddings)
        with tf.name_scope(self.name):
            hidden_states = self.transformed(hidden_states)
            rows = tf.reshape(hidden_states, [-1, self.hidden_size])
            levels, ranges, offsets = (table.made[name].read_value() for name in ("levels", "ranges", "offsets"))
            outputs = tf.nn.bias_add(product(rows, levels, ranges, offsets, transposed=True), self.bias.value)
            return tf.reshape(outputs, [*shape_of(hidden_states)[:2], self.vocab_size])


FORMS: dict[type, type] = {
    Dense: EightBitDense,
    PatchEmbeddings: EightBitPatches,
    PreNormBlock: EightBitBlock,
    PostNormBlock: EightBitBlock,
    MaskedLMHead: EightBitDecoder,
}


@cache
def form_of(kind: Any) -> Any:
    """Returns the class of a layer's form in 8 bits, or None. Text embeddings of any class have `EightBitTable`."""
    form = EightBitTable if issubclass(kind, TextEmbeddings) else FORMS.get(kind)
    return form and type(f"EightBit{kind.__name__}", (form, kind), {})

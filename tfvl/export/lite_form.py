"""The form of the layers that TFLite runs fastest: the same weights and results, in other operations.

XNNPACK does the work in a TFLite runtime. It takes over runs of operations that it knows; each one that it does not
know (`UNPACK`, `SELECT_V2`) ends a run, and what TensorFlow's kernels fuse is not what XNNPACK's do.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from tfvl.layers.attention import CrossAttention, Dense, SelfAttention, shape_of, take_positions
from tfvl.layers.embeddings import TextEmbeddings
from tfvl.vilt.embeddings import ViltEmbeddings
from tfvl.visual_bert.embeddings import VisualBertEmbeddings

MASKED = -1e9  # added to the score of a position that is not attended to: its softmax is 0
MAX_LEVEL = 127


@contextmanager
def lite_form(model, eight_bits: bool) -> Iterator[None]:
    """Within it, a graph traced from `model` has its weights as constants, in the form for TFLite.

    Args:
        model: a model of tfvl. It is itself again afterwards.
        eight_bits: whether the tables of words are stored in 8 bits. (The converter sees to the matrices.)
    """
    layers = [layer for layer in model._flatten_layers() if type(layer) in FORMS]
    originals = [type(layer) for layer in layers]
    with tf.init_scope():  # eagerly: their numbers
        weights = {variable.path: variable.numpy() for variable in model.variables}
    for layer in layers:
        layer.__class__ = FORMS[type(layer)]
        layer.eight_bits, layer.arrays = eight_bits, weights
    try:
        with Constants(weights):
            yield
    finally:
        for layer, original in zip(layers, originals, strict=True):
            del layer.eight_bits, layer.arrays
            layer.__class__ = original


class Constants(keras.StatelessScope):
    """Variables are constants of the graph, each made where it is first read: those that nobody reads cost nothing."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__()
        self.arrays = arrays

    def get_current_value(self, variable: keras.Variable) -> tf.Tensor:
        if id(variable) not in self.state_mapping:
            self.state_mapping[id(variable)] = tf.constant(self.arrays[variable.path])
        return self.state_mapping[id(variable)]


class LiteAttention:
    """A projection each for query, key and value, the scale in the query's weights, and an added mask."""

    def project(self, layer: Dense, hidden_states, part: int, scale: float = 1.0):
        """Of a fused kernel the `part` for query, key or value: (batch, length, hidden) to split heads."""
        columns = slice(part * self.hidden_size, (part + 1) * self.hidden_size)
        rows = tf.reshape(hidden_states, [-1, hidden_states.shape[-1]])
        projected = tf.matmul(rows, self.arrays[layer.kernel.path][:, columns] * np.float32(scale))
        if layer.use_bias:
            projected += self.arrays[layer.bias.path][columns] * np.float32(scale)
        return self.split_heads(tf.reshape(projected, [*shape_of(hidden_states)[:2], self.hidden_size]))

    @property
    def scale(self) -> float:
        return 1.0 / math.sqrt(self.hidden_size // self.num_heads)

    def mix(self, query, key, value, attention_mask):
        """As `MultiHeadAttention.attend`, of a scaled query."""
        scores = tf.matmul(query, key, transpose_b=True)  # (batch, heads, queries, length)
        if attention_mask is not None:
            scores += (1.0 - tf.cast(attention_mask, tf.float32)) * MASKED
        probabilities = tf.nn.softmax(scores)
        context = tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3])  # (batch, queries, heads, size)
        context = tf.reshape(context, [*shape_of(context)[:2], self.hidden_size])
        return self.output_dense(context), probabilities


class LiteSelfAttention(LiteAttention, SelfAttention):
    def call(self, hidden_states, attention_mask=None, head_mask=None, queries=None, training=None):
        query = self.project(self.qkv, take_positions(hidden_states, queries), 0, self.scale)
        key, value = (self.project(self.qkv, hidden_states, part) for part in (1, 2))
        return self.mix(query, key, value, attention_mask)


class LiteCrossAttention(LiteAttention, CrossAttention):
    def call(self, hidden_states, context, attention_mask=None, head_mask=None, training=None):
        query = self.project(self.query, hidden_states, 0, self.scale)
        key, value = (self.project(self.key_value, context, part) for part in (0, 1))
        return self.mix(query, key, value, attention_mask)


class LiteTable:
    """Embeddings whose rows are gathered as they are; Keras would first make sure that ids are inside the table."""

    def rows(self, table, indices):
        weights = self.arrays[table.embeddings.path]
        if not self.eight_bits or table.name != "word_embeddings":
            return tf.gather(weights, indices)
        scales = np.maximum(np.abs(weights).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / MAX_LEVEL
        levels = np.round(weights / scales).astype(np.int8)
        return tf.cast(tf.gather(levels, indices), tf.float32) * tf.gather(scales, indices)


class LiteTextEmbeddings(LiteTable, TextEmbeddings):
    pass


class LiteVisualBertEmbeddings(LiteTable, VisualBertEmbeddings):
    pass


class LiteViltEmbeddings(ViltEmbeddings):
    """All padding stays, so that no size depends on a mask; positions of a size that is known are constants."""

    @property
    def static_shapes(self) -> bool:
        return True

    @static_shapes.setter
    def static_shapes(self, value: bool) -> None:
        """The layer's own attribute; not used here."""

    def positions(self, rows, columns, heights, widths):
        grid_rows, grid_columns = self.config.grid
        table = self.arrays[self.position_embeddings.path][0, 1:]  # (grid rows · grid columns, hidden)
        if all(isinstance(size, int) for size in (rows, columns, heights, widths)):
            with tf.init_scope():
                return super().positions(rows, columns, heights, widths).numpy()
        down = interpolation(heights, rows, grid_rows)  # (batch or 1, rows, grid rows)
        across = interpolation(widths, columns, grid_columns)  # (batch or 1, columns, grid columns)
        between = tf.matmul(down, table.reshape(grid_rows, -1))
        between = tf.reshape(between, [*shape_of(between)[:2], grid_columns, self.config.hidden_size])
        return tf.matmul(tf.expand_dims(across, 1), between)  # (batch, rows, columns, hidden)


FORMS = {
    SelfAttention: LiteSelfAttention,
    CrossAttention: LiteCrossAttention,
    ViltEmbeddings: LiteViltEmbeddings,
    TextEmbeddings: LiteTextEmbeddings,
    VisualBertEmbeddings: LiteVisualBertEmbeddings,
}


def interpolation(sizes, length, grid: int):
    """As `tfvl.vilt.embeddings.interpolation`, without the indexing by None that TFLite lacks for unknown sizes."""
    sizes = tf.reshape(tf.cast(sizes, tf.float32), [-1, 1])  # (batch or 1, 1)
    place = tf.expand_dims(tf.cast(tf.range(length), tf.float32), 0)  # (1, length)
    source = tf.expand_dims(place * ((grid - 1) / tf.maximum(sizes - 1, 1)), 2)  # (batch or 1, length, 1)
    distance = tf.abs(source - np.arange(grid, dtype=np.float32))  # (batch or 1, length, grid)
    return tf.nn.relu(1 - distance) * tf.expand_dims(tf.cast(place < sizes, tf.float32), 2)

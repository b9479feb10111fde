"""Layers in the form that TFLite runs fastest: other operations with the same weights and results.

XNNPACK does the work in a TFLite runtime. It takes over runs of operations that it knows; each one that it does not
know (`UNPACK`, `SELECT_V2`) ends a run, and what TensorFlow's kernels fuse is not what XNNPACK's do.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import tensorflow as tf

from tfvl.export.forms import in_form
from tfvl.layers.attention import CrossAttention, SelfAttention, observe, shape_of, take_positions
from tfvl.layers.embeddings import TextEmbeddings
from tfvl.vilt.embeddings import ViltEmbeddings

MASKED = -1e9  # added to the score of a position that is not attended to: its softmax is 0
MAX_LEVEL = 127


def lite_form(model, eight_bits: bool) -> AbstractContextManager[list[tf.Variable]]:
    """A context in which functions traced from `model` have the form for TFLite; yields the variables made for it.

    Args:
        model: a model of tfvl, which has its own form again afterwards.
        eight_bits: whether the tables of words are stored in 8 bits. (The converter quantizes the matrices.)
    """
    return in_form(model, form_of, eight_bits)


if TYPE_CHECKING:  # each class takes the place of a layer's class for a while, and has all that the layer has
    Part: TypeAlias = Any
else:
    Part = object


class LiteAttention(Part):
    """Attention with separate projections for query, key and value, the scale in the query's weights, an additive mask.

    Attributes:
        SOURCES: for query, key and value the fused layer that holds its weights, and its place in that layer.
    """

    SOURCES: ClassVar[dict[str, tuple[str, int]]]

    def weights_made(self, eight_bits: bool) -> Iterator[tuple[str, np.ndarray]]:
        for name, (layer, place) in self.SOURCES.items():
            layer = getattr(self, layer)
            columns = slice(place * self.hidden_size, (place + 1) * self.hidden_size)
            for variable in layer.variables:
                weights = variable.numpy()[..., columns]
                yield f"{name}/{variable.name}", weights * np.float32(self.scale) if name == "query" else weights

    def project(self, name: str, hidden_states):
        """Projects (batch, length, hidden) to the query, key or value, and splits the heads."""
        rows = tf.reshape(hidden_states, [-1, hidden_states.shape[-1]])
        with tf.name_scope(name):  # the name of the product in the report of an int8 file
            projected = tf.matmul(rows, self.made[f"{name}/kernel"])
            if f"{name}/bias" in self.made:
                projected += self.made[f"{name}/bias"]
        return self.split_heads(tf.reshape(projected, [*shape_of(hidden_states)[:2], self.hidden_size]))

    @property
    def scale(self) -> float:
        return 1.0 / math.sqrt(self.hidden_size // self.num_heads)

    def mix(self, query, key, value, attention_mask):
        """Computes what `MultiHeadAttention.attend` computes, for a query that is already scaled."""
        scores = tf.matmul(query, key, transpose_b=True)  # (batch, heads, queries, length)
        if attention_mask is not None:
            scores += (1.0 - tf.cast(attention_mask, tf.float32)) * MASKED
        probabilities = tf.nn.softmax(scores)
        observe(self, probabilities)
        context = tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3])  # (batch, queries, heads, size)
        context = tf.reshape(context, [*shape_of(context)[:2], self.hidden_size])
        return self.output_dense(context), probabilities


class LiteSelfAttention(LiteAttention):
    SOURCES: ClassVar = {"query": ("qkv", 0), "key": ("qkv", 1), "value": ("qkv", 2)}

    def call(self, hidden_states, attention_mask=None, head_mask=None, queries=None, training=None):
        query = self.project("query", take_positions(hidden_states, queries))
        return self.mix(query, self.project("key", hidden_states), self.project("value", hidden_states), attention_mask)


class LiteCrossAttention(LiteAttention):
    SOURCES: ClassVar = {"query": ("query", 0), "key": ("key_value", 0), "value": ("key_value", 1)}

    def call(self, hidden_states, context, attention_mask=None, head_mask=None, training=None):
        query = self.project("query", hidden_states)
        return self.mix(query, self.project("key", context), self.project("value", context), attention_mask)


class LiteTable(Part):
    """Embeddings that gather rows directly, where Keras first checks that ids are inside the table."""

    def weights_made(self, eight_bits: bool) -> Iterator[tuple[str, np.ndarray]]:
        if eight_bits:
            weights = self.word_embeddings.embeddings.numpy()
            scales = np.maximum(np.abs(weights).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / MAX_LEVEL
            yield "levels", np.round(weights / scales).astype(np.int8)
            yield "scales", scales

    def rows(self, table, indices):
        if self.made and table is self.word_embeddings:
            levels, scales = (tf.gather(self.made[name].read_value(), indices) for name in ("levels", "scales"))
            return tf.cast(levels, tf.float32) * scales
        return tf.gather(table.embeddings.value.read_value(), indices)


class LiteViltEmbeddings(Part):
    """Embeddings that keep all padding, so that no size depends on a mask; positions of known sizes are constants."""

    @property
    def static_shapes(self) -> bool:
        return True

    @static_shapes.setter
    def static_shapes(self, value: bool) -> None:
        """Ignores a value that the layer assigns: this form always has static shapes."""

    def weights_made(self, eight_bits: bool) -> Iterator[tuple[str, np.ndarray]]:
        yield "positions", self.position_embeddings.numpy()[0, 1:]  # (grid rows · grid columns, hidden)

    def positions(self, rows, columns, heights, widths):
        grid_rows, grid_columns = self.config.grid
        if all(isinstance(size, int) for size in (rows, columns, heights, widths)):
            with tf.init_scope():
                return super().positions(rows, columns, heights, widths).numpy()
        down = interpolation(heights, rows, grid_rows)  # (batch or 1, rows, grid rows)
        across = interpolation(widths, columns, grid_columns)  # (batch or 1, columns, grid columns)
        table = tf.reshape(self.made["positions"], [grid_rows, -1])
        between = tf.matmul(down, table)
        between = tf.reshape(between, [*shape_of(between)[:2], grid_columns, self.config.hidden_size])
        return tf.matmul(tf.expand_dims(across, 1), between)  # (batch, rows, columns, hidden)


# The class that is mixed into the class of a layer.
FORMS = {SelfAttention: LiteSelfAttention, CrossAttention: LiteCrossAttention, ViltEmbeddings: LiteViltEmbeddings}


@cache
def form_of(kind: Any) -> Any:
    """Returns the class of a layer's form for TFLite, or None. Text embeddings of any class have `LiteTable`."""
    form = LiteTable if issubclass(kind, TextEmbeddings) else FORMS.get(kind)
    return form and type(f"Lite{kind.__name__}", (form, kind), {})


def interpolation(sizes, length, grid: int):
    """Does what `tfvl.vilt.embeddings.interpolation` does, but without indexing by None, which TFLite lacks."""
    sizes = tf.reshape(tf.cast(sizes, tf.float32), [-1, 1])  # (batch or 1, 1)
    place = tf.expand_dims(tf.cast(tf.range(length), tf.float32), 0)  # (1, length)
    source = tf.expand_dims(place * ((grid - 1) / tf.maximum(sizes - 1, 1)), 2)  # (batch or 1, length, 1)
    distance = tf.abs(source - np.arange(grid, dtype=np.float32))  # (batch or 1, length, grid)
    return tf.nn.relu(1 - distance) * tf.expand_dims(tf.cast(place < sizes, tf.float32), 2)

"""Multi-head attention, over a sequence itself and across two (Vaswani et al. 2017, section 3.2)."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras
import numpy as np
from keras import ops

from tfvl.layers.normalization import at_least_float32

MASKED = float(np.finfo("float32").min)  # score of a position that must not be attended to, as upstream


_observer: ContextVar[Callable | None] = ContextVar("observer", default=None)


@contextmanager
def observed_attention(observer: Callable) -> Iterator[None]:
    """A context in which `observer(layer, probabilities)` sees each attention's probabilities before they are used.

    Args:
        observer: is called with the `MultiHeadAttention`, and the probabilities (batch, heads, queries, length), with
            masks applied, by which its values are multiplied.
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def observe(layer, probabilities) -> None:
    """Shows probabilities to the observer, if there is one."""
    if (observer := _observer.get()) is not None:
        observer(layer, probabilities)


def normal(stddev: float):
    """The initializer of every kernel and embedding: a normal distribution of mean 0 (upstream: `_init_weights`)."""
    return keras.initializers.RandomNormal(stddev=stddev)


def shape_of(x) -> tuple:
    """Returns the shape of a tensor: integers where the graph knows the sizes, tensors for the others.

    `ops.shape` would add an operation to the graph in either case.
    """
    return ops.shape(x) if None in x.shape else tuple(x.shape)


@keras.saving.register_keras_serializable("tfvl")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` that runs as one plain matrix product whatever the rank of its input.

    TensorFlow fuses product, bias and GELU for matrices only; on a CPU that is several per cent of a forward pass.
    """

    def call(self, inputs, training=None):
        width = inputs.shape[-1]
        outputs = super().call(ops.reshape(inputs, (-1, width)), training=training)  # (rows, units)
        return ops.reshape(outputs, (*shape_of(inputs)[:-1], self.units))

    def quantize(self, mode=None, type_check=True, **options):
        """Quantizes as Keras does, but without its `type_check`, which refuses classes derived from its layers."""
        super().quantize(mode, type_check=False, **options)

    @property
    def keeps_lora(self) -> bool:
        """Whether files hold LoRA's matrices beside the kernel: adding their product to a quantized one is inexact."""
        return self.lora_enabled and self.quantization_mode is not None

    def save_own_variables(self, store):
        if not self.keeps_lora:
            super().save_own_variables(store)
            return
        self.lora_enabled = False  # else Keras would quantize the sum anew
        super().save_own_variables(store)
        self.lora_enabled = True
        store["lora_kernel_a"], store["lora_kernel_b"] = self.lora_kernel_a, self.lora_kernel_b

    def load_own_variables(self, store):
        super().load_own_variables(store)
        if self.keeps_lora and "lora_kernel_a" in store.keys():  # noqa: SIM118  # Keras' store is no dict
            self.lora_kernel_a.assign(store["lora_kernel_a"])
            self.lora_kernel_b.assign(store["lora_kernel_b"])


def expand_mask(attention_mask):
    """Turns a mask of 1 (attend) and 0 (ignore), (batch, length), into a boolean one (batch, 1, 1, length).

    Booleans, not additive float32 values: under mixed precision Keras would cast those to float16, where they overflow.
    """
    # not [:, None, None, :], which TFLite cannot do where sizes are unknown
    return None if attention_mask is None else ops.expand_dims(ops.cast(attention_mask, "bool"), (1, 2))


def take_positions(sequence, positions):
    """Selects positions of a sequence (batch, length, hidden).

    Args:
        positions: a number n selects the first n positions; int (batch, count) selects these positions in each row,
            where an index outside the sequence is clipped; None selects all, without a copy.
    """
    if positions is None:
        return sequence
    if len(getattr(positions, "shape", ())) == 0:
        return sequence[:, :positions]
    batch, length, hidden = shape_of(sequence)
    positions = ops.clip(ops.cast(positions, "int32"), 0, length - 1)
    rows = positions + length * ops.arange(batch, dtype="int32")[:, None]
    return ops.take(ops.reshape(sequence, (-1, hidden)), rows, axis=0)  # (batch, count, hidden)


def join_masks(*parts):
    """Concatenates the masks of several sequences to (batch, sum of lengths); returns None where nothing is masked.

    Args:
        *parts: pairs of (mask, sequence): the mask (batch or 1, length), or None where no position is masked, and
            the sequence (batch, length, hidden).
    """
    if all(mask is None for mask, _ in parts):
        return None
    masks = []
    for mask, sequence in parts:
        if mask is None:
            mask = ops.ones(ops.shape(sequence)[:2], "int32")
        elif mask.shape[0] == 1 != sequence.shape[0]:
            mask = ops.broadcast_to(mask, ops.shape(sequence)[:2])
        masks.append(ops.cast(mask, "int32"))
    return ops.concatenate(masks, axis=1)


class MultiHeadAttention(keras.layers.Layer):
    """Base of `SelfAttention` and `CrossAttention`: splits heads, attends, joins the heads and projects the result.

    Args:
        hidden_size: width of the sequence, a multiple of `num_heads`.
        num_heads: number of attention heads.
        dropout: rate on the attention probabilities, in [0, 1).
        use_bias: whether query, key and value are projected with a bias (upstream: `qkv_bias`).
        initializer_range: standard deviation of the initial kernels.

    Raises:
        ValueError: `hidden_size` is no multiple of `num_heads`.
    """

    def __init__(self, hidden_size, num_heads, dropout=0.0, use_bias=True, initializer_range=0.02, **kwargs):
        super().__init__(**kwargs)
        if hidden_size % num_heads:
            raise ValueError(f"hidden_size {hidden_size} is not a multiple of num_attention_heads {num_heads}.")
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.use_bias = use_bias
        self.initializer_range = initializer_range
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.output_dense = self.projection(hidden_size, "output", use_bias=True)

    def projection(self, units, name, use_bias=None):
        return Dense(
            units,
            use_bias=self.use_bias if use_bias is None else use_bias,
            kernel_initializer=normal(self.initializer_range),
            dtype=self.dtype_policy,
            name=name,
        )

    def split_heads(self, x):
        """Reshapes (batch, length, hidden) to (batch, heads, length, hidden / heads)."""
        batch, length = shape_of(x)[:2]
        x = ops.reshape(x, (batch, length, self.num_heads, self.hidden_size // self.num_heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def attend(self, query, key, value, attention_mask, head_mask, training):
        """Computes attention for heads that are already split.

        Args:
            query: (batch, heads, queries, size).
            key, value: (batch, heads, length, size).
            attention_mask: bool, broadcast to (batch, heads, queries, length), or None.
            head_mask: 1 keeps a head and 0 silences it; broadcast like `attention_mask`, or None.

        Returns:
            The projected context (batch, queries, hidden) and the probabilities (batch, heads, queries, length).
        """
        query = query * (1.0 / math.sqrt(self.hidden_size // self.num_heads))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # (batch, heads, queries, length)
        scores = at_least_float32(scores)  # a float16 softmax loses its tail
        if attention_mask is not None:
            scores = ops.where(attention_mask, scores, MASKED)
        probabilities = self.dropout(ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype), training=training)
        if head_mask is not None:
            probabilities = probabilities * ops.cast(head_mask, self.compute_dtype)
        observe(self, probabilities)
        context = ops.transpose(ops.matmul(probabilities, value), (0, 2, 1, 3))  # (batch, queries, heads, size)
        batch, queries = shape_of(context)[:2]
        context = ops.reshape(context, (batch, queries, self.hidden_size))
        return self.output_dense(context), probabilities


@keras.saving.register_keras_serializable("tfvl")
class SelfAttention(MultiHeadAttention):
    """Attention of a sequence over itself; query, key and value come from one fused kernel (hidden, 3·hidden)."""

    def __init__(self, hidden_size, num_heads, dropout=0.0, use_bias=True, initializer_range=0.02, **kwargs):
        super().__init__(hidden_size, num_heads, dropout, use_bias, initializer_range, **kwargs)
        self.qkv = self.projection(3 * hidden_size, "qkv")

    def build(self, input_shape=None):
        self.qkv.build((None, self.hidden_size))
        self.output_dense.build((None, self.hidden_size))

    def call(self, hidden_states, attention_mask=None, head_mask=None, queries=None, training=None):
        """Computes self-attention for the positions `queries` (see `take_positions`); returns what `attend` returns."""
        qkv = self.qkv(hidden_states)  # (batch, length, 3 · hidden)
        parts = ops.reshape(qkv, (*shape_of(qkv)[:2], 3, self.num_heads, self.hidden_size // self.num_heads))
        # one transposition for all three; to take the parts afterwards costs no copy
        query, key, value = ops.unstack(ops.transpose(parts, (2, 0, 3, 1, 4)), 3, axis=0)
        if queries is not None:
            query = self.split_heads(take_positions(qkv[..., : self.hidden_size], queries))
        return self.attend(query, key, value, attention_mask, head_mask, training)


@keras.saving.register_keras_serializable("tfvl")
class CrossAttention(MultiHeadAttention):
    """Attention of one sequence over another; key and value come from one fused kernel (context, 2·hidden)."""

    def __init__(
        self, hidden_size, num_heads, dropout=0.0, use_bias=True, initializer_range=0.02, context_size=None, **kwargs
    ):
        super().__init__(hidden_size, num_heads, dropout, use_bias, initializer_range, **kwargs)
        self.context_size = context_size or hidden_size
        self.query = self.projection(hidden_size, "query")
        self.key_value = self.projection(2 * hidden_size, "key_value")

    def build(self, hidden_states_shape=None, context_shape=None):
        self.query.build((None, self.hidden_size))
        self.key_value.build((None, self.context_size))
        self.output_dense.build((None, self.hidden_size))

    def call(self, hidden_states, context, attention_mask=None, head_mask=None, training=None):
        """Lets `hidden_states` (batch, queries, hidden) attend over `context` (batch, length, width).

        Returns as `attend`.
        """
        key, value = ops.split(self.key_value(context), 2, axis=-1)  # each (batch, length, hidden)
        query = self.split_heads(self.query(hidden_states))
        return self.attend(query, self.split_heads(key), self.split_heads(value), attention_mask, head_mask, training)

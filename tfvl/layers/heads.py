"""Layers on top of an encoder: pooler, masked language modelling head, classifiers."""

import keras
from keras import ops

from tfvl.layers.activations import activation
from tfvl.layers.attention import Dense, normal
from tfvl.layers.normalization import LayerNormalization


@keras.saving.register_keras_serializable("tfvl")
class Pooler(keras.layers.Layer):
    """tanh(dense(first token)): (batch, length, hidden) to (batch, hidden) (upstream: `BertPooler`)."""

    def __init__(self, hidden_size, initializer_range=0.02, **kwargs):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.dense = Dense(
            hidden_size,
            activation="tanh",
            kernel_initializer=normal(initializer_range),
            dtype=self.dtype_policy,
            name="dense",
        )

    def build(self, input_shape=None):
        self.dense.build((None, self.hidden_size))

    def call(self, hidden_states):
        return self.dense(hidden_states[:, 0])


class TransformedHead(keras.layers.Layer):
    """A head that runs dense, activation and layer norm before it decodes (upstream: `BertPredictionHeadTransform`).

    Args:
        hidden_size: width of the sequence.
        hidden_act: name of the activation.
        layer_norm_eps: added to the variance in the layer norm.
        initializer_range: standard deviation of the initial kernel.
    """

    def __init__(self, hidden_size, hidden_act="gelu", layer_norm_eps=1e-12, initializer_range=0.02, **kwargs):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.transform = Dense(
            hidden_size,
            activation=activation(hidden_act),
            kernel_initializer=normal(initializer_range),
            dtype=self.dtype_policy,
            name="transform",
        )
        self.layer_norm = LayerNormalization(epsilon=layer_norm_eps, dtype=self.dtype_policy, name="layer_norm")

    def build(self, input_shape=None):
        self.transform.build((None, None, self.hidden_size))
        self.layer_norm.build((None, None, self.hidden_size))

    def transformed(self, hidden_states):
        """Applies dense, activation and layer norm; the shape (batch, length, hidden) stays the same."""
        return self.layer_norm(self.transform(hidden_states))


@keras.saving.register_keras_serializable("tfvl")
class MaskedLMHead(TransformedHead):
    """Scores every word of the vocabulary at every position (upstream: `BertLMPredictionHead`).

    Args:
        vocab_size: number of words.
        hidden_size: width of the sequence.
        hidden_act: name of the activation after the transform.
        layer_norm_eps: added to the variance in the layer norm.
        tied: whether the decoder's kernel is the transposed word embeddings; else it has its own.
        initializer_range: standard deviation of the initial kernels.
    """

    def __init__(
        self,
        vocab_size,
        hidden_size,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        tied=True,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(hidden_size, hidden_act, layer_norm_eps, initializer_range, **kwargs)
        self.vocab_size = vocab_size
        self.decoder = None
        if not tied:
            self.decoder = Dense(
                vocab_size,
                use_bias=False,
                kernel_initializer=normal(initializer_range),
                dtype=self.dtype_policy,
                name="decoder",
            )

    def build(self, hidden_states_shape=None, word_embeddings_shape=None):
        super().build()
        if self.decoder is not None:
            self.decoder.build((None, None, self.hidden_size))
        self.bias = self.add_weight(shape=(self.vocab_size,), initializer="zeros", name="bias")

    def call(self, hidden_states, word_embeddings=None):
        """Maps (batch, length, hidden) to logits (batch, length, vocab).

        `word_embeddings`, (vocab, hidden), is the tied decoder's kernel; an untied head does not read it.
        """
        hidden_states, bias = self.transformed(hidden_states), ops.cast(self.bias, self.compute_dtype)
        if self.decoder is not None:
            return self.decoder(hidden_states) + bias
        batch, length = ops.shape(hidden_states)[:2]
        rows = ops.reshape(hidden_states, (-1, self.hidden_size))  # (batch · length, hidden)
        kernel = ops.transpose(ops.cast(word_embeddings, self.compute_dtype))  # (hidden, vocab)
        return ops.reshape(ops.matmul(rows, kernel) + bias, (batch, length, self.vocab_size))


@keras.saving.register_keras_serializable("tfvl")
class ClassifierHead(keras.layers.Layer):
    """dense, layer norm, GELU, dense: the papers' classifier of a pooled state.

    Args:
        input_size: width of the pooled state.
        intermediate_size: width between the two dense layers.
        num_labels: number of classes.
        layer_norm_eps: added to the variance in the layer norm (upstream keeps PyTorch's 1e-5 here).
        initializer_range: standard deviation of the initial kernels.
    """

    def __init__(
        self, input_size, intermediate_size, num_labels, layer_norm_eps=1e-5, initializer_range=0.02, **kwargs
    ):
        super().__init__(**kwargs)
        self.input_size, self.intermediate_size = input_size, intermediate_size
        self.dense = Dense(
            intermediate_size, kernel_initializer=normal(initializer_range), dtype=self.dtype_policy, name="dense"
        )
        self.layer_norm = LayerNormalization(epsilon=layer_norm_eps, dtype=self.dtype_policy, name="layer_norm")
        self.out = Dense(num_labels, kernel_initializer=normal(initializer_range), dtype=self.dtype_policy, name="out")

    def build(self, input_shape=None):
        self.dense.build((None, self.input_size))
        self.layer_norm.build((None, self.intermediate_size))
        self.out.build((None, self.intermediate_size))

    def call(self, pooled):
        """Maps (batch, input_size) to logits (batch, num_labels)."""
        return self.out(ops.gelu(self.layer_norm(self.dense(pooled)), approximate=False))

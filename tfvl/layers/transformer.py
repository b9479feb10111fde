"""Transformer blocks, with the layer norm before (ViT, ViLT) or after (BERT) each half, and stacks of them."""

from typing import ClassVar

import keras
from keras import ops

from tfvl.layers.activations import activation
from tfvl.layers.attention import Dense, SelfAttention, normal, take_positions
from tfvl.layers.normalization import LayerNormalization


class TransformerBlock(keras.layers.Layer):
    """The parts of a block: self-attention and a two-layer perceptron, each with its layer norm.

    Args:
        hidden_size: width of the sequence.
        num_heads: number of attention heads.
        intermediate_size: width of the perceptron's hidden layer.
        hidden_act: name of its activation, see `tfvl.layers.activations`.
        hidden_dropout: rate after the attention and after the perceptron, in [0, 1).
        attention_dropout: rate on the attention probabilities, in [0, 1).
        layer_norm_eps: added to the variance in the layer norms.
        qkv_bias: whether query, key and value have a bias.
        initializer_range: standard deviation of the initial kernels.
    """

    norm_names: tuple[str, str]

    def __init__(
        self,
        hidden_size,
        num_heads,
        intermediate_size,
        hidden_act="gelu",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        layer_norm_eps=1e-12,
        qkv_bias=True,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        policy = self.dtype_policy
        self.attention = SelfAttention(
            hidden_size, num_heads, attention_dropout, qkv_bias, initializer_range, dtype=policy, name="attention"
        )
        self.intermediate = Dense(
            intermediate_size,
            activation=activation(hidden_act),
            kernel_initializer=normal(initializer_range),
            dtype=policy,
            name="intermediate",
        )
        self.output_dense = Dense(
            hidden_size, kernel_initializer=normal(initializer_range), dtype=policy, name="output"
        )
        self.first_norm, self.second_norm = (
            LayerNormalization(epsilon=layer_norm_eps, dtype=policy, name=name) for name in self.norm_names
        )
        self.dropout = keras.layers.Dropout(hidden_dropout, dtype=policy, name="dropout")

    def build(self, input_shape=None):
        hidden = (None, None, self.hidden_size)
        for layer in (self.attention, self.first_norm, self.second_norm, self.intermediate):
            layer.build(hidden)
        self.output_dense.build((None, None, self.intermediate_size))

    def perceptron(self, hidden_states, training):
        return self.dropout(self.output_dense(self.intermediate(hidden_states)), training=training)


@keras.saving.register_keras_serializable("tfvl")
class PreNormBlock(TransformerBlock):
    """x + attention(norm(x)), then x + perceptron(norm(x)) (upstream: `ViltLayer`)."""

    norm_names = ("layernorm_before", "layernorm_after")

    def call(self, hidden_states, attention_mask=None, head_mask=None, queries=None, training=None):
        """Maps (batch, length, hidden) to (batch, queries, hidden) and the attention probabilities.

        `queries` computes only these positions of the result, see `take_positions`; the rest is still attended to.
        """
        attended, probabilities = self.attention(
            self.first_norm(hidden_states), attention_mask, head_mask, queries=queries, training=training
        )
        hidden_states = take_positions(hidden_states, queries) + self.dropout(attended, training=training)
        hidden_states = hidden_states + self.perceptron(self.second_norm(hidden_states), training)
        return hidden_states, probabilities


@keras.saving.register_keras_serializable("tfvl")
class PostNormBlock(TransformerBlock):
    """norm(x + attention(x)), then norm(x + perceptron(x)) (upstream: `BertLayer`)."""

    norm_names = ("attention_layer_norm", "output_layer_norm")

    def call(self, hidden_states, attention_mask=None, head_mask=None, queries=None, training=None):
        """Takes the arguments of `PreNormBlock.call`, and returns the same."""
        attended, probabilities = self.attention(
            hidden_states, attention_mask, head_mask, queries=queries, training=training
        )
        hidden_states = self.first_norm(
            take_positions(hidden_states, queries) + self.dropout(attended, training=training)
        )
        hidden_states = self.second_norm(hidden_states + self.perceptron(hidden_states, training))
        return hidden_states, probabilities


@keras.saving.register_keras_serializable("tfvl")
class TransformerStack(keras.layers.Layer):
    """`num_layers` blocks, one after the other, named `layer_0`, `layer_1`, …

    Args:
        block: "pre_norm" or "post_norm".
        num_layers: number of blocks.
        gradient_checkpointing: recompute each block in the backward pass instead of keeping its activations
            (`keras.remat`): less memory, about a third more time.
        **block_options: arguments of `TransformerBlock`.
    """

    blocks: ClassVar = {"pre_norm": PreNormBlock, "post_norm": PostNormBlock}

    def __init__(self, block, num_layers, gradient_checkpointing=False, name=None, dtype=None, **block_options):
        super().__init__(name=name, dtype=dtype)
        self.block, self.num_layers, self.block_options = block, num_layers, block_options
        self.gradient_checkpointing = gradient_checkpointing
        self.layers = [
            self.blocks[block](**block_options, dtype=self.dtype_policy, name=f"layer_{index}")
            for index in range(num_layers)
        ]

    def get_config(self):
        own = {"block": self.block, "num_layers": self.num_layers}
        own["gradient_checkpointing"] = self.gradient_checkpointing
        return super().get_config() | own | dict(self.block_options)

    def build(self, input_shape=None):
        for layer in self.layers:
            layer.build(input_shape)

    def call(self, hidden_states, attention_mask=None, head_mask=None, queries=None, keep_all=False, training=None):
        """Runs the blocks.

        Args:
            hidden_states: (batch, length, hidden).
            attention_mask: bool, broadcast to (batch, heads, length, length), or None; see `expand_mask`.
            head_mask: (heads,) or (layers, heads), 1 keeps a head and 0 silences it, or None.
            queries: which positions of the last block's result the caller reads, see `take_positions`.
            keep_all: also return what each block gives; else its memory is free for the next block.

        Returns:
            The last block's result, the tuple of all hidden states (the input first; the last one as `queries`
            says), and the tuple of all attention probabilities; the two are empty without `keep_all`.
        """
        if not self.layers:
            hidden_states = take_positions(hidden_states, queries)
        head_masks = per_layer_head_mask(head_mask, self.num_layers)
        all_hidden_states, all_attentions = [hidden_states] * keep_all, []
        for index, layer in enumerate(self.layers):
            asked = queries if index == self.num_layers - 1 else None
            run = self.rematerialised(layer, asked, training) if self.gradient_checkpointing and training else layer
            hidden_states, probabilities = run(
                hidden_states, attention_mask, head_masks[index], queries=asked, training=training
            )
            if keep_all:
                all_hidden_states.append(hidden_states)
                all_attentions.append(probabilities)
        return hidden_states, tuple(all_hidden_states), tuple(all_attentions)

    @staticmethod
    def rematerialised(layer, queries, training):
        """Returns the layer as a function that is recomputed in the backward pass, with the same dropout masks."""
        generators = [part.seed_generator for part in layer._flatten_layers() if hasattr(part, "seed_generator")]

        def run(hidden_states, attention_mask, head_mask, **_):
            states = [ops.copy(generator.state) for generator in generators]

            def block(x):
                for generator, state in zip(generators, states, strict=True):
                    generator.state.assign(state)
                return layer(x, attention_mask, head_mask, queries=queries, training=training)

            return keras.remat(block)(hidden_states)

        return run


def check_head_mask(head_mask, num_layers: int, num_heads: int) -> None:
    """Raises ValueError unless the mask has shape (heads,) or (layers, heads)."""
    shape = tuple(head_mask.shape)
    if shape not in ((num_heads,), (num_layers, num_heads)):
        raise ValueError(f"head_mask has shape {shape}, expected ({num_heads},) or ({num_layers}, {num_heads}).")


def per_layer_head_mask(head_mask, num_layers: int) -> list:
    """Brings a head mask, (heads,) or (layers, heads) or None, to one (heads, 1, 1) mask or None per layer."""
    if head_mask is None:
        return [None] * num_layers
    per_layer = ops.broadcast_to(head_mask, (num_layers, head_mask.shape[-1]))  # (layers, heads)
    return [per_layer[index][:, None, None] for index in range(num_layers)]

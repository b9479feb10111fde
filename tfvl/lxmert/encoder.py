"""The layers that only LXMERT has: embeddings of regions and the cross-modality encoder (paper, sections 2.1, 2.2)."""

import keras

from tfvl.layers.attention import CrossAttention, Dense, normal
from tfvl.layers.normalization import LayerNormalization
from tfvl.layers.transformer import PostNormBlock


@keras.saving.register_keras_serializable("tfvl")
class VisualFeatureEncoder(keras.layers.Layer):
    """Embeds a region as the mean of its projected features and its projected box, each layer-normed (equation 1).

    Upstream: `LxmertVisualFeatureEncoder`.

    Args:
        feature_size: width of a region's features.
        box_size: number of values that describe a region's position.
        hidden_size: width of the result.
        layer_norm_eps: added to the variance in the layer norms.
        dropout: rate on the result, in [0, 1).
        initializer_range: standard deviation of the initial kernels.
    """

    def __init__(
        self,
        feature_size,
        box_size,
        hidden_size,
        layer_norm_eps=1e-12,
        dropout=0.0,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.feature_size, self.box_size, self.hidden_size = feature_size, box_size, hidden_size
        policy = self.dtype_policy
        self.visn_fc, self.box_fc = (
            Dense(hidden_size, kernel_initializer=normal(initializer_range), dtype=policy, name=name)
            for name in ("visn_fc", "box_fc")
        )
        self.visn_layer_norm, self.box_layer_norm = (
            LayerNormalization(epsilon=layer_norm_eps, dtype=policy, name=name)
            for name in ("visn_layer_norm", "box_layer_norm")
        )
        self.dropout = keras.layers.Dropout(dropout, dtype=policy, name="dropout")

    def build(self, features_shape=None, boxes_shape=None):
        self.visn_fc.build((None, None, self.feature_size))
        self.box_fc.build((None, None, self.box_size))
        self.visn_layer_norm.build((None, None, self.hidden_size))
        self.box_layer_norm.build((None, None, self.hidden_size))

    def call(self, features, boxes, training=None):
        """Maps (batch, regions, feature_size) and (batch, regions, box_size) to (batch, regions, hidden)."""
        features = self.visn_layer_norm(self.visn_fc(features))  # (batch, regions, hidden)
        boxes = self.box_layer_norm(self.box_fc(boxes))  # (batch, regions, hidden)
        return self.dropout((features + boxes) * 0.5, training=training)


@keras.saving.register_keras_serializable("tfvl")
class CrossModalityBlock(keras.layers.Layer):
    """Each sequence attends over the other, by the same weights, and then runs a block of its own.

    Upstream: `LxmertXLayer`.

    Args: as `PostNormBlock`.
    """

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
        policy = self.dtype_policy
        self.attention = CrossAttention(
            hidden_size, num_heads, attention_dropout, qkv_bias, initializer_range, dtype=policy, name="attention"
        )
        self.attention_layer_norm = LayerNormalization(
            epsilon=layer_norm_eps, dtype=policy, name="attention_layer_norm"
        )
        self.dropout = keras.layers.Dropout(hidden_dropout, dtype=policy, name="dropout")
        options = (hidden_act, hidden_dropout, attention_dropout, layer_norm_eps, qkv_bias, initializer_range)
        self.language, self.vision = (
            PostNormBlock(hidden_size, num_heads, intermediate_size, *options, dtype=policy, name=name)
            for name in ("language", "vision")
        )

    def build(self, language_shape=None, vision_shape=None):
        hidden = (None, None, self.hidden_size)
        for layer in (self.attention, self.attention_layer_norm, self.language, self.vision):
            layer.build(hidden)

    def cross(self, hidden_states, context, context_mask, training):
        attended, probabilities = self.attention(hidden_states, context, context_mask, training=training)
        return self.attention_layer_norm(hidden_states + self.dropout(attended, training=training)), probabilities

    def call(self, language, vision, word_mask=None, region_mask=None, first_word_only=False, training=None):
        """Runs the block.

        Args:
            language: (batch, length, hidden).
            vision: (batch, regions, hidden).
            word_mask, region_mask: bool, broadcast to the attention probabilities, or None; see `expand_mask`.
            first_word_only: compute only the first position of the language, for a caller that reads no other.

        Returns:
            The language (batch, length or 1, hidden), the vision (batch, regions, hidden), which `first_word_only`
            leaves unchanged, and the probabilities (batch, heads, length, regions) with which words attend to regions.
        """
        words, probabilities = self.cross(language, vision, region_mask, training)  # (batch, length, hidden)
        if first_word_only:
            words, _ = self.language(words, word_mask, queries=1, training=training)
            return words, vision, probabilities
        regions, _ = self.cross(vision, language, word_mask, training)  # (batch, regions, hidden)
        words, _ = self.language(words, word_mask, training=training)
        regions, _ = self.vision(regions, region_mask, training=training)
        return words, regions, probabilities


@keras.saving.register_keras_serializable("tfvl")
class CrossModalityStack(keras.layers.Layer):
    """`num_layers` blocks, one after the other, named `layer_0`, `layer_1`, …

    Args:
        num_layers: number of blocks.
        gradient_checkpointing: recompute each block in the backward pass, as in `TransformerStack`.
        **block_options: arguments of `PostNormBlock`.
    """

    def __init__(self, num_layers, gradient_checkpointing=False, name=None, dtype=None, **block_options):
        super().__init__(name=name, dtype=dtype)
        self.gradient_checkpointing = gradient_checkpointing
        self.layers = [
            CrossModalityBlock(**block_options, dtype=self.dtype_policy, name=f"layer_{index}")
            for index in range(num_layers)
        ]

    def build(self, language_shape=None, vision_shape=None):
        for layer in self.layers:
            layer.build(language_shape, vision_shape)

    def call(self, language, vision, word_mask=None, region_mask=None, first_word_only=False, training=None):
        """Runs the blocks; takes the arguments of `CrossModalityBlock`, and passes `first_word_only` to the last block.

        Returns:
            Three tuples with one entry per block: language, vision, attention probabilities.
        """
        if not self.layers:
            return (), (), ()
        each = []
        for layer in self.layers:
            run = self.bound(layer, word_mask, region_mask, first_word_only and layer is self.layers[-1], training)
            if self.gradient_checkpointing and training:
                run = keras.remat(run)
            language, vision, _ = results = run(language, vision)
            each.append(results)
        return tuple(zip(*each, strict=True))

    @staticmethod
    def bound(layer, word_mask, region_mask, first_word_only, training):
        # keras.remat passes tensors only, so the other arguments are bound before
        return lambda language, vision: layer(
            language, vision, word_mask, region_mask, first_word_only=first_word_only, training=training
        )

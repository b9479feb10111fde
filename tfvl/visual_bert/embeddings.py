"""VisualBERT's input sequence: the words, then the regions of the image (Li et al. 2019, section 3.2)."""

import keras
from keras import ops

from tfvl.layers.attention import Dense, normal
from tfvl.layers.embeddings import TextEmbeddings
from tfvl.visual_bert.config import VisualBertConfig


@keras.saving.register_keras_serializable("tfvl")
class VisualBertEmbeddings(TextEmbeddings):
    """Embeds words and regions with one layer norm for both (upstream: `VisualBertEmbeddings`).

    The embedding of a region is the sum of its projected features, its token type and its position. The position is the
    same for all regions; `image_text_alignment` adds the mean position of the words that belong to the region.

    Args:
        config: a `VisualBertConfig`.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**config.text_options, **kwargs)
        self.config = config
        self.visual_embedding_dim = config.visual_embedding_dim
        twins = {"token_type": self.token_type_embeddings, "position": self.position_embeddings}
        self.visual_token_type_embeddings, self.visual_position_embeddings = (
            keras.layers.Embedding(
                twin.input_dim,
                config.hidden_size,
                CopyOf(twin) if config.special_visual_initialize else normal(config.initializer_range),
                dtype=self.dtype_policy,
                name=f"visual_{name}_embeddings",
            )
            for name, twin in twins.items()
        )
        self.visual_projection = Dense(
            config.hidden_size,
            kernel_initializer=normal(config.initializer_range),
            dtype=self.dtype_policy,
            name="visual_projection",
        )

    def get_config(self):
        return keras.layers.Layer.get_config(self) | {"config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config):
        return cls(**config | {"config": VisualBertConfig.from_dict(config["config"])})

    def build(self, input_shape=None):
        super().build()
        self.visual_token_type_embeddings.build(None)
        self.visual_position_embeddings.build(None)
        self.visual_projection.build((None, None, self.visual_embedding_dim))

    def call(self, inputs, training=None):  # type: ignore[override]  # takes all inputs of the model in a dict
        """Embeds a batch.

        Args:
            inputs: a dict with the inputs of `VisualBertPreTrainedModel`.

        Returns:
            The words (batch, length, hidden), and the regions (batch, regions, hidden) or None.
        """
        text = super().call(
            inputs.get("input_ids"),
            inputs.get("token_type_ids"),
            inputs.get("position_ids"),
            inputs.get("inputs_embeds"),
            training=training,
        )
        return text, self.regions(inputs, training) if "visual_embeds" in inputs else None

    def regions(self, inputs, training):
        features = self.visual_projection(inputs["visual_embeds"])  # (batch, regions, hidden)
        types = inputs.get("visual_token_type_ids")
        types = ops.ones((1, 1), dtype="int32") if types is None else types
        positions = self.visual_position_embeddings(ops.zeros((1, 1), dtype="int32"))  # (1, 1, hidden)
        alignment = inputs.get("image_text_alignment")
        if alignment is not None:  # may be padded to more regions than there are
            positions = positions + self.mean_position(alignment[:, : ops.shape(features)[1]])
        embeddings = features + positions + self.visual_token_type_embeddings(types)  # (batch, regions, hidden)
        return self.dropout(self.layer_norm(embeddings), training=training)

    def mean_position(self, alignment):
        """Returns the mean position embedding of each region's words, (batch, regions, hidden); 0 without words.

        Args:
            alignment: int (batch, regions, words), the words' indices in the text, padded with -1.
        """
        counted = ops.not_equal(alignment, -1)
        positions = self.position_embeddings(ops.where(counted, alignment, 0))  # (batch, regions, words, hidden)
        weights = ops.cast(counted, positions.dtype)[..., None]  # (batch, regions, words, 1)
        return ops.sum(positions * weights, axis=2) / ops.maximum(ops.sum(weights, axis=2), 1)


class CopyOf(keras.initializers.Initializer):
    """Starts an embedding table as a copy of another layer's."""

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, shape, dtype=None):
        return ops.copy(ops.cast(self.layer.embeddings, dtype))

"""BERT's text embeddings (Devlin et al. 2018, figure 2)."""

import keras
from keras import ops

from tfvl.layers.attention import normal


@keras.saving.register_keras_serializable("tfvl")
class TextEmbeddings(keras.layers.Layer):
    """Sum of word, position and token type embeddings, layer norm, dropout (upstream: `BertEmbeddings`).

    Args:
        vocab_size: number of words.
        hidden_size: width of the result.
        max_position_embeddings: the longest text, in tokens.
        type_vocab_size: number of token types.
        layer_norm_eps: added to the variance in the layer norm.
        dropout: rate on the result, in [0, 1).
        initializer_range: standard deviation of the initial tables.
    """

    def __init__(
        self,
        vocab_size,
        hidden_size,
        max_position_embeddings,
        type_vocab_size,
        layer_norm_eps=1e-12,
        dropout=0.0,
        initializer_range=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.max_position_embeddings = max_position_embeddings
        tables = {
            "word_embeddings": vocab_size,
            "position_embeddings": max_position_embeddings,
            "token_type_embeddings": type_vocab_size,
        }
        self.word_embeddings, self.position_embeddings, self.token_type_embeddings = (
            keras.layers.Embedding(count, hidden_size, normal(initializer_range), dtype=self.dtype_policy, name=name)
            for name, count in tables.items()
        )
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=layer_norm_eps, dtype=self.dtype_policy, name="layer_norm"
        )
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, input_shape=None):
        for table in (self.word_embeddings, self.position_embeddings, self.token_type_embeddings):
            table.build(None)
        self.layer_norm.build((None, None, self.hidden_size))

    def call(self, input_ids=None, token_type_ids=None, position_ids=None, inputs_embeds=None, training=None):
        """Embeds a text.

        Args:
            input_ids: int (batch, length), or None where `inputs_embeds` is given.
            token_type_ids: int (batch, length); zeros where None.
            position_ids: int (batch, length); 0, 1, 2, … where None.
            inputs_embeds: (batch, length, hidden), taken instead of the word embeddings.

        Returns:
            (batch, length, hidden).
        """
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds  # (batch, length, hidden)
        length = ops.shape(words)[1]
        if token_type_ids is None:
            types = self.token_type_embeddings(ops.zeros((1, 1), dtype="int32"))  # (1, 1, hidden)
        else:
            types = self.token_type_embeddings(token_type_ids)  # (batch, length, hidden)
        if position_ids is None:
            position_ids = ops.arange(length, dtype="int32")[None]  # (1, length)
        embeddings = words + types + self.position_embeddings(position_ids)  # (batch, length, hidden)
        return self.dropout(self.layer_norm(embeddings), training=training)


def check_text_length(length: int | None, positions: int) -> None:
    """Raises ValueError where a text of `length` tokens (None: not known yet) is longer than the position table."""
    if length is not None and length > positions:
        raise ValueError(
            f"The text is {length} tokens long, but the position table ends at {positions}; "
            "truncate it (the processor does by default)."
        )

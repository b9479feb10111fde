"""Embeddings of words (Devlin et al. 2018, figure 2) and of image patches (Dosovitskiy et al. 2020, section 3.1)."""

import keras
from keras import ops

from tfvl.layers.attention import normal
from tfvl.layers.normalization import LayerNormalization


def needs_static_shapes(jit_compile: bool = False) -> bool:
    """Returns whether no shape may depend on values: under XLA, and on JAX, which traces a model to build it."""
    return bool(jit_compile) or keras.backend.backend() == "jax"


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
        padding_rows: name of a table to the row of it that starts as zeros and that training leaves as it is (PyTorch's
            `padding_idx`).
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
        padding_rows=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.max_position_embeddings = max_position_embeddings
        self.padding_rows = dict(padding_rows or {})
        tables = {
            "word_embeddings": vocab_size,
            "position_embeddings": max_position_embeddings,
            "token_type_embeddings": type_vocab_size,
        }
        self.word_embeddings, self.position_embeddings, self.token_type_embeddings = (
            keras.layers.Embedding(
                count,
                hidden_size,
                NormalRows(initializer_range, self.padding_rows.get(name)),
                dtype=self.dtype_policy,
                name=name,
            )
            for name, count in tables.items()
        )
        self.layer_norm = LayerNormalization(epsilon=layer_norm_eps, dtype=self.dtype_policy, name="layer_norm")
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
        words = self.rows(self.word_embeddings, input_ids) if inputs_embeds is None else inputs_embeds
        length = ops.shape(words)[1]
        if token_type_ids is None:
            token_type_ids = ops.zeros((1, 1), dtype="int32")
        types = self.rows(self.token_type_embeddings, token_type_ids)  # (batch or 1, length or 1, hidden)
        if position_ids is None:
            position_ids = ops.arange(length, dtype="int32")[None]  # (1, length)
        embeddings = words + types + self.rows(self.position_embeddings, position_ids)  # (batch, length, hidden)
        return self.dropout(self.layer_norm(embeddings), training=training)

    def rows(self, table, indices):
        """Looks rows up in a table; no gradient flows into the padding row of the table."""
        rows = table(indices)
        padding = self.padding_rows.get(table.name)
        if padding is None:
            return rows
        return ops.where(ops.equal(indices, padding)[..., None], ops.stop_gradient(rows), rows)


@keras.saving.register_keras_serializable("tfvl")
class NormalRows(keras.initializers.Initializer):
    """Initialises a table from a normal distribution with mean 0; one row, if its number is given, starts as zeros."""

    def __init__(self, stddev, zeros=None):
        self.stddev, self.zeros = stddev, zeros

    def __call__(self, shape, dtype=None):
        table = normal(self.stddev)(shape, dtype)
        return table if self.zeros is None else table * ops.cast(ops.arange(shape[0]) != self.zeros, dtype)[:, None]

    def get_config(self):
        return {"stddev": self.stddev, "zeros": self.zeros}


@keras.saving.register_keras_serializable("tfvl")
class PatchEmbeddings(keras.layers.Layer):
    """Projects each patch of an image: a convolution whose stride is its kernel (upstream: `ViltPatchEmbeddings`).

    It is computed as one matrix product, because TensorFlow's convolution returns nonsense for an empty batch.

    Args:
        patch_size: (height, width) of a patch, in pixels.
        num_channels: channels of an image.
        hidden_size: width of the result.
        initializer_range: standard deviation of the initial kernel.
    """

    def __init__(self, patch_size, num_channels, hidden_size, initializer_range=0.02, **kwargs):
        super().__init__(**kwargs)
        self.patch_size, self.num_channels, self.hidden_size = tuple(patch_size), num_channels, hidden_size
        self.initializer_range = initializer_range

    def build(self, input_shape=None):
        shape = (*self.patch_size, self.num_channels, self.hidden_size)
        self.kernel = self.add_weight(shape=shape, initializer=normal(self.initializer_range), name="kernel")
        self.bias = self.add_weight(shape=(self.hidden_size,), initializer="zeros", name="bias")

    def call(self, pixel_values):
        """Maps (batch, height, width, channels) to (batch, rows, columns, hidden); what fills no patch is left out."""
        height, width = self.patch_size
        batch, rows, columns = ops.shape(pixel_values)[:3]
        rows, columns = rows // height, columns // width
        whole = ops.slice(  # by indexing, LiteRT would copy number by number where sizes are not known
            pixel_values, (0, 0, 0, 0), (batch, rows * height, columns * width, self.num_channels)
        )
        patches = ops.reshape(whole, (batch, rows, height, columns, width, self.num_channels))
        patches = ops.transpose(patches, (0, 1, 3, 2, 4, 5))  # (batch, rows, columns, height, width, channels)
        patches = ops.reshape(patches, (batch * rows * columns, height * width * self.num_channels))
        return ops.reshape(self.embed(patches), (batch, rows, columns, self.hidden_size))

    def embed(self, patches):
        """Maps (patches, height · width · channels) to (patches, hidden)."""
        kernel, bias = (ops.cast(weight, self.compute_dtype) for weight in (self.kernel, self.bias))
        return ops.matmul(patches, ops.reshape(kernel, (-1, self.hidden_size))) + bias


def table_of(layer):
    """Returns the table that an embedding layer applies, (rows, width): with LoRA's product, in floats if quantized."""
    if layer.quantization_mode is None:
        return layer.embeddings
    return layer(ops.arange(layer.input_dim, dtype="int32"))


def text_length(inputs) -> int:
    """Returns the number of text positions, which come first in the encoder's sequence."""
    return ops.shape(inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"])[1]


def check_text_length(length: int | None, positions: int) -> None:
    """Raises ValueError where a text of `length` tokens (None: not known yet) is longer than the position table."""
    if length is not None and length > positions:
        raise ValueError(
            f"The text is {length} tokens long, but the position table ends at {positions}; "
            "truncate it (the processor does by default)."
        )

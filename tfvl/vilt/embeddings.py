"""ViLT's input sequence: the words, then [class] and the patches of the image (Kim, Son & Kim 2021, section 3.1)."""

import math

import keras
import numpy as np
from keras import ops

from tfvl.layers.attention import join_masks, normal
from tfvl.layers.embeddings import PatchEmbeddings, needs_static_shapes
from tfvl.vilt.config import ViltConfig


@keras.saving.register_keras_serializable("tfvl")
class ViltEmbeddings(keras.layers.Layer):
    """Embeds words and patches and adds the modality types (upstream: `ViltEmbeddings`).

    If the images of a batch differ in size, every image keeps its own patches in row-major order, followed by padding
    up to the number of patches of the largest image. Upstream draws the padding at random, which changes no result.

    Args:
        text_embeddings: the layer that embeds the words.
        config: a `ViltConfig`.

    Attributes:
        static_shapes: whether all padding is kept, so that no shape depends on the mask's values, as XLA and JAX need.
            A patch then keeps its place in the grid, with padding in between; its outputs stay the same.
    """

    def __init__(self, text_embeddings, config, **kwargs):
        super().__init__(**kwargs)
        self.text_embeddings = text_embeddings
        self.config = config
        self.static_shapes = needs_static_shapes()
        self.patch_embeddings = PatchEmbeddings(
            config.patch_shape,
            config.num_channels,
            config.hidden_size,
            config.initializer_range,
            dtype=self.dtype_policy,
            name="patch_embeddings",
        )
        self.token_type_embeddings = keras.layers.Embedding(
            config.modality_type_vocab_size,
            config.hidden_size,
            normal(config.initializer_range),
            dtype=self.dtype_policy,
            name="token_type_embeddings",
        )
        self.dropout = keras.layers.Dropout(config.hidden_dropout_prob, dtype=self.dtype_policy, name="dropout")

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.text_embeddings)
        return super().get_config() | {"text_embeddings": layer, "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config["text_embeddings"])
        return cls(**config | {"text_embeddings": layer, "config": ViltConfig.from_dict(config["config"])})

    def build(self, input_shape=None):
        rows, columns = self.config.grid
        if not self.text_embeddings.built:
            self.text_embeddings.build()
        self.patch_embeddings.build()
        self.token_type_embeddings.build(None)
        self.cls_token = self.add_weight(
            shape=(1, 1, self.config.hidden_size), initializer=normal(self.config.initializer_range), name="cls_token"
        )
        self.position_embeddings = self.add_weight(
            shape=(1, rows * columns + 1, self.config.hidden_size),
            initializer=normal(self.config.initializer_range),
            name="position_embeddings",
        )

    def call(self, inputs, training=None):
        """Embeds a batch.

        Args:
            inputs: a dict with the inputs of `ViltPreTrainedModel`.

        Returns:
            The sequence (batch, length + patches + 1, hidden) and its mask (batch, length + patches + 1), or None if
            nothing is masked.
        """
        text = self.text_embeddings(
            inputs.get("input_ids"),
            inputs.get("token_type_ids"),
            inputs_embeds=inputs.get("inputs_embeds"),
            training=training,
        )  # (batch, length, hidden)
        image, image_mask = self.image_sequence(inputs, training)  # (batch, patches + 1, hidden)
        text = text + self.token_type_embeddings(ops.zeros((1, 1), dtype="int32"))
        image = image + self.token_type_embeddings(ops.cast(inputs.get("image_token_type_idx", 1), "int32"))
        mask = join_masks((inputs.get("attention_mask"), text), (image_mask, image))
        return ops.concatenate([text, image], axis=1), mask

    def image_sequence(self, inputs, training=None):
        """Embeds [class] and the patches with their positions, without the modality type.

        Returns:
            (batch, patches + 1, hidden), and the mask (batch, patches + 1), or None if nothing is masked.
        """
        pixel_mask = inputs.get("pixel_mask")
        if "image_embeds" in inputs:
            image = inputs["image_embeds"]
            return image, None if pixel_mask is None else ops.reshape(pixel_mask, ops.shape(image)[:2])
        patches = self.patch_embeddings(inputs["pixel_values"])  # (batch, rows, columns, hidden)
        batch, rows, columns = ops.shape(patches)[:3]
        mask, heights, widths = None, rows, columns
        if pixel_mask is not None:
            mask = nearest_resize(ops.cast(pixel_mask, "int32"), rows, columns)  # (batch, rows, columns)
            heights, widths = ops.sum(mask[:, :, 0], axis=1), ops.sum(mask[:, 0], axis=1)  # (batch,)
        patches = patches + ops.cast(self.positions(rows, columns, heights, widths), patches.dtype)
        patches = ops.reshape(patches, (batch, rows * columns, self.config.hidden_size))
        patches, mask = self.select(patches, mask, heights, widths)
        first = ops.cast(self.cls_token + self.position_embeddings[:, :1], patches.dtype)  # (1, 1, hidden)
        first = ops.broadcast_to(first, (batch, 1, self.config.hidden_size))
        if mask is not None:
            mask = ops.concatenate([ops.ones((batch, 1), dtype="int32"), mask], axis=1)
        return self.dropout(ops.concatenate([first, patches], axis=1), training=training), mask

    def start_as_waves(self) -> None:
        """Sets position embeddings to waves along rows and columns, so that neighbouring patches have similar ones.

        Their values are as large as those of words (which are normalised) and patches; in a narrow model, small random
        ones would be lost among these.
        """
        (rows, columns), width = self.config.grid, self.config.hidden_size
        angles = [np.pi * (np.arange(length) + 0.5) / length for length in (rows, columns)]
        down, across = (np.cos(np.outer(angle, np.arange(width // 2) + 1)) for angle in angles)
        grid = np.concatenate([np.repeat(down, columns, axis=0), np.tile(across, (rows, 1))], axis=1)
        self.position_embeddings.assign(np.concatenate([np.zeros((1, width)), grid])[None])

    def positions(self, rows, columns, heights, widths):
        """Resizes the position embeddings to each image's own grid, bilinearly with aligned corners.

        Args:
            rows, columns: the batch's grid of patches.
            heights, widths: each image's own grid, ints or int (batch,).

        Returns:
            float32 (batch or 1, rows, columns, hidden), zero outside an image's own grid.
        """
        grid_rows, grid_columns = self.config.grid
        table = ops.reshape(ops.cast(self.position_embeddings, "float32")[:, 1:], (grid_rows, grid_columns, -1))
        sizes = (rows, columns, heights, widths)
        if all(isinstance(n, int) for n in sizes) and sizes == (*self.config.grid, *self.config.grid):
            return table[None]
        down = interpolation(heights, rows, grid_rows)  # (batch, rows, grid rows)
        across = interpolation(widths, columns, grid_columns)  # (batch, columns, grid columns)
        return ops.einsum("brp,pqh,bcq->brch", down, table, across)

    def select(self, patches, mask, heights, widths):
        """Drops padding that no image of the batch needs, and patches beyond `max_image_length`.

        Args:
            patches: (batch, rows · columns, hidden), row-major.
            mask: int (batch, rows, columns) or None.
            heights, widths: each image's own grid, ints or int (batch,).

        Returns:
            (batch, kept, hidden) with each image's own patches first, and their mask (batch, kept) or None.
        """
        longest = self.config.max_image_length
        if mask is None:
            return (patches if longest < 0 else patches[:, :longest]), None
        batch, count = ops.shape(patches)[:2]
        mask = ops.reshape(mask, (batch, count))
        if self.static_shapes and longest < 0:
            return patches, mask
        kept = count if self.static_shapes else ops.max(heights * widths, initial=0)
        if longest > 0:
            kept = ops.minimum(kept, longest) if not isinstance(kept, int) else min(kept, longest)
        place = ops.arange(count, dtype="int32")[None]
        order = ops.argsort(place + count * (1 - mask), axis=1)[:, :kept]  # (batch, kept)
        rows = ops.reshape(order + count * ops.arange(batch, dtype="int32")[:, None], (-1,))
        patches = ops.take(ops.reshape(patches, (-1, self.config.hidden_size)), rows, axis=0)
        mask = ops.take(ops.reshape(mask, (-1,)), rows, axis=0)
        return ops.reshape(patches, (batch, -1, self.config.hidden_size)), ops.reshape(mask, (batch, -1))


def resized_positions(table, shape, held: tuple[int, int], wanted: tuple[int, int]) -> np.ndarray:
    """Resizes a table of position embeddings (1, patches + 1, hidden) from one grid to another.

    It is bilinear with aligned corners, as `ViltEmbeddings.positions` is for images of other sizes.

    Args:
        table: the table.
        shape: the shape of the result.
        held, wanted: rows and columns of the table's grid, and of the result's.

    Raises:
        ValueError: the table does not have the grid `held`.
    """
    if table.shape[1] != math.prod(held) + 1:
        raise ValueError(f"the position embeddings are {table.shape[1]}, expected 1 + {held[0]} × {held[1]} patches.")
    first, grid = table[:, :1], table[:, 1:].reshape(*held, -1)
    down, across = (
        ops.convert_to_numpy(interpolation(new, new, old))[0] for new, old in zip(wanted, held, strict=True)
    )
    grid = np.einsum("rp,pqh,cq->rch", down, grid, across)
    return np.concatenate([first, grid.reshape(1, -1, shape[-1])], axis=1).astype(table.dtype)


def repeated_last_row(table, shape) -> np.ndarray:
    """Returns the first rows of a table, as many as `shape` has; the last row is repeated if the table has fewer."""
    return table[np.minimum(np.arange(shape[0]), len(table) - 1)]


def nearest_resize(mask, rows, columns):
    """Samples a mask (batch, height, width) at (rows, columns), as PyTorch's nearest interpolation does."""
    height, width = ops.shape(mask)[1:]
    mask = ops.take(mask, ops.arange(rows, dtype="int32") * height // rows, axis=1)
    return ops.take(mask, ops.arange(columns, dtype="int32") * width // columns, axis=2)


def interpolation(sizes, length, grid):
    """Returns weights that bilinearly resize `grid` points to `sizes` points with aligned corners, padded to `length`.

    Args:
        sizes: int, or int (batch,): the number of points that each image has.
        length: number of points in the batch.
        grid: number of points in the table.

    Returns:
        float32 (batch or 1, length, grid); zero beyond an image's own size.
    """
    sizes = ops.reshape(ops.cast(sizes, "float32"), (-1, 1))  # (batch or 1, 1)
    place = ops.arange(length, dtype="int32")
    place = ops.cast(place, "float32")[None]  # (1, length)
    source = place * ((grid - 1) / ops.maximum(sizes - 1, 1))  # (batch, length)
    distance = ops.abs(source[..., None] - ops.arange(grid, dtype="float32"))  # (batch, length, grid)
    return ops.relu(1 - distance) * ops.cast(place < sizes, "float32")[..., None]

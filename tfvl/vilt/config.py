"""Configuration of the ViLT models."""

import dataclasses
from typing import ClassVar

from tfvl.configuration import Config, choice, flag, limit, positive, probability, side, size


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViltConfig(Config):
    """Sizes and options of a ViLT model; the defaults are those of `dandelin/vilt-b32-mlm` (upstream: `ViltConfig`).

    Attributes:
        vocab_size: number of words.
        type_vocab_size: number of token types of the text.
        modality_type_vocab_size: number of modality types: text 0, first image 1, second image 2 (NLVR2).
        max_position_embeddings: the longest text, in tokens.
        hidden_size: width of the encoder, a multiple of `num_attention_heads`.
        num_hidden_layers: number of transformer blocks.
        num_attention_heads: number of attention heads.
        intermediate_size: width of the perceptron in each block.
        hidden_act: activation in the blocks and in the MLM head: gelu, gelu_new, relu, silu (or swish), selu.
        hidden_dropout_prob: dropout rate of embeddings and dense layers, in [0, 1).
        attention_probs_dropout_prob: dropout rate of the attention probabilities, in [0, 1).
        initializer_range: standard deviation of initial kernels and embeddings.
        layer_norm_eps: added to the variance in layer norms.
        image_size: height and width, in pixels, for which the position embeddings are made.
        patch_size: height and width of a patch, in pixels.
        num_channels: channels of an image.
        qkv_bias: whether query, key and value have a bias.
        max_image_length: the largest number of patches per image that enters the encoder, the first ones in
            row-major order; -1 is no limit.
        tie_word_embeddings: whether the MLM decoder's kernel is the word embeddings.
        num_images: number of images per text, for `ViltForImagesAndTextClassification`; -1 elsewhere.
    """

    model_type: ClassVar[str] = "vilt"

    vocab_size: int = size(30522)
    type_vocab_size: int = size(2)
    modality_type_vocab_size: int = size(2)
    max_position_embeddings: int = size(40)
    hidden_size: int = size(768)
    num_hidden_layers: int = size(12, most=1024)
    num_attention_heads: int = size(12)
    intermediate_size: int = size(3072)
    hidden_act: str = choice("gelu", ("gelu", "gelu_new", "relu", "silu", "swish", "selu"))
    hidden_dropout_prob: float = probability(0.0)
    attention_probs_dropout_prob: float = probability(0.0)
    initializer_range: float = positive(0.02)
    layer_norm_eps: float = positive(1e-12)
    image_size: int | tuple[int, int] = side(384)
    patch_size: int | tuple[int, int] = side(32)
    num_channels: int = size(3)
    qkv_bias: bool = flag(True)
    max_image_length: int = limit(-1)
    tie_word_embeddings: bool = flag(True)
    num_images: int = limit(-1)

    def __post_init__(self):
        super().__post_init__()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )
        if min(self.grid) < 1:
            raise ValueError(f"image_size {self.image_size} is smaller than one patch of {self.patch_size} pixels.")

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Height and width of a patch, in pixels."""
        return _pair(self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches for which the position embeddings are made."""
        (height, width), (patch_height, patch_width) = _pair(self.image_size), self.patch_shape
        return height // patch_height, width // patch_width


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)

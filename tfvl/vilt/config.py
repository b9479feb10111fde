"""Configuration of the ViLT models."""

import dataclasses
from typing import ClassVar

from tfvl.modeling.bert_config import MAX_LAYERS, BertConfig
from tfvl.modeling.fields import count, flag, limit, probability, side, size


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViltConfig(BertConfig):
    """Sizes and options of a ViLT model; the defaults are those of `dandelin/vilt-b32-mlm` (upstream: `ViltConfig`).

    It has the fields of `BertConfig`, and these:

    Attributes:
        modality_type_vocab_size: number of modality types: text 0, first image 1, second image 2 (NLVR2).
        num_hidden_layers: number of transformer blocks.
        image_size: height and width, in pixels, for which the position embeddings are made.
        patch_size: height and width of a patch, in pixels.
        num_channels: channels of an image.
        qkv_bias: whether query, key and value have a bias.
        max_image_length: the largest number of patches per image that enters the encoder, the first ones in
            row-major order; -1 is no limit.
        num_images: number of images per text, for `ViltForImagesAndTextClassification`; -1 elsewhere.
    """

    model_type: ClassVar[str] = "vilt"

    modality_type_vocab_size: int = size(2)
    max_position_embeddings: int = size(40)
    num_hidden_layers: int = count(12, 0, MAX_LAYERS)
    hidden_dropout_prob: float = probability(0.0)
    attention_probs_dropout_prob: float = probability(0.0)
    image_size: int | tuple[int, int] = side(384)
    patch_size: int | tuple[int, int] = side(32)
    num_channels: int = size(3)
    qkv_bias: bool = flag(True)
    max_image_length: int = limit(-1)
    num_images: int = limit(-1)

    def __post_init__(self):
        super().__post_init__()
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
    height, width = (value, value) if isinstance(value, int) else value
    return height, width

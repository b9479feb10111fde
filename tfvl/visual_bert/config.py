"""Configuration of the VisualBERT models."""

import dataclasses
from typing import ClassVar

from tfvl.configuration import Config, flag, positive, probability, size


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualBertConfig(Config):
    """Sizes and options of a VisualBERT model; the defaults are upstream's (`VisualBertConfig`).

    Attributes:
        vocab_size: number of words.
        hidden_size: width of the encoder, a multiple of `num_attention_heads`.
        visual_embedding_dim: width of a region's feature vector: 2048 (VQA, COCO), 1024 (NLVR2) or 512 (VCR) in the
            published checkpoints.
        num_hidden_layers: number of transformer blocks.
        num_attention_heads: number of attention heads.
        intermediate_size: width of the perceptron in each block.
        hidden_act: activation in the blocks and in the MLM head: gelu, gelu_new, relu, silu or selu.
        hidden_dropout_prob: dropout rate of embeddings and dense layers, in [0, 1).
        attention_probs_dropout_prob: dropout rate of the attention probabilities, in [0, 1).
        max_position_embeddings: the longest text, in tokens.
        type_vocab_size: number of token types, of words and of regions alike.
        initializer_range: standard deviation of initial kernels and embeddings.
        layer_norm_eps: added to the variance in layer norms.
        bypass_transformer: whether the regions pass by the encoder and meet the text in one additional block.
        special_visual_initialize: whether token types and positions of regions start as copies of those of the words.
        tie_word_embeddings: whether the MLM decoder's kernel is the word embeddings.
        pad_token_id: row of the word embeddings that training leaves as it is. Upstream's files say 1, although the
            tokenizer pads with 0.
    """

    model_type: ClassVar[str] = "visual_bert"

    vocab_size: int = size(30522)
    hidden_size: int = size(768)
    visual_embedding_dim: int = size(512)
    num_hidden_layers: int = size(12)
    num_attention_heads: int = size(12)
    intermediate_size: int = size(3072)
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = probability(0.1)
    attention_probs_dropout_prob: float = probability(0.1)
    max_position_embeddings: int = size(512)
    type_vocab_size: int = size(2)
    initializer_range: float = positive(0.02)
    layer_norm_eps: float = positive(1e-12)
    bypass_transformer: bool = flag(False)
    special_visual_initialize: bool = flag(True)
    tie_word_embeddings: bool = flag(True)
    pad_token_id: int | None = 1

    def __post_init__(self):
        super().__post_init__()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )

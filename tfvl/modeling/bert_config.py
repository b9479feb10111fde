"""The fields that the configurations of the three models share, which all extend BERT by an image."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from tfvl.modeling.configuration import Config
from tfvl.modeling.fields import choice, flag, positive, probability, size

MAX_LAYERS = 1024  # more are a mistake or an attack
ACTIVATIONS = (  # the names of `tfvl.layers.activations`, which imports Keras
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
    *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2"),
    *("relu6", "selu", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh"),
)


class RegionInput(NamedTuple):
    """An input of models that see regions.

    Attributes:
        name: name of the input.
        size_field: the field of the configuration that holds the number of values per region; "" for a single value.
    """

    name: str
    size_field: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(Config):
    """Sizes and options of text embeddings, transformer blocks and the head of masked words.

    Attributes:
        vocab_size: number of words.
        hidden_size: width of the encoder, a multiple of `num_attention_heads`.
        num_attention_heads: number of attention heads.
        intermediate_size: width of the perceptron in each block.
        hidden_act: activation in the blocks and before the decoders, one of `ACTIVATIONS`, which are upstream's.
        hidden_dropout_prob: dropout rate of embeddings and dense layers, in [0, 1).
        attention_probs_dropout_prob: dropout rate of the attention probabilities, in [0, 1).
        max_position_embeddings: the longest text, in tokens.
        type_vocab_size: number of token types.
        initializer_range: standard deviation of initial kernels and embeddings.
        layer_norm_eps: added to the variance in layer norms.
        tie_word_embeddings: whether the kernel of the decoder of masked words is the word embeddings.
    """

    # For models that take regions: the input that each field of a `RegionBatch` becomes.
    region_inputs: ClassVar[Mapping[str, RegionInput]] = {}

    vocab_size: int = size(30522)
    hidden_size: int = size(768)
    num_attention_heads: int = size(12)
    intermediate_size: int = size(3072)
    hidden_act: str = choice("gelu", ACTIVATIONS)
    hidden_dropout_prob: float = probability(0.1)
    attention_probs_dropout_prob: float = probability(0.1)
    max_position_embeddings: int = size(512)
    type_vocab_size: int = size(2)
    initializer_range: float = positive(0.02)
    layer_norm_eps: float = positive(1e-12)
    tie_word_embeddings: bool = flag(True)

    def __post_init__(self):
        super().__post_init__()
        if self.pad_token_id is not None and not -self.vocab_size <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id is {self.pad_token_id}, expected one of {self.vocab_size} words, or None.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )

    def region_size(self, field: str) -> int | None:
        """Returns the number of values per region of a `RegionBatch` field.

        None if it is a single value, or the model does not have the field.
        """
        size_field = self.region_inputs[field].size_field if field in self.region_inputs else ""
        return getattr(self, size_field) if size_field else None

    @property
    def norm_eps(self) -> float:
        """The number that layer norms add to the variance."""
        return self.layer_norm_eps

    @property
    def padding_rows(self) -> dict[str, int]:
        """The rows of the text's tables that training leaves as they are (upstream: `padding_idx`)."""
        return {} if self.pad_token_id is None else {"word_embeddings": self.pad_token_id % self.vocab_size}

    @property
    def text_options(self) -> dict[str, Any]:
        """The arguments with which models make their `TextEmbeddings`."""
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "max_position_embeddings": self.max_position_embeddings,
            "type_vocab_size": self.type_vocab_size,
            "layer_norm_eps": self.norm_eps,
            "dropout": self.hidden_dropout_prob,
            "initializer_range": self.initializer_range,
            "padding_rows": self.padding_rows,
        }

    @property
    def block_options(self) -> dict[str, Any]:
        """The arguments that a `TransformerStack` passes on to each `TransformerBlock`."""
        return {
            "hidden_size": self.hidden_size,
            "num_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "hidden_act": self.hidden_act,
            "hidden_dropout": self.hidden_dropout_prob,
            "attention_dropout": self.attention_probs_dropout_prob,
            "layer_norm_eps": self.norm_eps,
            "initializer_range": self.initializer_range,
        }

    @property
    def masked_lm_options(self) -> dict[str, Any]:
        """The arguments with which models make their `MaskedLMHead`."""
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "hidden_act": self.hidden_act,
            "layer_norm_eps": self.norm_eps,
            "tied": self.tie_word_embeddings,
            "initializer_range": self.initializer_range,
        }

"""Configuration of the LXMERT models."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from tfvl.configuration import Config, flag, positive, probability, size


@dataclasses.dataclass(frozen=True, kw_only=True)
class LxmertConfig(Config):
    """Sizes and options of an LXMERT model; the defaults are `unc-nlp/lxmert-base-uncased` (upstream: `LxmertConfig`).

    Attributes:
        vocab_size: number of words.
        hidden_size: width of the three encoders, a multiple of `num_attention_heads`.
        num_attention_heads: number of attention heads.
        num_qa_labels: number of answers. `id2label` names them where it has as many entries; upstream's is not read.
        num_object_labels: number of object classes a region may be told to belong to.
        num_attr_labels: number of attributes a region may be told to have.
        intermediate_size: width of the perceptron in each block.
        hidden_act: activation in the blocks and before the decoders: gelu, gelu_new, relu, silu or selu.
        hidden_dropout_prob: dropout rate of embeddings and dense layers, in [0, 1).
        attention_probs_dropout_prob: dropout rate of the attention probabilities, in [0, 1).
        max_position_embeddings: the longest text, in tokens.
        type_vocab_size: number of token types of the text.
        initializer_range: standard deviation of initial kernels and embeddings.
        layer_norm_eps: added to the variance in layer norms (upstream's PyTorch models always take 1e-12).
        l_layers, x_layers, r_layers: number of blocks of the language, cross-modality and object relationship encoder.
        visual_feat_dim: width of a region's feature vector.
        visual_pos_dim: numbers that say where a region lies: 4 for a box.
        visual_loss_normalizer: factor of each of the three losses on regions.
        task_mask_lm, task_matched, task_obj_predict, task_qa: which objectives `LxmertForPreTraining` has: masked
            words, image-text match, regions, answers.
        visual_obj_loss, visual_attr_loss, visual_feat_loss: which losses on regions: object class, attribute, feature
            vector.
        tie_word_embeddings: whether the decoder of masked words has the word embeddings as its kernel.
    """

    model_type: ClassVar[str] = "lxmert"

    vocab_size: int = size(30522)
    hidden_size: int = size(768)
    num_attention_heads: int = size(12)
    num_qa_labels: int = size(9500)
    num_object_labels: int = size(1600)
    num_attr_labels: int = size(400)
    intermediate_size: int = size(3072)
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = probability(0.1)
    attention_probs_dropout_prob: float = probability(0.1)
    max_position_embeddings: int = size(512)
    type_vocab_size: int = size(2)
    initializer_range: float = positive(0.02)
    layer_norm_eps: float = positive(1e-12)
    l_layers: int = size(9)
    x_layers: int = size(5)
    r_layers: int = size(5)
    visual_feat_dim: int = size(2048)
    visual_pos_dim: int = size(4)
    visual_loss_normalizer: float = positive(6.67)
    task_matched: bool = flag(True)
    task_mask_lm: bool = flag(True)
    task_obj_predict: bool = flag(True)
    task_qa: bool = flag(True)
    visual_obj_loss: bool = flag(True)
    visual_attr_loss: bool = flag(True)
    visual_feat_loss: bool = flag(True)
    tie_word_embeddings: bool = flag(True)

    def __post_init__(self):
        super().__post_init__()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )

    @property
    def visual_losses(self) -> dict[str, int]:
        """The losses on regions that are switched on, and the width of each one's prediction (upstream's names)."""
        table = {
            "obj": (self.visual_obj_loss, self.num_object_labels),
            "attr": (self.visual_attr_loss, self.num_attr_labels),
            "feat": (self.visual_feat_loss, self.visual_feat_dim),
        }
        return {name: width for name, (on, width) in table.items() if on}

    def replace(self, **changes) -> Self:
        """As `Config.replace`; with another `num_qa_labels` the names of the old answers go, if `id2label` has them."""
        count = changes.get("num_qa_labels", self.num_qa_labels)
        if self.num_labels == self.num_qa_labels != count and not changes.keys() & {"id2label", "num_labels"}:
            changes["id2label"] = None
        return super().replace(**changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        # upstream writes the three layer counts a second time, as a dict, and never reads it
        return super().from_dict({name: value for name, value in values.items() if name != "num_hidden_layers"})

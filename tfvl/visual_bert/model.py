"""VisualBERT: one BERT over words and image regions (Li et al. 2019)."""

from typing import ClassVar

import keras
from keras import ops

from tfvl.layers.attention import expand_mask, join_masks, take_positions
from tfvl.layers.embeddings import check_text_length
from tfvl.layers.heads import Pooler
from tfvl.layers.transformer import PostNormBlock, TransformerStack, check_head_mask
from tfvl.modeling.base import PreTrainedModel
from tfvl.modeling.checks import (
    check_exactly_one,
    check_given,
    check_ids,
    check_range,
    check_rows,
    check_text_ids,
)
from tfvl.modeling.recipes import Recipe
from tfvl.visual_bert.config import VisualBertConfig
from tfvl.visual_bert.embeddings import VisualBertEmbeddings
from tfvl.visual_bert.weights import RULES

OF_REGIONS = ("visual_attention_mask", "visual_token_type_ids", "image_text_alignment")


class VisualBertPreTrainedModel(PreTrainedModel):
    """The base of all VisualBERT classes.

    Inputs (one of `input_ids` and `inputs_embeds` is needed, the others are optional; masks, types, positions and
    alignments with a single row are used for the whole batch):
        input_ids: int (batch, length).
        attention_mask: (batch, length), 1 for a word and 0 for padding; ones where left out.
        token_type_ids: int (batch, length); zeros where left out.
        position_ids: int (batch, length); 0, 1, 2, … where left out.
        head_mask: (heads,) or (layers, heads) of the encoder's blocks, 1 keeps a head and 0 silences it.
        inputs_embeds: float (batch, length, hidden), instead of `input_ids`.
        visual_embeds: float (batch, regions, visual_embedding_dim), the regions' features.
        visual_attention_mask: (batch, regions), 1 for a region and 0 for padding; ones where left out.
        visual_token_type_ids: int (batch, regions); ones where left out, as upstream. (The authors' code has zeros, and
            in NLVR2 ones for the regions of the second image.)
        image_text_alignment: int (batch, regions or more, words): indices in the text of each region's words, -1 for
            padding. Rows beyond the number of regions are not read.

    Returns of a call: a dict with the fields that the class names and, if asked for, `hidden_states` (one
    (batch, length + regions, hidden) for the embeddings and for each block) and `attentions` (one
    (batch, heads, positions, positions) for each block). With `bypass_transformer`, those of the encoder cover the text
    only, and the last ones, from the additional block, cover text and regions.
    """

    config_class = VisualBertConfig
    config: VisualBertConfig
    base_model_prefix = "visual_bert"
    weight_rules = RULES
    recipe = Recipe(2e-5, clip_norm=1.0)  # the authors' configs/
    input_names: ClassVar[tuple[str, ...]] = (
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "position_ids",
        "head_mask",
        "inputs_embeds",
        "visual_embeds",
        "visual_attention_mask",
        "visual_token_type_ids",
        "image_text_alignment",
    )
    float_inputs = frozenset({"head_mask", "inputs_embeds", "visual_embeds"})
    exported_inputs: ClassVar = {
        **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (None,)),
        "visual_embeds": (None, "visual_embedding_dim"),
        **dict.fromkeys(("visual_attention_mask", "visual_token_type_ids"), (None,)),
    }

    def check_inputs(self, inputs):
        config = self.config
        check_exactly_one(inputs, "input_ids", "inputs_embeds")
        check_given(inputs, "input_ids", "batch", "length")
        check_given(inputs, "inputs_embeds", "batch", "length", config.hidden_size)
        batch, length = (inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"]).shape[:2]
        if "position_ids" not in inputs:
            check_text_length(length, config.max_position_embeddings)
        for name in ("attention_mask", "token_type_ids", "position_ids"):
            check_rows(inputs, name, batch, length)
        check_ids(inputs, "position_ids", config.max_position_embeddings, "the position table ends there")
        check_text_ids(inputs, config)
        if "head_mask" in inputs:
            check_head_mask(inputs["head_mask"], config.num_hidden_layers, config.num_attention_heads)
        self.check_regions(inputs, batch, length)

    def check_regions(self, inputs, batch, length):
        if "visual_embeds" not in inputs:
            visual = [name for name in OF_REGIONS if name in inputs]
            if visual:
                raise ValueError(f"{visual[0]} is given without visual_embeds; give the regions' features as well.")
            return
        width = inputs["visual_embeds"].shape[-1]
        if width is not None and width != self.config.visual_embedding_dim:
            raise ValueError(
                f"visual_embeds has features of size {width}, but config.visual_embedding_dim is "
                f"{self.config.visual_embedding_dim}; take the detector that the checkpoint was trained with."
            )
        check_given(inputs, "visual_embeds", batch, "regions", width)
        count = inputs["visual_embeds"].shape[1]
        for name in ("visual_attention_mask", "visual_token_type_ids"):
            check_rows(inputs, name, batch, count)
        check_ids(inputs, "visual_token_type_ids", self.config.type_vocab_size, "token types")
        check_rows(inputs, "image_text_alignment", batch, "regions", "words")
        check_range(
            inputs, "image_text_alignment", -1, length and length - 1, "places of words in the text, or -1 for padding"
        )
        aligned = inputs["image_text_alignment"].shape[1] if "image_text_alignment" in inputs else None
        if None not in (aligned, count) and aligned < count:
            raise ValueError(
                f"image_text_alignment is of {aligned} regions, but visual_embeds of {count}; pad it with -1."
            )


@keras.saving.register_keras_serializable("tfvl")
class VisualBertModel(VisualBertPreTrainedModel):
    """The bare encoder (upstream: `VisualBertModel`); returns `last_hidden_state` and `pooler_output` (batch, hidden).

    With `bypass_transformer` only the text passes through the encoder; one additional block then attends over the
    encoded text and the embedded regions, as in the paper's code. (Upstream's implementation fails.) Without regions
    the additional block does not run.

    Args:
        config: sizes and options.
        add_pooling_layer: whether there is a pooler; without it `pooler_output` is left out.
    """

    constructor_options = ("add_pooling_layer",)

    def __init__(self, config: VisualBertConfig, add_pooling_layer: bool = True, **kwargs):
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.add_pooling_layer = add_pooling_layer
        self.embeddings = VisualBertEmbeddings(config, dtype=policy, name="embeddings")
        self.encoder = TransformerStack(
            "post_norm", config.num_hidden_layers, **config.block_options, dtype=policy, name="encoder"
        )
        self.additional_layer = None
        if config.bypass_transformer:
            self.additional_layer = PostNormBlock(**config.block_options, dtype=policy, name="additional_layer")
        self.pooler = None
        if add_pooling_layer:
            self.pooler = Pooler(config.hidden_size, config.initializer_range, dtype=policy, name="pooler")
        self.build()

    def build_layers(self):
        for layer in (self.embeddings, self.encoder, self.additional_layer, self.pooler):
            if layer is not None:
                layer.build()

    def call(self, inputs, positions=None, output_attentions=False, output_hidden_states=False, training=None):
        """Runs the encoder. If `positions` are given, only these are in the result; see `take_positions`."""
        text, regions = self.embeddings(inputs, training=training)  # (batch, length, hidden), (batch, regions, hidden)
        keep_all = output_attentions or output_hidden_states
        queries = None if keep_all else positions  # outputs of every layer have all positions
        hidden_states, all_hidden_states, attentions = self.encode(text, regions, inputs, queries, keep_all, training)
        outputs = {
            "last_hidden_state": hidden_states if queries is positions else take_positions(hidden_states, positions)
        }
        if self.pooler is not None:
            outputs["pooler_output"] = self.pooler(hidden_states)
        if output_hidden_states:
            outputs["hidden_states"] = all_hidden_states
        if output_attentions:
            outputs["attentions"] = attentions
        return outputs

    def encode(self, text, regions, inputs, queries, keep_all, training):
        """Runs the blocks over the text and the regions, or over the text if `regions` is None.

        Returns: the results of `TransformerStack.call`.
        """
        options = {"queries": queries, "keep_all": keep_all, "training": training}
        text_mask, head_mask = inputs.get("attention_mask"), inputs.get("head_mask")
        if regions is None:
            return self.encoder(text, expand_mask(text_mask), head_mask, **options)
        mask = expand_mask(join_masks((text_mask, text), (inputs.get("visual_attention_mask"), regions)))
        if self.additional_layer is None:
            return self.encoder(ops.concatenate([text, regions], axis=1), mask, head_mask, **options)
        text, states, attentions = self.encoder(
            text, expand_mask(text_mask), head_mask, keep_all=keep_all, training=training
        )
        both = ops.concatenate([text, regions], axis=1)  # (batch, length + regions, hidden)
        hidden_states, probabilities = self.additional_layer(both, mask, queries=queries, training=training)
        return hidden_states, (*states, hidden_states), (*attentions, probabilities)

"""LXMERT: three encoders, of a text, of an image's regions, and of both together (Tan & Bansal 2019)."""

from typing import ClassVar

import keras

from tfvl.layers.attention import expand_mask
from tfvl.layers.embeddings import TextEmbeddings, check_text_length
from tfvl.layers.heads import Pooler
from tfvl.layers.transformer import TransformerStack
from tfvl.lxmert.config import LxmertConfig
from tfvl.lxmert.encoder import CrossModalityStack, VisualFeatureEncoder
from tfvl.lxmert.weights import RULES
from tfvl.modeling.base import PreTrainedModel
from tfvl.modeling.checks import check_exactly_one, check_given, check_rows, check_text_ids
from tfvl.modeling.recipes import Recipe


class LxmertPreTrainedModel(PreTrainedModel):
    """Base of all LXMERT classes.

    Inputs (a text, `visual_feats` and `visual_pos` are needed, the others may be left out):
        input_ids: int (batch, length).
        visual_feats: float (batch, regions, visual_feat_dim), a detector's features of each region.
        visual_pos: float (batch, regions, visual_pos_dim), the box of each region: x1, y1, x2, y2 in 0 … 1.
        attention_mask: (batch, length), 1 for a word and 0 for padding; ones if left out. This input and the next two
            may have a single row, which then holds for the whole batch.
        visual_attention_mask: (batch, regions), 1 for a region and 0 for padding; ones if left out.
        token_type_ids: int (batch, length); zeros if left out.
        inputs_embeds: float (batch, length, hidden), instead of `input_ids`.

    Returns of a call: a dict with the fields that the class names and, if asked for,
        language_hidden_states, vision_hidden_states: (batch, length, hidden) and (batch, regions, hidden), one for each
            block of the language or vision encoder, then one for each block of the cross-modality encoder.
        language_attentions, vision_attentions: (batch, heads, length, length) and (batch, heads, regions, regions), one
            for each block of the language or vision encoder.
        cross_encoder_attentions: (batch, heads, length, regions), words over regions, one for each block.
    """

    config_class = LxmertConfig
    config: LxmertConfig
    base_model_prefix = "lxmert"
    weight_rules = RULES
    # sections 3.3 and 4, and run/ of the authors, who let biases and norms decay too
    recipe = Recipe(5e-5, clip_norm=5.0)
    input_names = (
        "input_ids",
        "visual_feats",
        "visual_pos",
        "attention_mask",
        "visual_attention_mask",
        "token_type_ids",
        "inputs_embeds",
    )
    float_inputs = frozenset({"visual_feats", "visual_pos", "inputs_embeds"})
    exported_inputs: ClassVar = {
        **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (None,)),
        "visual_feats": (None, "visual_feat_dim"),
        "visual_pos": (None, "visual_pos_dim"),
        "visual_attention_mask": (None,),
    }

    def check_inputs(self, inputs):
        words = check_exactly_one(inputs, "input_ids", "inputs_embeds")
        for name in ("visual_feats", "visual_pos"):
            if name not in inputs:
                raise ValueError(f"{name} is missing; LXMERT needs each region's features and its box.")
        text = tuple(inputs[words].shape)[:2]
        regions = tuple(inputs["visual_feats"].shape)[:2]
        expected = {
            "input_ids": ("batch", "length"),
            "inputs_embeds": (*text, self.config.hidden_size),
            "visual_feats": (text[0], "regions", self.config.visual_feat_dim),
            "visual_pos": (*regions, self.config.visual_pos_dim),
        }
        for name, shape in expected.items():
            check_given(inputs, name, *shape)
        for name, shape in (
            ("attention_mask", text),
            ("token_type_ids", text),
            ("visual_attention_mask", regions),
        ):
            check_rows(inputs, name, *shape)
        check_text_length(text[1], self.config.max_position_embeddings)
        check_text_ids(inputs, self.config)


@keras.saving.register_keras_serializable("tfvl")
class LxmertModel(LxmertPreTrainedModel):
    """The three encoders (upstream: `LxmertModel`).

    Returns `language_output` (batch, length, hidden), `vision_output` (batch, regions, hidden) and `pooled_output`
    (batch, hidden), read from the first word.
    """

    def __init__(self, config: LxmertConfig, **kwargs):
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        block_options = {**config.block_options, "dtype": policy}
        self.embeddings = TextEmbeddings(**config.text_options, dtype=policy, name="embeddings")
        self.visual_embeddings = VisualFeatureEncoder(
            config.visual_feat_dim,
            config.visual_pos_dim,
            config.hidden_size,
            config.norm_eps,
            config.hidden_dropout_prob,
            config.initializer_range,
            dtype=policy,
            name="visual_embeddings",
        )
        self.language_encoder = TransformerStack("post_norm", config.l_layers, **block_options, name="language_encoder")
        self.vision_encoder = TransformerStack("post_norm", config.r_layers, **block_options, name="vision_encoder")
        self.cross_encoder = CrossModalityStack(config.x_layers, **block_options, name="cross_encoder")
        self.pooler = Pooler(config.hidden_size, config.initializer_range, dtype=policy, name="pooler")
        self.build()

    def build_layers(self):
        hidden = (None, None, self.config.hidden_size)
        encoders = (self.language_encoder, self.vision_encoder, self.cross_encoder)
        for layer in (self.embeddings, self.visual_embeddings, *encoders, self.pooler):
            layer.build(hidden)

    def call(self, inputs, pooled_only=False, output_attentions=False, output_hidden_states=False, training=None):
        """Runs the encoders; with `pooled_only`, computes only what `pooled_output` depends on."""
        keep_all = output_attentions or output_hidden_states
        pooled_only = pooled_only and not keep_all
        words = self.embeddings(
            inputs.get("input_ids"), inputs.get("token_type_ids"), None, inputs.get("inputs_embeds"), training=training
        )  # (batch, length, hidden)
        regions = self.visual_embeddings(inputs["visual_feats"], inputs["visual_pos"], training=training)
        words_mask, regions_mask = (
            expand_mask(inputs.get(name)) for name in ("attention_mask", "visual_attention_mask")
        )
        words, words_states, words_attentions = self.language_encoder(
            words, words_mask, keep_all=keep_all, training=training
        )
        regions, regions_states, regions_attentions = self.vision_encoder(
            regions, regions_mask, keep_all=keep_all, training=training
        )
        cross_words, cross_regions, cross_attentions = self.cross_encoder(
            words, regions, words_mask, regions_mask, first_word_only=pooled_only, training=training
        )
        words, regions = (words, *cross_words)[-1], (regions, *cross_regions)[-1]
        outputs = {"pooled_output": self.pooler(words)}
        if not pooled_only:
            outputs = {"language_output": words, "vision_output": regions, **outputs}
        if output_hidden_states:  # the embeddings are not among them, as upstream
            outputs["language_hidden_states"] = words_states[1:] + cross_words
            outputs["vision_hidden_states"] = regions_states[1:] + cross_regions
        if output_attentions:
            outputs["language_attentions"] = words_attentions
            outputs["vision_attentions"] = regions_attentions
            outputs["cross_encoder_attentions"] = cross_attentions
        return outputs

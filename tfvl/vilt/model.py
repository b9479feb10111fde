"""ViLT: one transformer over words and image patches (Kim, Son & Kim 2021)."""

import functools
from typing import Any, ClassVar

import keras

from tfvl.layers.attention import expand_mask
from tfvl.layers.embeddings import TextEmbeddings, check_text_length
from tfvl.layers.heads import Pooler
from tfvl.layers.normalization import LayerNormalization
from tfvl.layers.transformer import TransformerStack, check_head_mask
from tfvl.modeling.base import PreTrainedModel
from tfvl.modeling.checks import check_exactly_one, check_text_ids
from tfvl.modeling.recipes import Recipe
from tfvl.vilt.config import ViltConfig
from tfvl.vilt.embeddings import ViltEmbeddings, resized_positions
from tfvl.vilt.weights import RULES


class ViltPreTrainedModel(PreTrainedModel):
    """The base of all ViLT classes.

    Inputs (one input for the text and one for the image are needed, the others are optional):
        input_ids: int (batch, length).
        attention_mask: (batch, length), 1 for a word and 0 for padding; ones where left out.
        token_type_ids: int (batch, length); zeros where left out.
        pixel_values: float (batch, height, width, channels).
        pixel_mask: (batch, height, width), 1 for a pixel and 0 for padding; ones where left out.
        head_mask: (heads,) or (layers, heads), 1 keeps a head and 0 silences it.
        inputs_embeds: float (batch, length, hidden), instead of `input_ids`.
        image_embeds: float (batch, patches, hidden), instead of `pixel_values`; `pixel_mask` is then (batch, patches).

    Returns of a call: a dict with the fields that the class names and, if asked for, `hidden_states` (one
    (batch, length + patches + 1, hidden) for the embeddings and for each block) and `attentions` (one
    (batch, heads, positions, positions) for each block).
    """

    config_class = ViltConfig
    config: ViltConfig
    base_model_prefix = "vilt"
    weight_rules = RULES
    recipe = Recipe(1e-4, beta_2=0.98, epsilon=1e-8)  # paper, section 4.2, and vilt/config.py of the authors
    input_names = (
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "pixel_values",
        "pixel_mask",
        "head_mask",
        "inputs_embeds",
        "image_embeds",
        "image_token_type_idx",
    )

    float_inputs = frozenset({"pixel_values", "head_mask", "inputs_embeds", "image_embeds"})
    exported_inputs: ClassVar = {
        **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (None,)),
        "pixel_values": (None, None, "num_channels"),
        "pixel_mask": (None, None),
    }

    # how many axes an input may have
    ranks: ClassVar[dict[str, tuple[int, ...]]] = {
        "input_ids": (2,),
        "inputs_embeds": (3,),
        "pixel_values": (4,),
        "image_embeds": (3,),
    }

    def check_inputs(self, inputs):
        pairs = (("input_ids", "inputs_embeds"), ("pixel_values", "image_embeds"))
        given = [check_exactly_one(inputs, *names) for names in pairs]
        for name, ranks in self.ranks.items():
            if name in inputs and len(inputs[name].shape) not in ranks:
                raise ValueError(
                    f"{name} has shape {tuple(inputs[name].shape)}, expected {' or '.join(map(str, ranks))} axes."
                )
        text, image = (inputs[name].shape for name in given)
        if None not in (text[0], image[0]) and text[0] != image[0]:
            raise ValueError(f"The text has a batch of {text[0]} and the image one of {image[0]}; they must be equal.")
        check_text_length(text[-1 if "input_ids" in inputs else -2], self.config.max_position_embeddings)
        check_text_ids(inputs, self.config)
        if "pixel_values" in inputs and image[-1] != self.config.num_channels:
            raise ValueError(
                f"pixel_values has shape {tuple(image)}, expected (batch, height, width, {self.config.num_channels}): "
                "channels come last."
            )
        if "head_mask" in inputs:
            check_head_mask(inputs["head_mask"], self.config.num_hidden_layers, self.config.num_attention_heads)

    @classmethod
    def position_refits(cls, held, wanted):
        resized = functools.partial(resized_positions, held=held.grid, wanted=wanted.grid)
        return {"embeddings/position_embeddings": resized}

    def start_as_waves(self):
        base: Any = getattr(self, self.base_model_prefix, self)
        base.embeddings.start_as_waves()


@keras.saving.register_keras_serializable("tfvl")
class ViltModel(ViltPreTrainedModel):
    """The bare encoder (upstream: `ViltModel`); returns `last_hidden_state` and `pooler_output` (batch, hidden).

    Args:
        config: sizes and options.
        add_pooling_layer: whether there is a pooler; without it `pooler_output` is left out.
    """

    constructor_options = ("add_pooling_layer",)

    def __init__(self, config: ViltConfig, add_pooling_layer: bool = True, **kwargs):
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.add_pooling_layer = add_pooling_layer
        self.embeddings = ViltEmbeddings(
            TextEmbeddings(**config.text_options, dtype=policy, name="text_embeddings"),
            config,
            dtype=policy,
            name="embeddings",
        )
        self.encoder = TransformerStack(
            "pre_norm",
            config.num_hidden_layers,
            **config.block_options,
            qkv_bias=config.qkv_bias,
            dtype=policy,
            name="encoder",
        )
        self.layernorm = LayerNormalization(epsilon=config.layer_norm_eps, dtype=policy, name="layernorm")
        self.pooler = None
        if add_pooling_layer:
            self.pooler = Pooler(config.hidden_size, config.initializer_range, dtype=policy, name="pooler")
        self.build()

    def build_layers(self):
        hidden = (None, None, self.config.hidden_size)
        for layer in (self.embeddings, self.encoder, self.layernorm, self.pooler):
            if layer is not None:
                layer.build(hidden)

    def call(self, inputs, positions=None, output_attentions=False, output_hidden_states=False, training=None):
        """Runs the encoder. If `positions` are given, only these are in the result; see `take_positions`."""
        hidden_states, mask = self.embeddings(inputs, training=training)  # (batch, length + patches + 1, hidden)
        keep_all = output_attentions or output_hidden_states
        queries = None if keep_all else positions  # outputs of every layer have all positions
        hidden_states, all_hidden_states, attentions = self.encoder(
            hidden_states,
            expand_mask(mask),
            inputs.get("head_mask"),
            queries=queries,
            keep_all=keep_all,
            training=training,
        )
        outputs = {"last_hidden_state": self.layernorm(hidden_states)}
        if self.pooler is not None:
            outputs["pooler_output"] = self.pooler(outputs["last_hidden_state"])
        if output_hidden_states:
            outputs["hidden_states"] = all_hidden_states
        if output_attentions:
            outputs["attentions"] = attentions
        return outputs

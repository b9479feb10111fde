"""Keras' own routine for layers (`run_layer_test`), on every layer.

It makes, serialises, builds, calls and trains a layer, compares what it gives with what it says it would, and does so
once more in mixed precision.
"""

import keras
import numpy as np
import pytest
from keras.src.testing.test_case import TestCase

import tfvl
from tfvl.layers.attention import CrossAttention, Dense, SelfAttention
from tfvl.layers.embeddings import PatchEmbeddings, TextEmbeddings
from tfvl.layers.heads import ClassifierHead, MaskedLMHead, Pooler
from tfvl.layers.normalization import LayerNormalization
from tfvl.layers.transformer import PostNormBlock, PreNormBlock, TransformerStack
from tfvl.lxmert.encoder import CrossModalityBlock, CrossModalityStack, VisualFeatureEncoder
from tfvl.lxmert.heads import AnswerHead, ObjectHead
from tfvl.vilt.embeddings import ViltEmbeddings
from tfvl.visual_bert.embeddings import VisualBertEmbeddings
from tfvl.visual_bert.heads import RegionToPhraseAttention

BLOCK = {"hidden_size": 12, "num_heads": 3, "intermediate_size": 20}
DROPOUTS = {"hidden_dropout": 0.1, "attention_dropout": 0.1}
TEXT = {"vocab_size": 31, "hidden_size": 12, "max_position_embeddings": 9, "type_vocab_size": 2}
CONFIG = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 20, "vocab_size": 31}
SEQUENCE, PAIR = {"input_shape": (2, 5, 12)}, {"language_shape": (2, 5, 12), "vision_shape": (2, 4, 12)}
UNTRAINED = {"run_training_check": False}  # the routine trains layers of one input and one output


def words(*shape):
    return np.random.default_rng(0).integers(0, 31, shape).astype("int32")


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@keras.saving.register_keras_serializable("tests")
class NamedViltEmbeddings(ViltEmbeddings):
    """A `ViltEmbeddings` whose `build` has the argument's name, as the routine needs for layers that take a dict."""

    def build(self, inputs=None):
        super().build()


@keras.saving.register_keras_serializable("tests")
class NamedVisualBertEmbeddings(VisualBertEmbeddings):
    """Does for VisualBERT what `NamedViltEmbeddings` does."""

    def build(self, inputs=None):
        super().build()


# with a mask: where nothing is masked the layer returns None for it, which a Keras graph cannot hold
VILT_INPUTS = {
    "input_ids": words(2, 5),
    "attention_mask": np.ones((2, 5), "int32"),
    "pixel_values": numbers(2, 8, 8, 3),
}
LAYERS = {
    "dense": (Dense, {"units": 5}, SEQUENCE),
    "self attention": (SelfAttention, {"hidden_size": 12, "num_heads": 3}, SEQUENCE | UNTRAINED),
    "cross attention": (
        CrossAttention,
        {"hidden_size": 12, "num_heads": 3, "context_size": 7},
        {"input_shape": {"hidden_states_shape": (2, 5, 12), "context_shape": (2, 4, 7)}} | UNTRAINED,
    ),
    "norm": (LayerNormalization, {}, SEQUENCE),
    "norm without centre": (LayerNormalization, {"center": False}, SEQUENCE),
    "norm without scale": (LayerNormalization, {"scale": False}, SEQUENCE),
    "norm of another axis": (LayerNormalization, {"axis": 1}, SEQUENCE),
    "norm of two axes": (LayerNormalization, {"axis": (1, 2)}, SEQUENCE),
    "text embeddings": (TextEmbeddings, TEXT | {"padding_rows": {"word_embeddings": 0}}, {"input_data": words(2, 5)}),
    "patches": (
        PatchEmbeddings,
        {"patch_size": (4, 4), "num_channels": 3, "hidden_size": 12},
        {"input_shape": (2, 8, 8, 3)},
    ),
    "pooler": (Pooler, {"hidden_size": 12}, SEQUENCE),
    "tied words": (
        MaskedLMHead,
        {"vocab_size": 31, "hidden_size": 12},
        {"input_shape": {"hidden_states_shape": (2, 5, 12), "word_embeddings_shape": (31, 12)}} | UNTRAINED,
    ),
    "untied words": (MaskedLMHead, {"vocab_size": 31, "hidden_size": 12, "tied": False}, SEQUENCE),
    "classifier": (
        ClassifierHead,
        {"input_size": 12, "intermediate_size": 20, "num_labels": 4},
        {"input_shape": (2, 12)},
    ),
    "pre-norm block": (PreNormBlock, BLOCK, SEQUENCE | UNTRAINED),
    "post-norm block": (PostNormBlock, BLOCK | DROPOUTS, SEQUENCE | UNTRAINED),
    "stack": (TransformerStack, BLOCK | {"block": "pre_norm", "num_layers": 2}, SEQUENCE | UNTRAINED),
    "stack of nothing": (TransformerStack, BLOCK | {"block": "post_norm", "num_layers": 0}, SEQUENCE | UNTRAINED),
    "regions": (
        VisualFeatureEncoder,
        {"feature_size": 7, "box_size": 4, "hidden_size": 12},
        {"input_shape": {"features_shape": (2, 5, 7), "boxes_shape": (2, 5, 4)}} | UNTRAINED,
    ),
    "cross block": (CrossModalityBlock, BLOCK, {"input_shape": PAIR} | UNTRAINED),
    "cross block with dropout": (CrossModalityBlock, BLOCK | DROPOUTS, {"input_shape": PAIR} | UNTRAINED),
    "cross stack": (CrossModalityStack, BLOCK | {"num_layers": 2}, {"input_shape": PAIR} | UNTRAINED),
    "answers": (AnswerHead, {"input_size": 12, "intermediate_size": 20, "num_labels": 4}, {"input_shape": (2, 12)}),
    "objects": (
        ObjectHead,
        {
            "widths": {"obj": 5, "attr": 4, "feat": 7},
            "hidden_size": 12,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "initializer_range": 0.02,
        },
        SEQUENCE | UNTRAINED,
    ),
    "phrases": (
        RegionToPhraseAttention,
        {"hidden_size": 12, "head_size": 4},
        {"input_shape": {"phrases_shape": (2, 5, 12), "regions_shape": (2, 4, 12)}} | UNTRAINED,
    ),
    "ViLT's embeddings": (
        NamedViltEmbeddings,
        {
            "text_embeddings": TextEmbeddings(**TEXT),
            "config": tfvl.ViltConfig(**CONFIG, image_size=8, patch_size=4),
        },
        {"input_data": {"inputs": VILT_INPUTS}, "run_mixed_precision_check": False}
        | UNTRAINED,  # its words keep their policy
    ),
    "VisualBERT's embeddings": (
        NamedVisualBertEmbeddings,
        {"config": tfvl.VisualBertConfig(**CONFIG, visual_embedding_dim=7)},
        {"input_data": {"inputs": {"input_ids": words(2, 5), "visual_embeds": numbers(2, 4, 7)}}} | UNTRAINED,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    layer, options, routine = LAYERS[name]
    TestCase().run_layer_test(layer, options, **routine)


def test_a_norm_without_centre_or_scale_is_keras():
    x = numbers(2, 5, 12)
    for options in ({"center": False}, {"scale": False}, {"axis": 1}, {"center": False, "scale": False}):
        ours, theirs = LayerNormalization(**options), keras.layers.LayerNormalization(**options)
        for layer in (ours, theirs):
            layer.build(x.shape)
        for mine, other in zip(ours.weights, theirs.weights, strict=True):
            mine.assign(other + numbers(*other.shape))
            other.assign(mine)
        np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)  # float32, in another order


def test_double_precision_is_not_lost_in_single():
    """A norm and an attention in float64 keep what float32 would round off."""
    x = np.random.default_rng(0).normal(size=(2, 5, 12))
    norm = LayerNormalization(epsilon=1e-12, dtype="float64")
    norm.build(x.shape)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    np.testing.assert_allclose(norm(x), expected, atol=1e-12)
    attention = SelfAttention(12, 3, dtype="float64")
    attention.build()
    probabilities = np.asarray(attention(x)[1])
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-12)

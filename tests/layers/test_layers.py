"""The shared layers: against plain NumPy, in mixed precision, serialised, and with gradient checkpointing."""

import math

import keras
import numpy as np
import pytest
from support.vilt import randomise

from tfvl.layers.activations import ACTIVATIONS, activation
from tfvl.layers.attention import CrossAttention, Dense, SelfAttention, expand_mask
from tfvl.layers.embeddings import PatchEmbeddings, TextEmbeddings
from tfvl.layers.heads import ClassifierHead, MaskedLMHead, Pooler
from tfvl.layers.transformer import PostNormBlock, PreNormBlock, TransformerStack, per_layer_head_mask
from tfvl.modeling.bert_config import ACTIVATIONS as NAMES

pytestmark = pytest.mark.numeric

FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}  # sums of a few dozen float32 terms, in another order
BLOCK = {"hidden_size": 12, "num_heads": 3, "intermediate_size": 20}


def softmax(scores):
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def attention_in_numpy(query, key, value, heads, bias, output):
    """Computes multi-head attention by explicit loops over batch and heads, in float64."""
    size = query.shape[-1] // heads
    context = np.zeros(query.shape)
    probabilities = np.zeros((len(query), heads, query.shape[1], key.shape[1]))
    for row in range(len(query)):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[row, :, part] @ key[row, :, part].T / math.sqrt(size)
            probabilities[row, head] = softmax(scores + (0 if bias is None else bias[row, 0]))
            context[row, :, part] = probabilities[row, head] @ value[row, :, part]
    kernel, offset = output
    return context @ kernel + offset, probabilities


def weights(layer):
    return [variable.numpy().astype("float64") for variable in (layer.kernel, layer.bias)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_self_attention_with_a_mask(rng):
    layer = SelfAttention(12, 3)
    layer.build()
    randomise(layer)
    x, mask = rng.normal(size=(2, 5, 12)), np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    kernel, bias = weights(layer.qkv)
    query, key, value = np.split(x @ kernel + bias, 3, axis=-1)
    attention_bias = np.where(mask, 0, -1e30)[:, None, None, :]
    expected, probabilities = attention_in_numpy(query, key, value, 3, attention_bias, weights(layer.output_dense))
    output, attention = layer(x.astype("float32"), attention_mask=expand_mask(mask))
    np.testing.assert_allclose(output, expected, **FLOAT32)
    np.testing.assert_allclose(attention, probabilities, **FLOAT32)
    assert np.all(np.asarray(attention)[1, ..., 3:] == 0)


def test_cross_attention_over_a_context_of_another_width(rng):
    layer = CrossAttention(12, 3, context_size=7)
    layer.build()
    randomise(layer)
    x, context = rng.normal(size=(2, 4, 12)), rng.normal(size=(2, 6, 7))
    kernel, bias = weights(layer.query)
    query = x @ kernel + bias
    kernel, bias = weights(layer.key_value)
    key, value = np.split(context @ kernel + bias, 2, axis=-1)
    expected, probabilities = attention_in_numpy(query, key, value, 3, None, weights(layer.output_dense))
    output, attention = layer(x.astype("float32"), context.astype("float32"))
    np.testing.assert_allclose(output, expected, **FLOAT32)
    np.testing.assert_allclose(attention, probabilities, **FLOAT32)


@pytest.mark.parametrize("block", [PreNormBlock, PostNormBlock])
def test_only_some_positions_of_a_block(block, rng):
    layer = block(**BLOCK)
    layer.build()
    randomise(layer)
    x = rng.normal(size=(2, 6, 12)).astype("float32")
    whole, _ = layer(x)
    first, _ = layer(x, queries=2)
    assert first.shape == (2, 2, 12)
    np.testing.assert_allclose(first, whole[:, :2], **FLOAT32)
    some, _ = layer(x, queries=np.array([[5, 0, 5], [3, 1, 2]], "int32"))
    np.testing.assert_allclose(some, np.stack([whole[0].numpy()[[5, 0, 5]], whole[1].numpy()[[3, 1, 2]]]), **FLOAT32)


@pytest.mark.parametrize("block", ["pre_norm", "post_norm"])
def test_gradient_checkpointing_changes_no_gradient(block, rng):
    import tensorflow as tf

    stack = TransformerStack(block, 2, **BLOCK, hidden_dropout=0.5, attention_dropout=0.3)
    stack.build()
    randomise(stack)
    seeds = [variable.numpy() for variable in stack.non_trainable_variables]
    assert seeds
    x = tf.constant(rng.normal(size=(2, 5, 12)).astype("float32"))
    mask = expand_mask(np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]))
    gradients = {}
    for checkpointing in (False, True):
        stack.gradient_checkpointing = checkpointing
        for variable, seed in zip(stack.non_trainable_variables, seeds, strict=True):
            variable.assign(seed)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(stack(x, mask, training=True)[0] ** 2)
        gradients[checkpointing] = tape.gradient(loss, [v.value for v in stack.trainable_variables])
    for plain, recomputed in zip(gradients[False], gradients[True], strict=True):
        np.testing.assert_allclose(recomputed, plain, **FLOAT32)


@pytest.mark.half_precision
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_softmax_and_norms_stay_in_float32(policy, rng):
    """Scores of some ten thousand must not give infinity or NaN, and masked words must stay masked."""
    layer = SelfAttention(12, 3, dtype=policy)
    layer.build()
    for variable in layer.weights:
        variable.assign(np.full(variable.shape, 10.0))
    x = np.abs(rng.normal(size=(1, 4, 12))).astype("float16")
    output, attention = layer(x, attention_mask=expand_mask(np.array([[1, 1, 0, 0]])))
    assert output.dtype == keras.DTypePolicy(policy).compute_dtype
    assert np.isfinite(np.asarray(attention, "float32")).all()
    np.testing.assert_allclose(np.asarray(attention, "float32").sum(-1), 1, atol=1e-2)
    assert np.all(np.asarray(attention, "float32")[..., 2:] == 0)
    norm = PreNormBlock(**BLOCK, dtype=policy)
    norm.build()
    large = np.full((1, 3, 12), 300.0) + np.arange(12)  # squares overflow float16
    assert np.isfinite(np.asarray(norm(large.astype("float16"))[0], "float32")).all()


def test_activations_by_their_definitions():
    x = np.linspace(-4, 4, 41)
    phi = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    tanh = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    selu = 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))
    logistic, softplus = 1 / (1 + np.exp(-x)), np.log1p(np.exp(x))
    laplace = [0.5 * (1 + math.erf((value - 0.707107) / (0.282095 * math.sqrt(2)))) for value in x]
    expected = {
        **dict.fromkeys(("gelu", "gelu_python", "gelu_10"), x * phi),  # clipped at values that x does not reach
        **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh", "gelu_pytorch_tanh"), tanh),
        **dict.fromkeys(("silu", "swish"), x * logistic),
        "hardswish": x * np.clip(x + 3, 0, 6) / 6,
        "laplace": laplace,
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "linear": x,
        "mish": x * np.tanh(softplus),
        "quick_gelu": x / (1 + np.exp(-1.702 * x)),
        "relu": np.maximum(x, 0),
        "relu2": np.maximum(x, 0) ** 2,
        "relu6": np.clip(x, 0, 6),
        "selu": selu,
        "sigmoid": logistic,
        "sqrtsoftplus": np.sqrt(softplus),
        "tanh": np.tanh(x),
    }
    assert expected.keys() == ACTIVATIONS.keys() == set(NAMES)
    assert np.asarray(activation("gelu_10")(np.float32([-20, 20]))).tolist() == [0, 10]
    for name, values in expected.items():
        np.testing.assert_allclose(activation(name)(x.astype("float32")), values, err_msg=name, **FLOAT32)


def test_an_unknown_activation_is_an_error():
    with pytest.raises(ValueError, match="hidden_act is 'prelu', expected one of gelu, "):
        activation("prelu")


def test_hidden_size_must_divide_by_the_heads():
    with pytest.raises(ValueError, match="hidden_size 10 is not a multiple of num_attention_heads 3"):
        SelfAttention(10, 3)


def test_text_embeddings_by_their_definition(rng):
    layer = TextEmbeddings(11, 8, max_position_embeddings=4, type_vocab_size=2, layer_norm_eps=1e-3)
    layer.build()
    randomise(layer)
    words, positions, types, gamma, beta = (v.numpy().astype("float64") for v in layer.weights)
    ids, kinds = np.array([[3, 10, 0]]), np.array([[0, 1, 1]])
    total = words[ids] + positions[:3] + types[kinds]
    deviation = total - total.mean(-1, keepdims=True)
    expected = deviation / np.sqrt((deviation**2).mean(-1, keepdims=True) + 1e-3) * gamma + beta
    np.testing.assert_allclose(layer(ids, kinds), expected, **FLOAT32)
    backwards = layer(ids[:, ::-1], kinds[:, ::-1], np.array([[2, 1, 0]]))
    np.testing.assert_allclose(backwards[:, ::-1], expected, **FLOAT32)
    np.testing.assert_allclose(
        layer(token_type_ids=kinds, inputs_embeds=words[ids].astype("float32")), expected, **FLOAT32
    )


def test_patches_are_those_of_a_convolution(rng):
    layer = PatchEmbeddings((4, 3), 3, 7)
    layer.build()
    randomise(layer)
    images = rng.normal(size=(2, 13, 11, 3)).astype("float32")  # a row and two columns of pixels fill no patch
    expected = keras.ops.conv(images, layer.kernel, strides=(4, 3), padding="valid") + layer.bias
    np.testing.assert_allclose(layer(images), expected, **FLOAT32)
    assert layer(images[:0]).shape == (0, 3, 3, 7)


def test_head_masks_by_layer():
    assert per_layer_head_mask(None, 3) == [None] * 3
    masks = per_layer_head_mask(np.array([[1.0, 0.0], [0.5, 1.0]]), 2)
    assert [np.asarray(mask).ravel().tolist() for mask in masks] == [[1.0, 0.0], [0.5, 1.0]]
    masks = per_layer_head_mask(np.array([0.0, 1.0]), 3)
    assert [np.asarray(mask).ravel().tolist() for mask in masks] == [[0.0, 1.0]] * 3


def test_a_tied_and_an_untied_decoder(rng):
    hidden, words = rng.normal(size=(2, 3, 8)).astype("float32"), rng.normal(size=(11, 8)).astype("float32")
    tied, untied = MaskedLMHead(11, 8, tied=True), MaskedLMHead(11, 8, tied=False)
    for head in (tied, untied):
        head.build()
    randomise(untied)
    for mine, other in zip(
        tied.transform.weights + tied.layer_norm.weights,
        untied.transform.weights + untied.layer_norm.weights,
        strict=True,
    ):
        mine.assign(other)
    tied.bias.assign(untied.bias)
    untied.decoder.kernel.assign(words.T)
    np.testing.assert_allclose(tied(hidden, words), untied(hidden), **FLOAT32)
    assert tied(hidden, words).shape == (2, 3, 11)


LAYERS = {
    "self attention": (lambda: SelfAttention(12, 3, dropout=0.1, use_bias=False), (2, 5, 12)),
    "pre-norm block": (lambda: PreNormBlock(**BLOCK, hidden_act="relu"), (2, 5, 12)),
    "post-norm block": (lambda: PostNormBlock(**BLOCK, layer_norm_eps=1e-3), (2, 5, 12)),
    "stack": (lambda: TransformerStack("post_norm", 2, **BLOCK), (2, 5, 12)),
    "pooler": (lambda: Pooler(12), (2, 5, 12)),
    "classifier": (lambda: ClassifierHead(12, 9, 4), (2, 12)),
    "dense": (lambda: Dense(7, activation="relu"), (2, 5, 12)),
    "patches": (lambda: PatchEmbeddings((4, 3), 3, 7), (2, 8, 9, 3)),
    "untied decoder": (lambda: MaskedLMHead(11, 12, "silu", tied=False), (2, 5, 12)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_in_a_functional_model_survive_saving(name, rng, tmp_path):
    make, shape = LAYERS[name]
    layer = make()
    inputs = keras.Input(shape[1:])
    outputs = layer(inputs)
    model = keras.Model(inputs, outputs[0] if isinstance(outputs, (tuple, list)) else outputs)
    randomise(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = rng.normal(size=shape).astype("float32")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert type(loaded.layers[-1]) is type(layer)

"""Training a part of a model: freezing by name and block, and low-rank adaptation; one head per family."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.classes import difference, inputs_of, small_model
from support.training import HEADS, example, train, values

# relative to 1 + the value: the merged kernel is added up once, the adapted one at every call
TOLERANCE = 1e-5
every_family = pytest.mark.parametrize("head", HEADS)


def deep_model(head):
    """Makes a model with three blocks in each stack."""
    stacks = ("l_layers", "r_layers", "x_layers") if head.startswith("Lxmert") else ("num_hidden_layers",)
    return small_model(head, **dict.fromkeys(stacks, 3))


def trained(model, head) -> set[str]:
    """Trains one step; returns the names of the weights that changed. A missing gradient is an error."""
    before = values(model)
    model.compile(keras.optimizers.Adam(1e-3))  # its first step is as long for a tiny gradient as for any
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        train(model, head)
    return {name for name, value in values(model).items() if not np.array_equal(value, before[name])}


@every_family
def test_freezing_parts_and_blocks(head):
    model = deep_model(head)
    everything = trained(model, head)
    model.freeze("embeddings")
    model.freeze("encoder", layers=2)
    left = trained(model, head)
    assert left == {n for n in everything if "embeddings/" not in n and "/layer_0/" not in n and "/layer_1/" not in n}
    assert left
    model.unfreeze("encoder", layers=[1])
    assert trained(model, head) - left == {n for n in everything if "/layer_1/" in n}
    model.unfreeze()
    assert trained(model, head) == everything


@every_family
def test_freezing_the_base_model_leaves_the_head(head):
    model = small_model(head)
    model.freeze(model.base_model_prefix)
    left = trained(model, head)
    assert left
    assert not any(name.startswith(model.base_model_prefix) for name in left)


@pytest.mark.parametrize(
    "head", ["ViltForMaskedLM", "VisualBertForRegionToPhraseAlignment", "LxmertForQuestionAnswering"]
)
def test_what_a_class_never_trains_stays_frozen(head):
    model = small_model(head)
    never = {variable.path for variable in model.weights if not variable.trainable}
    assert never
    model.unfreeze()
    assert set(model.frozen_weights) == never


def test_freezing_between_two_fits(tmp_path):
    """The graph that `fit` has made would train the weights further; a `.keras` file keeps what is frozen."""
    head = "ViltForQuestionAnswering"
    data = tf.data.Dataset.from_tensors(example(head))
    model = small_model(head)
    model.compile()
    model.fit(data, verbose=0)
    model.freeze("encoder")
    before = values(model)
    model.fit(data, verbose=0)
    changed = {name for name, value in values(model).items() if not np.array_equal(value, before[name])}
    assert changed
    assert not any("encoder/" in name for name in changed)
    model.compile(steps=20)
    train(model, head, 2)
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.frozen_weights == model.frozen_weights
    for each in (model, loaded):
        train(each, head, 2)
    for mine, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(mine, other, err_msg=mine.path)


def test_parts_and_blocks_that_there_are_not():
    model = deep_model("ViltForQuestionAnswering")
    with pytest.raises(ValueError, match=r"no part 'decoder'; its parts are .*classifier.*encoder"):
        model.freeze("decoder")
    with pytest.raises(ValueError, match="layers names 3, 4, but encoder has the blocks 0 to 2"):
        model.freeze("encoder", layers=5)
    with pytest.raises(ValueError, match="layers names 0, but pooler has no blocks"):
        model.unfreeze("pooler", layers=[0])


# ── low-rank adaptation ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("head", "options", "targets"),
    [(head, {}, {"qkv", "query", "key_value"}) for head in HEADS]
    + [(HEADS[0], {"alpha": 16.0, "targets": ("attention", "intermediate")}, {"attention", "intermediate"})],
)
def test_lora(head, options, targets, tmp_path):
    """Nothing changes at first; only thin matrices and the head are trained; files hold the merged weights."""
    model = small_model(head)
    inputs, original = inputs_of(head), values(model)
    before = tf.nest.flatten(model(inputs))
    model.enable_lora(4, **options)
    for mine, other in zip(tf.nest.flatten(model(inputs)), before, strict=True):
        np.testing.assert_array_equal(mine, other)
    base = getattr(model, model.base_model_prefix)
    assert {variable.name for variable in base.trainable_variables} == {"lora_kernel_a", "lora_kernel_b"}
    whole = {variable.path: variable.numpy() for variable in base.weights if not variable.name.startswith("lora")}
    model.compile(model.default_optimizer(learning_rate=3e-3))
    losses = train(model, head, 4)
    assert losses[-1] < losses[0]
    for variable in base.weights:
        if not variable.name.startswith("lora"):
            np.testing.assert_array_equal(variable, whole[variable.path], err_msg=variable.path)
    for plain in both_files(model, tmp_path):
        assert plain.weight_names().keys() == original.keys()
        assert not any(getattr(layer, "lora_enabled", False) for layer in plain._flatten_layers())
        found = map(difference, tf.nest.flatten(plain(inputs)), tf.nest.flatten(model(inputs)))
        assert max(found) < TOLERANCE
        moved = {name for name, value in values(plain).items() if not np.array_equal(value, original[name])}
        in_base = {name for name in original if name.startswith(model.base_model_prefix) and name.endswith("/kernel")}
        adapted = {name for name in moved if name.startswith(model.base_model_prefix)}
        assert adapted == {name for name in in_base - unread(plain) if set(name.split("/")) & targets}


def both_files(model, directory):
    model.save_pretrained(directory / "hub")
    model.save(directory / "model.keras")
    yield type(model).from_pretrained(directory / "hub")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the plain model has no use for the state of LoRA's optimizer
        yield keras.models.load_model(directory / "model.keras")


def unread(model) -> set[str]:
    return {name for name, variable in model.weight_names().items() if variable.path in model.frozen_weights}


def test_lora_in_half_precision_is_saved_in_full():
    model = small_model("ViltForQuestionAnswering")
    model = type(model)(model.config, dtype="mixed_bfloat16")
    name = "vilt/encoder/layer_0/attention/qkv/kernel"
    before = values(model)[name]
    model.enable_lora(2)
    layer = model.vilt.encoder.layers[0].attention.qkv
    layer.lora_kernel_b.assign(tf.random.normal(layer.lora_kernel_b.shape, stddev=1e-4))
    product = layer.lora_kernel_a.numpy() @ layer.lora_kernel_b.numpy()
    np.testing.assert_allclose(values(model)[name] - before, product, atol=1e-8)  # bfloat16 would be off by 1e-4


def test_what_lora_refuses():
    model = small_model("ViltForQuestionAnswering")
    with pytest.raises(ValueError, match="rank is 0, expected"):
        model.enable_lora(0)
    with pytest.raises(ValueError, match="in a part named q_proj; dense layers are dense, intermediate, output, qkv"):
        model.enable_lora(4, targets=("q_proj",))
    model.enable_lora(4)
    with pytest.raises(ValueError, match="enabled already"):
        model.enable_lora(4)

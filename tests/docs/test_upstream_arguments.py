"""Every argument and every output that upstream's documentation names: it does something here, or README says why not.

`data/upstream_arguments.json` is the list of them, from the pages themselves.
"""

import inspect
import json
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.classes import RETRIEVAL, flat, inputs_of, small_config, small_model, training_example
from support.upstream_docs import CONFIGS, LEFT_OUT, MODELS, OTHER_DEFAULTS, PAGES, README, differ, left_out, taken
from support.vilt import randomise

import tfvl


def test_what_is_left_out_stands_in_the_readme():
    assert [reason for reason in LEFT_OUT.values() if reason not in README] == []
    documented = {
        (name, argument)
        for name, entry in PAGES.items()
        if name != "about"
        for kind in (entry.get("constructor", ()), entry.get("call", ()), *entry.get("methods", {}).values())
        for argument in kind
    }
    needless = [key for key in LEFT_OUT if not any(key[0] in name and key[1] == of for name, of in documented)]
    assert needless == []


# ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def model_of(head: str):
    """Returns a model with random weights, and with dropout in training."""
    model = small_model(head, hidden_dropout_prob=0.4)
    randomise(model)
    return model


def plain_inputs(head: str, argument: str | None = None) -> dict[str, np.ndarray]:
    """Returns the inputs to which the argument is added or of which it replaces one; retrieval's labels need more."""
    return training_example(head)[0] if head == RETRIEVAL and argument == "labels" else inputs_of(head)


def with_argument(head: str, argument: str) -> dict:
    """Returns the inputs with the argument, or with another value of it."""
    inputs, labels = plain_inputs(head, argument), training_example(head)[1]
    labels = labels | {"masked_lm_labels": labels.get("labels")}
    if argument in ("output_attentions", "output_hidden_states", "training"):
        return inputs | {argument: True}
    if argument in labels:
        return inputs | {argument: labels[argument]}
    if argument == "image_token_type_idx":
        return inputs | {argument: 2}
    if argument == "head_mask":
        return inputs | {argument: np.array([1, 0, 1, 1], "float32")}
    instead = {"inputs_embeds": "input_ids", "image_embeds": "pixel_values"}
    if argument in instead:
        old = inputs[instead[argument]]
        shape = (*old.shape, 24) if argument == "inputs_embeds" else (*old.shape[:-3], 11, 24)
        others = {key: value for key, value in inputs.items() if key not in (instead[argument], "pixel_mask")}
        return others | {argument: np.random.default_rng(3).normal(size=shape).astype("float32")}
    return inputs | {argument: another(argument, inputs[argument])}


def another(argument: str, value: np.ndarray) -> np.ndarray:
    """Returns other values for an input."""
    if argument.endswith("_mask"):
        return np.concatenate([np.zeros_like(value[..., :1]), value[..., 1:]], axis=-1)
    if value.dtype.kind == "f":
        return value + 0.5
    lowest = -1 if argument in ("image_text_alignment", "region_to_phrase_position") else 0
    return np.where(value > lowest, value - 1, value)


@pytest.mark.parametrize("name", MODELS)
def test_every_argument_of_a_call_changes_what_comes_out(name):
    head = name.removeprefix("TF")
    model, plain = model_of(head), flat(model_of(head)(inputs_of(head)))
    assert not differ(plain, flat(model(inputs_of(head))))
    unread = []
    for _, argument in taken("call", [name]):
        without = flat(model(plain_inputs(head, argument))) if head == RETRIEVAL else plain
        if not differ(without, flat(model(**with_argument(head, argument)))):
            unread.append(argument)
    assert unread == []


@pytest.mark.parametrize("name", MODELS)
def test_what_a_call_leaves_out_is_refused(name):
    assert left_out(name, "return_dict")
    with pytest.raises((ValueError, TypeError), match="return_dict"):
        model_of(name.removeprefix("TF"))(inputs_of(name.removeprefix("TF")), return_dict=False)


@pytest.mark.parametrize("name", MODELS)
def test_every_documented_output_comes(name):
    head = name.removeprefix("TF")
    inputs, labels = training_example(head)
    labels = labels if "loss" in PAGES[name]["outputs"] else {}
    outputs = model_of(head)(inputs | labels, output_attentions=True, output_hidden_states=True)
    assert set(PAGES[name]["outputs"]) <= outputs.keys()
    assert all(outputs[field] is not None for field in PAGES[name]["outputs"])


@pytest.mark.parametrize(("name", "argument"), taken("constructor", MODELS))
def test_constructors_of_models(name, argument):
    parameters = inspect.signature(getattr(tfvl, name.removeprefix("TF"))).parameters
    assert argument in parameters
    if argument == "add_pooling_layer":
        model = getattr(tfvl, name)(model_of(name).config, add_pooling_layer=False)
        assert "pooler_output" not in model(inputs_of(name))


# ── configurations ──────────────────────────────────────────────────────────────────────────────────────────────────

# where the next number would not do
OTHER_VALUES = {
    "hidden_size": 48,
    "num_attention_heads": 3,
    "hidden_act": "relu",
    "layer_norm_eps": 0.1,
    "hidden_dropout_prob": 0.5,
    "attention_probs_dropout_prob": 0.5,
    "image_size": 64,
    "patch_size": 16,
    "max_image_length": 5,
    "pad_token_id": 0,
    "num_images": 1,
}
HEAD_OF = {
    "ViltConfig": "ViltForMaskedLM",
    "VisualBertConfig": "VisualBertForPreTraining",
    "LxmertConfig": "LxmertForPreTraining",
}


def shapes_of(model) -> dict[str, tuple]:
    return {path: tuple(variable.shape) for path, variable in model.weight_names().items()}


def consequences(model, head: str, training: bool) -> dict[str, np.ndarray]:
    """Returns the outputs in or out of training, the loss among them, and the gradient of the words."""
    inputs, labels = training_example(head)
    words = next(variable for path, variable in model.weight_names().items() if "word_embeddings" in path)
    if training:
        keras.utils.set_random_seed(0)
    with tf.GradientTape() as tape:
        outputs = model(inputs | labels, training=training)
    return flat({"outputs": outputs, "gradient": tf.convert_to_tensor(tape.gradient(outputs["loss"], words.value))})


@cache
def as_it_is(head: str, training: bool) -> tuple[dict, dict]:
    model = small_model(head)
    return shapes_of(model), consequences(model, head, training)


@pytest.mark.parametrize(("name", "argument"), taken("constructor", CONFIGS))
def test_every_argument_of_a_configuration(name, argument):
    """It has the documented default, and another value makes other weights or other results."""
    default = getattr(getattr(tfvl, name)(), argument)
    assert default == OTHER_DEFAULTS.get((name, argument), PAGES[name]["constructor"][argument])
    head = "ViltForImagesAndTextClassification" if argument == "num_images" else HEAD_OF[name]
    model = small_model(head, **{argument: another_value(argument, getattr(small_config(head), argument))})
    dropout = argument.endswith("dropout_prob")
    shapes, results = as_it_is(head, dropout)
    if shapes_of(model) == shapes:
        found = consequences(model, head, dropout)
        assert any(not np.array_equal(value, found[path]) for path, value in results.items())


def another_value(argument: str, value):
    if argument in OTHER_VALUES:
        return OTHER_VALUES[argument]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 10


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_configuration_has_no_field_for_is_kept(name, tmp_path):
    config = getattr(tfvl, name)(extra={"bos_token_id": 0, "eos_token_id": 2})
    config.save_pretrained(tmp_path)
    assert getattr(tfvl, name).from_pretrained(tmp_path) == config
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == 2


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu", "gelu_new", "selu"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_documented_activation(name, activation):
    model = small_model(HEAD_OF[name], hidden_act=activation)
    assert model.config.hidden_act == activation
    assert all(np.isfinite(value).all() for value in flat(model(inputs_of(HEAD_OF[name]))).values())

"""What a Keras user expects of a model's methods: building, shapes, exports, recomputation, freezing, refusals."""

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.classes import CLASSES, difference, family, flat, inputs_of, small_model, training_example
from support.paths import ROOT
from support.training import HEADS, example, train, values, worst

# relative to 1 + the value: sums of some dozen float32 terms in another order
TOLERANCE = 1e-5
every_class = pytest.mark.parametrize("head", CLASSES)
every_family = pytest.mark.parametrize("head", HEADS)
model_of = cache(small_model)  # for tests that do not change it


# ── building ────────────────────────────────────────────────────────────────────────────────────────────────────────


@every_class
def test_a_built_model_is_built_again_without_harm(head):
    """Without shapes, with a batch's shapes, and by what a call tells beforehand of its outputs."""
    model, inputs = small_model(head), inputs_of(head)
    weights = [id(weight) for weight in model.weights]
    shapes = {name: value.shape for name, value in inputs.items()}
    for given in (None, shapes, (None, 7)):
        model.build(given)
    model.build()
    assert [id(weight) for weight in model.weights] == weights
    told, outputs = model.compute_output_shape(shapes), model(inputs)
    keras.tree.assert_same_structure(keras.tree.map_shape_structure(lambda _: 0, told), outputs)
    for shape, (path, value) in zip(shapes_in(told), keras.tree.flatten_with_path(outputs), strict=True):
        assert all(size in (None, own) for size, own in zip(shape, value.shape, strict=True)), path
    spec = model.compute_output_spec({name: keras.KerasTensor(v.shape, v.dtype) for name, v in inputs.items()})
    assert keras.tree.map_structure(lambda value: value.dtype, spec) == keras.tree.map_structure(
        lambda value: keras.backend.standardize_dtype(value.dtype), outputs
    )


def shapes_in(told) -> list[tuple]:
    """Returns the shapes in their order; a size that depends on the number of real pixels is None."""
    found = []
    keras.tree.map_shape_structure(found.append, told)
    return found


def test_shapes_of_inputs_that_there_are_not():
    model = small_model("ViltModel")
    for method in (model.build, model.compute_output_shape):
        with pytest.raises(ValueError, match="ViltModel has no input imput_ids; it takes input_ids, attention_mask"):
            method({"imput_ids": (3, 7)})


@every_class
def test_none_is_what_the_configuration_says(head):
    """Upstream's default of `output_attentions` and `output_hidden_states`."""
    model, inputs = model_of(head), inputs_of(head)
    everything = {"output_attentions": None, "output_hidden_states": None}
    assert model(inputs, **everything).keys() == model(inputs).keys()
    asked = small_model(head, output_attentions=True, output_hidden_states=True)
    assert asked(inputs, **everything).keys() == model(inputs, **dict.fromkeys(everything, True)).keys()
    assert asked(inputs, **dict.fromkeys(everything, False)).keys() == model(inputs).keys()


# ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────────

EXPORTED = [
    "ViltModel",
    "ViltForImagesAndTextClassification",
    "VisualBertForMultipleChoice",
    "VisualBertForRegionToPhraseAlignment",
    "LxmertForPreTraining",
]


@pytest.mark.parametrize("head", EXPORTED)
def test_exported_by_keras(head, tmp_path):
    """`tf.saved_model.load` and `TFSMLayer` run it as it is, at any batch and any length."""
    model = small_model(head)
    model.export(tmp_path / "exported", verbose=False)
    inputs = {name: value for name, value in inputs_of(head).items() if name in model.exported_inputs}
    assert inputs.keys() == model.exported_inputs.keys()
    layer = keras.layers.TFSMLayer(tmp_path / "exported")
    for rows in (slice(None), slice(0, 2)):
        some = {name: value[rows] for name, value in inputs.items()}
        expected = {name.strip("/").replace("/", "_"): value for name, value in flat(model(some)).items()}
        found = layer(some)
        assert found.keys() == expected.keys()
        assert max(difference(found[name], value) for name, value in expected.items()) <= TOLERANCE


def test_a_model_by_tensorflows_own_function(tmp_path):
    model = small_model("VisualBertForPreTraining")
    tf.saved_model.save(model, tmp_path / "saved")
    served = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
    inputs = {name: value for name, value in inputs_of("VisualBertModel").items() if name in model.exported_inputs}
    found, expected = served(**{name: tf.constant(value) for name, value in inputs.items()}), model(inputs)
    assert max(difference(found[name], value) for name, value in expected.items()) <= TOLERANCE


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("told", ["by a call", "by build"])
def test_converted_by_tensorflow(head, told):
    """`TFLiteConverter.from_keras_model` makes all inputs float32, as for any Keras model, of sizes that it knows."""
    model = small_model(head)
    inputs = {name: value for name, value in inputs_of(head).items() if name in model.exported_inputs}
    model(inputs) if told == "by a call" else model.build({name: value.shape for name, value in inputs.items()})
    interpreter = tf.lite.Interpreter(model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert())
    names = {
        detail["index"]: next(name for name in inputs if detail["name"].startswith(f"serving_default_{name}:"))
        for detail in interpreter.get_input_details()
    }
    for index, name in names.items():
        interpreter.resize_tensor_input(index, inputs[name].shape)
    interpreter.allocate_tensors()
    for index, name in names.items():
        interpreter.set_tensor(index, inputs[name].astype("float32"))
    interpreter.invoke()
    found = {d["shape"].tobytes(): interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
    expected = list(flat(model(inputs)).values())
    assert len(found) == len(expected)
    for value in expected:
        assert difference(found[np.array(value.shape, "int32").tobytes()], value) <= TOLERANCE


def test_the_documents_name_the_call_for_what_tensorflow_does_not_convert():
    model, inputs = small_model("LxmertForPreTraining"), inputs_of("LxmertForPreTraining")
    model.build({name: value.shape for name, value in inputs.items() if name in model.exported_inputs})
    with pytest.raises(ValueError, match="cannot be saved because the input shapes have not been set"):
        tf.lite.TFLiteConverter.from_keras_model(model).convert()
    row = "| the same of `LxmertForPreTraining` | fails inside TensorFlow; use `tfvl.export.lite` |"
    assert row in (ROOT / "tfvl/export/README.md").read_text().splitlines()


def test_what_export_leaves_to_others(tmp_path):
    model = small_model("ViltModel")
    with pytest.raises(ValueError, match=r"Use tfvl\.export\.lite\(model, processor, file\)"):
        model.export(tmp_path / "model.tflite", format="litert")


# ── recomputation ───────────────────────────────────────────────────────────────────────────────────────────────────

SCOPES = {
    "full": ({"mode": "full"}, True),
    "larger than": ({"mode": "larger_than", "output_size_threshold": 64}, True),
    "a block": ({"mode": "list_of_layers", "layer_names": ["layer_0"]}, True),
    "another layer": ({"mode": "list_of_layers", "layer_names": ["dense"]}, False),
    "activations": ({"mode": "activations"}, False),
    "nothing": ({"mode": None}, False),
}


@pytest.mark.parametrize(
    ("head", "scope"), [(HEADS[0], scope) for scope in SCOPES] + [(head, "full") for head in HEADS[1:]]
)
def test_a_remat_scope_changes_no_step(head, scope):
    """`fit` within the scope in which the model was made, in a graph if it recomputes anything."""
    (options, recomputes), (loss, weights) = SCOPES[scope], plain_step(head)
    with keras.RematScope(**options):
        model = small_model(head)
        assert model.is_gradient_checkpointing == recomputes
        model.compile(keras.optimizers.SGD(0.01), run_eagerly=not recomputes)
        history = model.fit(tf.data.Dataset.from_tensors(example(head)), verbose=0).history
    assert history["loss"] == pytest.approx(loss, rel=TOLERANCE)
    assert worst(values(model), weights) < TOLERANCE


@cache
def plain_step(head: str) -> tuple[list[float], dict]:
    """Returns the loss of one step without a scope, and the weights after it."""
    plain = small_model(head)
    plain.compile(keras.optimizers.SGD(0.01))
    return train(plain, head), values(plain)


# ── freezing by Keras' flags ────────────────────────────────────────────────────────────────────────────────────────


def trained(model) -> set[str]:
    return {variable.path for variable in model.trainable_weights}


@every_class
def test_flags_never_free_what_gets_no_gradient(head):
    """Set and unset on the whole model, on the base model, on each of its layers; by `unfreeze`; on all of them."""
    model = small_model(head)
    everything = trained(model)
    unread = {variable.path for variable in model.weights} - everything
    assert bool(unread) == (head in UNREAD)
    for layer in [model, *model.layers, *model._flatten_layers()]:
        layer.trainable = False
        layer.trainable = True
        assert trained(model) == everything, layer.path
    model.trainable = False
    assert trained(model) == set()
    assert {variable.path for variable in model.non_trainable_weights} == everything | unread
    model.unfreeze()
    assert trained(model) == everything
    assert {variable.path for variable in model.weights if variable.trainable} == everything


UNREAD = {
    "ViltForMaskedLM",
    "VisualBertForQuestionAnswering",
    "VisualBertForRegionToPhraseAlignment",
    "LxmertForQuestionAnswering",
}


@every_family
def test_flags_undo_what_was_frozen_by_name(head):
    model = small_model(head)
    everything, base = trained(model), getattr(model, model.base_model_prefix)
    of_base = everything & {variable.path for variable in base.weights}
    model.freeze()
    assert trained(model) == set()
    base.trainable = True
    assert trained(model) == of_base
    model.freeze("encoder", layers=1)
    left = trained(model)
    assert left < of_base
    for layer in base.layers:
        layer.trainable = True
    assert trained(model) == of_base
    model.freeze("encoder")
    model.trainable = True
    assert trained(model) == everything


def test_a_flag_does_not_free_what_lora_adapts():
    model = small_model("ViltForQuestionAnswering")
    model.enable_lora(2)
    model.trainable = True
    layers = [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]
    assert layers
    assert not any(layer._kernel.trainable for layer in layers)
    assert all(layer.lora_kernel_a.trainable for layer in layers)


@every_family
def test_a_flag_holds_in_training_and_in_a_file(head, tmp_path):
    model = small_model(head)
    getattr(model, model.base_model_prefix).trainable = False
    model.compile(keras.optimizers.Adam(1e-3))
    before = values(model)
    train(model, head)
    changed = {name for name, value in values(model).items() if not np.array_equal(value, before[name])}
    assert changed
    assert not any(name.startswith(model.base_model_prefix) for name in changed)
    model.save(tmp_path / "model.keras")
    assert trained(keras.models.load_model(tmp_path / "model.keras")) == trained(model)


# ── what is refused leaves nothing behind ───────────────────────────────────────────────────────────────────────────


def wrong(labels):
    """Returns labels of another shape."""
    first = next(iter(labels)) if isinstance(labels, dict) else None
    value = labels[first] if first else labels
    bad = value[:, :3] if value.ndim > 1 else np.stack([value] * 2, axis=1)
    return labels | {first: bad} if first else bad


@every_family
@pytest.mark.parametrize("own", [{}, {"metrics": ["accuracy"], "loss": "mse"}], ids=["the paper's", "one's own"])
def test_the_right_call_after_a_refused_one(head, own, eager_functions):
    """`fit`, `train_on_batch` and `evaluate` as if the refused call had not been."""
    if own and head != "ViltForQuestionAnswering":
        own = {"metrics": {}, "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
        own["metrics"] = {name: ["accuracy"] for name in small_model(head).targets.values()}
    inputs, labels = training_example(head)
    labels = {name: np.where(value == -100, 1, value) for name, value in labels.items()}
    labels = labels["labels"] if len(labels) == 1 else labels
    said = []
    for refused in (False, True):
        model = small_model(head)
        model.compile(keras.optimizers.SGD(0.01), **own)
        if refused:
            for method in (model.fit, model.train_on_batch, model.evaluate):
                with pytest.raises(Exception, match=r"shape|imension"):
                    method(inputs, wrong(labels))
        history = model.fit(inputs, labels, verbose=0).history
        said.append(history | model.evaluate(inputs, labels, verbose=0, return_dict=True))
    assert said[1].keys() == said[0].keys()
    for name, value in said[0].items():
        assert said[1][name] == pytest.approx(value, rel=TOLERANCE), name


def test_metrics_by_name_are_chosen_anew_after_a_refused_call(eager_functions):
    """ "accuracy" stands for another metric with other labels; the first ones were refused."""
    inputs, labels = training_example("ViltForImagesAndTextClassification")
    model = small_model("ViltForImagesAndTextClassification")
    model.compile(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    with pytest.raises(ValueError, match="labels have the shape"):
        model.fit(inputs, np.eye(5)[labels["labels"]], verbose=0)
    history = model.fit(inputs, labels["labels"], verbose=0).history
    best = np.argmax(model(inputs)["logits"], axis=-1)
    assert history["accuracy"] == [pytest.approx(np.mean(best == labels["labels"]))]


def test_a_new_compile_forgets_the_old_one(eager_functions):
    """Its losses and metrics, which Keras keeps where the new call names none."""
    inputs, labels = training_example("VisualBertForPreTraining")
    labels = {name: np.where(value == -100, 1, value) for name, value in labels.items()}
    model = small_model("VisualBertForPreTraining")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    names = list(model.targets.values())
    model.compile("sgd", dict.fromkeys(names, loss), metrics={name: ["accuracy"] for name in names})
    model.evaluate(inputs, labels, verbose=0)
    model.compile("sgd")
    said = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    assert said.keys() == {"loss", "masked_lm_accuracy", "sentence_image_accuracy"}
    assert said["loss"] == pytest.approx(float(model(inputs | labels)["loss"]), rel=TOLERANCE)


# ── double precision ────────────────────────────────────────────────────────────────────────────────────────────────


@every_class
def test_double_precision(head, eager_functions):
    """Outputs are float64 and near those of float32, and the model trains."""
    single = model_of(head)
    model = type(single)(single.config, dtype="float64")
    model.set_weights(single.get_weights())
    inputs, labels = training_example(head)
    found, expected = flat(model(inputs)), flat(single(inputs))
    assert {value.dtype for value in found.values()} == {np.dtype("float64")}
    assert max(difference(value, expected[name]) for name, value in found.items()) <= TOLERANCE
    if model.targets:
        model.compile(keras.optimizers.SGD(0.01))
        assert np.isfinite(model.train_on_batch(inputs, labels)[0])


def test_the_family_of_every_head_that_is_trained():
    assert {family(head) for head in HEADS} == {"vilt", "visual_bert", "lxmert"}

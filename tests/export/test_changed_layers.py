"""Quantization, LoRA, dtype policies and freezing on every way out of a model: the documented table."""

import re
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.changed import adapt, fill_adapters
from support.classes import CLASSES, difference, flat, inputs_of, small_model
from support.export import GOOD_IMAGES, prepare, random_model
from support.export_regions import region_model
from support.lite_files import SIZES, processor_of
from support.paths import ROOT

import tfvl
from tfvl.modeling import lora
from tfvl.modeling.changed_layers import in_dtype
from tfvl.web.folder import MODEL

HEAD = "VisualBertForPreTraining"  # whose words are an input and, tied, an output
OTHERS = ("ViltForQuestionAnswering", "LxmertForQuestionAnswering")  # for which the table is true as well
IMAGE_SIZE = 48  # of what `prepare` makes
TOLERANCE = 1e-5  # relative to 1 + the value: sums of some dozen float32 terms in another order
# A last bit that differs can round to the next of few levels; the same weights misread differ by more than their size.
ROUNDED = 0.1
README = ROOT / "tfvl/export/README.md"


def quantize(model, mode: str, parts: str) -> None:
    """Does what `model.quantize(mode, filters=parts)` does, which not every Keras that tfvl runs with has."""
    for layer in list(model._flatten_layers()):
        if isinstance(layer, (keras.layers.Dense, keras.layers.Embedding)) and re.search(parts, layer.path):
            layer.quantize(mode)


# By the names of the table's rows: the dtype policy that the model is made with, and what is then done to it.
ROWS = {
    "as it was loaded": ("float32", lambda model: None),
    '`freeze("encoder")`': ("float32", lambda model: model.freeze("encoder")),
    "`enable_lora(8)`": ("float32", adapt),
    '`dtype="mixed_bfloat16"`': ("mixed_bfloat16", lambda model: None),
    '`dtype="mixed_float16"`': ("mixed_float16", lambda model: None),
    '`dtype="bfloat16"`': ("bfloat16", lambda model: None),
    '`dtype="float64"`': ("float64", lambda model: None),
    '`quantize("int8")`': ("float32", lambda model: model.quantize("int8")),
    '`quantize("int4")`': ("float32", lambda model: model.quantize("int4")),
    '`quantize("float8")`': ("float32", lambda model: model.quantize("float8")),
    '`quantize("int8")`, then `enable_lora(8)`': ("float32", lambda model: (model.quantize("int8"), adapt(model))),
    '`enable_lora(8)`, then `quantize("int4")`': ("float32", lambda model: (adapt(model), model.quantize("int4"))),
}


def fresh(row: str, head: str = HEAD):
    """Makes the model of a row, the same at each call."""
    dtype, change = ROWS[row]
    model = type(weights(head))(weights(head).config, dtype=dtype)
    model.set_weights(weights(head).get_weights())
    change(model)
    return model


@cache
def weights(head: str = HEAD):
    model = random_model(head) if head in OTHERS else region_model(head, num_hidden_layers=1)
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(rng.normal(1.0 if "gamma" in variable.path else 0.0, 0.3, variable.shape))
    return model


def outputs(model, inputs: dict) -> dict[str, np.ndarray]:
    return {name: tf.cast(value, "float32").numpy() for name, value in model(inputs, training=False).items()}


# The ways out, by the names of the table's columns: each writes into a directory and gives what answers from there.


def by_keras_file(model, row, directory):
    model.save(directory / "model.keras")
    return keras.models.load_model(directory / "model.keras")


def by_weights_file(model, row, directory):
    model.save_weights(directory / "model.weights.h5")
    for variable in model.weights:
        variable.assign(keras.ops.zeros_like(variable))
    model.load_weights(directory / "model.weights.h5")
    return model


def by_save_pretrained(model, row, directory):
    model.save_pretrained(directory / "hub")
    return type(model).from_pretrained(directory / "hub", dtype=ROWS[row][0])


def by_saved_model(model, row, directory):
    path = tfvl.export.saved_model(model, processor_of(type(model).__name__), directory / "1", signatures="tensors")
    loaded = tf.saved_model.load(str(path))  # kept by the function: a signature does not keep its variables
    return lambda inputs, training: loaded.signatures["tensors"](**inputs)


def by_lite(model, row, directory):
    head = type(model).__name__
    batch, length = prepare(head)["input_ids"].shape
    sizes = SIZES | {"batch": batch, "text_length": length, "image_size": IMAGE_SIZE}
    runner = tfvl.lite.Runner(tfvl.export.lite(model, processor_of(head), directory / "x.tflite", **sizes))
    return lambda inputs, training: runner.run(inputs)


COLUMNS = {
    "`.keras`": by_keras_file,
    "`.weights.h5`": by_weights_file,
    "`save_pretrained`": by_save_pretrained,
    "`saved_model`": by_saved_model,
    "`lite`": by_lite,
}


def said(model, row: str, way, directory) -> str:
    """Takes a way out of a model; returns the cell of the table that describes the result."""
    directory.mkdir()
    inputs = {name: np.asarray(value) for name, value in prepare(type(model).__name__).items()}
    expected = outputs(model, inputs)
    plain = None if "quantize" in row else outputs(in_dtype(model), inputs)
    try:
        found = outputs(way(model, row, directory), inputs)
    except ValueError as error:
        one_sentence, written = "\n" not in str(error), list(directory.iterdir())
        return "refused" if one_sentence and not written else f"{error} after {written}"

    def furthest(others) -> float:
        return max(difference(found[name], value, largest=True) for name, value in others.items())

    if furthest(expected) <= TOLERANCE:
        return "same"
    if plain is not None and furthest(plain) <= TOLERANCE:
        return "float32"
    return "same" if furthest(expected) <= ROUNDED else f"differs by {furthest(expected)}"


def cells(model, row: str, directory) -> dict[str, str]:
    return {name: said(model, row, way, directory / str(place)) for place, (name, way) in enumerate(COLUMNS.items())}


def documented() -> dict[str, dict[str, str]]:
    """Reads the table in the README: its cells by row and column."""
    lines = README.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| model |"))
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    table = table[: next((number for number, row in enumerate(table) if row == [""]), len(table))]
    return {row[0]: dict(zip(table[0][1:], row[1:], strict=True)) for row in table[2:]}


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_the_documented_table_is_what_happens(row, tmp_path, recwarn):
    assert documented().keys() == ROWS.keys()
    assert cells(fresh(row), row, tmp_path) == documented()[row]


@pytest.mark.slow
@pytest.mark.parametrize("head", OTHERS)
@pytest.mark.parametrize("row", ["`enable_lora(8)`", '`dtype="mixed_bfloat16"`', '`quantize("int8")`'])
def test_the_other_architectures_have_the_same_table(head, row, tmp_path, recwarn):
    assert cells(fresh(row, head), row, tmp_path) == documented()[row]


# ── effective weights ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", CLASSES)
def test_a_plain_model_of_an_adapted_one(head):
    """LoRA on every dense layer and every table; the model itself where nothing is to be done."""
    model = small_model(head)
    assert in_dtype(model) is model
    for layer in model._flatten_layers():
        if isinstance(layer, (keras.layers.Dense, keras.layers.Embedding)):
            layer.enable_lora(2)
    fill_adapters(model)
    plain, inputs = in_dtype(model), inputs_of(head)
    assert not lora.lora_layers(plain)
    found, expected = flat(plain(inputs)), flat(model(inputs))
    assert max(difference(found[name], value, largest=True) for name, value in expected.items()) <= TOLERANCE
    assert len(model.trainable_weights) < len(model.weights)


@pytest.mark.parametrize("form", [{"quantize": "dynamic"}, {"flavour": "text"}, "web"], ids=str)
def test_adapters_are_part_of_every_form_of_a_file(form, tmp_path):
    """The file of an adapted model is that of a model whose weights are the sums."""
    head = "ViltForQuestionAnswering"
    model, processor = fresh("`enable_lora(8)`", head), processor_of(head)
    answered = []
    for name, given in (("adapted", model), ("plain", in_dtype(model))):
        if form == "web":
            path = tfvl.export.web(given, processor, tmp_path / name, image_size=IMAGE_SIZE) / MODEL
        else:
            path = tfvl.export.lite(given, processor, tmp_path / f"{name}.tflite", image_size=IMAGE_SIZE, **form)
        (row,) = tfvl.lite.Runner(path)(images=GOOD_IMAGES[0], text="what color is the circle?")
        answered.append(row)
    assert not lora.lora_layers(in_dtype(model))
    assert answered[0]["answers"] == answered[1]["answers"]
    np.testing.assert_allclose(answered[0]["scores"], answered[1]["scores"], rtol=0, atol=TOLERANCE)


WORDS = {
    "ViltForMaskedLM": "logits",
    "ViltForPreTraining": "prediction_logits",
    "VisualBertForPreTraining": "prediction_logits",
    "LxmertForPreTraining": "prediction_logits",
}


@pytest.mark.parametrize("head", WORDS)
@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_tied_decoder_reads_what_a_quantized_table_means(head, mode):
    model, inputs = small_model(head), inputs_of(head)
    for variable in model.weights:
        if variable.path.endswith("embeddings"):
            variable.assign(variable * 20)
    expected = np.asarray(model(inputs)[WORDS[head]])
    quantize(model, mode, "word_embeddings")
    found = np.asarray(model(inputs)[WORDS[head]])
    agreement = np.sum(found * expected) / (np.linalg.norm(found) * np.linalg.norm(expected))
    assert agreement > (0.999 if mode == "int8" else 0.95)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(expected), rel=0.2)


def test_training_goes_on_from_a_file_of_adapted_quantized_layers(tmp_path):
    """Every dense layer is quantized; LoRA's matrices are in the file, and the same weights are trained from there."""
    head = "ViltForQuestionAnswering"
    model = small_model(head)
    quantize(model, "int8", "encoder|classifier")
    parts = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dense)]
    assert {layer.quantization_mode for layer in parts if "pooler" not in layer.path} == {"int8"}
    adapt(model)
    model.compile("sgd")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [weight.path for weight in loaded.trainable_weights] == [weight.path for weight in model.trainable_weights]
    found, expected = flat(loaded(inputs_of(head))), flat(model(inputs_of(head)))
    assert max(difference(found[name], value) for name, value in expected.items()) <= ROUNDED


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_quantized_model_refuses():
    model = small_model("LxmertForQuestionAnswering")
    quantize(model, "int8", "answer_head")
    labels = model.config.id2label
    with pytest.raises(ValueError, match=r"resize_num_qa_labels takes weights in floats, but .* is quantized \(int8_"):
        model.resize_num_qa_labels(3)
    assert model.config.id2label == labels


def test_a_checkpoint_is_not_loaded_into_quantized_layers():
    with pytest.raises(ValueError, match=r"dtype is 'int8_from_float32', .* then call model\.quantize\('int8'\)"):
        tfvl.ViltForQuestionAnswering.from_pretrained("shapes-vilt", dtype="int8_from_float32")


@pytest.mark.parametrize("order", ["quantized", "adapted"])
def test_float8_has_no_lora(order):
    model = small_model("ViltForQuestionAnswering")
    steps = [lambda: model.quantize("float8"), lambda: model.enable_lora(2)]
    first, then = steps if order == "quantized" else reversed(steps)
    first()
    with pytest.raises(ValueError, match="Keras has no LoRA on layers quantized to float8"):
        then()


def test_weights_of_a_quantized_model_into_one_that_is_not(tmp_path):
    model = small_model("ViltForQuestionAnswering")
    quantize(model, "int8", "classifier")
    model.save_weights(tmp_path / "x.weights.h5")
    with pytest.raises(
        ValueError, match=r"x\.weights\.h5 holds .* call model\.quantize\(…\) or enable_lora\(…\) first"
    ):
        small_model("ViltForQuestionAnswering").load_weights(tmp_path / "x.weights.h5")

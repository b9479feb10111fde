"""Training ViLT with Keras: losses of the user's own, weights of rows, going on from a file; and see test_classes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.vilt import BATCH, HEADS, SIZES, randomise, vilt_inputs

import tfvl

CONFIG = tfvl.ViltConfig(**SIZES)


@pytest.fixture(scope="module")
def question_answering():
    model = tfvl.ViltForQuestionAnswering(CONFIG)
    randomise(model)
    return model


def test_sample_weight_of_zero_leaves_a_row_out(question_answering):
    inputs, labels = vilt_inputs(), HEADS["ViltForQuestionAnswering"](np.random.default_rng(1))
    question_answering.compile()
    weighted = question_answering.evaluate(
        tf.data.Dataset.from_tensors((inputs, labels, np.array([1.0, 0.0, 1.0], "float32"))), verbose=0
    )
    rows = [0, 2]
    alone = question_answering({name: value[rows] for name, value in inputs.items()} | {"labels": labels[rows]})
    np.testing.assert_allclose(weighted[0], alone["loss"], rtol=1e-4)


@pytest.mark.parametrize("named", [False, True])
def test_a_loss_and_a_metric_of_the_users_own(named, question_answering):
    inputs, labels = vilt_inputs(), HEADS["ViltForQuestionAnswering"](np.random.default_rng(1))
    difference = np.asarray(question_answering(inputs)["logits"]) - labels
    if named:
        question_answering.compile("sgd", loss={"logits": "mse"}, metrics={"logits": ["mae"]})
        labels = {"logits": labels}
    else:
        question_answering.compile("sgd", loss="mse", metrics=["mae"])
    loss, error = question_answering.evaluate(tf.data.Dataset.from_tensors((inputs, labels)), verbose=0)
    np.testing.assert_allclose(loss, np.mean(difference**2), rtol=1e-4)
    np.testing.assert_allclose(error, np.mean(np.abs(difference)), rtol=1e-4)


def test_a_metric_of_the_users_own_beside_the_papers_loss(question_answering):
    inputs, labels = vilt_inputs(), HEADS["ViltForQuestionAnswering"](np.random.default_rng(1))
    question_answering.compile(metrics=["mae"])
    data = tf.data.Dataset.from_tensors((inputs, labels))
    results = question_answering.evaluate(data, verbose=0, return_dict=True)
    outputs = question_answering(inputs | {"labels": labels})
    np.testing.assert_allclose(results["loss"], outputs["loss"], rtol=1e-4)
    np.testing.assert_allclose(results["mae"], np.mean(np.abs(outputs["logits"] - labels)), rtol=1e-4)


@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_a_compiled_keras_file_goes_on_training(optimizer, tmp_path):
    """The optimizer's state, its exclusions from weight decay, loss and metrics come back: the next steps agree."""
    keras.utils.set_random_seed(0)
    model = tfvl.ViltForQuestionAnswering(CONFIG.replace(num_hidden_layers=1))
    labels = HEADS["ViltForQuestionAnswering"](np.random.default_rng(1))
    data = tf.data.Dataset.from_tensors((vilt_inputs(), labels))
    model.compile(optimizer)
    model.fit(data, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    histories = [each.fit(data.repeat(3), verbose=0).history for each in (model, loaded)]
    assert histories[0] == histories[1]
    assert histories[0].keys() == {"loss", "vqa_score"}
    for mine, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(mine, other, err_msg=mine.path)


def test_pretraining_with_one_kind_of_labels(tmp_path):
    model = tfvl.ViltForPreTraining(CONFIG.replace(num_hidden_layers=1))
    model.compile()
    labels = {"labels": HEADS["ViltForMaskedLM"](np.random.default_rng(1))}
    history = model.fit(tf.data.Dataset.from_tensors((vilt_inputs(), labels)), verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_gradient_checkpointing_can_be_switched(question_answering, tmp_path):
    question_answering.gradient_checkpointing_enable()
    assert question_answering.vilt.encoder.gradient_checkpointing
    question_answering.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").is_gradient_checkpointing
    question_answering.gradient_checkpointing_disable()
    assert not question_answering.is_gradient_checkpointing


def test_training_without_labels_or_without_a_head(question_answering):
    question_answering.compile()
    with pytest.raises(ValueError, match="is trained without labels"):
        question_answering.fit(tf.data.Dataset.from_tensors((vilt_inputs(),)), verbose=0)
    model = tfvl.ViltModel(CONFIG)
    with pytest.raises(ValueError, match="ViltModel has no input labels; it takes input_ids"):
        model(vilt_inputs() | {"labels": np.zeros(BATCH)})
    model.compile()
    with pytest.raises(ValueError, match="ViltModel has no loss of its own"):
        model.fit(tf.data.Dataset.from_tensors((vilt_inputs(), np.zeros(BATCH))), verbose=0)

"""Every form of losses, metrics, labels and weights that `keras.Model` documents, against plain Keras.

The reference is a plain `keras.Model` that returns the same dict; its labels are under the names of the outputs.
"""

from functools import cache

import keras
import numpy as np
import pytest
from support.classes import small_model, training_example

# sums of some dozen float32 terms, in the same order
TOLERANCE = 1e-5
WEIGHTS = np.array([[0.5], [2.0], [0.0]], "float32")  # a column: Keras takes no (batch,) where an output has words

# one class of each kind of output: label to output
KINDS = {
    "ViltForQuestionAnswering": {"labels": "logits"},  # a target for each answer
    "ViltForImagesAndTextClassification": {"labels": "logits"},  # a class
    "ViltForTokenClassification": {"labels": "logits"},  # a class for each word
    "VisualBertForMultipleChoice": {"labels": "logits"},  # a choice
    "VisualBertForRegionToPhraseAlignment": {"labels": "logits"},  # a target for each phrase and region
    "LxmertForQuestionAnswering": {"labels": "question_answering_score"},  # a class under another name
    "ViltForPreTraining": {"labels": "prediction_logits", "matched_label": "cross_relationship_score"},
    "VisualBertForPreTraining": {"labels": "prediction_logits", "sentence_image_labels": "seq_relationship_logits"},
    "LxmertForPreTraining": {
        "labels": "prediction_logits",
        "matched_label": "cross_relationship_score",
        "ans": "question_answering_score",
    },
}
ALONE = [head for head, targets in KINDS.items() if len(targets) == 1]
SEVERAL = [head for head in KINDS if head not in ALONE]
every_kind = pytest.mark.parametrize("head", KINDS)
pytestmark = pytest.mark.usefixtures("eager_functions")
model_of = cache(small_model)


class Plain(keras.Model):
    """A plain Keras model, which returns what a model of tfvl makes of the example, where that has targets."""

    def __init__(self, head):
        super().__init__()
        self.given = outputs_of(head)

    def call(self, inputs, training=None):
        return dict(self.given)


@cache
def outputs_of(head: str) -> dict:
    outputs = model_of(head)(example(head)[0])
    return {name: outputs[name] for name in KINDS[head].values()}


def example(head: str) -> tuple[dict, dict]:
    """Returns inputs, and labels of outputs; none is -100, since Keras' losses do not ignore it."""
    inputs, labels = training_example(head)
    return inputs, {name: np.where(labels[name] == -100, 1, labels[name]) for name in KINDS[head]}


def sparse(labels, logits):
    """Computes a loss; it stands for a user's function."""
    return keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def losses_of(head: str) -> dict:
    """Returns a loss for each output, an object of Keras or a function."""
    soft = keras.losses.BinaryCrossentropy(from_logits=True)
    labels = example(head)[1]
    return {output: soft if labels[label].dtype.kind == "f" else sparse for label, output in KINDS[head].items()}


def renamed(head: str, values: dict) -> dict:
    """Returns labels under the names of their outputs."""
    return {output: values[label] for label, output in KINDS[head].items()}


def check(head: str, labels, weights=None, plain_labels=None, plain_weights=None, skip=(), **compiled) -> dict:
    """Asserts that a model of tfvl and a plain one, compiled alike, evaluate to the same."""
    inputs, own = example(head)
    plain_labels = renamed(head, own) if plain_labels is None else plain_labels
    plain_weights = weights if plain_weights is None else plain_weights
    model, plain = model_of(head), Plain(head)
    model.compile("sgd", **compiled)
    ours = model.evaluate(inputs, labels, sample_weight=weights, verbose=0, return_dict=True)
    plain.compile("sgd", **compiled)
    theirs = plain.test_on_batch(inputs, plain_labels, plain_weights, return_dict=True)  # without a tf.data pipeline
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=TOLERANCE, err_msg=name)
    return ours


@every_kind
def test_dicts_under_the_outputs_names(head):
    """Losses, their weights, metrics by name and as objects, weighted metrics; labels under both kinds of names."""
    labels, losses = example(head)[1], losses_of(head)
    options = {
        "loss": losses,
        "loss_weights": {name: 0.5 + place for place, name in enumerate(losses)},
        "metrics": {name: ["accuracy"] for name in losses},
        "weighted_metrics": {name: ["accuracy"] for name in losses},
    }
    said = check(head, labels, WEIGHTS, **options)
    assert said == check(head, renamed(head, labels), WEIGHTS, **options)
    weights = {label: WEIGHTS + 1 + place for place, label in enumerate(labels)}
    of_outputs = renamed(head, weights)
    assert said != check(head, labels, weights, plain_weights=of_outputs, **options)
    check(head, renamed(head, labels), of_outputs, **options)


@pytest.mark.parametrize("head", ["ViltForQuestionAnswering", *SEVERAL])
def test_dicts_under_the_labels_names(head):
    labels, losses = example(head)[1], losses_of(head)
    named = {label: losses[output] for label, output in KINDS[head].items()}
    model, inputs = model_of(head), example(head)[0]
    model.compile("sgd", loss=named, metrics={label: ["accuracy"] for label in named})
    ours = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    said = check(head, labels, loss=losses, metrics={name: ["accuracy"] for name in losses})
    assert ours == pytest.approx(said, rel=TOLERANCE)


@pytest.mark.parametrize("head", [*ALONE, "ViltForPreTraining", "VisualBertForPreTraining"])  # LXMERT's are nested
def test_lists_in_the_outputs_alphabetical_order(head):
    labels, losses = renamed(head, example(head)[1]), losses_of(head)
    order = sorted(losses)
    listed = [labels[name] for name in order] if len(order) > 1 else labels[order[0]]
    options = {
        "loss": [losses[name] for name in order],
        "loss_weights": [1.5 + place for place in range(len(order))],
        "metrics": [["accuracy"] for _ in order],
    }
    check(head, listed, plain_labels=listed, **options)


@pytest.mark.parametrize("head", ["ViltForQuestionAnswering", "LxmertForQuestionAnswering", *SEVERAL])
def test_losses_of_some_outputs_and_names_of_losses(head):
    labels = renamed(head, example(head)[1])
    for name, values in labels.items():
        loss = "mse" if values.dtype.kind == "f" else "sparse_categorical_crossentropy"
        check(head, labels, WEIGHTS, loss={name: loss}, metrics={name: "accuracy"})


@pytest.mark.parametrize("head", ALONE)
def test_labels_alone(head):
    """One loss, as a function, an object or in a dict; one list of metrics; plain labels, or a dict of them."""
    labels, (loss,) = example(head)[1], losses_of(head).values()
    output = KINDS[head]["labels"]
    for given in (labels["labels"], labels, {output: labels["labels"]}):
        for form in (loss, [loss], {output: loss}):
            said = check(head, given, WEIGHTS, loss=form, metrics=["accuracy"], weighted_metrics=["accuracy"])
    twice = check(head, labels["labels"], WEIGHTS, loss=loss, loss_weights=2.0)["loss"]
    assert twice == pytest.approx(2 * said["loss"], rel=TOLERANCE)


@pytest.mark.parametrize("head", KINDS)
def test_metrics_of_your_own_with_the_papers_loss(head):
    """The loss is that of a call with labels, the metrics are Keras'."""
    inputs, labels = example(head)
    given = labels["labels"] if len(labels) == 1 else labels
    model = model_of(head)
    metrics = {name: ["accuracy"] for name in losses_of(head)}
    expected = check(head, given, WEIGHTS, loss=losses_of(head), weighted_metrics=metrics)
    for form in (metrics, list(metrics.values()) if len(metrics) > 1 else ["accuracy"]):
        model.compile("sgd", weighted_metrics=form)
        said = model.evaluate(inputs, given, sample_weight=WEIGHTS, verbose=0, return_dict=True)
        for name, value in said.items():
            if "accuracy" in name:
                assert value == pytest.approx(expected[name], rel=TOLERANCE)
    model.compile("sgd", metrics=metrics)
    said = model.evaluate(inputs, given, verbose=0, return_dict=True)
    assert said["loss"] == pytest.approx(float(model(inputs | labels)["loss"]), rel=TOLERANCE)


@pytest.mark.parametrize("head", ["ViltForImagesAndTextClassification", "LxmertForQuestionAnswering"])
def test_weights_of_classes(head):
    inputs, labels = example(head)
    of_classes = {int(label): 0.5 + place for place, label in enumerate(labels["labels"])}
    model = model_of(head)
    weights = np.array([of_classes[int(label)] for label in labels["labels"]], "float32")
    losses = []
    for data in ({"class_weight": of_classes}, {"sample_weight": weights}):
        model.compile(keras.optimizers.SGD(0.0))
        losses.append(model.fit(inputs, labels["labels"], verbose=0, shuffle=False, **data).history["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=TOLERANCE)
    model.compile(keras.optimizers.SGD(0.0))
    assert model.fit(inputs, labels["labels"], verbose=0).history["loss"] != pytest.approx(losses[0], rel=TOLERANCE)


# ── the paper's loss and metrics ────────────────────────────────────────────────────────────────────────────────────


def said_of(head: str, rows=slice(None), **data) -> dict:
    """Evaluates some rows by the paper's loss and metrics."""
    inputs, labels = keras.tree.map_structure(lambda value: value[rows], training_example(head))
    if len(labels) == 1:
        labels = labels["labels"]
    model = model_of(head)
    model.compile("sgd", **data.pop("compiled", {}))
    return model.evaluate(inputs, data.pop("labels", labels), verbose=0, return_dict=True, **data)


@every_kind
def test_a_row_without_weight_is_as_if_it_were_not_there(head):
    """One array for all labels, in `evaluate`, in `fit` and in what it is validated with."""
    ones = np.array([1.0, 0.0, 1.0], "float32")
    alone = said_of(head, [0, 2])
    assert said_of(head, sample_weight=ones) == pytest.approx(alone, rel=TOLERANCE)
    assert said_of(head)["loss"] != pytest.approx(alone["loss"], rel=TOLERANCE)
    inputs, labels = training_example(head)
    labels = labels["labels"] if len(labels) == 1 else labels
    model = model_of(head)
    model.compile(keras.optimizers.SGD(0.0))
    data = (inputs, labels, ones)
    history = model.fit(*data[:2], sample_weight=ones, validation_data=data, verbose=0).history
    assert {name: value for name, (value,) in history.items()} == pytest.approx(
        alone | {f"val_{name}": value for name, value in alone.items()}, rel=TOLERANCE
    )


@pytest.mark.parametrize("head", SEVERAL)
def test_weights_for_each_label(head):
    """A dict under the names of labels or outputs, of the structure of the labels as Keras wants it."""
    ones, targets = np.array([1.0, 0.0, 1.0], "float32"), model_of(head).targets
    _, labels = training_example(head)
    terms = {name: said_of(head, labels={name: value})["loss"] for name, value in labels.items()}
    for chosen in labels:
        weights = keras.tree.map_structure(lambda value: np.ones(3, "float32"), labels)
        weights[chosen] = keras.tree.map_structure(lambda value: ones, labels[chosen])
        without = {chosen: keras.tree.map_structure(lambda value: value[[0, 2]], labels[chosen])}
        inputs = keras.tree.map_structure(lambda value: value[[0, 2]], training_example(head)[0])
        model = model_of(head)
        model.compile("sgd")
        part = model.evaluate(inputs, without, verbose=0, return_dict=True)["loss"]
        expected = sum(terms.values()) - terms[chosen] + part
        assert said_of(head, sample_weight=weights)["loss"] == pytest.approx(expected, rel=TOLERANCE)
        named = {targets[name]: value for name, value in weights.items()}
        by_output = {targets[name]: value for name, value in labels.items()}
        assert said_of(head, labels=by_output, sample_weight=named)["loss"] == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("head", SEVERAL)
def test_factors_of_the_papers_losses(head):
    model, (_, labels) = model_of(head), training_example(head)
    terms = {name: said_of(head, labels={name: value})["loss"] for name, value in labels.items()}
    factors = {name: 0.5 + place for place, name in enumerate(labels)}
    expected = sum(factors[name] * terms[name] for name in labels)
    by_output = {model.targets[name]: value for name, value in factors.items()}
    for form in (factors, by_output, [by_output[name] for name in sorted(by_output)]):
        assert said_of(head, compiled={"loss_weights": form})["loss"] == pytest.approx(expected, rel=TOLERANCE)
    assert said_of(head, compiled={"loss_weights": {"labels": 0.0}})["loss"] == pytest.approx(
        sum(terms.values()) - terms["labels"], rel=TOLERANCE
    )
    with pytest.raises(ValueError, match=r"loss_weights names label, expected labels, "):
        model.compile(loss_weights={"label": 2.0})


@every_kind
def test_labels_under_either_name_and_in_a_column(head):
    _, labels = training_example(head)
    targets, said = model_of(head).targets, said_of(head)
    assert said_of(head, labels=labels) == said
    assert said_of(head, labels={targets[name]: value for name, value in labels.items()}) == said
    if len(labels) == 1 and labels["labels"].ndim == 1:
        assert said_of(head, labels=labels["labels"][:, None]) == said


def test_regions_have_a_loss_of_your_own():
    """LXMERT's labels of regions are pairs with a confidence; a loss of the user's sees the label of each."""
    head = "LxmertForPreTraining"
    inputs, labels = training_example(head)
    features = labels["obj_labels"]["feat"][0]
    model = model_of(head)
    model.compile("sgd", loss={"visual_prediction_scores": {"feat": "mse"}})
    loss = model.evaluate(inputs, {"obj_labels": labels["obj_labels"]}, verbose=0)
    predicted = model(inputs)["visual_prediction_scores"]["feat"]
    assert loss == pytest.approx(float(np.mean((predicted - features) ** 2)), rel=TOLERANCE)


# ── what is refused, and what stays of it ───────────────────────────────────────────────────────────────────────────


def test_labels_that_belong_nowhere():
    inputs, labels = example("ViltForPreTraining")
    model = model_of("ViltForPreTraining")
    model.compile("sgd", loss=sparse)
    with pytest.raises(ValueError, match="Give the labels as a dict; they may be of the outputs prediction_log"):
        model.evaluate(inputs, labels["labels"], verbose=0)
    with pytest.raises(ValueError, match=r"no labels, or is no output, for lables; labels are of lables, outputs are "):
        model.evaluate(inputs, {"lables": labels["labels"]}, verbose=0)
    model.compile("sgd")
    with pytest.raises(ValueError, match="got a list of 1 labels; give a dict under the names labels, matched_label"):
        model.evaluate(inputs, [labels["labels"]], verbose=0)
    inputs, labels = example("ViltForQuestionAnswering")
    model = model_of("ViltForQuestionAnswering")
    model.compile("sgd")
    with pytest.raises(ValueError, match="There are labels of answers; expected labels"):
        model.evaluate(inputs, {"answers": labels["labels"]}, verbose=0)
    with pytest.raises(ValueError, match="There are labels of nothing; expected labels"):
        model.fit(inputs, {}, verbose=0)
    with pytest.raises(ValueError, match=r"sample_weight has the shape \(3, 2\), expected a weight for each row"):
        model.evaluate(inputs, labels["labels"], sample_weight=np.ones((3, 2)), verbose=0)

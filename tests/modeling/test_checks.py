"""Labels, words and types out of range: one sentence from every class, not a page about the layer that would fail."""

import numpy as np
import pytest
from support import lxmert, vilt, visual_bert

import tfvl


def vilt_batch(name):
    inputs = vilt.vilt_inputs(name)
    if name == "ViltForImageAndTextRetrieval":  # three texts for each image
        inputs |= {key: np.repeat(inputs[key][:, None], 3, axis=1) for key in inputs if "pixel" not in key}
        return inputs | {"labels": np.array([2, 0, 1])}
    labels = vilt.HEADS.get(name) or vilt.HEADS["ViltForMaskedLM"]
    inputs["labels"] = labels(np.random.default_rng(1))
    return inputs | ({"matched_label": np.array([1, 0, 1])} if name == "ViltForPreTraining" else {})


MAKERS = {
    "Vilt": (lambda: tfvl.ViltConfig(**vilt.SIZES), vilt_batch),
    "VisualBert": (
        lambda: tfvl.VisualBertConfig(**visual_bert.SIZES),
        lambda name: visual_bert.visual_bert_inputs(name) | visual_bert.labels_of(name),
    ),
    "Lxmert": (
        lambda: tfvl.LxmertConfig(**lxmert.SIZES),
        lambda name: lxmert.lxmert_inputs() | lxmert.lxmert_labels(name),
    ),
}
INPUTS = {
    "ViltModel": vilt.vilt_inputs,
    "VisualBertModel": visual_bert.visual_bert_inputs,
    "LxmertModel": lxmert.lxmert_inputs,
}
# class, label, a value that is none of its classes
BAD_LABELS = [
    ("ViltForMaskedLM", "labels", -1),
    ("ViltForMaskedLM", "labels", 131),
    ("ViltForPreTraining", "labels", 131),
    ("ViltForPreTraining", "matched_label", 2),
    ("ViltForQuestionAnswering", "labels", -0.5),
    ("ViltForQuestionAnswering", "labels", 1.5),
    ("ViltForImagesAndTextClassification", "labels", 5),
    ("ViltForImageAndTextRetrieval", "labels", 3),
    ("ViltForTokenClassification", "labels", -1),
    ("VisualBertForPreTraining", "labels", 131),
    ("VisualBertForPreTraining", "sentence_image_labels", 2),
    ("VisualBertForQuestionAnswering", "labels", -0.5),
    ("VisualBertForMultipleChoice", "labels", 4),
    ("VisualBertForVisualReasoning", "labels", -1),
    ("VisualBertForRegionToPhraseAlignment", "labels", -0.5),
    ("LxmertForPreTraining", "labels", -1),
    ("LxmertForPreTraining", "matched_label", 2),
    ("LxmertForPreTraining", "ans", 11),
    ("LxmertForQuestionAnswering", "labels", -1),
]


@pytest.fixture(scope="module")
def made():
    """Returns a function from a class's name to (model, inputs with labels); it makes each model once."""
    models = {}

    def get(name):
        family = next(family for family in MAKERS if name.startswith(family))
        config, inputs = MAKERS[family]
        if name not in models:
            models[name] = getattr(tfvl, name)(config())
        return models[name], {
            key: np.array(value) if key != "obj_labels" else value for key, value in inputs(name).items()
        }

    return get


def refusal(model, inputs) -> str:
    with pytest.raises(ValueError, match=r" holds .*, expected ") as caught:
        model(inputs)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 200
    return message


@pytest.mark.parametrize(("name", "label", "value"), BAD_LABELS)
def test_labels_out_of_range(name, label, value, made):
    model, inputs = made(name)
    assert np.isfinite(model(inputs)["loss"])
    inputs[label][(0,) * inputs[label].ndim] = value
    assert refusal(model, inputs).startswith(f"{label} holds {value}, expected ")


@pytest.mark.parametrize(
    "name", ["ViltForMaskedLM", "ViltForTokenClassification", "ViltForImagesAndTextClassification"]
)
def test_labels_that_are_ignored(name, made):
    model, inputs = made(name)
    inputs["labels"][(0,) * inputs["labels"].ndim] = -100
    assert np.isfinite(model(inputs)["loss"])


IDS = {
    "ViltModel": {"input_ids": 131, "token_type_ids": 3},
    "VisualBertModel": {"input_ids": 131, "token_type_ids": 3, "visual_token_type_ids": 3, "position_ids": 13},
    "LxmertModel": {"input_ids": 131, "token_type_ids": 3},
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in IDS.items() for field in fields])
def test_ids_out_of_range_or_of_another_type(name, field, made):
    config, _ = MAKERS[name.removesuffix("Model")]
    inputs = INPUTS[name]()
    model, count = getattr(tfvl, name)(config()), IDS[name][field]
    model(inputs | {field: inputs[field].astype("int64")})
    for value in (count, -1):
        wrong = inputs[field].copy()
        wrong[0, 0] = value
        assert refusal(model, inputs | {field: wrong}).startswith(f"{field} holds {value}, expected 0 to {count - 1}: ")
    message = refusal(model, inputs | {field: inputs[field].astype("float32")})
    assert message.startswith(f"{field} holds float32 values, expected integers 0 to {count - 1}: ")


def test_the_old_name_of_lxmerts_words_to_predict(made):
    """`masked_lm_labels` of upstream's TensorFlow version, in a dict or as a keyword."""
    model, inputs = made("LxmertForPreTraining")
    labels = inputs.pop("labels")
    expected = model(inputs | {"labels": labels})["loss"]
    np.testing.assert_array_equal(model(inputs | {"masked_lm_labels": labels})["loss"], expected)
    np.testing.assert_array_equal(model(inputs, masked_lm_labels=labels)["loss"], expected)
    assert model(inputs)["loss"] != expected


@pytest.mark.parametrize(
    ("off", "sentence"),
    [
        (["qa"], "at least one of labels, matched_label, obj_labels"),
        (["mask_lm", "matched", "obj_predict", "qa"], r"takes no labels, since all task_\* flags .* off; got ans\."),
    ],
)
def test_labels_of_no_task_that_is_switched_on(off, sentence):
    flags = {f"task_{name}": False for name in off}
    model = tfvl.LxmertForPreTraining(tfvl.LxmertConfig(**lxmert.SIZES | flags))
    with pytest.raises(ValueError, match=sentence):
        model(lxmert.lxmert_inputs(), ans=np.array([1, 2, 3]))

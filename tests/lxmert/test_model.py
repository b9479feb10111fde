"""LXMERT without PyTorch: golden outputs, ways to call it, losses, saving, bad input; test_classes.py trains it."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.lxmert import BATCH, HEADS, LENGTH, REGIONS, SIZES, TRAINED, lxmert_inputs, lxmert_labels
from support.paths import DATA, GOLDEN
from support.vilt import golden_checkpoint, randomise

import tfvl

pytestmark = pytest.mark.numeric

STATE_DICTS = json.loads((GOLDEN / "lxmert_state_dicts.json").read_text())
# float32 sums in another order; the golden numbers come from PyTorch's kernels
GOLDEN_TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
# the same TensorFlow operations, in a graph that may fuse them
GRAPH_TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
CONFIG = tfvl.LxmertConfig(**SIZES)
SMALL = CONFIG.replace(l_layers=1, x_layers=1, r_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "lxmert.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def question_answering():
    model = tfvl.LxmertForQuestionAnswering(SMALL)
    randomise(model)
    return model


@pytest.fixture(scope="module")
def pretraining():
    model = tfvl.LxmertForPreTraining(SMALL)
    randomise(model)
    return model


def flat(outputs) -> dict:
    """Flattens outputs into a dict, in which those in a dict or a tuple have names of their own."""
    return {"/".join(map(str, path)): value for path, value in keras.tree.flatten_with_path(outputs)}


@pytest.mark.parametrize("head", HEADS)
def test_golden_outputs_and_loss(head, golden, tmp_path):
    model = getattr(tfvl, head).from_pretrained(golden_checkpoint(CONFIG, STATE_DICTS, head, tmp_path))
    inputs = lxmert_inputs() | (lxmert_labels(head) if head in TRAINED else {})
    base = head == "LxmertModel"
    outputs = model(inputs, output_hidden_states=base, output_attentions=base)
    expected = {name: value for name, value in golden.items() if name.startswith(head + "/")}
    assert {name.split("/")[1] for name in expected} == set(outputs) - {"visual_prediction_scores"}
    for name, value in expected.items():
        _, field, index = name.split("/")
        ours = outputs[field][int(index)] if isinstance(outputs[field], tuple) else outputs[field]
        np.testing.assert_allclose(ours, value, err_msg=name, **GOLDEN_TOLERANCE)


def test_a_dict_keywords_and_a_list_are_the_same_call(question_answering):
    inputs = lxmert_inputs()
    expected = question_answering(inputs)["question_answering_score"]
    as_lists = {name: value.tolist() for name, value in inputs.items()}
    calls = {
        "keywords": question_answering(**inputs),
        "a list": question_answering(list(inputs.values())),
        "one by one": question_answering(*inputs.values()),
        "lists of numbers": question_answering(as_lists),
    }
    for way, outputs in calls.items():
        np.testing.assert_array_equal(outputs["question_answering_score"], expected, err_msg=way)


def test_object_labels_may_be_lists(pretraining):
    labels = lxmert_labels("LxmertForPreTraining")["obj_labels"]
    as_lists = {name: [item.tolist() for item in pair] for name, pair in labels.items()}
    expected = pretraining(lxmert_inputs(), obj_labels=labels)["loss"]
    np.testing.assert_array_equal(pretraining(lxmert_inputs(), obj_labels=as_lists)["loss"], expected)


@pytest.mark.parametrize("head", HEADS)
def test_a_graph_of_unknown_sizes_gives_the_same(head):
    model = getattr(tfvl, head)(CONFIG)
    randomise(model)
    inputs = lxmert_inputs()
    signature = {name: tf.TensorSpec([None] * value.ndim, value.dtype) for name, value in inputs.items()}
    for name in ("visual_feats", "visual_pos"):
        signature[name] = tf.TensorSpec([None, None, inputs[name].shape[-1]], tf.float32)
    graph = tf.function(lambda given: model(given), input_signature=[signature])
    expected, ours = flat(model(inputs)), flat(graph(inputs))
    assert expected.keys() == ours.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, err_msg=name, **GRAPH_TOLERANCE)


def test_every_row_is_what_it_is_alone(question_answering):
    """Padding of words and regions changes no answer."""
    inputs = lxmert_inputs()
    together = question_answering(inputs)["question_answering_score"]
    for row, (length, regions) in enumerate(((7, 4), (5, 5), (6, 3))):
        alone = {
            name: inputs[name][row : row + 1, : regions if name.startswith("visual") else length]
            for name in ("input_ids", "visual_feats", "visual_pos", "token_type_ids")
        }
        score = question_answering(alone)["question_answering_score"][0]
        np.testing.assert_allclose(score, together[row], **GRAPH_TOLERANCE)


def test_answers_alone_are_the_answers_of_the_whole_computation(question_answering):
    """Without hidden states the last block computes its first word only."""
    plain = question_answering(lxmert_inputs())
    whole = question_answering(lxmert_inputs(), output_hidden_states=True)
    assert plain.keys() == {"question_answering_score"}
    name = "question_answering_score"
    np.testing.assert_allclose(plain[name], whole[name], **GRAPH_TOLERANCE)


def test_every_confidence_counts_for_its_own_region(pretraining):
    """The old TensorFlow version took the mean over the regions first, so that the confidences only scaled it."""
    labels = lxmert_labels("LxmertForPreTraining")["obj_labels"]
    scores = pretraining(lxmert_inputs())["visual_prediction_scores"]
    labels = {
        name: (np.maximum(label, 0) if name != "feat" else label, weight) for name, (label, weight) in labels.items()
    }
    expected = 0.0
    for name, (label, weight) in labels.items():
        score = np.asarray(scores[name], "float64")
        if name == "feat":
            distance = np.abs(score - label)
            losses = np.where(distance < 1, distance**2 / 2, distance - 0.5).mean(-1)
        else:
            log_sum = np.log(np.exp(score).sum(-1))
            losses = log_sum - np.take_along_axis(score, label[..., None], -1)[..., 0]
        expected += SIZES["visual_loss_normalizer"] * (losses * weight).mean()
    loss = pretraining(lxmert_inputs(), obj_labels=labels)["loss"]
    np.testing.assert_allclose(loss, expected, **GRAPH_TOLERANCE)


def test_words_labelled_minus_100_do_not_count(pretraining):
    """The old TensorFlow version took the loss of such a word, too."""
    labels = lxmert_labels("LxmertForPreTraining")["labels"]
    outputs = pretraining(lxmert_inputs(), labels=labels)
    scores = np.asarray(outputs["prediction_logits"], "float64")
    counted = labels != -100
    assert 0 < counted.sum() < labels.size
    losses = np.log(np.exp(scores).sum(-1)) - np.take_along_axis(scores, np.maximum(labels, 0)[..., None], -1)[..., 0]
    np.testing.assert_allclose(outputs["loss"], losses[counted].mean(), **GRAPH_TOLERANCE)
    none = pretraining(lxmert_inputs(), labels=np.full_like(labels, -100))
    assert none["loss"] == 0


@pytest.mark.parametrize("width", [3, 19, 2049])
def test_the_feature_loss_has_the_configurations_width(width):
    """The old TensorFlow version reshaped features to rows of 2048, whatever `visual_feat_dim` said."""
    model = tfvl.LxmertForPreTraining(
        SMALL.replace(visual_feat_dim=width, visual_obj_loss=False, visual_attr_loss=False)
    )
    rng = np.random.default_rng(0)
    features, targets = (rng.normal(size=(BATCH, REGIONS, width)).astype("float32") for _ in range(2))
    labels = {"feat": (targets, np.ones((BATCH, REGIONS), "float32"))}
    outputs = model(lxmert_inputs() | {"visual_feats": features}, obj_labels=labels)
    distance = np.abs(np.asarray(outputs["visual_prediction_scores"]["feat"]) - targets)
    expected = np.where(distance < 1, distance**2 / 2, distance - 0.5).mean() * SIZES["visual_loss_normalizer"]
    np.testing.assert_allclose(outputs["loss"], expected, **GRAPH_TOLERANCE)


def test_the_padding_rows_are_not_trained():
    model = tfvl.LxmertForQuestionAnswering(SMALL)
    tables = (model.lxmert.embeddings.position_embeddings, model.lxmert.embeddings.token_type_embeddings)
    before = [table.embeddings.numpy() for table in tables]
    model.compile(keras.optimizers.SGD(0.1))
    data = tf.data.Dataset.from_tensors((lxmert_inputs(), lxmert_labels("LxmertForQuestionAnswering")["labels"]))
    model.fit(data, verbose=0)
    for table, old in zip(tables, before, strict=True):
        np.testing.assert_array_equal(table.embeddings[0], old[0])
        assert not np.array_equal(table.embeddings[1], old[1])


def test_gradient_checkpointing_changes_no_gradient():
    model = tfvl.LxmertForPreTraining(SMALL.replace(l_layers=2, x_layers=2))
    randomise(model)
    inputs = lxmert_inputs() | lxmert_labels("LxmertForPreTraining")
    weights = [variable.value for variable in model.trainable_variables]
    gradients = []
    for enable in (False, True):
        model.gradient_checkpointing_enable(enable)
        with tf.GradientTape() as tape:
            loss = model(inputs, training=True)["loss"]
        gradients.append([tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, weights)])
    for variable, plain, recomputed in zip(model.trainable_variables, *gradients, strict=True):
        np.testing.assert_allclose(recomputed, plain, err_msg=variable.path, **GRAPH_TOLERANCE)


def test_another_number_of_answers_on_load(tmp_path):
    directory = golden_checkpoint(CONFIG, STATE_DICTS, "LxmertForPreTraining", tmp_path)
    with pytest.raises(tfvl.CheckpointError, match=r"answer_head.logit_fc.3.weight is \(11, 48\)"):
        tfvl.LxmertForPreTraining.from_pretrained(directory, num_qa_labels=4)
    with pytest.warns(UserWarning, match="has no weights for answer_head/out/bias, answer_head/out/kernel"):
        model = tfvl.LxmertForPreTraining.from_pretrained(directory, num_qa_labels=4, ignore_mismatched_sizes=True)
    assert model.config.num_qa_labels == 4
    assert model(lxmert_inputs())["question_answering_score"].shape == (BATCH, 4)


@pytest.mark.parametrize("labels", [4, 15])
def test_resize_num_qa_labels(labels, tmp_path):
    model = tfvl.LxmertForPreTraining(SMALL)
    randomise(model)
    names, name = list(model.weight_names()), "question_answering_score"
    before = model(lxmert_inputs())[name]
    assert model.resize_num_qa_labels(None) is model.answer_head.out
    assert model.resize_num_qa_labels(labels) is model.answer_head.out
    kept = min(labels, SIZES["num_qa_labels"])
    after = model(lxmert_inputs())[name]
    assert after.shape == (BATCH, labels)
    np.testing.assert_allclose(after[:, :kept], before[:, :kept], **GRAPH_TOLERANCE)
    assert sorted(model.weight_names()) == sorted(names)
    model.save_pretrained(tmp_path)
    loaded = tfvl.LxmertForPreTraining.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded(lxmert_inputs())[name], after)
    with pytest.raises(ValueError, match="num_qa_labels is 0, expected an integer"):
        model.resize_num_qa_labels(0)
    assert tfvl.LxmertForPreTraining(SMALL.replace(task_qa=False)).resize_num_qa_labels(3) is None


def test_a_head_that_is_switched_off_is_left_out(tmp_path):
    directory = golden_checkpoint(CONFIG, STATE_DICTS, "LxmertForPreTraining", tmp_path)
    with pytest.warns(UserWarning, match="left out: .*obj_predict_head.decoder_dict.attr.bias"):
        model = tfvl.LxmertForPreTraining.from_pretrained(directory, visual_attr_loss=False)
    assert model(lxmert_inputs())["visual_prediction_scores"].keys() == {"obj", "feat"}


def test_upstreams_dict_of_layer_counts_is_not_kept():
    values = CONFIG.to_dict() | {"num_hidden_layers": {"vision": 1, "cross_encoder": 1, "language": 1}}
    assert tfvl.LxmertConfig.from_dict(values) == CONFIG


BAD_INPUTS = {
    "Give exactly one of input_ids and inputs_embeds; got neither": {"input_ids": None},
    "Give exactly one of input_ids and inputs_embeds; got input_ids and inputs_embeds": {
        "inputs_embeds": np.zeros((BATCH, LENGTH, 24), "float32")
    },
    "visual_feats is missing; LXMERT needs each region's features and its box": {"visual_feats": None},
    "visual_pos is missing": {"visual_pos": None},
    r"visual_feats has shape \(3, 5, 2048\), expected \(3, regions, 19\)": {"visual_feats": np.zeros((3, 5, 2048))},
    r"visual_feats has shape \(2, 5, 19\), expected \(3, regions, 19\)": {"visual_feats": np.zeros((2, 5, 19))},
    r"visual_pos has shape \(3, 4, 5\), expected \(3, 5, 5\)": {"visual_pos": np.zeros((3, 4, 5))},
    r"input_ids has shape \(3,\), expected \(batch, length\)": {"input_ids": np.zeros(3, "int32")},
    r"attention_mask has shape \(3, 6\), expected \(3, 7\)": {"attention_mask": np.ones((3, 6))},
    r"visual_attention_mask has shape \(3, 7\), expected \(3, 5\)": {"visual_attention_mask": np.ones((3, 7))},
    "14 tokens long, but the position table ends at 13": {
        **dict.fromkeys(("attention_mask", "token_type_ids")),
        "input_ids": np.zeros((BATCH, 14), "int32"),
    },
    "has no input head_mask; it takes input_ids, ": {"head_mask": np.ones(4)},
    r"labels has shape \(3, 6\), expected \(3, 7\)": {"labels": np.zeros((3, 6), "int32")},
    r"ans has shape \(3, 11\), expected \(3,\)": {"ans": np.zeros((3, 11), "float32")},
    r"labels holds 131, expected classes 0 … 130, or -100": {"labels": np.full((3, 7), 131)},
    r"matched_label holds -1, expected classes 0 … 1, or -100": {"matched_label": np.array([0, 1, -1])},
    "obj_labels has no attr: expected a pair of labels and confidences": {
        "obj_labels": {"obj": (np.zeros((3, 5)),) * 2}
    },
    r"label of obj in obj_labels has shape \(3, 4\), expected \(3, 5\)": {
        "obj_labels": {"obj": (np.zeros((3, 4)),) * 2}
    },
}


@pytest.mark.parametrize("message", BAD_INPUTS)
def test_bad_inputs_are_told_in_one_sentence(message, pretraining):
    with pytest.raises(ValueError, match=message) as caught:
        pretraining(lxmert_inputs() | BAD_INPUTS[message])
    assert "\n" not in str(caught.value)


def test_a_width_that_the_heads_do_not_divide():
    with pytest.raises(ValueError, match="hidden_size 24 is not a multiple of num_attention_heads 5"):
        CONFIG.replace(num_attention_heads=5)


def test_a_tf_model_h5_of_transformers_4():
    """Made by tools/golden/lxmert_h5.py with transformers' own TensorFlow classes, the last that it had."""
    directory = DATA / "lxmert"
    model = tfvl.LxmertForPreTraining.from_pretrained(directory)
    outputs = model({name: value for name, value in lxmert_inputs().items() if name != "visual_attention_mask"})
    with np.load(directory / "outputs.npz") as expected:
        for name, value in expected.items():
            np.testing.assert_allclose(outputs[name], value, err_msg=name, **GOLDEN_TOLERANCE)


def test_soft_targets_and_right_answers(question_answering):
    """One class, two kinds of labels: the loss and the metric follow them."""
    inputs, rng = lxmert_inputs(), np.random.default_rng(2)
    scores = question_answering(inputs)["question_answering_score"].numpy().astype("float64")
    targets = rng.choice([0.0, 0.3, 1.0], size=scores.shape)
    binary = np.logaddexp(0, scores) - scores * targets
    right = np.array([3, 0, 10])
    entropy = np.log(np.exp(scores).sum(-1)) - scores[np.arange(BATCH), right]
    best = scores.argmax(-1)
    for labels, loss, accuracy in (
        (targets.astype("float32"), binary.sum(-1).mean(), targets[np.arange(BATCH), best].mean()),
        (right, entropy.mean(), np.mean(best == right)),
        (right[:, None], entropy.mean(), np.mean(best == right)),
    ):
        np.testing.assert_allclose(question_answering(inputs, labels=labels)["loss"], loss, rtol=1e-5)
        question_answering.compile("sgd")
        said = question_answering.evaluate(inputs, labels, verbose=0, return_dict=True)
        np.testing.assert_allclose([said["loss"], said["accuracy"]], [loss, accuracy], rtol=1e-5)


def test_labels_that_are_neither(question_answering):
    inputs = lxmert_inputs()
    wrong = {
        r"labels has shape \(3, 4\), expected \(batch, 11\)": np.zeros((BATCH, 4), "float32"),
        r"labels has shape \(3,\), expected \(batch, 11\)": np.zeros(BATCH, "float32"),
        "labels holds 1.5, expected 0 to 1: a soft target": np.full((BATCH, 11), 1.5, "float32"),
        "labels holds 11, expected classes 0": np.array([[3], [0], [11]]),
    }
    for message, labels in wrong.items():
        with pytest.raises(ValueError, match=message):
            question_answering(inputs, labels=labels)


@pytest.mark.parametrize(
    "given",
    [
        {"num_labels": 3},
        {"num_qa_labels": 3},
        {"id2label": {0: "a", 1: "b", 2: "c"}},
        {"label2id": {"a": 0, "b": 1, "c": 2}},
    ],
    ids=str,
)
def test_another_number_of_answers_whichever_says_it(given):
    """The bundled model has 26; scores, names and numbers agree, and again after `resize_num_qa_labels`."""
    with pytest.warns(UserWarning, match="answer_head"):
        model = tfvl.LxmertForQuestionAnswering.from_pretrained("shapes-lxmert", ignore_mismatched_sizes=True, **given)
    for count in (3, 5):
        config = model.config
        assert config.num_labels == config.num_qa_labels == len(config.id2label) == count
        features = np.zeros((1, 2, config.visual_feat_dim), "float32")
        outputs = model(np.array([[1, 2]]), features, np.zeros((1, 2, 4), "float32"))
        assert outputs["question_answering_score"].shape == (1, count)
        model.resize_num_qa_labels(5)
    assert [model.config.id2label[index] for index in (3, 4)] == ["LABEL_3", "LABEL_4"]

"""LXMERT against transformers: options and kinds of inputs; test_classes.py compares outputs and gradients."""

import numpy as np
import pytest
from support.lxmert import BATCH, LENGTH, SIZES, lxmert_inputs, lxmert_labels
from support.reference import compare, reference_model, to_torch, torch, transformers

import tfvl

pytestmark = pytest.mark.parity

# float32 has 24 bits; sums of some dozen terms in another order differ in the last two or three of them
TINY = {"rtol": 1e-5, "atol": 1e-5}


def test_embeddings_as_inputs_without_masks(pair):
    reference, model = pair("LxmertModel")
    inputs = {name: value for name, value in lxmert_inputs().items() if name in ("visual_feats", "visual_pos")}
    inputs["inputs_embeds"] = np.random.default_rng(3).normal(size=(BATCH, LENGTH, 24)).astype("float32")
    with torch.no_grad():
        for name, value in reference(**to_torch(inputs)).items():
            compare(model(inputs)[name], value, TINY, name)


@pytest.mark.parametrize("given", ["labels", "obj_labels", "matched_label", "ans"])
def test_each_loss_term(pair, given):
    reference, model = pair("LxmertForPreTraining")
    inputs = lxmert_inputs() | {given: lxmert_labels("LxmertForPreTraining")[given]}
    with torch.no_grad():
        compare(model(inputs)["loss"], reference(**to_torch(inputs)).loss, TINY, given)


FLAGS = ("task_mask_lm", "task_matched", "task_obj_predict", "task_qa")
FLAGS += ("visual_obj_loss", "visual_attr_loss", "visual_feat_loss")


@pytest.mark.parametrize("flag", FLAGS)
def test_each_objective_can_be_switched_off(pair, flag):
    reference, model = pair("LxmertForPreTraining", **{flag: False})
    inputs = lxmert_inputs() | lxmert_labels("LxmertForPreTraining")
    with torch.no_grad():
        compare(model(inputs)["loss"], reference(**to_torch(inputs)).loss, TINY, flag)


SOME_ACTIVATIONS = ["gelu_10", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu"]
SOME_ACTIVATIONS += [
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "sqrtsoftplus",
    "tanh",
]


@pytest.mark.parametrize("activation", SOME_ACTIVATIONS)
def test_other_activations(pair, activation):
    layers = {"l_layers": 1, "r_layers": 1, "x_layers": 1}
    reference, model = pair("LxmertForPreTraining", hidden_act=activation, **layers)
    inputs = lxmert_inputs()
    with torch.no_grad():
        compare(model(inputs)["prediction_logits"], reference(**to_torch(inputs)).prediction_logits, TINY)


def test_what_old_files_hold(tmp_path):
    """An untied decoder, its bias a second time, and a position buffer, in a `pytorch_model.bin`."""
    reference = reference_model("LxmertForPreTraining")
    reference.cls.predictions.decoder.weight = torch.nn.Parameter(torch.randn(SIZES["vocab_size"], 24))
    old = {
        "cls.predictions.decoder.bias": reference.cls.predictions.bias.detach(),
        "lxmert.embeddings.position_ids": torch.arange(13)[None],
    }
    torch.save(reference.state_dict() | old, tmp_path / "pytorch_model.bin")
    reference.config.save_pretrained(tmp_path)
    model = tfvl.LxmertForPreTraining.from_pretrained(tmp_path)
    inputs = lxmert_inputs()
    with torch.no_grad():
        compare(model(inputs)["prediction_logits"], reference(**to_torch(inputs)).prediction_logits, TINY)
    model.save_pretrained(tmp_path / "saved")
    loaded = transformers.LxmertForPreTraining.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        compare(model(inputs)["prediction_logits"], loaded(**to_torch(inputs)).prediction_logits, TINY)


@pytest.mark.parametrize("labels", [4, 15])
def test_resized_answers(pair, labels, tmp_path):
    """The answers that stay keep their weights; what was resized loads in transformers."""
    reference = pair("LxmertForQuestionAnswering")[0]
    reference.save_pretrained(tmp_path)
    model = tfvl.LxmertForQuestionAnswering.from_pretrained(tmp_path)
    before = np.asarray(model(lxmert_inputs())["question_answering_score"])
    assert model.resize_num_qa_labels(labels) is model.answer_head.out
    after = np.asarray(model(lxmert_inputs())["question_answering_score"])
    assert after.shape == (BATCH, labels)
    np.testing.assert_allclose(after[:, : min(labels, 11)], before[:, : min(labels, 11)], **TINY)
    model.save_pretrained(tmp_path / "resized")
    loaded = transformers.LxmertForQuestionAnswering.from_pretrained(tmp_path / "resized").eval()
    with torch.no_grad():
        compare(after, loaded(**to_torch(lxmert_inputs())).question_answering_score, TINY)


@pytest.mark.parametrize("none", [{"l_layers": 0}, {"r_layers": 0}, {"x_layers": 0}, {"l_layers": 0, "r_layers": 0}])
def test_encoders_without_blocks(pair, none):
    reference, model = pair("LxmertForPreTraining", **{"l_layers": 1, "r_layers": 1, "x_layers": 1} | none)
    inputs = lxmert_inputs() | lxmert_labels("LxmertForPreTraining")
    options = {"output_hidden_states": True, "output_attentions": True}
    ours = model(inputs, **options)
    with torch.no_grad():
        for name, value in reference(**to_torch(inputs), **options).items():
            compare(ours[name], value, TINY, name)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_norms_whose_epsilon_no_configuration_changes(pair, eps, tmp_path):
    """Upstream's PyTorch takes 1e-12 whatever the file says; so it is in what is loaded, and in what is saved."""
    reference, model = pair("LxmertForPreTraining", layer_norm_eps=eps)
    inputs = lxmert_inputs()
    model.save_pretrained(tmp_path)
    assert model.config.layer_norm_eps == eps
    saved = transformers.LxmertForPreTraining.from_pretrained(tmp_path).eval()
    ours = model(inputs)
    with torch.no_grad():
        for theirs in (reference(**to_torch(inputs)), saved(**to_torch(inputs))):
            for name in ("prediction_logits", "cross_relationship_score", "question_answering_score"):
                compare(ours[name], theirs[name], TINY, name)


@pytest.mark.parametrize("name", ["attention_mask", "visual_attention_mask", "token_type_ids"])
def test_one_row_goes_for_all(pair, name):
    reference, model = pair("LxmertForPreTraining")
    inputs = lxmert_inputs()
    inputs[name] = inputs[name][1:2]
    ours = model(inputs)
    with torch.no_grad():
        theirs = reference(**to_torch(inputs))
    for output in ("prediction_logits", "cross_relationship_score", "question_answering_score"):
        compare(ours[output], theirs[output], TINY, output)


def test_labels_and_confidences_in_columns(pair):
    reference, model = pair("LxmertForPreTraining")
    labels = lxmert_labels("LxmertForPreTraining")
    columns = {name: labels[name][..., None] for name in ("labels", "matched_label", "ans")}
    columns["obj_labels"] = {
        name: (label if name == "feat" else label[..., None], confidence[..., None])
        for name, (label, confidence) in labels["obj_labels"].items()
    }
    inputs = lxmert_inputs()
    with torch.no_grad():
        theirs = reference(**to_torch(inputs | columns)).loss
    compare(model(inputs | columns)["loss"], theirs, TINY)
    compare(model(inputs | labels)["loss"], theirs, TINY)


def test_soft_targets_train_by_the_papers_loss(pair):
    """As the authors' src/tasks/vqa.py: binary cross-entropy times the number of answers, on upstream's scores."""
    import tensorflow as tf

    reference, model = pair("LxmertForQuestionAnswering")
    inputs, rng = lxmert_inputs(), np.random.default_rng(2)
    targets = rng.choice([0.0, 0.3, 0.6, 0.9, 1.0], size=(BATCH, SIZES["num_qa_labels"])).astype("float32")
    reference.zero_grad()
    scores = reference(**to_torch(inputs)).question_answering_score
    theirs = torch.nn.BCEWithLogitsLoss()(scores, torch.tensor(targets)) * scores.size(1)
    theirs.backward()
    kernel = model.answer_head.out.kernel
    with tf.GradientTape() as tape:
        ours = model(inputs | {"labels": targets})["loss"]
    compare(ours, theirs, TINY)
    gradient = reference.answer_head.logit_fc[3].weight.grad.T
    np.testing.assert_allclose(tape.gradient(ours, kernel.value), gradient, **TINY)
    hard = {"labels": np.array([[3], [0], [10]], "int32")}
    with torch.no_grad():
        compare(model(inputs | hard)["loss"], reference(**to_torch(inputs | hard)).loss, TINY)

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


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations(pair, activation):
    reference, model = pair("LxmertForPreTraining", hidden_act=activation, l_layers=1, r_layers=2)
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

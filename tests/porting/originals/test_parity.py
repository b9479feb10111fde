"""The papers' own files, written by torch, against the transformers models that they were made from, and back."""

import sys
import types
import warnings

import numpy as np
import pytest
from support.lxmert import lxmert_inputs
from support.originals import lxmert_names, vilt_names, visual_bert_names
from support.reference import reference_model, to_torch, torch, transformers
from support.vilt import vilt_inputs
from support.visual_bert import visual_bert_inputs

import tfvl

pytestmark = pytest.mark.parity

# float32 has 24 bits; sums of some dozen terms in another order differ in the last two or three of them
TINY = {"rtol": 1e-5, "atol": 1e-5}


def fine_tuned_lxmert(state):
    return lxmert_names(state, "lxrt_encoder.model.", "")


def vqa_names(state):
    return vilt_names(state, torch.cat)


def nlvr2_names(state):
    return vilt_names(state, torch.cat, "nlvr2_classifier.")


# class: the authors' names, the file, the inputs, one output
CASES = {
    "VisualBertForPreTraining": (visual_bert_names, "vcr_pre_train.th", visual_bert_inputs, "prediction_logits"),
    "VisualBertForQuestionAnswering": (visual_bert_names, "vqa_fine_tuned.th", visual_bert_inputs, "logits"),
    "VisualBertForVisualReasoning": (visual_bert_names, "nlvr2_fine_tuned.th", visual_bert_inputs, "logits"),
    "VisualBertForMultipleChoice": (visual_bert_names, "vcr_fine_tune.th", visual_bert_inputs, "logits"),
    "VisualBertForRegionToPhraseAlignment": (visual_bert_names, "flickr.th", visual_bert_inputs, "logits"),
    "LxmertForPreTraining": (lxmert_names, "Epoch20_LXRT.pth", lxmert_inputs, "question_answering_score"),
    "LxmertForQuestionAnswering": (fine_tuned_lxmert, "BEST.pth", lxmert_inputs, "question_answering_score"),
    "ViltForMaskedLM": (vqa_names, "vilt_200k_mlm.ckpt", vilt_inputs, "logits"),
    "ViltForQuestionAnswering": (vqa_names, "vilt_vqa.ckpt", vilt_inputs, "logits"),
    "ViltForImagesAndTextClassification": (nlvr2_names, "vilt_nlvr2.ckpt", vilt_inputs, "logits"),
    "ViltForImageAndTextRetrieval": (vqa_names, "vilt_irtr_coco.ckpt", vilt_inputs, "logits"),
}
UPSTREAM_LIMITS = {"num_attention_heads": 4, "layer_norm_eps": 1e-6}


@pytest.fixture
def lightning(monkeypatch):
    """Returns a function that wraps a state dict as Lightning saves it, with objects of its (made-up) classes."""
    modules = {"pytorch_lightning.callbacks": "ModelCheckpoint", "pytorch_lightning.utilities.parsing": "AttributeDict"}
    for package in ("pytorch_lightning", "pytorch_lightning.utilities"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    classes = []
    for module, name in modules.items():
        made = types.ModuleType(module)
        made.__dict__[name] = type(name, (dict,), {"__module__": module})
        monkeypatch.setitem(sys.modules, module, made)
        classes.append(made.__dict__[name])

    def wrap(state):
        callback, settings = classes
        moments = {0: {"step": 3, "exp_avg": torch.zeros(7), "exp_avg_sq": torch.ones(2, 3, dtype=torch.float64)}}
        return {
            "epoch": 9,
            "state_dict": state,
            "callbacks": {callback: {"best_model_score": torch.tensor(0.5), "dirpath": "result"}},
            "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.98)}]}],
            "hyper_parameters": settings(config={"image_size": 384, "loss_names": {"vqa": 1}, "load_path": None}),
        }

    return wrap


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_same_outputs_and_back_to_transformers(name, legacy, tmp_path, lightning):
    rename, file, inputs_of, output = CASES[name]
    reference = reference_model(name)
    state = rename({key: tensor.detach() for key, tensor in reference.state_dict().items()})
    wrapped = lightning(state) if file.endswith(".ckpt") else state
    torch.save(wrapped, tmp_path / file, _use_new_zipfile_serialization=not legacy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sizes = {field: value for field, value in UPSTREAM_LIMITS.items() if not name.startswith("Lxmert")}
        sizes["num_attention_heads"] = 4
        model = getattr(tfvl, name).from_pretrained(tmp_path / file, **sizes)
    inputs = inputs_of() if inputs_of is lxmert_inputs else inputs_of(name)
    with torch.no_grad():
        expected = reference(**to_torch(inputs))[output].numpy()
    np.testing.assert_allclose(model(inputs)[output], expected, **TINY)

    model.save_pretrained(tmp_path / "saved")
    loaded, info = getattr(transformers, name).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(info.values()), info
    loaded.eval()
    with torch.no_grad():
        np.testing.assert_allclose(loaded(**to_torch(inputs))[output].numpy(), expected, **TINY)

"""LXMERT against transformers, the same directory loaded on both sides: every block, head, loss and gradient."""

import numpy as np
import pytest
from helpers_lxmert import BATCH, HEADS, LENGTH, SIZES, TRAINED, lxmert_inputs, lxmert_labels
from helpers_torch import to_torch, torch, transformers

import tfvl
from tfvl.porting.rules import Table

pytestmark = pytest.mark.parity

# float32 has 24 bits; sums of some dozen terms in another order differ in the last two or three of them
TINY = {"rtol": 1e-5, "atol": 1e-5}


def reference_model(head, **changes):
    """A transformers model with every weight random, in eval mode."""
    torch.manual_seed(0)
    model = getattr(transformers, head)(transformers.LxmertConfig(**(SIZES | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def as_torch(inputs: dict) -> dict:
    tensors = to_torch({name: value for name, value in inputs.items() if name != "obj_labels"})
    if "obj_labels" in inputs:
        pairs = inputs["obj_labels"].items()
        tensors["obj_labels"] = {name: tuple(to_torch(dict(enumerate(pair))).values()) for name, pair in pairs}
    return tensors


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A function from a class's name to (reference model, tfvl model), made once each."""
    made = {}

    def get(head, **changes):
        key = (head, tuple(sorted(changes.items())))
        if key not in made:
            reference = reference_model(head, **changes)
            directory = tmp_path_factory.mktemp(head)
            reference.save_pretrained(directory)
            made[key] = reference, getattr(tfvl, head).from_pretrained(directory)
        return made[key]

    return get


def compare(ours, theirs, path="outputs"):
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), path
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            compare(mine, other, f"{path}[{index}]")
        return
    assert tuple(ours.shape) == tuple(theirs.shape), path
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), err_msg=path, **TINY)


@pytest.mark.parametrize("more", [{}, {"output_attentions": True, "output_hidden_states": True}])
@pytest.mark.parametrize("head", HEADS)
def test_every_output_of_every_head(pair, head, more):
    reference, model = pair(head)
    inputs = lxmert_inputs()
    with torch.no_grad():
        theirs = {name: value for name, value in reference(**as_torch(inputs), **more).items() if value is not None}
        if head == "LxmertForPreTraining":  # upstream computes these for the loss and does not return them
            vision = reference.lxmert(**as_torch(inputs)).vision_output
            theirs["visual_prediction_scores"] = reference.obj_predict_head(vision)
    ours = model(inputs, **more)
    assert set(ours) == set(theirs)
    regions = theirs.pop("visual_prediction_scores", {})
    for name, value in (theirs | regions).items():
        compare(ours["visual_prediction_scores"][name] if name in regions else ours[name], value, name)
    if more:
        assert len(ours["language_hidden_states"]) == SIZES["l_layers"] + SIZES["x_layers"]
        assert len(ours["vision_hidden_states"]) == SIZES["r_layers"] + SIZES["x_layers"]


def test_embeddings_as_inputs_without_masks(pair):
    reference, model = pair("LxmertModel")
    inputs = {name: value for name, value in lxmert_inputs().items() if name in ("visual_feats", "visual_pos")}
    inputs["inputs_embeds"] = np.random.default_rng(3).normal(size=(BATCH, LENGTH, 24)).astype("float32")
    with torch.no_grad():
        for name, value in reference(**as_torch(inputs)).items():
            compare(model(inputs)[name], value, name)


@pytest.mark.parametrize("given", ["labels", "obj_labels", "matched_label", "ans"])
def test_each_loss_term(pair, given):
    reference, model = pair("LxmertForPreTraining")
    inputs = lxmert_inputs() | {given: lxmert_labels("LxmertForPreTraining")[given]}
    with torch.no_grad():
        compare(model(inputs)["loss"], reference(**as_torch(inputs)).loss, given)


FLAGS = ("task_mask_lm", "task_matched", "task_obj_predict", "task_qa")
FLAGS += ("visual_obj_loss", "visual_attr_loss", "visual_feat_loss")


@pytest.mark.parametrize("flag", FLAGS)
def test_each_objective_can_be_switched_off(pair, flag):
    reference, model = pair("LxmertForPreTraining", **{flag: False})
    inputs = lxmert_inputs() | lxmert_labels("LxmertForPreTraining")
    with torch.no_grad():
        compare(model(inputs)["loss"], reference(**as_torch(inputs)).loss, flag)


@pytest.mark.parametrize("head", TRAINED)
def test_loss_and_gradients(pair, head):
    """Of every weight, the padding rows of the embeddings included, which upstream does not train."""
    import tensorflow as tf

    reference, model = pair(head)
    inputs = lxmert_inputs() | lxmert_labels(head)
    inputs["input_ids"][0, 3] = 0  # a real word that has the padding's number
    reference.zero_grad()
    theirs = reference(**as_torch(inputs))
    theirs.loss.backward()
    with tf.GradientTape() as tape:
        ours = model(inputs)
    compare(ours["loss"], theirs.loss, "loss")
    names = model.weight_names()
    gradients = tape.gradient(ours["loss"], [variable.value for variable in names.values()])
    of_reference = {name: parameter.grad for name, parameter in reference.named_parameters()}
    table = Table(model.weight_rules)
    for (path, variable), gradient in zip(names.items(), gradients, strict=True):
        ((rule, numbers),) = table.by_target(path.removeprefix("lxmert/"))
        prefix = "lxmert." if path.startswith("lxmert/") else ""
        sources = [of_reference[prefix + source.format(**numbers)] for source in rule.sources]
        if gradient is None:
            assert not variable.trainable, path
            assert sources == [None] * len(sources), path
            continue
        expected = rule.transform.forward([source.numpy() for source in sources], np)
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), expected, err_msg=path, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations(pair, activation):
    reference, model = pair("LxmertForPreTraining", hidden_act=activation, l_layers=1, r_layers=2)
    inputs = lxmert_inputs()
    with torch.no_grad():
        compare(model(inputs)["prediction_logits"], reference(**as_torch(inputs)).prediction_logits)


@pytest.mark.parametrize("head", HEADS)
def test_saved_weights_load_in_transformers(pair, head, tmp_path):
    reference, model = pair(head)
    model.save_pretrained(tmp_path)
    loaded, info = getattr(transformers, head).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs = reference.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert {name: getattr(loaded.config, name) for name in SIZES} == SIZES


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
        compare(model(inputs)["prediction_logits"], reference(**as_torch(inputs)).prediction_logits)
    model.save_pretrained(tmp_path / "saved")
    loaded = transformers.LxmertForPreTraining.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        compare(model(inputs)["prediction_logits"], loaded(**as_torch(inputs)).prediction_logits)


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
        compare(after, loaded(**as_torch(lxmert_inputs())).question_answering_score)

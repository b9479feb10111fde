"""What transformers does with checkpoints that contradict themselves or are of other sizes, and LXMERT at base size."""

import numpy as np
import pytest
from support.lxmert import BATCH, lxmert_inputs
from support.reference import reference_model, to_torch, torch, transformers
from support.vilt import vilt_inputs
from support.visual_bert import visual_bert_inputs

import tfvl

pytestmark = pytest.mark.parity

# float32 has 24 bits; sums of some dozen terms in another order differ in the last two or three of them
TINY = {"rtol": 1e-5, "atol": 1e-5}
# nineteen blocks of width 768 add rounding up
BASE = {"rtol": 1e-4, "atol": 1e-4}

# class: the bias of the decoder that upstream's forward reads, the other name, the inputs, the output
BIASES = {
    "VisualBertForPreTraining": (
        "cls.predictions.decoder.bias",
        "cls.predictions.bias",
        visual_bert_inputs,
        "prediction_logits",
    ),
    "LxmertForPreTraining": (
        "cls.predictions.bias",
        "cls.predictions.decoder.bias",
        lxmert_inputs,
        "prediction_logits",
    ),
    "ViltForMaskedLM": ("mlm_score.decoder.bias", "mlm_score.bias", vilt_inputs, "logits"),
}


@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("name", BIASES)
def test_a_decoder_with_two_biases(name, untied, tmp_path):
    """They differ in the file: the one that transformers reads is taken, and a warning says so."""
    read, unread, inputs_of, output = BIASES[name]
    reference = reference_model(name)
    state = {key: tensor.detach().clone() for key, tensor in reference.state_dict().items()}
    state |= {read: torch.randn(131), unread: torch.randn(131)}
    if untied:
        decoder = next(key for key in state if key.endswith("decoder.weight") and "decoder_dict" not in key)
        state[decoder] = torch.randn(131, 24)
        reference.config.tie_word_embeddings = False
    torch.save(state, tmp_path / "pytorch_model.bin")
    reference.config.save_pretrained(tmp_path)
    theirs = getattr(transformers, name).from_pretrained(tmp_path).eval()
    with pytest.warns(UserWarning, match=rf"{unread} differs from {read}, which is read here as in transformers"):
        model = getattr(tfvl, name).from_pretrained(tmp_path)
    inputs = inputs_of()
    with torch.no_grad():
        expected = theirs(**to_torch(inputs))[output].numpy()
    np.testing.assert_allclose(model(inputs)[output], expected, **TINY)
    model.save_pretrained(tmp_path / "saved")
    again = getattr(transformers, name).from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        np.testing.assert_allclose(again(**to_torch(inputs))[output].numpy(), expected, **TINY)


@pytest.mark.parametrize("name", ["LxmertForQuestionAnswering", "LxmertForPreTraining"])
def test_another_number_of_answers_on_load(name, tmp_path):
    """As in transformers, only the last layer is drawn anew, and what is saved loads there."""
    reference = reference_model(name)
    reference.save_pretrained(tmp_path)
    options = {"num_qa_labels": 5, "ignore_mismatched_sizes": True}
    theirs, info = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True, **options)
    new = {key for key, *_ in info["mismatched_keys"]}
    assert new == {"answer_head.logit_fc.3.weight", "answer_head.logit_fc.3.bias"}
    with pytest.warns(UserWarning, match=r"no weights for answer_head/out/bias, answer_head/out/kernel of Lxmert") as w:
        model = getattr(tfvl, name).from_pretrained(tmp_path, **options)
    assert len(w) == 1
    model.save_pretrained(tmp_path / "saved")
    loaded, info = getattr(transformers, name).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(info.values()), info
    expected = theirs.state_dict()
    for key, tensor in loaded.state_dict().items():
        assert tensor.shape == expected[key].shape
        assert key in new or torch.equal(tensor, expected[key]), key
    scores = model(lxmert_inputs())["question_answering_score"]
    assert scores.shape == (BATCH, 5)
    loaded.eval()
    with torch.no_grad():
        theirs = loaded(**to_torch(lxmert_inputs())).question_answering_score.numpy()
    np.testing.assert_allclose(scores, theirs, **TINY)


def test_lxmert_of_base_size(tmp_path):
    torch.manual_seed(0)
    config = transformers.LxmertConfig(num_qa_labels=3129)  # unc-nlp/lxmert-vqa-uncased
    reference = transformers.LxmertForQuestionAnswering(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.04)
    reference.save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    corners = rng.uniform(size=(2, 36, 2, 2)).astype("float32")
    inputs = {
        "input_ids": rng.integers(0, 30522, (2, 20)).astype("int32"),
        "attention_mask": np.array([[1] * 20, [1] * 11 + [0] * 9], "int32"),
        "visual_feats": rng.normal(size=(2, 36, 2048)).astype("float32"),
        "visual_pos": np.sort(corners, axis=2).reshape(2, 36, 4),
        "visual_attention_mask": np.array([[1] * 36, [1] * 20 + [0] * 16], "int32"),
    }
    with torch.no_grad():
        expected = reference(**to_torch(inputs)).question_answering_score.numpy()
    del reference
    model = tfvl.LxmertForQuestionAnswering.from_pretrained(tmp_path)
    np.testing.assert_allclose(model(inputs)["question_answering_score"], expected, **BASE)
    assert model.config.id2label[1] == "woods"  # LXMERT's answers, which the configuration has not got

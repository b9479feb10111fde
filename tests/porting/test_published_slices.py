"""The published checkpoints themselves, from the hub, against the numbers in transformers' own integration tests."""

import numpy as np
import pytest

import tfvl

pytestmark = [pytest.mark.hub, pytest.mark.slow]

# transformers prints four decimals and compares with 1e-4
PUBLISHED = {"rtol": 0, "atol": 1e-4}
IDS = np.array([[1, 2, 3, 4, 5, 6]], "int32")
TYPES = np.array([[0, 0, 0, 1, 1, 1]], "int32")


def visual_bert_inputs(size: int) -> dict[str, np.ndarray]:
    return {"input_ids": IDS, "token_type_ids": TYPES, "visual_embeds": np.full((1, 10, size), 0.5, "float32")}


def test_visual_bert_pretrained_on_coco():
    model = tfvl.VisualBertForPreTraining.from_pretrained("uclanlp/visualbert-vqa-coco-pre")
    outputs = model(visual_bert_inputs(2048))
    assert outputs["prediction_logits"].shape == (1, 16, 30522)
    expected = [[-5.1858, -5.1903, -4.9142], [-6.2214, -5.9238, -5.8381], [-6.3027, -5.9939, -5.9297]]
    np.testing.assert_allclose(outputs["prediction_logits"][0, :3, :3], expected, **PUBLISHED)
    np.testing.assert_allclose(outputs["seq_relationship_logits"], [[0.7393, 0.1754]], **PUBLISHED)


def test_visual_bert_for_vqa():
    model = tfvl.VisualBertForQuestionAnswering.from_pretrained("uclanlp/visualbert-vqa")
    logits = model(visual_bert_inputs(2048))["logits"]
    expected = [-8.9898, 3.0803, -1.8016, 2.4542, -8.3420, -2.0224, -3.3124, -4.4139, -3.1491, -3.8997]
    np.testing.assert_allclose(logits[0, :10], expected, **PUBLISHED)
    # the two high ones are numbers and the lowest is the unknown answer, as in the authors' list and in no other
    assert [model.config.id2label[index] for index in (0, 1, 3)] == ["<unk>", "0", "1"]


def test_visual_bert_for_nlvr2():
    model = tfvl.VisualBertForVisualReasoning.from_pretrained("uclanlp/visualbert-nlvr2")
    np.testing.assert_allclose(model(visual_bert_inputs(1024))["logits"], [[-1.1436, 0.8900]], **PUBLISHED)


def test_visual_bert_for_vcr():
    model = tfvl.VisualBertForMultipleChoice.from_pretrained("uclanlp/visualbert-vcr")
    inputs = {
        "input_ids": np.repeat(IDS[:, None], 4, axis=1),
        "token_type_ids": np.ones((1, 4, 6), "int32"),
        "visual_embeds": np.full((1, 4, 10, 512), 0.5, "float32"),
    }
    np.testing.assert_allclose(model(inputs)["logits"], [[-7.7697] * 4], **PUBLISHED)


@pytest.mark.parametrize("name", ["uclanlp/visualbert-nlvr2-pre", "uclanlp/visualbert-vcr-coco-pre"])
def test_the_other_pretrained_visual_berts_load(name):
    model = tfvl.VisualBertForPreTraining.from_pretrained(name)
    assert np.isfinite(model(visual_bert_inputs(model.config.visual_embedding_dim))["seq_relationship_logits"]).all()


def test_lxmert():
    with pytest.warns(UserWarning, match=r"left out: answer_head.logit_fc.0.bias"):
        model = tfvl.LxmertModel.from_pretrained("unc-nlp/lxmert-base-uncased")
    ids = np.array([[101, 345, 232, 328, 740, 140, 1695, 69, 6078, 1588, 102]], "int32")
    features, boxes = (np.random.RandomState(0).rand(1, 10, size).astype("float32") for size in (2048, 4))
    outputs = model({"input_ids": ids, "visual_feats": features, "visual_pos": boxes})
    expected = [[0.2417, -0.9807, 0.1480], [1.2541, -0.8320, 0.5112], [1.4070, -1.1052, 0.6990]]
    np.testing.assert_allclose(outputs["language_output"][0, :3, :3], expected, **PUBLISHED)


@pytest.mark.parametrize(
    ("name", "count"), [("unc-nlp/lxmert-vqa-uncased", 3129), ("unc-nlp/lxmert-gqa-uncased", 1842)]
)
def test_lxmerts_answers(name, count):
    config = tfvl.LxmertForQuestionAnswering.from_pretrained(name).config
    assert len(config.id2label) == config.num_qa_labels == count
    assert not config.id2label[1].startswith("LABEL_")

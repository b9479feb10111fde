"""What the export of VisualBERT and LXMERT does with phrases, configurations and models that are not the usual ones."""

import numpy as np
import pytest
import tensorflow as tf
from support.checkpoint import VOCABULARY
from support.export_regions import ALIGNMENT, region_model, region_processor, region_requests

import tfvl
from tfvl.export.signatures import inputs_of, serving_default, tensors
from tfvl.preprocessing.text.phrases import locate

LENGTH = 10


def places(text: str, *phrases: str) -> list[int]:
    tokenizer = tfvl.BertTokenizer(VOCABULARY)
    encoded = tokenizer([text, "a " * LENGTH], max_length=LENGTH)  # the other row makes this one padded
    return locate(tf.constant([phrases, ["a"] * len(phrases)]), encoded, tokenizer, LENGTH)[0].numpy().tolist()


def test_a_phrase_stands_where_its_last_token_is():
    text = "The circle left of the red circle"
    assert places(text, "circle", "the  red circle", "LEFT of", "the", "red") == [2, 7, 4, 1, 6]


def test_a_phrase_stands_only_where_its_words_are_whole():
    assert places("reds , coloring , red", "red", "color", "reds", "coloring") == [7, -1, 2, 5]


def test_what_is_not_in_the_text_has_no_place():
    assert places("the red circle", "red the", "blue", "circle ?", "[SEP]", "[CLS] the", "[PAD]", "", " ") == [-1] * 8
    assert places("a blue red", "a blue red a blue red a blue red a blue red", "red") == [-1, 3]
    beyond = "the red circle is left of a blue square"  # ten positions have room for eight words
    assert places(beyond, "a blue", "blue square", "blue") == [8, -1, 8]


def test_places_behind_padding_on_the_left():
    tokenizer = tfvl.BertTokenizer(VOCABULARY, padding_side="left")
    encoded = tokenizer(["the red circle", "a " * LENGTH], max_length=LENGTH)
    phrases = tf.constant([["the", "red", "the red circle", "blue"], ["a"] * 4])
    assert locate(phrases, encoded, tokenizer, LENGTH).numpy().tolist() == [[6, 7, 8, -1], [1] * 4]


def test_a_phrase_of_several_tokens_is_scored_at_its_last_one():
    model, processor = region_model(ALIGNMENT), region_processor(ALIGNMENT)
    raw = region_requests(ALIGNMENT)
    encoded, status = inputs_of(model, processor).encode(raw)
    assert status.numpy().tolist() == [b""] * 3
    assert encoded["region_to_phrase_position"].numpy().tolist() == [[2, -1], [7, 1], [1, -1]]


def answers(model) -> dict[str, tf.Tensor]:
    name = type(model).__name__
    processor = region_processor(name)
    raw = {key: tf.constant(value) for key, value in region_requests(name).items()}
    return serving_default(model, processor, inputs_of(model, processor), 3)(**raw)


def test_answers_without_strings_are_numbered():
    found = answers(region_model("LxmertForQuestionAnswering", num_qa_labels=4, id2label={0: "no", 1: "yes"}))
    assert {answer for row in found["answers"].numpy() for answer in row} <= {b"LABEL_%d" % i for i in range(4)}
    found = answers(region_model("LxmertForQuestionAnswering", num_qa_labels=2, id2label={0: "no", 1: "yes"}))
    assert {answer for row in found["answers"].numpy() for answer in row} == {b"no", b"yes"}


@pytest.mark.parametrize(
    ("switched_off", "left_out"),
    [
        ({"task_qa": False}, {"question_answers", "question_scores"}),
        ({"visual_attr_loss": False}, {"attribute_ids", "attribute_scores"}),
        ({"visual_obj_loss": False}, {"object_ids", "object_scores"}),
        ({"task_obj_predict": False}, {"object_ids", "object_scores", "attribute_ids", "attribute_scores"}),
    ],
)
def test_tasks_that_the_configuration_switches_off_are_left_out(switched_off, left_out):
    every = {
        *("status", "answers", "scores", "filled", "candidates", "candidate_scores", "match"),
        *("question_answers", "question_scores", "object_ids", "object_scores", "attribute_ids", "attribute_scores"),
    }
    assert answers(region_model("LxmertForPreTraining", **switched_off)).keys() == every - left_out


def test_numbers_are_float32_whatever_the_model_computes_in():
    model = tfvl.LxmertForPreTraining(region_model("LxmertForPreTraining").config, dtype="mixed_bfloat16")
    processor = region_processor("LxmertForPreTraining")
    inputs, raw = inputs_of(model, processor), region_requests("LxmertForPreTraining")
    encoded, _ = inputs.encode(raw)
    assert {value.dtype for value in tensors(model, inputs)(**encoded).values()} == {tf.float32}
    assert answers(model)["status"].numpy().tolist() == [b""] * 3


def test_what_cannot_be_exported_is_refused(tmp_path):
    def export(model, message):
        with pytest.raises(ValueError, match=message):
            tfvl.export.saved_model(model, region_processor(type(model).__name__), tmp_path / "1")

    export(region_model("LxmertModel", visual_pos_dim=5), r"config.visual_pos_dim is 5; .* boxes, of 4 numbers")
    export(
        tfvl.VisualBertModel(region_model("VisualBertModel").config, add_pooling_layer=False), "add_pooling_layer=False"
    )

    class VisualBertOfMine(tfvl.visual_bert.model.VisualBertPreTrainedModel):
        pass

    with pytest.raises(
        ValueError, match="VisualBertOfMine cannot be exported; of its family these can: VisualBertModel,"
    ):
        inputs_of(VisualBertOfMine(tfvl.VisualBertConfig()), None)

    class Config(tfvl.VisualBertConfig):
        model_type = "mine"

    VisualBertOfMine.config_class = Config
    with pytest.raises(ValueError, match="VisualBertOfMine cannot be exported; of its family these can: none"):
        inputs_of(VisualBertOfMine(Config()), None)
    assert list(tmp_path.iterdir()) == []


def test_a_subclass_has_its_bases_signatures():
    class Mine(tfvl.VisualBertForMultipleChoice):
        pass

    model = Mine(region_model("VisualBertForMultipleChoice").config)
    assert inputs_of(model, region_processor("VisualBertForMultipleChoice")).raw.keys() == {
        "text",
        "regions",
        "choices",
    }


def test_padding_between_regions_counts_for_nothing():
    """Wherever the zeros are, the answers are the same."""
    model = region_model("VisualBertForQuestionAnswering")
    processor = region_processor("VisualBertForQuestionAnswering")
    serve = serving_default(model, processor, inputs_of(model, processor), 2)
    raw = {name: value[:1] for name, value in region_requests("VisualBertForQuestionAnswering").items()}
    spread = np.zeros((1, 9, raw["regions"].shape[-1]), np.float32)
    spread[:, [1, 2, 4, 6, 7]] = raw["regions"]
    expected, found = (serve(text=tf.constant(raw["text"]), regions=tf.constant(r)) for r in (raw["regions"], spread))
    assert found["answers"].numpy().tolist() == expected["answers"].numpy().tolist()
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=0, atol=1e-6)

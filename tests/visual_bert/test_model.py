"""VisualBERT without PyTorch: golden outputs, ways to call it, saving, and bad input; test_classes.py trains it."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.paths import GOLDEN
from support.vilt import golden_checkpoint, randomise
from support.visual_bert import (
    BATCH,
    CHOICES,
    HEADS,
    LENGTH,
    PHRASES,
    REGIONS,
    SIZES,
    TOTAL,
    TRAINED,
    labels_of,
    visual_bert_inputs,
)

import tfvl

pytestmark = pytest.mark.numeric

STATE_DICTS = json.loads((GOLDEN / "visual_bert_state_dicts.json").read_text())
# float32 sums in another order; the golden numbers come from PyTorch's kernels
GOLDEN_TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
# the same TensorFlow operations, in a graph that may fuse them
GRAPH_TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
CONFIG = tfvl.VisualBertConfig(**SIZES)
SMALL = CONFIG.replace(num_hidden_layers=1)


def made(head: str, config=SMALL):
    model = getattr(tfvl, head)(config)
    randomise(model)
    return model


@pytest.fixture(scope="module")
def question_answering():
    return made("VisualBertForQuestionAnswering")


@pytest.mark.parametrize("head", HEADS)
def test_golden_outputs_and_loss(head, tmp_path):
    model = getattr(tfvl, head).from_pretrained(golden_checkpoint(CONFIG, STATE_DICTS, head, tmp_path))
    inputs = visual_bert_inputs(head) | (labels_of(head) if HEADS[head] else {})
    outputs = model(inputs, output_hidden_states=head == "VisualBertModel")
    with np.load(GOLDEN / "visual_bert.npz") as arrays:
        expected = {name: arrays[name] for name in arrays if name.startswith(head + "/")}
    assert {name.split("/")[1] for name in expected} == set(outputs)
    for name, value in expected.items():
        _, field, index = name.split("/")
        ours = outputs[field][int(index)] if isinstance(outputs[field], tuple) else outputs[field]
        if head == "VisualBertForQuestionAnswering" and field == "logits":
            ours = tf.nn.log_softmax(ours)  # what upstream returns beside a loss
        np.testing.assert_allclose(ours, value, err_msg=name, **GOLDEN_TOLERANCE)


def test_a_dict_keywords_and_a_list_are_the_same_call(question_answering):
    inputs = visual_bert_inputs()
    expected = question_answering(inputs)["logits"]
    np.testing.assert_array_equal(question_answering(**inputs)["logits"], expected)
    in_order = [inputs.get(name) for name in question_answering.input_names]
    np.testing.assert_array_equal(question_answering(in_order)["logits"], expected)
    np.testing.assert_array_equal(question_answering(*in_order)["logits"], expected)
    np.testing.assert_array_equal(question_answering({n: v.tolist() for n, v in inputs.items()})["logits"], expected)
    masks = {name: value.astype("float32") for name, value in inputs.items() if "mask" in name}
    np.testing.assert_array_equal(question_answering(inputs | masks)["logits"], expected)


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_a_graph_of_unknown_sizes_gives_the_same(head, bypass):
    model = made(head, SMALL.replace(bypass_transformer=bypass))
    inputs = visual_bert_inputs(head)
    signature = {name: tf.TensorSpec([None] * value.ndim, value.dtype) for name, value in inputs.items()}
    signature["visual_embeds"] = tf.TensorSpec([*[None] * (inputs["visual_embeds"].ndim - 1), 19], tf.float32)
    graph = tf.function(lambda given: model(given), input_signature=[signature])
    for name, value in model(inputs).items():
        np.testing.assert_allclose(graph(inputs)[name], value, err_msg=name, **GRAPH_TOLERANCE)


def test_every_row_is_what_it_is_alone(question_answering):
    """Padding of words and regions changes no answer: the last real word is read, not the last place."""
    inputs = visual_bert_inputs()
    del inputs["image_text_alignment"]  # a random one, that points at padding too
    together = question_answering(inputs)["logits"]
    for row, (length, regions) in enumerate(((7, 5), (5, 3), (6, 4))):
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        words = {name: alone[name][:, :length] for name in ("input_ids", "token_type_ids", "position_ids")}
        pictures = {name: alone[name][:, :regions] for name in ("visual_embeds", "visual_token_type_ids")}
        np.testing.assert_allclose(question_answering(words | pictures)["logits"][0], together[row], **GRAPH_TOLERANCE)


@pytest.mark.parametrize("real", [1, 2, 3, 7])
def test_question_answering_reads_the_second_to_last_real_word(real, question_answering):
    inputs = visual_bert_inputs()
    inputs["attention_mask"] = np.repeat([[1] * real + [0] * (LENGTH - real)], BATCH, axis=0)
    states = question_answering.visual_bert(inputs)["last_hidden_state"]
    expected = question_answering.cls(states[:, max(real - 2, 0)])
    np.testing.assert_allclose(question_answering(inputs)["logits"], expected, **GRAPH_TOLERANCE)
    if real == LENGTH:
        del inputs["attention_mask"]
        np.testing.assert_allclose(question_answering(inputs)["logits"], expected, **GRAPH_TOLERANCE)


def test_one_image_goes_with_every_choice():
    model = made("VisualBertForMultipleChoice")
    inputs = visual_bert_inputs("VisualBertForMultipleChoice")
    of_image = ("visual_embeds", "visual_attention_mask", "visual_token_type_ids", "image_text_alignment")
    shared = inputs | {name: inputs[name][:, 0] for name in of_image}
    repeated = inputs | {name: np.repeat(shared[name][:, None], CHOICES, axis=1) for name in of_image}
    np.testing.assert_allclose(model(shared)["logits"], model(repeated)["logits"], **GRAPH_TOLERANCE)
    assert model(shared)["logits"].shape == (BATCH, CHOICES)


def test_special_visual_initialize_copies_the_words_tables():
    tables = tfvl.VisualBertModel(SMALL).embeddings
    np.testing.assert_array_equal(tables.visual_position_embeddings.embeddings, tables.position_embeddings.embeddings)
    np.testing.assert_array_equal(
        tables.visual_token_type_embeddings.embeddings, tables.token_type_embeddings.embeddings
    )
    tables = tfvl.VisualBertModel(SMALL.replace(special_visual_initialize=False)).embeddings
    assert np.all(tables.visual_position_embeddings.embeddings != tables.position_embeddings.embeddings)


def test_bypass_keeps_regions_out_of_the_encoder():
    model = made("VisualBertModel", CONFIG.replace(bypass_transformer=True))
    inputs = visual_bert_inputs()
    outputs = model(inputs, output_hidden_states=True, output_attentions=True)
    assert [state.shape[1] for state in outputs["hidden_states"]] == [LENGTH] * 4 + [TOTAL]
    assert [tuple(state.shape[2:]) for state in outputs["attentions"]] == [(LENGTH, LENGTH)] * 3 + [(TOTAL, TOTAL)]
    other = model(inputs | {"visual_embeds": inputs["visual_embeds"] + 1}, output_hidden_states=True)
    np.testing.assert_array_equal(outputs["hidden_states"][3], other["hidden_states"][3])
    assert not np.allclose(outputs["last_hidden_state"][:, 0], other["last_hidden_state"][:, 0], **GRAPH_TOLERANCE)
    np.testing.assert_array_equal(outputs["hidden_states"][-1], outputs["last_hidden_state"])


def test_bypass_trains_and_comes_back(tmp_path):
    model = made("VisualBertForVisualReasoning", SMALL.replace(bypass_transformer=True))
    inputs = visual_bert_inputs()
    with tf.GradientTape() as tape:
        loss = model(inputs | {"labels": np.array([0, 4, 2])})["loss"]
    gradients = tape.gradient(loss, model.visual_bert.additional_layer.trainable_variables)
    assert all(gradient is not None and np.any(gradient) for gradient in gradients)
    model.save_pretrained(tmp_path)
    loaded = tfvl.VisualBertForVisualReasoning.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded(inputs)["logits"], model(inputs)["logits"])
    with pytest.warns(UserWarning, match="left out: .*additional_layer"):
        plain = tfvl.VisualBertForVisualReasoning.from_pretrained(tmp_path, bypass_transformer=False)
    assert plain.visual_bert.additional_layer is None


def test_pretraining_with_words_alone():
    model = made("VisualBertForPreTraining")
    labels = {"labels": labels_of("VisualBertForPreTraining")["labels"]}
    model.compile()
    data = tf.data.Dataset.from_tensors((visual_bert_inputs(), labels))
    loss = model.evaluate(data, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(loss, model(visual_bert_inputs() | labels)["loss"], rtol=1e-4)


def test_without_a_pooler(tmp_path):
    model = tfvl.VisualBertModel(SMALL, add_pooling_layer=False)
    assert model(visual_bert_inputs()).keys() == {"last_hidden_state"}
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").pooler is None


def test_fine_tuning_names_the_new_head_in_one_warning(tmp_path):
    directory = golden_checkpoint(CONFIG, STATE_DICTS, "VisualBertForPreTraining", tmp_path)
    with pytest.warns(UserWarning, match=r"no weights for cls/bias.*left out: cls\.predictions") as caught:
        model = tfvl.VisualBertForQuestionAnswering.from_pretrained(directory, num_labels=9)
    assert len(caught) == 1
    assert model(visual_bert_inputs())["logits"].shape == (BATCH, 9)


def test_an_empty_batch(question_answering):
    inputs = {name: value[:0] for name, value in visual_bert_inputs().items()}
    assert question_answering(inputs)["logits"].shape == (0, 5)


ANSWERING, CHOOSING, ALIGNING, PRETRAINING = (
    f"VisualBertFor{name}" for name in ("QuestionAnswering", "MultipleChoice", "RegionToPhraseAlignment", "PreTraining")
)
BAD_INPUTS = [
    (ANSWERING, {"input_ids": None}, "Give exactly one of input_ids and inputs_embeds; got neither"),
    (
        ANSWERING,
        {"visual_embeds": np.zeros((BATCH, REGIONS, 7), "float32")},
        "size 7, but .*visual_embedding_dim is 19",
    ),
    (ANSWERING, {"visual_embeds": np.zeros((2, REGIONS, 19), "float32")}, r"\(2, 5, 19\), expected \(3, regions, 19\)"),
    (ANSWERING, {"visual_embeds": None}, "visual_attention_mask is given without visual_embeds"),
    (ANSWERING, {"visual_attention_mask": np.ones((BATCH, 6))}, r"visual_attention_mask has shape \(3, 6\)"),
    (ANSWERING, {"attention_mask": np.ones((BATCH, TOTAL))}, r"attention_mask has shape \(3, 12\), expected \(3, 7\)"),
    (
        ANSWERING,
        {"image_text_alignment": np.full((BATCH, REGIONS, 2), LENGTH)},
        "image_text_alignment holds 7, expected -1 to 6: places of words in the text",
    ),
    (ANSWERING, {"image_text_alignment": np.zeros((BATCH, 4, 2), "int32")}, "of 4 regions, but visual_embeds of 5"),
    (ANSWERING, {"position_ids": np.full((BATCH, LENGTH), 13)}, "position_ids holds 13, expected 0 to 12"),
    (ANSWERING, {"head_mask": np.ones((2, 4))}, r"head_mask has shape \(2, 4\), expected \(4,\) or \(1, 4\)"),
    (ANSWERING, {"labels": np.zeros((BATCH, 4), "float32")}, r"Labels have shape \(3, 4\), expected \(batch, 5\)"),
    (ANSWERING, {"labels": np.full((BATCH, 5), -1.0)}, r"labels holds -1\.0, expected 0 to inf"),
    ("VisualBertForVisualReasoning", {"labels": np.array([0, 5, 1])}, "labels holds 5, expected 0 to 4 or -100"),
    (PRETRAINING, {"labels": np.zeros((BATCH, LENGTH), "int32")}, r"labels has shape \(3, 7\), expected \(3, 12\)"),
    (PRETRAINING, {"labels": np.full((BATCH, TOTAL), 131)}, "labels holds 131, expected 0 to 130 or -100"),
    (PRETRAINING, {"sentence_image_labels": np.array([0, 1, 2])}, "sentence_image_labels holds 2, expected 0 to 1"),
    (CHOOSING, {"input_ids": np.zeros((BATCH, LENGTH), "int32")}, r"expected \(batch, choices, length\)"),
    (CHOOSING, {"labels": np.array([0, 4, 1])}, "labels holds 4, expected 0 to 3: the place of the right choice"),
    (ALIGNING, {"region_to_phrase_position": None}, "needs region_to_phrase_position"),
    (
        ALIGNING,
        {"region_to_phrase_position": np.full((BATCH, PHRASES), TOTAL)},
        "region_to_phrase_position holds 12, expected -1 to 11",
    ),
    (ALIGNING, {"labels": np.zeros((BATCH, PHRASES, 4))}, r"labels has shape \(3, 6, 4\), expected \(3, 6, 5\)"),
]


@pytest.fixture(scope="module")
def models():
    return {head: getattr(tfvl, head)(SMALL) for head in TRAINED}


@pytest.mark.parametrize(("head", "changes", "message"), BAD_INPUTS)
def test_bad_inputs_are_told_in_one_sentence(head, changes, message, models):
    with pytest.raises(ValueError, match=message) as caught:
        models[head](visual_bert_inputs(head) | changes)
    assert "\n" not in str(caught.value)


def test_configs_that_no_model_can_have():
    with pytest.raises(ValueError, match="hidden_size 24 is not a multiple of num_attention_heads 5"):
        CONFIG.replace(num_attention_heads=5)
    with pytest.raises(ValueError, match="visual_embedding_dim is 0, expected an integer"):
        CONFIG.replace(visual_embedding_dim=0)

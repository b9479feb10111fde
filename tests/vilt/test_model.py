"""ViLT without PyTorch: golden outputs, ways to call it, saving, and bad input."""

import json

import numpy as np
import pytest
import tensorflow as tf
from support.paths import GOLDEN
from support.vilt import BATCH, HEADS, LENGTH, SIZES, golden_checkpoint, randomise, vilt_inputs

import tfvl

pytestmark = pytest.mark.numeric

STATE_DICTS = json.loads((GOLDEN / "vilt_state_dicts.json").read_text())
# float32 sums in another order; the golden numbers come from PyTorch's kernels
GOLDEN_TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
# the same TensorFlow operations, in a graph that may fuse them
GRAPH_TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
CONFIG = tfvl.ViltConfig(**SIZES)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "vilt.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def question_answering():
    model = tfvl.ViltForQuestionAnswering(CONFIG)
    randomise(model)
    return model


@pytest.mark.parametrize("head", HEADS)
def test_golden_outputs_and_loss(head, golden, tmp_path):
    model = getattr(tfvl, head).from_pretrained(golden_checkpoint(CONFIG, STATE_DICTS, head, tmp_path))
    inputs = vilt_inputs(head)
    if HEADS[head]:
        inputs["labels"] = HEADS[head](np.random.default_rng(1))
    outputs = model(inputs, output_hidden_states=head == "ViltModel")
    expected = {name: value for name, value in golden.items() if name.startswith(head + "/")}
    assert {name.split("/")[1] for name in expected} == set(outputs)
    for name, value in expected.items():
        _, field, index = name.split("/")
        ours = outputs[field][int(index)] if isinstance(outputs[field], tuple) else outputs[field]
        np.testing.assert_allclose(ours, value, err_msg=name, **GOLDEN_TOLERANCE)


def test_a_dict_keywords_and_a_list_are_the_same_call(question_answering):
    inputs = vilt_inputs()
    expected = question_answering(inputs)["logits"]
    np.testing.assert_array_equal(question_answering(**inputs)["logits"], expected)
    np.testing.assert_array_equal(question_answering(list(inputs.values()))["logits"], expected)
    np.testing.assert_array_equal(question_answering(*inputs.values())["logits"], expected)
    as_lists = {name: value.tolist() for name, value in inputs.items()}
    np.testing.assert_array_equal(question_answering(as_lists)["logits"], expected)
    wider = {name: value.astype("int64") if value.dtype.kind == "i" else value for name, value in inputs.items()}
    np.testing.assert_array_equal(question_answering(wider)["logits"], expected)


def test_left_out_masks_are_ones(question_answering):
    inputs = vilt_inputs()
    masks = {"attention_mask": np.ones((BATCH, LENGTH)), "pixel_mask": np.ones(inputs["pixel_mask"].shape)}
    del inputs["attention_mask"], inputs["pixel_mask"]
    with_masks = question_answering(inputs | masks)["logits"]
    np.testing.assert_allclose(question_answering(inputs)["logits"], with_masks, **GRAPH_TOLERANCE)


@pytest.mark.parametrize("head", HEADS)
def test_a_graph_of_unknown_sizes_gives_the_same(head):
    model = getattr(tfvl, head)(CONFIG)
    randomise(model)
    inputs = vilt_inputs(head)
    signature = {name: tf.TensorSpec([None] * value.ndim, value.dtype) for name, value in inputs.items()}
    signature["pixel_values"] = tf.TensorSpec([*[None] * (inputs["pixel_values"].ndim - 1), 3], tf.float32)
    if head == "ViltForImagesAndTextClassification":
        signature["pixel_values"] = tf.TensorSpec([None, 2, None, None, 3], tf.float32)
        signature["pixel_mask"] = tf.TensorSpec([None, 2, None, None], tf.int32)
    graph = tf.function(lambda given: model(given), input_signature=[signature])
    for name, value in model(inputs).items():
        np.testing.assert_allclose(graph(inputs)[name], value, err_msg=name, **GRAPH_TOLERANCE)


def test_every_row_is_what_it_is_alone(question_answering):
    """Padding of words, pixels and patches changes no answer."""
    inputs = vilt_inputs()
    together = question_answering(inputs)["logits"]
    for row, (length, height, width) in enumerate(((7, 48, 64), (5, 48, 40), (6, 24, 64))):
        alone = {name: value[row : row + 1] for name, value in inputs.items()}
        alone = {name: value[:, :length] if value.shape[1] == LENGTH else value for name, value in alone.items()}
        alone["pixel_values"] = alone["pixel_values"][:, :height, :width]
        del alone["pixel_mask"]
        np.testing.assert_allclose(question_answering(alone)["logits"][0], together[row], **GRAPH_TOLERANCE)


def test_two_calls_are_equal_to_the_bit(question_answering):
    inputs = vilt_inputs()
    np.testing.assert_array_equal(question_answering(inputs)["logits"], question_answering(inputs)["logits"])


def test_static_shapes_change_no_answer(question_answering):
    inputs = vilt_inputs()
    expected = question_answering(inputs)["logits"]
    embeddings = question_answering.vilt.embeddings
    embeddings.static_shapes = True
    try:
        compiled = tf.function(lambda given: question_answering(given), jit_compile=True)
        np.testing.assert_allclose(compiled(inputs)["logits"], expected, **GRAPH_TOLERANCE)
    finally:
        embeddings.static_shapes = False


def test_hidden_states_and_attentions_have_upstreams_shapes(question_answering):
    outputs = question_answering(vilt_inputs(), output_hidden_states=True, output_attentions=True)
    positions = LENGTH + 1 + 6 * 8  # words, [class], and the patches of the largest image
    assert [tuple(state.shape) for state in outputs["hidden_states"]] == [(BATCH, positions, 24)] * 4
    assert [tuple(state.shape) for state in outputs["attentions"]] == [(BATCH, 4, positions, positions)] * 3
    plain = question_answering(vilt_inputs())
    assert plain.keys() == {"logits"}
    np.testing.assert_allclose(plain["logits"], outputs["logits"], **GRAPH_TOLERANCE)


def test_the_config_can_ask_for_hidden_states():
    model = tfvl.ViltModel(CONFIG.replace(output_hidden_states=True), add_pooling_layer=False)
    outputs = model(vilt_inputs())
    assert outputs.keys() == {"last_hidden_state", "hidden_states"}


def test_retrieval_scores_several_texts_of_one_image():
    model = tfvl.ViltForImageAndTextRetrieval(CONFIG)
    randomise(model)
    inputs = vilt_inputs()
    rng = np.random.default_rng(5)
    ids = rng.integers(0, SIZES["vocab_size"], (BATCH, 4, LENGTH)).astype("int32")
    mask = np.ones_like(ids)
    mask[:, 2, 4:] = 0
    image = {name: inputs[name] for name in ("pixel_values", "pixel_mask")}
    together = model({"input_ids": ids, "attention_mask": mask, **image})["logits"]
    assert together.shape == (BATCH, 4)
    for text in range(4):
        one = model({"input_ids": ids[:, text], "attention_mask": mask[:, text], **image})["logits"]
        np.testing.assert_allclose(one[:, 0], together[:, text], **GRAPH_TOLERANCE)
    labels = np.array([0, 3, 1])
    loss = model({"input_ids": ids, "attention_mask": mask, **image, "labels": labels})["loss"]
    scores = np.asarray(together, "float64")
    expected = np.log(np.exp(scores).sum(1)) - scores[np.arange(BATCH), labels]
    np.testing.assert_allclose(loss, expected.mean(), **GRAPH_TOLERANCE)


def test_retrieval_inputs_must_agree_on_their_axes():
    model = tfvl.ViltForImageAndTextRetrieval(CONFIG)
    inputs = vilt_inputs()
    inputs["input_ids"] = np.stack([inputs["input_ids"]] * 2, axis=1)
    with pytest.raises(ValueError, match="The text inputs must have the same axes"):
        model(inputs)


def test_pretraining_adds_both_losses():
    model = tfvl.ViltForPreTraining(CONFIG)
    randomise(model)
    inputs = vilt_inputs()
    words = HEADS["ViltForMaskedLM"](np.random.default_rng(1))
    outputs = model(inputs)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "prediction_logits": (BATCH, LENGTH, 131),
        "cross_relationship_score": (BATCH, 2),
    }
    first = model(inputs | {"labels": words})["loss"]
    second = model(inputs | {"matched_label": np.array([1, 0, 1])})["loss"]
    both = model(inputs | {"labels": words, "matched_label": np.array([1, 0, 1])})["loss"]
    np.testing.assert_allclose(both, first + second, **GRAPH_TOLERANCE)
    log_softmax = outputs["cross_relationship_score"] - np.log(
        np.exp(outputs["cross_relationship_score"]).sum(1, keepdims=True)
    )
    expected = -np.mean([log_softmax[row, label] for row, label in enumerate((1, 0, 1))])
    np.testing.assert_allclose(second, expected, **GRAPH_TOLERANCE)


@pytest.mark.parametrize("batch", ["eager", "graph"])
def test_an_empty_batch(batch, question_answering):
    inputs = {name: value[:0] for name, value in vilt_inputs().items()}
    call = tf.function(lambda given: question_answering(given)) if batch == "graph" else question_answering
    assert call(inputs)["logits"].shape == (0, 5)


@pytest.mark.half_precision
def test_a_checkpoint_in_bfloat16_policy(tmp_path):
    directory = golden_checkpoint(CONFIG, STATE_DICTS, "ViltForQuestionAnswering", tmp_path)
    model = tfvl.ViltForQuestionAnswering.from_pretrained(directory, dtype="mixed_bfloat16")
    exact = tfvl.ViltForQuestionAnswering.from_pretrained(directory)
    logits = model(vilt_inputs())["logits"]
    assert logits.dtype == tf.bfloat16
    difference = np.abs(tf.cast(logits, tf.float32) - exact(vilt_inputs())["logits"])
    assert 0 < difference.max() < 0.25  # eight bits of mantissa through three blocks, logits of about 3


def test_fine_tuning_names_the_new_head_in_one_warning(tmp_path):
    directory = golden_checkpoint(CONFIG, STATE_DICTS, "ViltForMaskedLM", tmp_path)
    with pytest.warns(UserWarning, match="no weights for classifier/dense/bias.*left out: mlm_score") as caught:
        model = tfvl.ViltForQuestionAnswering.from_pretrained(directory, num_labels=9)
    assert len(caught) == 1
    assert model.config.num_labels == 9
    assert model(vilt_inputs())["logits"].shape == (BATCH, 9)


def test_retrieval_starts_from_row_1_of_the_matching_head(tmp_path):
    model = tfvl.ViltForPreTraining(CONFIG)
    randomise(model)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="left out: mlm_score"):
        retrieval = tfvl.ViltForImageAndTextRetrieval.from_pretrained(tmp_path)
    np.testing.assert_array_equal(retrieval.rank_output.kernel, model.itm_score.kernel[:, 1:])
    np.testing.assert_array_equal(retrieval.rank_output.bias, model.itm_score.bias[1:])
    scores = model(vilt_inputs())["cross_relationship_score"]
    np.testing.assert_allclose(retrieval(vilt_inputs())["logits"], scores[:, 1:], **GRAPH_TOLERANCE)


def test_saved_weights_say_their_own_dtype(tmp_path):
    """A float16 checkpoint is float32 here; transformers takes the precision from the file that we write."""
    directory = golden_checkpoint(CONFIG, STATE_DICTS, "ViltForQuestionAnswering", tmp_path / "half")
    CONFIG.replace(extra={"torch_dtype": "float16", "dtype": "float16"}).save_pretrained(directory)
    tfvl.ViltForQuestionAnswering.from_pretrained(directory).save_pretrained(tmp_path / "saved")
    written = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert written["dtype"] == "float32"
    assert "torch_dtype" not in written


def test_keras_export_says_where_to_go(question_answering, tmp_path):
    with pytest.raises(ValueError, match=r"Use tfvl\.export\.lite\(model, processor, file\)"):
        question_answering.export(tmp_path / "model.tflite", format="litert")


BAD_INPUTS = {
    "input_ids are ragged; call the processor": {"input_ids": tf.ragged.constant([[1, 2], [3], [4]])},
    r"pixel_values has shape \(48, 64, 3\), expected 4 axes": {"pixel_values": np.zeros((48, 64, 3), "float32")},
    "Give exactly one of input_ids and inputs_embeds; got neither": {"input_ids": None},
    "Give exactly one of pixel_values and image_embeds; got neither": {"pixel_values": None},
    "Give exactly one of pixel_values and image_embeds; got pixel_values and image_embeds": {
        "image_embeds": np.zeros((BATCH, 4, 24), "float32")
    },
    "The text has a batch of 2 and the image one of 3": {"input_ids": np.zeros((2, LENGTH), "int32")},
    r"pixel_values has shape \(3, 3, 48, 64\), expected .* channels come last": {
        "pixel_values": np.zeros((3, 3, 48, 64), "float32")
    },
    "14 tokens long, but the position table ends at 13": {"input_ids": np.zeros((BATCH, 14), "int32")},
    "has no input pixels; it takes input_ids, ": {"pixels": np.zeros(3)},
    r"head_mask has shape \(2, 4\), expected \(4,\) or \(3, 4\)": {"head_mask": np.ones((2, 4))},
    r"Labels have shape \(3, 4\), expected \(batch, 5\)": {"labels": np.zeros((3, 4), "float32")},
}


@pytest.mark.parametrize("message", BAD_INPUTS)
def test_bad_inputs_are_told_in_one_sentence(message, question_answering):
    with pytest.raises(ValueError, match=message) as caught:
        question_answering(vilt_inputs() | BAD_INPUTS[message])
    assert "labels" in BAD_INPUTS[message] or "\n" not in str(
        caught.value
    )  # Keras adds the arguments to what a loss says


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ("ViltForImagesAndTextClassification", {"num_images": -1}, "num_images is -1, expected the number of images"),
        ("ViltForImagesAndTextClassification", {"modality_type_vocab_size": 2}, "expected at least 3"),
    ],
)
def test_configs_that_a_head_cannot_take(head, changes, message):
    with pytest.raises(ValueError, match=message):
        getattr(tfvl, head)(CONFIG.replace(**changes))


def test_wrong_number_of_images():
    model = tfvl.ViltForImagesAndTextClassification(CONFIG)
    inputs = vilt_inputs()
    with pytest.raises(ValueError, match=r"pixel_values holds 1 images per text, but config\.num_images is 2"):
        model(inputs)


def test_the_model_wants_a_config():
    with pytest.raises(ValueError, match=r"takes a ViltConfig, got str; to load a checkpoint use ViltModel.from_pretr"):
        tfvl.ViltModel("dandelin/vilt-b32-mlm")


def test_the_padding_word_is_not_trained():
    """Upstream's word table has `padding_idx=config.pad_token_id`: that row starts as zeros and gets no gradient."""
    for pad, row in ((5, 5), (-1, SIZES["vocab_size"] - 1)):
        model = tfvl.ViltModel(CONFIG.replace(pad_token_id=pad))
        table = model.embeddings.text_embeddings.word_embeddings.embeddings
        assert not table.numpy()[row].any()
        inputs = vilt_inputs()
        inputs["input_ids"][:, :2] = row, 7
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(model(inputs)["pooler_output"] ** 2)
        gradient = tf.convert_to_tensor(tape.gradient(total, table.value)).numpy()
        assert not gradient[row].any()
        assert gradient[7].any()

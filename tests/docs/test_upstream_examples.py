"""Every example of upstream's pages on VisualBERT and LXMERT, adapted to tfvl: shapes, and losses computed by hand.

The checkpoints are tiny and random, in the layout of those that the pages name; as there, the vocabulary is
bert-base-uncased's, which uclanlp's repositories do not hold.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvl

LOSS = 1e-5  # relative; float32 sums in another order
SIZES = {
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
VISUAL_BERT = {**SIZES, "visual_embedding_dim": 2048, "num_hidden_layers": 2}
LXMERT = {**SIZES, "visual_feat_dim": 64, "l_layers": 2, "x_layers": 1, "r_layers": 1, "num_qa_labels": 9}
LXMERT |= {"num_object_labels": 8, "num_attr_labels": 7}
REGIONS = 36


def save(directory, class_name: str, sizes: dict):
    """Saves a checkpoint without a vocabulary; returns its directory."""
    keras.utils.set_random_seed(0)
    model_class = getattr(tfvl, class_name)
    model_class(model_class.config_class(**sizes)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Returns a function from a class's name to the directory of a checkpoint of it."""
    made = {}

    def directory(class_name: str):
        if class_name not in made:
            sizes = LXMERT if class_name.startswith("Lxmert") else VISUAL_BERT
            made[class_name] = save(tmp_path_factory.mktemp(class_name), class_name, sizes)
        return made[class_name]

    return directory


@pytest.fixture(scope="module")
def tokenizer():
    return tfvl.BertTokenizer.from_pretrained("bert-base-uncased")


def get_visual_embeddings(image=None) -> np.ndarray:
    """Stands for the pages' detector; returns (regions, 2048)."""
    return np.random.default_rng(3).uniform(size=(REGIONS, 2048)).astype("float32")


def with_regions(inputs: dict, visual_embeds: np.ndarray) -> dict:
    """Updates the inputs as each example on VisualBERT does."""
    return inputs | {
        "visual_embeds": visual_embeds,
        "visual_token_type_ids": np.ones(visual_embeds.shape[:-1], "int64"),
        "visual_attention_mask": np.ones(visual_embeds.shape[:-1], "float32"),
    }


def log_softmax(logits) -> np.ndarray:
    logits = np.asarray(logits, "float64")
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )


def assert_as_processed(processor, inputs: dict, **arguments) -> None:
    """Asserts that the processor makes of the raw inputs what the example makes by hand."""
    processed = processor(**arguments)
    assert processed.keys() == inputs.keys()
    for name, value in processed.items():
        np.testing.assert_array_equal(value, inputs[name], err_msg=name)


# --- VisualBERT ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["What is the man eating?", "The capital of France is Paris."])
def test_visual_bert_model(checkpoint, tokenizer, text):
    directory = checkpoint("VisualBertModel")
    model = tfvl.VisualBertModel.from_pretrained(directory)
    visual_embeds = get_visual_embeddings()[None]
    inputs = with_regions(tokenizer(text), visual_embeds)
    outputs = model(**inputs)
    words = inputs["input_ids"].shape[1]
    assert outputs["last_hidden_state"].shape == (1, words + REGIONS, 12)
    assert outputs["pooler_output"].shape == (1, 12)
    assert_as_processed(
        tfvl.VisualBertProcessor.from_pretrained(directory), inputs, text=text, regions=get_visual_embeddings()
    )
    # each position is the output of a layer norm, and words see the regions
    np.testing.assert_allclose(np.mean(outputs["last_hidden_state"], axis=-1), 0, atol=1e-5)
    without = model(tokenizer(text))["last_hidden_state"]
    assert np.abs(outputs["last_hidden_state"][:, :words] - without).max() > 0.01


def test_visual_bert_config(checkpoint):
    configuration = tfvl.VisualBertConfig.from_pretrained(checkpoint("VisualBertModel"))
    model = tfvl.VisualBertModel(configuration)
    assert model.config is configuration
    assert configuration.visual_embedding_dim == 2048
    assert tfvl.VisualBertConfig().visual_embedding_dim == 512


def test_visual_bert_for_pretraining(checkpoint, tokenizer):
    model = tfvl.VisualBertForPreTraining.from_pretrained(checkpoint("VisualBertForPreTraining"))
    visual_embeds = get_visual_embeddings()[None]
    inputs = with_regions(tokenizer("The capital of France is [MASK]."), visual_embeds)
    max_length = inputs["input_ids"].shape[-1] + visual_embeds.shape[-2]
    labels = tokenizer("The capital of France is Paris.", padding="max_length", max_length=max_length)["input_ids"]
    sentence_image_labels = np.array([1])
    outputs = model(**inputs, labels=labels, sentence_image_labels=sentence_image_labels)
    assert outputs["prediction_logits"].shape == (1, max_length, 30522)
    assert outputs["seq_relationship_logits"].shape == (1, 2)
    of_words = -np.mean(log_softmax(outputs["prediction_logits"])[0, np.arange(max_length), labels[0]])
    of_image = -log_softmax(outputs["seq_relationship_logits"])[0, 1]
    assert float(outputs["loss"]) == pytest.approx(of_words + of_image, rel=LOSS)


def test_visual_bert_for_question_answering(checkpoint, tokenizer):
    model = tfvl.VisualBertForQuestionAnswering.from_pretrained(checkpoint("VisualBertForQuestionAnswering"))
    inputs = with_regions(tokenizer("Who is eating the apple?"), get_visual_embeddings()[None])
    labels = np.array([[[0.0, 1.0]]])  # (batch, 1, labels), as the page has it
    outputs = model(**inputs, labels=labels)
    assert outputs["logits"].shape == (1, 2)
    assert float(outputs["loss"]) == pytest.approx(-log_softmax(outputs["logits"])[0, 1], rel=LOSS)


def test_visual_bert_for_multiple_choice(checkpoint, tokenizer):
    """The page tokenises the pairs (prompt, prompt) and (choice0, choice1); meant are (prompt, each choice)."""
    directory = checkpoint("VisualBertForMultipleChoice")
    model = tfvl.VisualBertForMultipleChoice.from_pretrained(directory)
    prompt = "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced."
    choice0 = "It is eaten with a fork and a knife."
    choice1 = "It is eaten while held in the hand."
    visual_embeds = np.broadcast_to(get_visual_embeddings(), (1, 2, REGIONS, 2048))
    encoding = tokenizer([prompt, prompt], [choice0, choice1], padding=True)
    inputs_dict = with_regions({name: value[None] for name, value in encoding.items()}, visual_embeds)
    outputs = model(**inputs_dict, labels=np.array([0]))
    assert outputs["logits"].shape == (1, 2)
    assert float(outputs["loss"]) == pytest.approx(-log_softmax(outputs["logits"])[0, 0], rel=LOSS)
    processor = tfvl.VisualBertProcessor.from_pretrained(directory)
    processed = processor(text=prompt, text_pair=[[choice0, choice1]], regions=get_visual_embeddings())
    np.testing.assert_allclose(model(processed)["logits"], outputs["logits"], rtol=LOSS)


def test_visual_bert_for_visual_reasoning(checkpoint, tokenizer):
    model = tfvl.VisualBertForVisualReasoning.from_pretrained(checkpoint("VisualBertForVisualReasoning"))
    inputs = with_regions(tokenizer("Who is eating the apple?"), get_visual_embeddings()[None])
    outputs = model(**inputs, labels=np.array([1]))
    assert outputs["logits"].shape == (1, 2)
    assert float(outputs["loss"]) == pytest.approx(-log_softmax(outputs["logits"])[0, 1], rel=LOSS)


def test_visual_bert_for_region_to_phrase_alignment(checkpoint, tokenizer):
    directory = checkpoint("VisualBertForRegionToPhraseAlignment")
    model = tfvl.VisualBertForRegionToPhraseAlignment.from_pretrained(directory)
    inputs = with_regions(tokenizer("Who is eating the apple?"), get_visual_embeddings()[None])
    positions = inputs["input_ids"].shape[-1] + REGIONS
    inputs["region_to_phrase_position"] = np.ones((1, positions), "float32")
    outputs = model(**inputs, labels=np.ones((1, positions, REGIONS), "float32"))
    assert outputs["logits"].shape == (1, positions, REGIONS)
    np.testing.assert_array_equal(outputs["logits"][0, 0], outputs["logits"][0, 1])  # all are about one position
    assert float(outputs["loss"]) == pytest.approx(-log_softmax(outputs["logits"]).sum(), rel=LOSS)  # 1·log(1) is 0


# --- LXMERT ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regions():
    """Makes inputs that the model needs and the pages leave out: features (1, regions, size), boxes (1, regions, 4)."""
    rng = np.random.default_rng(5)
    corners = np.sort(rng.uniform(size=(5, 2, 2)), axis=1).reshape(1, 5, 4)
    return {
        "visual_feats": rng.normal(size=(1, 5, 64)).astype("float32"),
        "visual_pos": corners.astype("float32"),
        "visual_attention_mask": np.ones((1, 5), "int32"),
    }


def test_lxmert_model(checkpoint, regions):
    """`last_hidden_state` of the page is `language_output`."""
    directory = checkpoint("LxmertModel")
    tokenizer = tfvl.LxmertTokenizer.from_pretrained("bert-base-uncased")
    model = tfvl.LxmertModel.from_pretrained(directory)
    inputs = tokenizer("Hello, my dog is cute")
    with pytest.raises(ValueError, match="visual_feats is missing; LXMERT needs each region's features and its box"):
        model(**inputs)
    outputs = model(**inputs, **regions)
    assert outputs["language_output"].shape == (1, 8, 12)
    assert outputs["vision_output"].shape == (1, 5, 12)
    assert outputs["pooled_output"].shape == (1, 12)
    np.testing.assert_allclose(np.mean(outputs["language_output"], axis=-1), 0, atol=1e-5)  # a layer norm's output
    assert_as_processed(
        tfvl.LxmertProcessor.from_pretrained(directory),
        inputs | regions,
        text="Hello, my dog is cute",
        regions=regions["visual_feats"],
        boxes=regions["visual_pos"],
    )


def test_tf_lxmert_model(checkpoint, regions):
    """The TensorFlow classes of version 4 take keywords, one dict, or a list in the order of the arguments."""
    tokenizer = tfvl.LxmertTokenizer.from_pretrained("bert-base-uncased")
    model = tfvl.LxmertModel.from_pretrained(checkpoint("LxmertModel"))
    inputs = tokenizer("Hello, my dog is cute") | regions
    in_order = [inputs[name] for name in ("input_ids", "visual_feats", "visual_pos", "attention_mask")]
    expected = model(inputs)["language_output"]
    assert isinstance(expected, tf.Tensor)
    np.testing.assert_array_equal(model(**inputs)["language_output"], expected)
    np.testing.assert_array_equal(model(in_order)["language_output"], expected)
    with_ids_first = model(inputs["input_ids"], regions["visual_feats"], regions["visual_pos"])
    np.testing.assert_array_equal(with_ids_first["language_output"], expected)  # masks of ones are the default


def test_lxmert_for_question_answering(checkpoint, regions):
    """The page's start and end logits are another model's; LXMERT's answers are classes."""
    tokenizer = tfvl.LxmertTokenizer.from_pretrained("bert-base-uncased")
    model = tfvl.LxmertForQuestionAnswering.from_pretrained(checkpoint("LxmertForQuestionAnswering"))
    inputs = tokenizer("Who was Jim Henson?", "Jim Henson was a nice puppet") | regions
    assert inputs["token_type_ids"].numpy().tolist() == [[0] * 7 + [1] * 7]
    outputs = model(**inputs)
    scores = outputs["question_answering_score"]
    assert scores.shape == (1, 9)
    target = (int(np.argmax(scores)) + 1) % 9  # not the likeliest
    loss = model(**inputs, labels=np.array([target]))["loss"]
    assert float(loss) == pytest.approx(-log_softmax(scores)[0, target], rel=LOSS)


def test_lxmert_for_pretraining(checkpoint, regions):
    """The page has no example; every label that it names, with the loss as the paper sums it."""
    tokenizer = tfvl.LxmertTokenizer.from_pretrained("bert-base-uncased")
    model = tfvl.LxmertForPreTraining.from_pretrained(checkpoint("LxmertForPreTraining"))
    inputs = tokenizer("Hello, my [MASK] is cute") | regions
    rng = np.random.default_rng(7)
    word = inputs["input_ids"].numpy()[0].tolist().index(tokenizer.mask_token_id)
    labels = np.full((1, 8), -100)
    labels[0, word] = tokenizer.convert_tokens_to_ids("dog")
    confidence = rng.uniform(size=(1, 5)).astype("float32")
    obj_labels = {
        "obj": (rng.integers(0, 8, (1, 5)), confidence),
        "attr": (rng.integers(0, 7, (1, 5)), confidence),
        "feat": (rng.normal(size=(1, 5, 64)).astype("float32"), confidence),
    }
    outputs = model(**inputs, labels=labels, obj_labels=obj_labels, matched_label=np.array([1]), ans=np.array([4]))
    assert outputs["prediction_logits"].shape == (1, 8, 30522)
    scores = outputs["visual_prediction_scores"]
    loss = -log_softmax(outputs["prediction_logits"])[0, word, labels[0, word]]
    loss -= log_softmax(outputs["cross_relationship_score"])[0, 1]
    loss -= log_softmax(outputs["question_answering_score"])[0, 4]
    for name in ("obj", "attr"):
        each = -log_softmax(scores[name])[0, np.arange(5), obj_labels[name][0][0]]
        loss += model.config.visual_loss_normalizer * np.mean(each * confidence)
    distance = np.abs(scores["feat"].numpy() - obj_labels["feat"][0])
    smooth = np.where(distance < 1, distance**2 / 2, distance - 0.5).mean(-1)
    loss += model.config.visual_loss_normalizer * np.mean(smooth * confidence)
    assert float(outputs["loss"]) == pytest.approx(loss, rel=LOSS)

"""VisualBERT against transformers: options and kinds of inputs; test_classes.py compares losses and gradients."""

import numpy as np
import pytest
from support.reference import compare, reference_model, to_torch, torch, transformers
from support.visual_bert import BATCH, HEADS, LENGTH, SIZES, labels_of, visual_bert_inputs

import tfvl

pytestmark = pytest.mark.parity

# float32 has 24 bits; sums of some dozen terms in another order differ in the last two or three of them
TINY = {"rtol": 1e-5, "atol": 1e-5}
# twelve blocks of width 768 add rounding up
BASE = {"rtol": 1e-4, "atol": 1e-4}


def compare_outputs(ours, theirs, tolerance=TINY):
    assert set(ours) == {name for name, value in theirs.items() if value is not None}
    for name, value in ours.items():
        compare(value, theirs[name], tolerance, name)


def test_each_pretraining_loss_term(pair):
    reference, model = pair("VisualBertForPreTraining")
    inputs, labels = visual_bert_inputs(), labels_of("VisualBertForPreTraining")
    both = model(inputs | labels)["loss"]
    words = model(inputs | {"labels": labels["labels"]})["loss"]
    with torch.no_grad():
        compare(words, reference(**to_torch(inputs | {"labels": labels["labels"]})).loss, TINY)
    sentence = model(inputs | {"sentence_image_labels": labels["sentence_image_labels"]})["loss"]
    np.testing.assert_allclose(words + sentence, both, **TINY)


@pytest.mark.parametrize("head", [head for head in HEADS if head != "VisualBertForRegionToPhraseAlignment"])
def test_text_without_regions(pair, head):
    reference, model = pair(head)
    inputs = {name: value for name, value in visual_bert_inputs(head).items() if not name.startswith(("vis", "image"))}
    with torch.no_grad():
        compare_outputs(model(inputs), reference(**to_torch(inputs)))


@pytest.mark.parametrize(
    "left_out",
    [
        ("attention_mask", "visual_attention_mask"),
        ("visual_attention_mask",),
        ("token_type_ids", "visual_token_type_ids"),
        ("position_ids", "image_text_alignment"),
    ],
)
def test_what_is_left_out_has_upstreams_default(pair, left_out):
    reference, model = pair("VisualBertModel")
    inputs = {name: value for name, value in visual_bert_inputs().items() if name not in left_out}
    with torch.no_grad():
        compare_outputs(model(inputs), reference(**to_torch(inputs)))


def test_embeddings_as_inputs(pair):
    reference, model = pair("VisualBertModel")
    inputs = visual_bert_inputs()
    embeds = np.random.default_rng(3).normal(size=(BATCH, LENGTH, SIZES["hidden_size"])).astype("float32")
    inputs["inputs_embeds"] = embeds
    del inputs["input_ids"]
    with torch.no_grad():
        compare_outputs(model(inputs), reference(**to_torch(inputs)))


def test_question_answering_returns_the_same_logits_with_and_without_labels(pair):
    """Upstream's are log-probabilities where labels are given: the same numbers but for a constant per row."""
    reference, model = pair("VisualBertForQuestionAnswering")
    inputs = visual_bert_inputs() | labels_of("VisualBertForQuestionAnswering")
    outputs = model(inputs)
    with torch.no_grad():
        theirs = reference(**to_torch(inputs)).logits
    compare(outputs["logits"], torch.tensor(model(visual_bert_inputs())["logits"].numpy()), {"rtol": 0, "atol": 0})
    compare(torch.tensor(outputs["logits"].numpy()).log_softmax(-1), theirs, TINY)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activations(pair, activation):
    reference, model = pair("VisualBertForPreTraining", hidden_act=activation)
    inputs = visual_bert_inputs()
    with torch.no_grad():
        compare_outputs(model(inputs), reference(**to_torch(inputs)))


def test_head_mask_is_upstreams_of_version_4(pair):
    """A silenced head adds nothing: in the reference, its columns of the output projection are zeroed instead."""
    import copy

    reference, model = pair("VisualBertForVisualReasoning")
    inputs = visual_bert_inputs()
    mask = np.array([[1, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 1]], "float32")
    silenced = copy.deepcopy(reference)
    size = SIZES["hidden_size"] // SIZES["num_attention_heads"]
    with torch.no_grad():
        for layer, row in zip(silenced.visual_bert.encoder.layer, mask, strict=True):
            for head in np.flatnonzero(row == 0):
                layer.attention.output.dense.weight[:, head * size : (head + 1) * size] = 0
        compare(model(inputs, head_mask=mask)["logits"], silenced(**to_torch(inputs)).logits, TINY)


def test_bypass_transformer_is_the_papers_code(pair):
    """Upstream's own modules, put together as the authors' code does; upstream's forward fails here."""
    reference, model = pair("VisualBertModel", bypass_transformer=True)
    inputs = visual_bert_inputs()
    outputs = model(inputs, output_attentions=True, output_hidden_states=True)
    given = to_torch(inputs)
    words, regions = given.pop("attention_mask"), given.pop("visual_attention_mask")
    with torch.no_grad():
        embedded = reference.embeddings(**given)
        hide_words, hide_all = (
            (1.0 - mask.float())[:, None, None] * torch.finfo(torch.float32).min
            for mask in (words, torch.cat([words, regions], dim=1))
        )
        options = {"output_attentions": True, "output_hidden_states": True}
        encoded = reference.encoder(embedded[:, :LENGTH], hide_words, **options)
        both = torch.cat([encoded.last_hidden_state, embedded[:, LENGTH:]], dim=1)
        last, attention = reference.additional_layer(both, hide_all, output_attentions=True)
        pooled = reference.pooler(last)
    compare(outputs["last_hidden_state"], last, TINY)
    compare(outputs["pooler_output"], pooled, TINY)
    compare(outputs["hidden_states"], (*encoded.hidden_states, last), TINY)
    compare(outputs["attentions"], (*encoded.attentions, attention), TINY)
    alone = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():  # without regions upstream works, and runs the encoder alone
        compare_outputs(model(alone), reference(**to_torch(alone)))


def test_a_bypass_loads_in_transformers(pair, tmp_path):
    reference, model = pair("VisualBertForVisualReasoning", bypass_transformer=True)
    model.save_pretrained(tmp_path)
    name = "VisualBertForVisualReasoning"
    loaded, info = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs = reference.state_dict()
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, theirs[key]), key
    assert loaded.config.bypass_transformer


@pytest.mark.parametrize("head", ["VisualBertForPreTraining", "VisualBertForRegionToPhraseAlignment"])
def test_files_of_transformers_4(head, tmp_path):
    """They hold the decoder's weight and bias as copies, and a buffer of positions (uclanlp/visualbert-*)."""
    reference = reference_model(head)
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    assert {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.predictions.bias"} <= state.keys()
    state["visual_bert.embeddings.position_ids"] = torch.arange(13)[None]
    torch.save(state, tmp_path / "pytorch_model.bin")
    reference.config.save_pretrained(tmp_path)
    model = getattr(tfvl, head).from_pretrained(tmp_path)
    assert model.config.tie_word_embeddings
    inputs = visual_bert_inputs(head)
    with torch.no_grad():
        compare_outputs(model(inputs), reference(**to_torch(inputs)))


def test_untied_decoder_makes_the_round_trip(tmp_path):
    reference = reference_model("VisualBertForPreTraining", tie_word_embeddings=False)
    own = reference.cls.predictions.decoder
    assert own.weight is not reference.visual_bert.embeddings.word_embeddings.weight
    own.bias = reference.cls.predictions.bias
    reference.config.tie_word_embeddings = True  # a config that is wrong, as that of dandelin/vilt-b32-mlm
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    reference.config.save_pretrained(tmp_path)
    model = tfvl.VisualBertForPreTraining.from_pretrained(tmp_path)
    assert not model.config.tie_word_embeddings
    inputs = visual_bert_inputs()
    with torch.no_grad():
        compare_outputs(model(inputs), reference(**to_torch(inputs)))
    model.save_pretrained(tmp_path / "saved")
    loaded, info = transformers.VisualBertForPreTraining.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        compare(model(inputs)["prediction_logits"], loaded.eval()(**to_torch(inputs)).prediction_logits, TINY)


def test_base_size(tmp_path):
    base = {"num_labels": 3129, "visual_embedding_dim": 2048}  # uclanlp/visualbert-vqa
    torch.manual_seed(0)
    reference = transformers.VisualBertForQuestionAnswering(transformers.VisualBertConfig(**base)).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.04)
    reference.save_pretrained(tmp_path)
    model = tfvl.VisualBertForQuestionAnswering.from_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    inputs = {
        "input_ids": rng.integers(0, 30522, (2, 20)).astype("int32"),
        "attention_mask": np.array([[1] * 20, [1] * 11 + [0] * 9], "int32"),
        "visual_embeds": rng.normal(size=(2, 36, 2048)).astype("float32"),
        "visual_attention_mask": np.array([[1] * 36, [1] * 20 + [0] * 16], "int32"),
    }
    with torch.no_grad():
        compare(model(inputs)["logits"], reference(**to_torch(inputs)).logits, BASE)

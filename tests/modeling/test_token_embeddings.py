"""`resize_token_embeddings`: the table, what is tied to it, the bias, and the files afterwards."""

import keras
import numpy as np
import pytest
from support.classes import small_model, training_example

import tfvl
from tfvl.layers.heads import MaskedLMHead
from tfvl.modeling import lora

WORDS, MORE = 131, 7
HEADS = {
    "ViltForMaskedLM": "logits",
    "ViltForPreTraining": "prediction_logits",
    "VisualBertForPreTraining": "prediction_logits",
    "LxmertForPreTraining": "prediction_logits",
    "LxmertForQuestionAnswering": None,
    "VisualBertModel": None,
}
SAME = {"rtol": 1e-5, "atol": 1e-5}  # float32 sums in another order


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_more_words(head, tied, tmp_path):
    model = small_model(head, tie_word_embeddings=tied)
    inputs, _ = training_example(head)
    before, paths = model(inputs), {variable.path: variable.trainable for variable in model.weights}
    layer = model.resize_token_embeddings(WORDS + MORE)
    assert layer is model.get_input_embeddings()
    assert layer.embeddings.shape[0] == model.config.vocab_size == WORDS + MORE
    assert {variable.path: variable.trainable for variable in model.weights} == paths
    table = layer.embeddings.numpy()
    np.testing.assert_allclose(table[WORDS:], np.repeat(table[:WORDS].mean(axis=0)[None], MORE, axis=0), **SAME)
    after, logits = model(inputs), HEADS[head]
    for name in before.keys() - {logits, "visual_prediction_scores"}:
        np.testing.assert_allclose(after[name], before[name], **SAME)
    if logits:
        assert after[logits].shape[-1] == WORDS + MORE
        np.testing.assert_allclose(after[logits][..., :WORDS], before[logits], **SAME)
    model(inputs | {"input_ids": np.full_like(inputs["input_ids"], WORDS + MORE - 1)})
    model.save_pretrained(tmp_path)
    name = logits or next(iter(after))
    np.testing.assert_allclose(getattr(tfvl, head).from_pretrained(tmp_path)(inputs)[name], after[name], **SAME)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(inputs)[name], after[name], **SAME)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", ["ViltForMaskedLM", "VisualBertForPreTraining", "LxmertForPreTraining"])
def test_words_that_lora_adapts(head, tied, tmp_path):
    """LoRA's matrices follow the table and the decoder; they add nothing to new words."""
    model, logits = small_model(head, tie_word_embeddings=tied), HEADS[head]
    inputs, _ = training_example(head)
    table = model.get_input_embeddings()
    heads = [layer for layer in model._flatten_layers() if isinstance(layer, MaskedLMHead)]
    adapted = [table, *[layer.decoder for layer in heads if layer.decoder is not None]]
    assert len(adapted) == 1 + (not tied)
    for layer in adapted:
        layer.enable_lora(2)
        matrix = lora.weight(layer, "b")
        matrix.assign(np.random.default_rng(0).normal(scale=0.1, size=matrix.shape))
    before, rows = model(inputs)[logits], table.embeddings.numpy()
    paths = {variable.path: variable.trainable for variable in model.weights}
    model.resize_token_embeddings(WORDS + MORE)
    assert {variable.path: variable.trainable for variable in model.weights} == paths
    np.testing.assert_array_equal(table.embeddings[:WORDS], rows)
    np.testing.assert_array_equal(table.embeddings[WORDS:], table._embeddings[WORDS:])
    after = model(inputs)[logits]
    assert after.shape[-1] == WORDS + MORE
    np.testing.assert_allclose(after[..., :WORDS], before, **SAME)
    model.save_pretrained(tmp_path)
    np.testing.assert_allclose(getattr(tfvl, head).from_pretrained(tmp_path)(inputs)[logits], after, **SAME)
    model.resize_token_embeddings(WORDS - MORE)
    np.testing.assert_array_equal(table.embeddings, rows[:-MORE])
    inputs["input_ids"] = np.minimum(inputs["input_ids"], WORDS - MORE - 1)
    assert model(inputs)[logits].shape[-1] == WORDS - MORE


def test_fewer_words_and_multiples():
    model = small_model("ViltForMaskedLM")
    before = model.get_input_embeddings().embeddings.numpy()
    np.testing.assert_array_equal(model.resize_token_embeddings(40).embeddings, before[:40])
    assert model.resize_token_embeddings(41, pad_to_multiple_of=16, mean_resizing=False).embeddings.shape == (48, 24)
    assert model.mlm_score.bias.shape == (48,)
    assert not model.mlm_score.bias.numpy()[40:].any()
    drawn = model.get_input_embeddings().embeddings.numpy()[40:]
    assert len(np.unique(drawn)) == drawn.size
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    assert model.config.vocab_size == 48
    for wrong in ({"new_num_tokens": 0}, {"new_num_tokens": 2.5}, {"pad_to_multiple_of": 0}):
        with pytest.raises(ValueError, match="expected whole numbers from 1 on"):
            model.resize_token_embeddings(**wrong)


def test_with_added_tokens():
    """As upstream's users do: a token of one's own, a longer table, and `compile` again."""
    tokenizer = tfvl.BertTokenizer.from_pretrained("shapes-vilt")
    assert tokenizer.add_tokens(["$T$", "covid19"]) == 2
    model = tfvl.ViltForQuestionAnswering.from_pretrained("shapes-vilt")
    model.compile()
    model.resize_token_embeddings(len(tokenizer))
    ids = tokenizer(["is $T$ red?"])["input_ids"]
    assert int(np.max(ids)) == model.config.vocab_size - 2
    inputs = {"input_ids": ids, "pixel_values": np.zeros((1, 64, 64, 3), "float32")}
    assert np.isfinite(model(inputs)["logits"]).all()
    with pytest.raises(ValueError, match="compile"):
        model.fit(inputs, np.zeros((1, 26), "float32"), verbose=0)

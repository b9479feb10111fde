"""Checkpoints into models and out again, without torch: every head, every surprise that real files hold."""

import json
import warnings
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
from support.checkpoint import tiny_model

import tfvl
from tfvl.errors import CheckpointError
from tfvl.porting.formats import open_checkpoint
from tfvl.porting.load import load_weights, uninitialised_variables
from tfvl.porting.rules import DENSE, Rule
from tfvl.porting.save import save_weights
from tfvl.vilt.heads import ViltHeadModel

# Kernels that were read, transposed and joined hold the file's very bits.
EXACT = 0.0
# float16 and bfloat16 files hold rounded values: half of the last of 11 and 8 bits.
ROUNDED = {"float16": 2.0**-11, "bfloat16": 2.0**-8}

HEADS = {
    "ViltModel": {},
    "ViltForMaskedLM": {},
    "ViltForPreTraining": {},
    "ViltForQuestionAnswering": {},
    "ViltForImagesAndTextClassification": {"num_images": 2, "modality_type_vocab_size": 3},
    "ViltForImageAndTextRetrieval": {},
    "ViltForTokenClassification": {},
}


@cache
def random_model(name: str, **config) -> keras.Model:
    """Makes a tiny model in which no two values are the same, norms and biases included; no test changes it."""
    model = tiny_model(name, **HEADS[name] | {"type_vocab_size": 3} | config)
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    return model


def values(model) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in model.weight_names().items()}


def assert_same_values(left, right, names=None) -> None:
    left, right = values(left), values(right)
    for name in names or left:
        np.testing.assert_allclose(right[name], left[name], rtol=EXACT, atol=EXACT, err_msg=name)


def saved(model, directory: Path) -> dict[str, np.ndarray]:
    model.save_pretrained(directory)
    return safetensors.numpy.load_file(directory / "model.safetensors")


def rewrite(directory: Path, arrays: dict[str, np.ndarray]) -> Path:
    safetensors.numpy.save_file(arrays, directory / "model.safetensors", {"format": "pt"})
    return directory


def quietly(name: str, directory: Path, **options):
    """Loads a model, with any warning as an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return getattr(tfvl, name).from_pretrained(directory, **options)


@pytest.mark.parametrize("name", HEADS)
def test_what_is_saved_is_loaded(tmp_path, name):
    model = random_model(name)
    model.save_pretrained(tmp_path)
    loaded = quietly(name, tmp_path)
    assert values(loaded).keys() == values(model).keys()
    assert_same_values(model, loaded)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_names_and_layout_in_the_file(tmp_path):
    """The names that transformers 5.23 expects; the parity suite checks all of them against transformers itself."""
    model = random_model("ViltForMaskedLM")
    arrays, own = saved(model, tmp_path), values(model)
    query, key, value = np.split(own["vilt/encoder/layer_1/attention/qkv/kernel"], 3, axis=1)
    for part, kernel in (("query", query), ("key", key), ("value", value)):
        np.testing.assert_array_equal(arrays[f"vilt.encoder.layer.1.attention.attention.{part}.weight"], kernel.T)
    patches = own["vilt/embeddings/patch_embeddings/kernel"]
    np.testing.assert_array_equal(
        arrays["vilt.embeddings.patch_embeddings.projection.weight"], patches.transpose(3, 2, 0, 1)
    )
    assert "mlm_score.decoder.bias" in arrays
    assert not {"mlm_score.bias", "mlm_score.decoder.weight"} & arrays.keys()
    assert all(name.startswith(("vilt.", "mlm_score.")) for name in arrays)
    assert not any(name.startswith("vilt.") for name in saved(random_model("ViltModel"), tmp_path))


def test_base_and_head_load_each_other(tmp_path):
    base, head = random_model("ViltModel"), random_model("ViltForQuestionAnswering")
    base.save_pretrained(tmp_path / "base")
    head.save_pretrained(tmp_path / "head")
    with pytest.warns(UserWarning, match=r"no weights for classifier/dense/bias.*newly initialised") as caught:
        loaded = tfvl.ViltForQuestionAnswering.from_pretrained(tmp_path / "base")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    body = {name: array for name, array in values(loaded).items() if name.startswith("vilt/")}
    assert {name.removeprefix("vilt/") for name in body} == values(base).keys()
    for name, array in body.items():
        np.testing.assert_array_equal(array, values(base)[name.removeprefix("vilt/")])
    assert np.std(values(loaded)["classifier/dense/kernel"]) > 0
    with pytest.warns(UserWarning, match=r"has weights of a head that ViltModel has not, left out: classifier.0.bias"):
        tfvl.ViltModel.from_pretrained(tmp_path / "head")


def test_another_head(tmp_path):
    random_model("ViltForQuestionAnswering").save_pretrained(tmp_path)
    message = r"no weights for classifier/bias, .*left out: classifier.0.*vilt.pooler"
    with pytest.warns(UserWarning, match=message) as caught:
        tfvl.ViltForTokenClassification.from_pretrained(tmp_path)
    assert len(caught) == 1


def test_a_class_has_rows_of_its_own(tmp_path):
    """They are read and written, and every other class of the family leaves them out by name."""

    class Topic(ViltHeadModel):
        weight_rules = (*ViltHeadModel.weight_rules, Rule("topic.weight", "topic/kernel", DENSE, head="topic"))

        def add_head(self, config, policy):
            self.topic = keras.layers.Dense(config.num_labels, use_bias=False, dtype=policy, name="topic")

        def build(self, input_shape=None):
            self.topic.build((None, self.config.hidden_size))

    model = Topic(random_model("ViltModel").config)
    arrays = saved(model, tmp_path)
    np.testing.assert_array_equal(arrays["topic.weight"], model.topic.kernel.numpy().T)
    assert_same_values(model, Topic.from_pretrained(tmp_path))
    for other in (tfvl.ViltModel, tfvl.ViltForMaskedLM):
        with pytest.warns(UserWarning, match=r"left out: topic\.weight"):
            other.from_pretrained(tmp_path)
    safetensors.numpy.save_file(arrays | {"other.weight": arrays["topic.weight"]}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no row of the table names other\.weight"):
        Topic.from_pretrained(tmp_path)


def test_another_number_of_labels(tmp_path):
    model = random_model("ViltForQuestionAnswering")
    model.save_pretrained(tmp_path)
    message = r"classifier.3.weight is \(3, 24\) in model.safetensors, .* classifier/out/kernel needs \(5, 24\)"
    with pytest.raises(CheckpointError, match=message):
        tfvl.ViltForQuestionAnswering.from_pretrained(tmp_path, num_labels=5)
    with pytest.warns(UserWarning, match=r"classifier/out/bias, classifier/out/kernel .*is \(3, 24\)"):
        loaded = tfvl.ViltForQuestionAnswering.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert_same_values(model, loaded, [name for name in values(model) if "classifier/out" not in name])


def test_retrieval_starts_from_the_matching_head(tmp_path):
    model = random_model("ViltForPreTraining")
    model.save_pretrained(tmp_path)
    with pytest.warns(
        UserWarning, match=r"lends rank_output/.* the values of itm_score.fc.*; it .* left out: mlm_score"
    ):
        loaded = tfvl.ViltForImageAndTextRetrieval.from_pretrained(tmp_path)
    np.testing.assert_array_equal(values(loaded)["rank_output/kernel"], values(model)["itm_score/kernel"][:, 1:])
    np.testing.assert_array_equal(values(loaded)["rank_output/bias"], values(model)["itm_score/bias"][1:])


def test_names_of_old_files(tmp_path):
    """A wrapper's prefix, gamma and beta, old buffers, the decoder's bias twice, the tied decoder stored too."""
    model = random_model("ViltForMaskedLM")
    arrays = saved(model, tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in arrays.items()
    }
    old["mlm_score.bias"] = arrays["mlm_score.decoder.bias"]
    old["mlm_score.decoder.weight"] = arrays["vilt.embeddings.text_embeddings.word_embeddings.weight"]
    old["vilt.embeddings.text_embeddings.position_ids"] = np.arange(11)[None]
    old["vilt.embeddings.text_embeddings.token_type_ids"] = np.zeros((1, 11), np.int64)
    rewrite(tmp_path, {"module." + name: array for name, array in old.items()})
    assert_same_values(model, quietly("ViltForMaskedLM", tmp_path))
    del old["mlm_score.decoder.bias"]
    assert_same_values(model, quietly("ViltForMaskedLM", rewrite(tmp_path, old)))


def test_an_untied_decoder_wins_over_the_config(tmp_path):
    untied = random_model("ViltForMaskedLM", tie_word_embeddings=False)
    arrays = saved(untied, tmp_path)
    assert "mlm_score.decoder.weight" in arrays
    assert_same_values(untied, quietly("ViltForMaskedLM", tmp_path))
    config = json.loads((tmp_path / "config.json").read_text()) | {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = quietly("ViltForMaskedLM", tmp_path)
    assert loaded.config.tie_word_embeddings is False
    assert_same_values(untied, loaded)


def test_no_qkv_bias(tmp_path):
    model = random_model("ViltModel", qkv_bias=False)
    assert not any("query.bias" in name for name in saved(model, tmp_path))
    assert_same_values(model, quietly("ViltModel", tmp_path))
    with pytest.raises(CheckpointError, match=r"missing: encoder.layer.0.attention.attention.key.bias"):
        tfvl.ViltModel.from_pretrained(tmp_path, qkv_bias=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(tmp_path, value):
    arrays = saved(random_model("ViltModel"), tmp_path)
    arrays["encoder.layer.1.attention.attention.key.weight"][3, 5] = value
    message = r"model.safetensors: encoder.layer.1.attention.attention.key.weight has 1 values .* the first at \(3, 5\)"
    with pytest.raises(CheckpointError, match=message):
        tfvl.ViltModel.from_pretrained(rewrite(tmp_path, arrays))


def test_large_weights_are_numbers(tmp_path):
    arrays = saved(random_model("ViltModel"), tmp_path)
    arrays["layernorm.bias"][:] = 3e38
    assert values(quietly("ViltModel", rewrite(tmp_path, arrays)))["layernorm/beta"].max() == np.float32(3e38)
    arrays["layernorm.bias"] = np.full(12, 1e300)
    with pytest.raises(CheckpointError, match=r"layernorm.bias has 12 values that are NaN or infinite"):
        tfvl.ViltModel.from_pretrained(rewrite(tmp_path, arrays))
    arrays["layernorm.bias"] = np.full(12, 1e5, np.float32)
    rewrite(tmp_path, arrays)
    with pytest.raises(CheckpointError, match=r"layernorm.bias has values too large for float16"):
        tfvl.ViltModel.from_pretrained(tmp_path, dtype="float16")


@pytest.mark.parametrize("stored", ["float16", "bfloat16", "float64"])
def test_files_of_other_precision(tmp_path, stored):
    import ml_dtypes

    model = random_model("ViltModel")
    dtype = ml_dtypes.bfloat16 if stored == "bfloat16" else np.dtype(stored)
    rewrite(tmp_path, {name: array.astype(dtype) for name, array in saved(model, tmp_path).items()})
    loaded = quietly("ViltModel", tmp_path)
    for name, array in values(model).items():
        np.testing.assert_allclose(values(loaded)[name], array, rtol=ROUNDED.get(stored, EXACT), atol=1e-6)
        assert values(loaded)[name].dtype == np.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16"])
def test_models_of_other_precision(tmp_path, dtype):
    model = random_model("ViltModel")
    model.save_pretrained(tmp_path / "float32")
    loaded = quietly("ViltModel", tmp_path / "float32", dtype=dtype)
    expected = "float32" if dtype.startswith("mixed") else dtype
    assert {variable.dtype for variable in loaded.weights} == {expected}
    loaded.save_pretrained(tmp_path / "again")
    tensors = open_checkpoint(tmp_path / "again")
    assert {tensor.dtype for tensor in tensors.values()} == {expected}
    assert_same_values(loaded, quietly("ViltModel", tmp_path / "again", dtype=dtype))


def test_a_model_that_has_values_already(tmp_path):
    model = random_model("ViltForQuestionAnswering")
    model.save_pretrained(tmp_path)
    other = tiny_model("ViltForQuestionAnswering", type_vocab_size=3)
    seen = []
    report = load_weights(other, open_checkpoint(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert_same_values(model, other)
    assert seen == sorted(seen)
    assert seen[-1] == (report.nbytes, report.nbytes)
    assert report.nbytes == sum(tensor.nbytes for tensor in open_checkpoint(tmp_path).values())
    rows = dict(report.rows())
    assert rows["tensors read"] == len(open_checkpoint(tmp_path))
    assert rows["of these fused"] == 2 * 6
    assert rows["variables filled"] == len(other.weights)


def test_nothing_is_initialised_that_is_read(tmp_path, monkeypatch):
    model = random_model("ViltForQuestionAnswering")
    model.save_pretrained(tmp_path)
    calls = []
    for initializer in (keras.initializers.TruncatedNormal, keras.initializers.RandomNormal, keras.initializers.Zeros):
        monkeypatch.setattr(initializer, "__call__", lambda self, shape, dtype=None: calls.append(shape))
    assert_same_values(model, quietly("ViltForQuestionAnswering", tmp_path))
    assert calls == []


def test_a_failed_load_leaves_nothing_behind_in_keras(tmp_path):
    arrays = saved(random_model("ViltModel"), tmp_path)
    del arrays["layernorm.bias"]
    rewrite(tmp_path, arrays)
    with pytest.raises(CheckpointError, match=r"missing: layernorm.bias"):
        tfvl.ViltModel.from_pretrained(tmp_path)
    with uninitialised_variables():
        layer = keras.layers.Dense(3)
        layer.build((None, 2))
    with keras.StatelessScope():  # would initialise what was left behind
        pass
    assert layer.kernel._value is None


def test_two_layers_too_many_and_too_few(tmp_path):
    random_model("ViltModel").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"missing: encoder.layer.2.attention") as caught:
        tfvl.ViltModel.from_pretrained(tmp_path, num_hidden_layers=3)
    assert "missing: 11 more" in str(caught.value)  # five of sixteen are named
    assert sum("missing: encoder.layer.2." in problem for problem in caught.value.problems) == 16
    with pytest.raises(CheckpointError, match=r"unknown: the model has no variable for encoder.layer.1.att") as caught:
        tfvl.ViltModel.from_pretrained(tmp_path, num_hidden_layers=1)
    assert "unknown: 11 more" in str(caught.value)
    assert sum("unknown: " in problem for problem in caught.value.problems) == 16


def test_a_single_file(tmp_path):
    model = random_model("ViltModel")
    model.save_pretrained(tmp_path)
    assert_same_values(model, quietly("ViltModel", tmp_path / "model.safetensors"))


@pytest.mark.parametrize("limit", [3000, "3KB", "0.003 MB"])
def test_shards(tmp_path, limit):
    model = random_model("ViltForMaskedLM")
    model.save_pretrained(tmp_path, max_shard_size=limit)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert len(files) > 3
    assert files | {"README.md", "config.json", "model.safetensors.index.json"} == {
        file.name for file in tmp_path.iterdir()
    }
    parts = {file: safetensors.numpy.load_file(tmp_path / file) for file in files}
    assert {key: file for file, part in parts.items() for key in part} == index["weight_map"]
    assert index["metadata"]["total_size"] == sum(array.nbytes for part in parts.values() for array in part.values())
    assert all(len(part) == 1 or sum(array.nbytes for array in part.values()) <= 3000 for part in parts.values())
    assert_same_values(model, quietly("ViltForMaskedLM", tmp_path))
    model.save_pretrained(tmp_path)  # one file again: the parts and the index of the last time are gone
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("size", ["big", "", "-1", 0, "5 XB", True, "0.1"])
def test_impossible_shard_sizes(tmp_path, size):
    with pytest.raises(ValueError, match=r"max_shard_size is .*expected a number of bytes"):
        save_weights(random_model("ViltModel"), tmp_path / "new", size)
    assert not (tmp_path / "new").exists()


def test_an_interrupted_save_leaves_the_old_file_alone(tmp_path, monkeypatch):
    model = random_model("ViltModel")
    save_weights(model, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    monkeypatch.setattr(type(model.weights[-1]), "numpy", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_weights(model, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_every_row_of_the_table_is_used_by_some_class(tmp_path):
    """A row that no model needs is out of date."""
    used = set()
    for name in HEADS:
        model = tiny_model(name, **HEADS[name], tie_word_embeddings=False)
        model.save_pretrained(tmp_path)
        used |= {fill.rule for fill in load_weights(model, open_checkpoint(tmp_path)).plan.fills}
    unused = [rule for rule in tfvl.ViltModel.weight_rules if rule.target and not rule.fallback and rule not in used]
    assert unused == []

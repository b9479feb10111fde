"""Processors of regions from and to files: vocabularies, feature sizes and limits; and how processors look."""

import json

import pytest
from support.checkpoint import VOCABULARY, tiny_processor
from support.originals import visual_bert_names, write_torch
from support.region_models import FEATURE_SIZE, save_tiny_region_model, some_regions, tiny_region_processor

import tfvl
from tfvl.porting.formats import open_checkpoint

MODELS = {"VisualBert": "VisualBertForQuestionAnswering", "Lxmert": "LxmertForQuestionAnswering"}
FIELDS = {"VisualBert": "visual_embedding_dim", "Lxmert": "visual_feat_dim"}
MODEL_TYPES = {"VisualBert": "visual_bert", "Lxmert": "lxmert"}
families = pytest.mark.parametrize("family", list(MODELS))


def processor_class(family):
    return getattr(tfvl, f"{family}Processor")


@families
def test_from_pretrained(tmp_path, family):
    save_tiny_region_model(tmp_path, MODELS[family])
    processor = processor_class(family).from_pretrained(tmp_path)
    assert list(processor.tokenizer.get_vocab()) == VOCABULARY
    assert processor.tokenizer.model_max_length == processor.positions == 13
    with pytest.raises(ValueError, match="max_length is 64, more than the 13 positions of the model"):
        processor(text="red", padding="max_length", max_length=64)
    assert processor_class(family).from_pretrained(tmp_path, padding_side="left").tokenizer.padding_side == "left"
    with pytest.raises(ValueError, match=rf"{family}Processor.from_pretrained has no option size; it takes .*detector"):
        processor_class(family).from_pretrained(tmp_path, size=64)
    assert processor.feature_size == FEATURE_SIZE
    with pytest.raises(ValueError, match=f"of size 20, but {FIELDS[family]} of the model's config is {FEATURE_SIZE}"):
        processor("red", regions=some_regions(2, size=20))
    model, other = tfvl.auto.load(tmp_path)
    assert type(model).__name__ == MODELS[family]
    assert type(other) is processor_class(family)
    assert processor_class(family).from_pretrained(tmp_path / "model.safetensors").feature_size == FEATURE_SIZE


@families
def test_save_and_load_again(tmp_path, family):
    """Without the model's config.json nothing is known of features, and positions are the family's."""
    tiny_region_processor(family).save_pretrained(tmp_path)
    again = processor_class(family).from_pretrained(tmp_path)
    assert again.feature_size is None
    assert again.tokenizer.model_max_length == 13
    texts = ["what color is the red circles", "[MASK]!"]
    ids = again(texts)["input_ids"].numpy()
    assert ids.tolist() == tiny_region_processor(family)(texts)["input_ids"].numpy().tolist()
    assert again.decode(ids[0], skip_special_tokens=True) == "what color is the red circles"
    assert again.batch_decode(ids)[1].startswith("[CLS] [MASK]! [SEP]")


def write_config(directory, family, **values):
    values = {"model_type": MODEL_TYPES[family], "max_position_embeddings": 77, FIELDS[family]: 1024} | values
    (directory / "config.json").write_text(json.dumps(values))


@families
@pytest.mark.parametrize("words", [{}, {"vocab_size": 30522}])
def test_a_checkpoint_without_a_vocabulary(tmp_path, family, words):
    """As uclanlp's: config.json and weights only."""
    write_config(tmp_path, family, **words)
    processor = processor_class(family).from_pretrained(tmp_path)
    assert processor.feature_size == 1024
    assert processor.tokenizer.model_max_length == 77
    ids = processor("Hello, my dog is cute")["input_ids"].numpy().tolist()
    assert ids == [[101, 7592, 1010, 2026, 3899, 2003, 10140, 102]]  # as in upstream's documentation
    processor.save_pretrained(tmp_path)
    assert len(processor_class(family).from_pretrained(tmp_path).tokenizer) == 30522


def test_an_authors_file_without_a_config(tmp_path):
    """The feature size follows from the tensors; the vocabulary is BERT's."""
    config = tfvl.VisualBertConfig(num_hidden_layers=1, intermediate_size=8, visual_embedding_dim=5)
    tfvl.VisualBertForQuestionAnswering(config).save_pretrained(tmp_path / "hub")
    state = {name: tensor.read() for name, tensor in open_checkpoint(tmp_path / "hub").items()}
    processor = tfvl.VisualBertProcessor.from_pretrained(write_torch(tmp_path / "vqa.th", visual_bert_names(state)))
    assert processor.feature_size == 5
    assert len(processor.tokenizer) == 30522


@families
def test_other_words_are_nobody_elses_vocabulary(tmp_path, family):
    write_config(tmp_path, family, vocab_size=30000)
    with pytest.raises(tfvl.CheckpointError, match=f"{tmp_path} holds no vocabulary"):
        processor_class(family).from_pretrained(tmp_path)


@families
def test_impossible_feature_size_names_the_file(tmp_path, family):
    write_config(tmp_path, family, **{FIELDS[family]: -1})
    with pytest.raises(tfvl.CheckpointError, match=rf"config\.json.*{FIELDS[family]} is -1"):
        processor_class(family).from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["shapes-visual-bert", "shapes-lxmert"])
def test_bundled_models(name):
    model, processor = tfvl.auto.load(name)
    assert processor.feature_size == getattr(model.config, processor.feature_size_field)
    assert processor.tokenizer.model_max_length <= model.config.max_position_embeddings


def test_no_such_bundled_model():
    with pytest.raises(tfvl.CheckpointError, match="shapes-lxmrt"):
        tfvl.auto.load("shapes-lxmrt")


def test_repr():
    tokenizer = "tokenizer=BertTokenizer(24 tokens, model_max_length=13)"
    assert repr(tiny_region_processor("Lxmert")) == f"LxmertProcessor({tokenizer}, feature_size=19)"
    assert repr(tiny_region_processor("VisualBert")) == f"VisualBertProcessor({tokenizer}, feature_size=19)"
    unlimited = tfvl.VisualBertProcessor(tfvl.BertTokenizer(VOCABULARY))
    assert repr(unlimited) == (
        "VisualBertProcessor(tokenizer=BertTokenizer(24 tokens, model_max_length=none), feature_size=None)"
    )
    vilt = repr(tiny_processor())
    assert vilt.startswith(
        "ViltProcessor(image_processor=ViltImageProcessor(do_resize=True, size={'shortest_edge': 32}"
    )
    assert vilt.endswith("tokenizer=BertTokenizer(24 tokens, model_max_length=none))")

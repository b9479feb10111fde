"""The papers' own weight files: VisualBERT's `.th`, LXMERT's `*_LXRT.pth` and `BEST.pth`, ViLT's Lightning `.ckpt`."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support import lxmert, vilt, visual_bert
from support.originals import lightning, lxmert_names, mmf_names, vilt_names, visual_bert_names, write_torch
from support.paths import GOLDEN
from support.porting import Call, Global

import tfvl
from tfvl.cli.app import main
from tfvl.errors import CheckpointError
from tfvl.porting.formats import open_checkpoint
from tfvl.porting.originals.reading import config_values, describe

HEADS = 4  # attention heads of all tiny models here; they do not follow from a file


def fine_tuned_lxmert(state):
    return lxmert_names(state, "lxrt_encoder.model.module.", "")


def join(parts):
    return np.concatenate(parts, axis=0)


def vqa_names(state):
    return vilt_names(state, join)


def nlvr2_names(state):
    return vilt_names(state, join, "nlvr2_classifier.")


# class of transformers: its state dict's family, sizes, the authors' names, the name of such a file
CASES = {
    "VisualBertForPreTraining": ("visual_bert", visual_bert.SIZES, visual_bert_names, "vqa_coco_pre_trained.th"),
    "VisualBertForQuestionAnswering": ("visual_bert", visual_bert.SIZES, visual_bert_names, "vqa_fine_tuned.th"),
    "VisualBertForVisualReasoning": ("visual_bert", visual_bert.SIZES, visual_bert_names, "nlvr2_fine_tuned.th"),
    "VisualBertForMultipleChoice": ("visual_bert", visual_bert.SIZES, visual_bert_names, "vcr_fine_tune.th"),
    "VisualBertForRegionToPhraseAlignment": ("visual_bert", visual_bert.SIZES, visual_bert_names, "flickr.th"),
    "LxmertForPreTraining": ("lxmert", lxmert.SIZES, lxmert_names, "Epoch20_LXRT.pth"),
    "LxmertForQuestionAnswering": ("lxmert", lxmert.SIZES, fine_tuned_lxmert, "BEST.pth"),
    "ViltForMaskedLM": ("vilt", vilt.SIZES, vqa_names, "vilt_200k_mlm.ckpt"),
    "ViltForQuestionAnswering": ("vilt", vilt.SIZES, vqa_names, "vilt_vqa.ckpt"),
    "ViltForImagesAndTextClassification": ("vilt", vilt.SIZES, nlvr2_names, "vilt_nlvr2.ckpt"),
    "ViltForImageAndTextRetrieval": ("vilt", vilt.SIZES, vqa_names, "vilt_irtr_coco.ckpt"),
}


def state_of(name: str) -> dict[str, np.ndarray]:
    """Returns the golden weights of a class, under transformers' names."""
    family = CASES[name][0]
    shapes = json.loads((GOLDEN / f"{family}_state_dicts.json").read_text())[name]
    return {key: vilt.golden_tensor(key, shape) for key, shape in shapes.items()}


def original(name: str, directory: Path, legacy: bool = False, more=None) -> Path:
    """Writes the same weights as the authors would have saved them, with `more` beside them."""
    family, _, rename, file = CASES[name]
    wrap = lightning if family == "vilt" else lambda entries: entries
    return write_torch(directory / file, rename(state_of(name)) | (more or {}), legacy, wrap)


def hub_directory(name: str, directory: Path) -> Path:
    family, sizes, *_ = CASES[name]
    config = {"vilt": tfvl.ViltConfig, "visual_bert": tfvl.VisualBertConfig, "lxmert": tfvl.LxmertConfig}[family]
    directory.mkdir()
    config(**sizes).save_pretrained(directory)
    save_file(state_of(name), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def load(name, path, **options):
    """Loads a model, with any warning as an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return getattr(tfvl, name).from_pretrained(path, **options)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_same_weights_as_from_the_hubs_layout(name, legacy, tmp_path):
    expected = load(name, hub_directory(name, tmp_path / "hub"))
    loaded = load(name, original(name, tmp_path, legacy), num_attention_heads=HEADS)
    assert loaded.weight_names().keys() == expected.weight_names().keys()
    for path, variable in expected.weight_names().items():
        np.testing.assert_array_equal(loaded.weight_names()[path].numpy(), variable.numpy(), err_msg=path)


@pytest.mark.parametrize("name", CASES)
def test_sizes_and_class_follow_from_the_tensors(name, tmp_path):
    values = config_values(original(name, tmp_path), heads=HEADS)
    if "num_answers" in values:
        values["num_qa_labels"] = values.pop("num_answers")
    labels_decide = name in ("VisualBertForQuestionAnswering", "VisualBertForVisualReasoning")
    assert values["architectures"] == [name] or labels_decide
    sizes = CASES[name][1] | {"num_hidden_layers": 3}
    unknown = {"layer_norm_eps", "visual_loss_normalizer"}  # the family's defaults stand for these
    shared = {field: sizes[field] for field in sizes.keys() & values.keys()}
    assert {field: values[field] for field in shared} == shared
    missing = {field for field in CASES[name][1] if field not in values} - unknown
    allowed = {"num_labels", "num_images"}  # classes without a classifier; one image only
    allowed |= {"num_object_labels", "num_attr_labels"} if name == "LxmertForQuestionAnswering" else set()
    assert missing <= allowed


@pytest.mark.parametrize(
    ("labels", "architecture"),
    [
        (1, "VisualBertForMultipleChoice"),
        (2, "VisualBertForVisualReasoning"),
        (3129, "VisualBertForQuestionAnswering"),
    ],
)
def test_the_number_of_labels_tells_visual_berts_classifiers_apart(labels, architecture, tmp_path):
    state = state_of("VisualBertForQuestionAnswering")
    state |= {"cls.weight": np.zeros((labels, 24), "f4"), "cls.bias": np.zeros(labels, "f4")}
    values = describe(open_checkpoint(write_torch(tmp_path / "x.th", visual_bert_names(state))))
    assert values["architectures"] == [architecture]
    assert values.get("num_labels") == (labels if labels > 1 else None)


def test_visual_bert_of_mmf(tmp_path):
    """Of MMF's trainer: the weights lie under `model`; a fine-tuned classifier has a layer more, and is left."""
    name = "VisualBertForPreTraining"
    wrap = lambda entries: {"model": entries, "best_iteration": 4000, "config": {"lr": 1}}  # noqa: E731
    file = write_torch(tmp_path / "visual_bert.pth", mmf_names(state_of(name)), wrap=wrap)
    assert config_values(file, heads=HEADS)["architectures"] == [name]
    expected, loaded = load(name, hub_directory(name, tmp_path / "hub")), load(name, file, num_attention_heads=HEADS)
    for path, variable in expected.weight_names().items():
        np.testing.assert_array_equal(loaded.weight_names()[path].numpy(), variable.numpy(), err_msg=path)
    answers = state_of("VisualBertForQuestionAnswering")
    dense = {"model.classifier.0.dense.weight": np.zeros((24, 24), "f4")}
    file = write_torch(tmp_path / "vqa.ckpt", mmf_names(answers) | dense)
    with pytest.warns(UserWarning, match="no weights for cls/bias, cls/kernel"):
        tfvl.VisualBertForQuestionAnswering.from_pretrained(file, num_attention_heads=HEADS)


def test_what_no_model_here_has_is_dropped(tmp_path):
    """VCR's region detector, ViLT's masked patch prediction."""
    detector = {"detector.backbone.0.weight": np.zeros((3, 4), "f4"), "detector.mask_upsample.bias": np.zeros(2, "f4")}
    load("VisualBertForMultipleChoice", original("VisualBertForMultipleChoice", tmp_path, more=detector), **heads())
    patches = {"mpp_score.decoder.weight": np.zeros((3, 4), "f4"), "transformer.mask_token": np.zeros((1, 1, 4), "f4")}
    load("ViltForMaskedLM", original("ViltForMaskedLM", tmp_path, more=patches), **heads())


def heads():
    return {"num_attention_heads": HEADS}


@pytest.mark.parametrize("name", ["VisualBertForPreTraining", "LxmertForPreTraining", "ViltForQuestionAnswering"])
def test_nothing_else_is_skipped(name, tmp_path):
    extra = {
        "VisualBertForPreTraining": "bert.bert.encoder.layer.1.crossattention.weight",
        "LxmertForPreTraining": "module.bert.encoder.q_layers.0.weight",
        "ViltForQuestionAnswering": "transformer.head.weight",
    }[name]
    file = original(name, tmp_path, more={extra: np.zeros((3, 4), "f4")})
    with pytest.raises(CheckpointError, match=rf"unknown: no row of the table names {extra} \(3, 4\)"):
        load(name, file, **heads())
    state = CASES[name][2](state_of(name))
    gone = next(key for key in state if "qkv.bias" in key or "attention.self.value.bias" in key)
    del state[gone]
    with pytest.raises(CheckpointError, match=r"missing: encoder\.layer\..*value\.bias"):
        load(name, write_torch(file, state), **heads())


def test_a_fused_tensor_that_cannot_be_cut(tmp_path):
    more = {"transformer.blocks.1.attn.qkv.weight": np.zeros((70, 24), "f4")}
    file = original("ViltForMaskedLM", tmp_path, more=more)
    with pytest.raises(CheckpointError, match=r"blocks.1.attn.qkv.weight \(70, 24\) is not 3 equal parts"):
        load("ViltForMaskedLM", file, **heads())


def test_both_classifiers_of_vilt(tmp_path):
    more = {f"nlvr2_classifier.{part}.bias": np.zeros(3, "f4") for part in (0, 1, 3)}
    file = original("ViltForQuestionAnswering", tmp_path, more=more)
    with pytest.raises(CheckpointError, match=r"double: vqa_classifier.0.bias and nlvr2_classifier.0.bias are both"):
        load("ViltForQuestionAnswering", file, **heads())


def test_the_number_of_heads_must_be_told_unless_the_file_is_of_base_size(tmp_path):
    file = original("ViltForMaskedLM", tmp_path)
    with pytest.raises(CheckpointError, match=r"attention heads does not follow .* is 24, not 768; pass num_attention"):
        load("ViltForMaskedLM", file)
    assert load("ViltForMaskedLM", file, num_attention_heads=2).config.num_attention_heads == 2
    tfvl.ViltConfig(**vilt.SIZES).save_pretrained(tmp_path)
    assert load("ViltForMaskedLM", file).config.num_attention_heads == HEADS  # a config.json beside it
    config = tfvl.ViltConfig(**vilt.SIZES, hidden_act="relu")
    assert load("ViltForMaskedLM", file, config=config).config is config


def test_a_file_of_another_family(tmp_path):
    with pytest.raises(CheckpointError, match=r"model_type is 'lxmert', but ViltConfig reads 'vilt'"):
        load("ViltModel", original("LxmertForPreTraining", tmp_path), **heads())
    config = tfvl.ViltConfig(**vilt.SIZES)
    with pytest.raises(CheckpointError, match=r"no weight in it is one of ViltModel's"):
        load("ViltModel", original("LxmertForPreTraining", tmp_path), config=config)


def test_a_file_that_is_no_original_needs_its_config(tmp_path):
    file = write_torch(tmp_path / "weights.pth", state_of("ViltForMaskedLM"))
    with pytest.raises(CheckpointError, match=r"config.json is missing"):
        load("ViltForMaskedLM", file, **heads())


def test_image_text_matching_of_a_pretrained_vilt(tmp_path):
    """Transformers leaves this head out; `ViltForPreTraining` has it, and retrieval starts from it."""
    rng = np.random.default_rng(0)
    more = {"itm_score.fc.weight": rng.normal(size=(2, 24)).astype("f4"), "itm_score.fc.bias": np.array([1, 2], "f4")}
    file = original("ViltForMaskedLM", tmp_path, more=more)
    assert config_values(file, heads=HEADS)["architectures"] == ["ViltForPreTraining"]
    weights = load("ViltForPreTraining", file, **heads()).weight_names()
    np.testing.assert_array_equal(weights["itm_score/kernel"], more["itm_score.fc.weight"].T)
    with pytest.warns(UserWarning, match=r"left out: itm_score.fc.bias, itm_score.fc.weight"):
        tfvl.ViltForMaskedLM.from_pretrained(file, **heads())
    with pytest.warns(UserWarning, match=r"lends rank_output/kernel.* the values of itm_score.fc.weight"):
        tfvl.ViltForImageAndTextRetrieval.from_pretrained(file, **heads())


def test_objects_of_lightning_where_tensors_should_be(tmp_path):
    foreign = Call(Global("pytorch_lightning.metrics", "Accuracy"), ())
    file = write_torch(tmp_path / "x.ckpt", {}, wrap=lambda _: {"state_dict": {"metric": foreign}})
    with pytest.raises(CheckpointError, match=r"its entry 'metric' is a pytorch_lightning.metrics.Accuracy, not a t"):
        open_checkpoint(file)
    file = write_torch(tmp_path / "x.ckpt", {}, wrap=lambda _: foreign)
    with pytest.raises(CheckpointError, match=r"holds a pytorch_lightning.metrics.Accuracy, no state dict"):
        open_checkpoint(file)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_beside_the_weights_cannot_run_either(legacy, tmp_path):
    """Only names of known frameworks are passed over, and those are never imported or called."""
    for function in (Global("os", "system"), Global("builtins", "eval"), Global("pytorch_lightningx", "f")):
        evil = Call(function, (f"touch {tmp_path}/ran",))

        def wrap(entries, evil=evil):
            return lightning(entries) | {"hyper_parameters": evil}

        file = write_torch(tmp_path / "x.ckpt", {"w": np.zeros(3, "f4")}, legacy, wrap)
        with pytest.raises(CheckpointError, match=rf"wants to call '{function.module}.{function.name}'"):
            open_checkpoint(file)
    known = write_torch(tmp_path / "x.ckpt", {"w": np.arange(3, dtype="f4")}, legacy, lightning)
    np.testing.assert_array_equal(open_checkpoint(known)["w"].read(), np.arange(3))
    assert not (tmp_path / "ran").exists()


def test_the_processor_of_a_file_alone(tmp_path):
    """BERT's vocabulary, and for ViLT the defaults of its image processor, as transformers' conversion gives it."""
    words = {"text_embeddings.word_embeddings.weight": np.zeros((30522, 24), "f4")}
    processor = tfvl.ViltProcessor.from_pretrained(original("ViltForQuestionAnswering", tmp_path, more=words))
    assert repr(processor.image_processor) == repr(tfvl.ViltImageProcessor())
    assert processor.tokenizer.model_max_length == 13  # the position table of this file
    np.testing.assert_array_equal(processor(text="a cat")["input_ids"], [[101, 1037, 4937, 102]])
    with pytest.raises(CheckpointError, match=r"holds no vocabulary"):  # 131 words are not BERT's
        tfvl.ViltProcessor.from_pretrained(original("ViltForQuestionAnswering", tmp_path))


def test_port_writes_the_hubs_layout(tmp_path, capsys):
    """A file alone, at base width so that the heads are known; the vocabulary is BERT's."""
    config = tfvl.VisualBertConfig(num_hidden_layers=1, intermediate_size=8, visual_embedding_dim=5, num_labels=7)
    model = tfvl.VisualBertForQuestionAnswering(config)
    model.save_pretrained(tmp_path / "hub")
    state = {name: tensor.read() for name, tensor in open_checkpoint(tmp_path / "hub").items()}
    (tmp_path / "alone").mkdir()
    file = write_torch(tmp_path / "alone" / "vqa_fine_tuned.th", visual_bert_names(state))
    assert main(["port", str(file), str(tmp_path / "ported")]) == 0
    ported = load("VisualBertForQuestionAnswering", tmp_path / "ported")
    assert ported.config.replace(extra={}) == config.replace(architectures=("VisualBertForQuestionAnswering",))
    for name, tensor in open_checkpoint(tmp_path / "ported").items():
        np.testing.assert_array_equal(tensor.read(), state[name], err_msg=name)
    assert (tmp_path / "ported" / "vocab.txt").is_file()

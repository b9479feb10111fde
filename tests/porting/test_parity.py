"""Checkpoints between transformers and here, both ways, in every format that torch writes; torch does the reference."""

import pytest

torch = pytest.importorskip("torch", reason="the reference needs torch")
transformers = pytest.importorskip("transformers", reason="the reference needs transformers")

import warnings  # noqa: E402  # torch before tensorflow

import numpy as np  # noqa: E402

import tfvl  # noqa: E402
from tfvl.porting.formats import open_checkpoint  # noqa: E402

pytestmark = pytest.mark.parity

CLASSES = (
    "ViltModel",
    "ViltForMaskedLM",
    "ViltForQuestionAnswering",
    "ViltForImagesAndTextClassification",
    "ViltForImageAndTextRetrieval",
    "ViltForTokenClassification",
)
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "vocab_size": 99,
    "image_size": 48,
    "patch_size": 8,
    "type_vocab_size": 3,
    "max_position_embeddings": 13,
    "num_labels": 5,
    "num_images": 2,
    "modality_type_vocab_size": 3,
}


def reference(name: str, **config):
    """Makes a tiny upstream model with random weights."""
    torch.manual_seed(0)
    model = getattr(transformers, name)(transformers.ViltConfig(**SIZES | config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def load(name: str, directory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return getattr(tfvl, name).from_pretrained(directory)


def save_safetensors(model, directory):
    model.save_pretrained(directory)


def save_shards(model, directory):
    model.save_pretrained(directory, max_shard_size="20KB")


def save_zip(model, directory):
    model.config.save_pretrained(directory)
    torch.save(model.state_dict(), directory / "pytorch_model.bin")


def save_legacy(model, directory):
    model.config.save_pretrained(directory)
    torch.save(model.state_dict(), directory / "pytorch_model.bin", _use_new_zipfile_serialization=False)


FORMATS = (save_safetensors, save_shards, save_zip, save_legacy)


@pytest.mark.parametrize("save", FORMATS)
def test_every_format_holds_the_same_arrays(tmp_path, save):
    model = reference("ViltForMaskedLM")
    save(model, tmp_path)
    state = model.state_dict()
    checkpoint = open_checkpoint(tmp_path)
    assert state.keys() - checkpoint.keys() <= {"mlm_score.decoder.weight"}
    for name, tensor in checkpoint.items():
        np.testing.assert_array_equal(tensor.read(), state[name].numpy(), err_msg=name)


@pytest.mark.parametrize("save", FORMATS)
@pytest.mark.parametrize("name", CLASSES)
def test_there_and_back(tmp_path, name, save):
    """No key missing or unexpected on either side, and every value returns as it went."""
    model = reference(name)
    save(model, tmp_path)
    load(name, tmp_path).save_pretrained(tmp_path / "back")
    back, info = getattr(transformers, name).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(info.values()), info
    for key, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], tensor), key


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_an_untied_decoder_there_and_back(tmp_path, save):
    """Upstream's ViltConfig always says that the decoder is tied; a file with a decoder of its own is believed."""
    model = reference("ViltForMaskedLM")
    words = model.vilt.embeddings.text_embeddings.word_embeddings.weight
    model.mlm_score.decoder.weight = torch.nn.Parameter(torch.randn_like(words))
    save(model, tmp_path)
    loaded = load("ViltForMaskedLM", tmp_path)
    assert loaded.config.tie_word_embeddings is False
    loaded.save_pretrained(tmp_path / "back", max_shard_size="30KB")
    back, info = transformers.ViltForMaskedLM.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(info.values()), info
    assert torch.equal(back.mlm_score.decoder.weight, model.mlm_score.decoder.weight)
    assert torch.equal(back.vilt.embeddings.text_embeddings.word_embeddings.weight, words)


def test_without_qkv_bias(tmp_path):
    model = reference("ViltModel", qkv_bias=False)
    model.save_pretrained(tmp_path)
    load("ViltModel", tmp_path).save_pretrained(tmp_path / "back")
    _, info = transformers.ViltModel.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(info.values()), info


@pytest.mark.parametrize("save", FORMATS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files(tmp_path, dtype, save):
    model = reference("ViltModel").to(getattr(torch, dtype))
    save(model, tmp_path)
    loaded = load("ViltModel", tmp_path)
    words = loaded.weight_names()["embeddings/text_embeddings/word_embeddings/embeddings"].numpy()
    expected = model.embeddings.text_embeddings.word_embeddings.weight.float().detach().numpy()
    np.testing.assert_array_equal(words, expected)


def test_tensors_in_every_order_of_axes(tmp_path):
    rng = np.random.default_rng(0)
    base = torch.from_numpy(rng.normal(size=(3, 4, 5, 6)).astype(np.float32))
    tensors = {
        "permuted": base.permute(2, 0, 3, 1),
        "sliced": base[1:, ::2, 3:, ::3],
        "selected": base[2, :, 1],
        "diagonal": torch.diagonal(base[0, 0, :, :]),
        "one": base[:1, :1].expand(1, 1, 5, 6),
        "flat": base.flatten()[7:80:9],
    }
    for file, options in (("zip.bin", {}), ("legacy.bin", {"_use_new_zipfile_serialization": False})):
        torch.save(tensors, tmp_path / file, **options)
        checkpoint = open_checkpoint(tmp_path / file)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(checkpoint[name].read(), tensor.numpy(), err_msg=f"{file} {name}")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(tmp_path, protocol):
    tensors = {"weight": torch.arange(6.0).reshape(2, 3), "half": torch.ones(3, dtype=torch.float16)}
    for legacy in (False, True):
        file = tmp_path / "x.bin"
        torch.save(tensors, file, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
        np.testing.assert_array_equal(open_checkpoint(file)["weight"].read(), tensors["weight"].numpy())

"""ViLT against transformers: options and kinds of inputs; test_classes.py compares outputs, losses and gradients."""

import numpy as np
import pytest
from support.reference import compare, reference_model, to_torch, torch, transformers
from support.vilt import BATCH, HEADS, LENGTH, SIZES, vilt_inputs

import tfvl

pytestmark = pytest.mark.parity

# float32 has 24 bits; sums of some dozen terms in another order differ in the last two or three of them
TINY = {"rtol": 1e-5, "atol": 1e-5}
# twelve blocks of width 768 add rounding up
BASE = {"rtol": 1e-4, "atol": 1e-4}
TRAINED = [head for head, labels in HEADS.items() if labels is not None]


@pytest.fixture(autouse=True)
def row_major(monkeypatch):
    """Makes upstream take patches in their order, which it shuffles; this changes no result."""
    monkeypatch.setattr(torch, "multinomial", lambda weights, n, replacement=False: torch.arange(n) % len(weights))


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu", "selu"])
def test_other_activations(pair, activation, monkeypatch):
    # documented by upstream, but missing from its table
    monkeypatch.setitem(transformers.activations.ACT2FN, "selu", torch.nn.SELU)
    reference, model = pair("ViltForMaskedLM", hidden_act=activation)
    inputs = vilt_inputs()
    with torch.no_grad():
        compare(model(inputs)["logits"], reference(**to_torch(inputs)).logits, TINY)


def test_without_qkv_bias(pair):
    reference, model = pair("ViltForQuestionAnswering", qkv_bias=False)
    inputs = vilt_inputs()
    with torch.no_grad():
        compare(model(inputs)["logits"], reference(**to_torch(inputs)).logits, TINY)


@pytest.mark.parametrize("longest", [1, 5, 17, 48, 100])
def test_max_image_length_takes_the_first_patches(pair, longest):
    reference, model = pair("ViltForQuestionAnswering", max_image_length=longest)
    inputs = vilt_inputs()
    with torch.no_grad():
        compare(model(inputs)["logits"], reference(**to_torch(inputs)).logits, TINY)


def test_embeddings_as_inputs(pair):
    reference, model = pair("ViltModel")
    inputs = vilt_inputs()
    rng = np.random.default_rng(3)
    inputs["inputs_embeds"] = rng.normal(size=(BATCH, LENGTH, SIZES["hidden_size"])).astype("float32")
    inputs["image_embeds"] = rng.normal(size=(BATCH, 11, SIZES["hidden_size"])).astype("float32")
    inputs["pixel_mask"] = (rng.uniform(size=(BATCH, 11)) < 0.7).astype("int32")
    del inputs["input_ids"], inputs["pixel_values"]
    with torch.no_grad():
        theirs = reference(**to_torch(inputs))
    ours = model(inputs)
    compare(ours["pooler_output"], theirs.pooler_output, TINY)
    compare(ours["last_hidden_state"], theirs.last_hidden_state, TINY)


def test_image_token_type_idx(pair):
    reference, model = pair("ViltModel")
    inputs = vilt_inputs()
    with torch.no_grad():
        theirs = reference(**to_torch(inputs), image_token_type_idx=2)
    compare(model(inputs, image_token_type_idx=2)["pooler_output"], theirs.pooler_output, TINY)
    assert not np.allclose(model(inputs)["pooler_output"], theirs.pooler_output, **TINY)


def test_head_mask_is_upstreams_of_version_4(pair):
    """A silenced head adds nothing: in the reference, its columns of the output projection are zeroed instead."""
    import copy

    reference, model = pair("ViltForQuestionAnswering")
    inputs = vilt_inputs()
    mask = np.array([[1, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 1]], "float32")
    silenced = copy.deepcopy(reference)
    size = SIZES["hidden_size"] // SIZES["num_attention_heads"]
    with torch.no_grad():
        for layer, row in zip(silenced.vilt.encoder.layer, mask, strict=True):
            for head in np.flatnonzero(row == 0):
                layer.attention.output.dense.weight[:, head * size : (head + 1) * size] = 0
        theirs = silenced(**to_torch(inputs)).logits
    compare(model(inputs, head_mask=mask)["logits"], theirs, TINY)


def test_untied_decoder_makes_the_round_trip(tmp_path):
    """dandelin/vilt-b32-mlm has a decoder of its own, whatever its config says."""
    reference = reference_model("ViltForMaskedLM")
    with torch.no_grad():
        own = torch.nn.Parameter(torch.randn_like(reference.mlm_score.decoder.weight))
    reference.mlm_score.decoder.weight = own
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    reference.config.save_pretrained(tmp_path)
    model = tfvl.ViltForMaskedLM.from_pretrained(tmp_path)
    inputs = vilt_inputs()
    with torch.no_grad():
        theirs = reference(**to_torch(inputs)).logits
    compare(model(inputs)["logits"], theirs, TINY)
    model.save_pretrained(tmp_path / "saved")
    loaded = transformers.ViltForMaskedLM.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        compare(model(inputs)["logits"], loaded(**to_torch(inputs)).logits, TINY)


def test_base_size(tmp_path):
    sizes = dict.fromkeys(SIZES)
    base = transformers.ViltConfig(num_labels=3129).to_dict()
    changes = {name: base[name] for name in sizes if name in base} | {"num_labels": 3129, "num_images": -1}
    reference = reference_model("ViltForQuestionAnswering", **changes)
    with torch.no_grad():  # 0.2 on every weight is far from any trained model at this width
        for parameter in reference.parameters():
            parameter.mul_(0.2)
    reference.save_pretrained(tmp_path)
    model = tfvl.ViltForQuestionAnswering.from_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    inputs = {
        "input_ids": rng.integers(0, 30522, (2, 20)).astype("int32"),
        "pixel_values": rng.normal(size=(2, 384, 512, 3)).astype("float32"),
        "pixel_mask": np.ones((2, 384, 512), "int32"),
    }
    inputs["pixel_mask"][1, :, 384:] = 0
    with torch.no_grad():
        theirs = reference(**to_torch(inputs)).logits
    compare(model(inputs)["logits"], theirs, BASE)

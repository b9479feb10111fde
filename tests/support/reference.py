"""The reference of the parity tests: transformers' models at tiny size, and the conversion of arrays to tensors."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from support import lxmert, vilt, visual_bert

torch = pytest.importorskip("torch", reason="the parity suite needs torch; pip install '.[parity]'")
transformers = pytest.importorskip("transformers", reason="the parity suite needs transformers")

SIZES = {"Vilt": vilt.SIZES, "VisualBert": visual_bert.SIZES, "Lxmert": lxmert.SIZES}


def reference_model(head: str, seed: int = 0, **changes):
    """Makes a transformers model in eval mode, with random weights, and eager attention, which returns attentions."""
    family = next(family for family in SIZES if head.startswith(family))
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(**(SIZES[family] | changes))
    config._attn_implementation = "eager"
    model = (WITHOUT_UPSTREAM.get(head) or getattr(transformers, head))(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def compare(ours, theirs, tolerance, path: str = "outputs") -> None:
    """Asserts that tensors, or nested sequences of them, equal the reference's; None as reference skips them."""
    if theirs is None:
        return
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), path
        for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            compare(mine, other, tolerance, f"{path}[{index}]")
        return
    assert tuple(ours.shape) == tuple(theirs.shape), path
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), err_msg=path, **tolerance)


def to_torch(inputs: dict) -> dict:
    """Converts inputs for PyTorch: int64, channels before height and width, choices' alignments in one axis of rows."""
    tensors = {}
    for name, value in inputs.items():
        if name == "obj_labels":
            tensors[name] = {loss: tuple(map(tensor, pair)) for loss, pair in value.items()}
        elif name == "image_text_alignment":
            tensors[name] = tensor(value.reshape(-1, *value.shape[-2:]))
        else:
            tensors[name] = tensor(np.moveaxis(value, -1, -3) if name == "pixel_values" else value)
    return tensors


def tensor(value: np.ndarray) -> torch.Tensor:
    dtype = torch.long if value.dtype.kind == "i" else torch.float32
    return torch.tensor(np.ascontiguousarray(value), dtype=dtype)


def accepts(model, name: str) -> bool:
    """Returns whether the reference's forward takes an argument of this name."""
    return name in inspect.signature(model.forward).parameters


class ViltForPreTraining(torch.nn.Module):
    """A model that upstream lacks: a masked language model with the matching head of `dandelin/vilt-b32-mlm-itm`."""

    def __init__(self, config):
        super().__init__()
        masked_lm = transformers.ViltForMaskedLM(config)
        self.config, self.vilt, self.mlm_score = config, masked_lm.vilt, masked_lm.mlm_score
        self.itm_score = torch.nn.ModuleDict({"fc": torch.nn.Linear(config.hidden_size, 2)})

    def forward(self, labels=None, matched_label=None, **inputs):
        outputs = self.vilt(**inputs)
        words = self.mlm_score(outputs.last_hidden_state[:, : inputs["input_ids"].shape[1]])
        match = self.itm_score["fc"](outputs.pooler_output)
        results = {"prediction_logits": words, "cross_relationship_score": match}
        results |= {name: outputs[name] for name in ("hidden_states", "attentions") if name in outputs}
        if labels is not None:
            entropy = torch.nn.functional.cross_entropy
            results["loss"] = entropy(words.flatten(0, 1), labels.flatten()) + entropy(match, matched_label)
        return results

    def save_pretrained(self, directory: Path) -> None:
        """Writes the files of the hub's checkpoint: in PyTorch's format, with tied weights twice."""
        self.config.save_pretrained(directory)
        torch.save(self.state_dict(), Path(directory) / "pytorch_model.bin")


WITHOUT_UPSTREAM = {"ViltForPreTraining": ViltForPreTraining}

"""The reference side of the parity tests: transformers' ViLT at tiny size, and the way from arrays to its tensors."""

import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the parity suite needs torch; pip install '.[parity]'")
transformers = pytest.importorskip("transformers", reason="the parity suite needs transformers")


def reference_model(head: str, seed: int = 0, **changes):
    """A transformers model with every weight random, in eval mode; eager attention, so that it returns attentions."""
    from helpers_vilt import SIZES

    torch.manual_seed(seed)
    config = transformers.ViltConfig(**(SIZES | changes))
    config._attn_implementation = "eager"
    model = getattr(transformers, head)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def to_torch(inputs: dict) -> dict:
    """The same inputs for PyTorch: int64, and channels before height and width."""
    tensors = {}
    for name, value in inputs.items():
        value = np.moveaxis(value, -1, -3) if name == "pixel_values" else value
        dtype = torch.long if value.dtype.kind == "i" else torch.float32
        tensors[name] = torch.tensor(np.ascontiguousarray(value), dtype=dtype)
    return tensors


def accepts(model, name: str) -> bool:
    """Whether the reference's forward takes an argument of that name."""
    return name in inspect.signature(model.forward).parameters

"""Makes the golden `torch.save` files of the tests: every element type, views that share a storage, both file formats.

Run with torch installed: `python tools/golden/checkpoints.py`. Writes tests/golden/checkpoints/.
"""

import json
from pathlib import Path

import numpy as np
import torch

OUT = Path(__file__).parents[2] / "tests" / "golden" / "checkpoints"


def state_dict() -> dict[str, torch.Tensor]:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8
    tensors = {
        "whole": base,
        "transposed": base.t(),
        "window": base[1:3, 2:5],
        "every_other": base[::2, 1::2],
        "parameter": torch.nn.Parameter(base.clone() - 3),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "expanded_once": torch.arange(5).expand(1, 5),
    }
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8):
        tensors[str(dtype).removeprefix("torch.")] = (base[:2] * 8 - 3).to(dtype)
    return tensors | {"uint8": torch.arange(9, dtype=torch.uint8), "bool": torch.tensor([True, False, True])}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    tensors = state_dict()
    torch.save(tensors, OUT / "zip.bin")
    torch.save(tensors, OUT / "legacy.bin", _use_new_zipfile_serialization=False)
    module = torch.nn.Linear(2, 3)
    torch.nn.init.ones_(module.weight)
    torch.nn.init.zeros_(module.bias)
    torch.save(module.state_dict(), OUT / "ordered_dict.bin")
    # NumPy has no bfloat16: the values here are exact in float32.
    arrays = {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
        for name, tensor in tensors.items()
    }
    np.savez(OUT / "expected.npz", **arrays)
    versions = {"torch": torch.__version__, "numpy": np.__version__, "made by": Path(__file__).name}
    (OUT / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()

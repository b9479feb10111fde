"""Makes tests/golden/lxmert.npz and lxmert_state_dicts.json: what transformers' LXMERT answers at tiny size.

The weights are not stored: `golden_tensor` makes each from its name, for the reference here and for tfvl in the test.
Run from the project's root, with torch and transformers installed: python tools/golden/lxmert.py
"""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.lxmert import HEADS, SIZES, TRAINED, lxmert_inputs, lxmert_labels  # noqa: E402
from support.reference import to_torch, torch, transformers  # noqa: E402
from support.vilt import golden_tensor  # noqa: E402


def main() -> None:
    arrays, state_dicts = {}, {}
    for head in HEADS:
        model = getattr(transformers, head)(transformers.LxmertConfig(**SIZES)).eval()
        state = {name: torch.tensor(golden_tensor(name, value.shape)) for name, value in model.state_dict().items()}
        tied = "cls.predictions.decoder.weight"
        if tied in state:
            state[tied] = state["lxmert.embeddings.word_embeddings.weight"]
        model.load_state_dict(state)
        state_dicts[head] = {name: list(value.shape) for name, value in state.items() if name != tied}
        inputs = lxmert_inputs() | (lxmert_labels(head) if head in TRAINED else {})
        base = head == "LxmertModel"
        with torch.no_grad():
            outputs = model(**to_torch(inputs), output_hidden_states=base, output_attentions=base)
        for name, value in outputs.items():
            for index, tensor in enumerate(value if isinstance(value, tuple) else [value]):
                arrays[f"{head}/{name}/{index}"] = tensor.numpy()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
    golden = ROOT / "tests" / "golden"
    np.savez_compressed(golden / "lxmert.npz", versions=np.array(json.dumps(versions)), **arrays)
    (golden / "lxmert_state_dicts.json").write_text(json.dumps(state_dicts, indent=1) + "\n")
    print(f"{len(arrays)} arrays of {len(state_dicts)} classes, {versions}")


if __name__ == "__main__":
    main()

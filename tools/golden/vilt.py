"""Makes tests/golden/vilt.npz and vilt_state_dicts.json: what transformers' ViLT answers at tiny size.

The weights are not stored: `golden_tensor` makes each from its name, for the reference here and for tfvl in the test.
Run from the project's root, with torch and transformers installed: python tools/golden/vilt.py
"""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.reference import to_torch, torch, transformers  # noqa: E402
from support.vilt import HEADS, SIZES, golden_tensor, vilt_inputs  # noqa: E402


def main() -> None:
    # Upstream shuffles patches and draws padding at random, which changes no result; here it takes them in order.
    torch.multinomial = lambda weights, n, replacement=False: torch.arange(n) % len(weights)
    arrays, state_dicts = {}, {}
    for head, make_labels in HEADS.items():
        config = transformers.ViltConfig(**SIZES)
        config._attn_implementation = "eager"
        model = getattr(transformers, head)(config).eval()
        state = {name: torch.tensor(golden_tensor(name, value.shape)) for name, value in model.state_dict().items()}
        tied = "mlm_score.decoder.weight"
        if tied in state:
            state[tied] = state["vilt.embeddings.text_embeddings.word_embeddings.weight"]
        model.load_state_dict(state)
        state_dicts[head] = {name: list(value.shape) for name, value in state.items() if name != tied}
        inputs = vilt_inputs(head)
        if make_labels:
            inputs["labels"] = make_labels(np.random.default_rng(1))
        with torch.no_grad():
            outputs = model(**to_torch(inputs), output_hidden_states=head == "ViltModel")
        for name, value in outputs.items():
            for index, tensor in enumerate(value if isinstance(value, tuple) else [value]):
                arrays[f"{head}/{name}/{index}"] = tensor.numpy()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
    golden = ROOT / "tests" / "golden"
    np.savez_compressed(golden / "vilt.npz", versions=np.array(json.dumps(versions)), **arrays)
    (golden / "vilt_state_dicts.json").write_text(json.dumps(state_dicts, indent=1) + "\n")
    print(f"{len(arrays)} arrays of {len(state_dicts)} classes, {versions}")


if __name__ == "__main__":
    main()

"""Makes tests/golden/visual_bert.npz and visual_bert_state_dicts.json: what transformers' VisualBERT answers.

The weights are not stored: `golden_tensor` makes each from its name, for the reference here and for tfvl in the test.
Run from the project's root, with torch and transformers installed: python tools/golden/visual_bert.py
"""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.reference import to_torch, torch, transformers  # noqa: E402
from support.vilt import golden_tensor  # noqa: E402
from support.visual_bert import HEADS, SIZES, labels_of, visual_bert_inputs  # noqa: E402

TIED = {
    "cls.predictions.decoder.weight": "visual_bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def main() -> None:
    arrays, state_dicts = {}, {}
    for head, make_labels in HEADS.items():
        config = transformers.VisualBertConfig(**SIZES, attn_implementation="eager")
        model = getattr(transformers, head)(config).eval()
        state = {name: torch.tensor(golden_tensor(name, value.shape)) for name, value in model.state_dict().items()}
        state |= {copy: state[own] for copy, own in TIED.items() if copy in state}
        model.load_state_dict(state)
        state_dicts[head] = {name: list(value.shape) for name, value in state.items() if name not in TIED}
        inputs = visual_bert_inputs(head) | (labels_of(head) if make_labels else {})
        if head == "VisualBertForMultipleChoice":  # upstream wants the alignments of all choices one below the other
            shape = inputs["image_text_alignment"].shape
            inputs["image_text_alignment"] = inputs["image_text_alignment"].reshape(-1, *shape[2:])
        with torch.no_grad():
            outputs = model(**to_torch(inputs), output_hidden_states=head == "VisualBertModel")
        for name, value in outputs.items():
            for index, tensor in enumerate(value if isinstance(value, tuple) else [value]):
                arrays[f"{head}/{name}/{index}"] = tensor.numpy()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
    golden = ROOT / "tests" / "golden"
    np.savez_compressed(golden / "visual_bert.npz", versions=np.array(json.dumps(versions)), **arrays)
    (golden / "visual_bert_state_dicts.json").write_text(json.dumps(state_dicts, indent=1) + "\n")
    print(f"{len(arrays)} arrays of {len(state_dicts)} classes, {versions}")


if __name__ == "__main__":
    main()

"""Makes tests/data/lxmert/tf_model.h5 and config.json: a tiny LXMERT as transformers 4.57 saved it from TensorFlow.

It needs the last transformers with TensorFlow classes, in an environment of its own:
    pip install "transformers==4.57.1" tensorflow tf-keras && python tools/golden/lxmert_h5.py

The weights are those of the golden files: `golden_tensor` makes each from the name that it has in a PyTorch state dict.
"""

import os
import re
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import numpy as np  # noqa: E402
import transformers  # noqa: E402
from support.lxmert import SIZES, lxmert_inputs  # noqa: E402
from support.vilt import golden_tensor  # noqa: E402


def main() -> None:
    model = transformers.TFLxmertForPreTraining(transformers.LxmertConfig(**SIZES))
    inputs = lxmert_inputs()
    del inputs["visual_attention_mask"]  # it takes one of the text's length only
    model(inputs)
    for variable in model.weights:
        stem, last = re.fullmatch(r"[^/]+/(.*)/(\w+):0", variable.name).groups()
        name = stem.replace("_._", "/").replace("/", ".")
        name += "." + {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}.get(last, last)
        shape = variable.shape[::-1] if last == "kernel" else variable.shape
        value = golden_tensor(name, shape)
        variable.assign(value.T if last == "kernel" else value)
    directory = ROOT / "tests" / "data" / "lxmert"
    model.save_pretrained(directory)
    outputs = model(inputs)
    fields = ("prediction_logits", "cross_relationship_score", "question_answering_score")
    np.savez_compressed(directory / "outputs.npz", **{name: outputs[name].numpy() for name in fields})
    print(f"{len(model.weights)} weights, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()

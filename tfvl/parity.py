"""`tfvl port --check`: the same random inputs through transformers and through tfvl, and the largest difference.

PyTorch runs in a process of its own and only there: tfvl never imports it.
"""

import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SEED = 0
# Upstream has no class with both of ViLT's pre-training heads; its masked LM is compared.
UPSTREAM_CLASSES = {"ViltForPreTraining": "ViltForMaskedLM"}
UPSTREAM_OUTPUTS = {"ViltForPreTraining": {"prediction_logits": "logits"}}

UPSTREAM_PROCESS = """
import sys
import numpy as np
import torch
import transformers

class_name, checkpoint, inputs, outputs = sys.argv[1:]
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
# Upstream shuffles the patches, which moves rows of the hidden states; here they stay in their order.
torch.multinomial = lambda weights, count: torch.arange(count)
model = getattr(transformers, class_name).from_pretrained(checkpoint, dtype=torch.float32).eval()
with torch.no_grad():
    result = model(**{name: torch.from_numpy(value) for name, value in np.load(inputs).items()})
np.savez(outputs, **{name: value.numpy() for name, value in result.items() if torch.is_tensor(value)})
"""


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference of an output, and the largest absolute value that upstream gave for it."""

    output: str
    difference: float
    largest: float


def require_torch() -> None:
    """Raises ValueError where torch or transformers is not installed."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f'--check compares with PyTorch, but {" and ".join(missing)} is not installed: pip install "tfvl[parity]"'
        )


def compare(model, checkpoint: Path) -> list[Difference]:
    """Runs `model` and upstream's model of `checkpoint` on one random image and text.

    Raises:
        ValueError: transformers cannot load or run the checkpoint; its last words are in the message.
    """
    name = type(model).__name__
    inputs = random_inputs(model.config, name == "ViltForImagesAndTextClassification")
    with tempfile.TemporaryDirectory() as scratch:
        files = [str(Path(scratch, file)) for file in ("inputs.npz", "outputs.npz")]
        channels_first = {"pixel_values": np.moveaxis(inputs["pixel_values"], -1, -3)}
        np.savez(
            files[0],
            **inputs | channels_first | {key: inputs[key].astype(np.int64) for key in inputs if key != "pixel_values"},
        )
        upstream = [sys.executable, "-c", UPSTREAM_PROCESS, UPSTREAM_CLASSES.get(name, name), str(checkpoint), *files]
        process = subprocess.run(upstream, capture_output=True, text=True, check=False)
        if process.returncode:
            words = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise ValueError(f"transformers cannot run {checkpoint}: {words[-1]}")
        with np.load(files[1]) as archive:
            expected = dict(archive)
    actual = {key: np.asarray(value, np.float32) for key, value in model(inputs, training=False).items()}
    renamed = UPSTREAM_OUTPUTS.get(name, {})
    return [
        Difference(key, float(np.abs(value - expected[theirs]).max()), float(np.abs(expected[theirs]).max()))
        for key, value in actual.items()
        if (theirs := renamed.get(key, key)) in expected
    ]


def random_inputs(config, several_images: bool = False) -> dict[str, np.ndarray]:
    """One text with padding and one image (or the number that the model takes), channels last."""
    random = np.random.default_rng(SEED)
    length = config.max_position_embeddings
    grid, patch = np.array(config.grid), np.array(config.patch_shape)
    images = (config.num_images,) if several_images else ()
    shape = (1, *images, *(grid * patch))
    return {
        "input_ids": random.integers(config.vocab_size, size=(1, length), dtype=np.int32),
        "token_type_ids": random.integers(config.type_vocab_size, size=(1, length), dtype=np.int32),
        "attention_mask": (np.arange(length) < max(1, length * 3 // 4)).astype(np.int32)[None],
        "pixel_values": random.uniform(-1, 1, (*shape, config.num_channels)).astype(np.float32),
        "pixel_mask": np.ones(shape, np.int32),
    }

"""`tfvl port --check`: the same random inputs through transformers and through tfvl, and the largest difference.

PyTorch runs in a process of its own and only there: tfvl never imports it. What a family's models take is in its own
`parity.py`: `inputs(model, random)`, and `UPSTREAM`, of classes that upstream has not got the one that is compared,
and which of its outputs stands for which.
"""

import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

SEED = 0
LENGTH, REGIONS = 40, 36  # of the random inputs: tokens of a text, at most, and regions of an image

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
    """Runs `model` and upstream's model of `checkpoint` on the same random inputs.

    Raises:
        ValueError: transformers cannot load or run the checkpoint; its last words are in the message.
    """
    name = type(model).__name__
    family = import_module(f"tfvl.{model.config.model_type}.parity")
    upstream_name, renamed = family.UPSTREAM.get(name, (name, {}))
    inputs = family.inputs(model, np.random.default_rng(SEED))
    with tempfile.TemporaryDirectory() as scratch:
        files = [str(Path(scratch, file)) for file in ("inputs.npz", "outputs.npz")]
        np.savez(files[0], **{key: as_upstream(key, value) for key, value in inputs.items()})
        upstream = [sys.executable, "-c", UPSTREAM_PROCESS, upstream_name, str(checkpoint), *files]
        process = subprocess.run(upstream, capture_output=True, text=True, check=False)
        if process.returncode:
            words = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise ValueError(f"transformers cannot run {checkpoint}: {words[-1]}")
        with np.load(files[1]) as archive:
            expected = dict(archive)
    return [
        difference(key, np.asarray(value, np.float32), expected[theirs])
        for key, value in model(inputs, training=False).items()
        if (theirs := renamed.get(key, key)) in expected
    ]


def difference(output: str, actual: np.ndarray, expected: np.ndarray) -> Difference:
    return Difference(output, float(np.abs(actual - expected).max()), float(np.abs(expected).max()))


def as_upstream(name: str, value: np.ndarray) -> np.ndarray:
    """An input as PyTorch's models take it: int64, and channels before height and width."""
    value = np.moveaxis(value, -1, -3) if name == "pixel_values" else value
    return value.astype(np.int64) if value.dtype.kind == "i" else value


def random_text(config, random, *choices: int) -> dict[str, np.ndarray]:
    """One text, or one row of them, with padding."""
    length = min(config.max_position_embeddings, LENGTH)
    shape = (1, *choices, length)
    words = (np.arange(length) < max(1, length * 3 // 4)).astype(np.int32)
    return {
        "input_ids": random.integers(config.vocab_size, size=shape, dtype=np.int32),
        "token_type_ids": random.integers(config.type_vocab_size, size=shape, dtype=np.int32),
        "attention_mask": np.broadcast_to(words, shape),
    }


def random_regions(random, size: int, *choices: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and mask of one image's regions, or of the same number for each choice; the last one is padding."""
    shape = (1, *choices, REGIONS)
    mask = np.broadcast_to((np.arange(REGIONS) < REGIONS - 1).astype(np.int32), shape)
    return random.normal(size=(*shape, size)).astype(np.float32), mask

"""`tfvl port --check`: runs transformers and tfvl on the same random inputs, and finds the largest differences.

PyTorch runs in a separate process, since tfvl never imports it. The head's row of `tfvl.answers.rows` and the model's
configuration say which inputs are drawn.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfvl.answers.rows import HEADS, Head, head_name
from tfvl.files.extras import require

SEED = 0
# Sizes of the random inputs: the most tokens of a text, regions of an image, choices and phrases.
LENGTH, REGIONS, CHOICES, PHRASES = 40, 36, 4, 5

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
    """Raises MissingExtraError if torch or transformers is not installed."""
    require("torch", "transformers", extra="parity", purpose="--check compares with PyTorch")


def compare(model, checkpoint: Path) -> list[Difference]:
    """Runs `model` and upstream's model of `checkpoint` on the same random inputs.

    Raises:
        ValueError: the model's head has no row, or transformers cannot load or run the checkpoint; the message has the
            last line that it wrote.
    """
    name = head_name(type(model))
    if name is None:
        raise ValueError(f"--check knows no inputs of {type(model).__name__}, which has no row in tfvl.answers.rows")
    head = HEADS[name]
    upstream_name, renamed = head.upstream
    inputs = random_inputs(head, model.config, np.random.default_rng(SEED))
    with tempfile.TemporaryDirectory() as scratch:
        files = [str(Path(scratch, file)) for file in ("inputs.npz", "outputs.npz")]
        np.savez(files[0], **{key: as_upstream(key, value) for key, value in inputs.items()})  # type: ignore[arg-type]  # an array is not called allow_pickle
        upstream = [sys.executable, "-c", UPSTREAM_PROCESS, upstream_name or name, str(checkpoint), *files]
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
    """Converts an input to what PyTorch's models take: int64, and channels before height and width."""
    value = np.moveaxis(value, -1, -3) if name == "pixel_values" else value
    return value.astype(np.int64) if value.dtype.kind == "i" else value


def random_inputs(head: Head, config, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Draws one row of inputs for a model with this head; texts and regions end with padding, images have none."""
    choices = (CHOICES,) if "choices" in head.reads else ()
    inputs = random_text(config, random, *choices)
    if "image" in head.reads:
        inputs |= random_image(config, random, *((config.num_images,) if head.several else ()))
    else:
        inputs |= random_regions(config, random, *choices)
    if "phrases" in head.reads:
        length = inputs["input_ids"].shape[-1]
        inputs["region_to_phrase_position"] = random.integers(length, size=(1, PHRASES), dtype=np.int32)
    return inputs


def random_text(config, random, *choices: int) -> dict[str, np.ndarray]:
    """Draws one text, or a row with several texts."""
    length = min(config.max_position_embeddings, LENGTH)
    shape = (1, *choices, length)
    words = (np.arange(length) < max(1, length * 3 // 4)).astype(np.int32)
    return {
        "input_ids": random.integers(config.vocab_size, size=shape, dtype=np.int32),
        "token_type_ids": random.integers(config.type_vocab_size, size=shape, dtype=np.int32),
        "attention_mask": np.broadcast_to(words, shape),
    }


def random_image(config, random, *images: int) -> dict[str, np.ndarray]:
    """Draws one image, or a row with several images, channels last."""
    shape = (1, *images, *(np.array(config.grid) * np.array(config.patch_shape)))
    pixels = random.uniform(-1, 1, (*shape, config.num_channels)).astype(np.float32)
    return {"pixel_values": pixels, "pixel_mask": np.ones(shape, np.int32)}


def random_regions(config, random, *choices: int) -> dict[str, np.ndarray]:
    """Draws the regions of one image, or as many for each choice; the last one is padding."""
    shape = (1, *choices, REGIONS)
    draw = {
        "features": lambda size: random.normal(size=(*shape, size)).astype(np.float32),
        "boxes": lambda size: random.uniform(size=(*shape, size)).astype(np.float32),
        "mask": lambda _: np.broadcast_to((np.arange(REGIONS) < REGIONS - 1).astype(np.int32), shape),
        "image": lambda _: random.integers(config.type_vocab_size, size=shape, dtype=np.int32),
    }
    return {each.name: draw[field](config.region_size(field)) for field, each in config.region_inputs.items()}

"""Tiny ViLT models with unequal sizes, and inputs with real padding, for parity and for every other test."""

import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

SIZES = {
    "vocab_size": 131,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "image_size": 48,
    "patch_size": 8,
    "max_position_embeddings": 13,
    "type_vocab_size": 3,
    "modality_type_vocab_size": 3,
    "layer_norm_eps": 1e-6,
    "num_channels": 3,
    "num_images": 2,
    "num_labels": 5,
}
BATCH, LENGTH, HEIGHT, WIDTH = 3, 7, 48, 64

# name of the class: what it takes as labels
HEADS = {
    "ViltForQuestionAnswering": lambda rng: rng.uniform(size=(BATCH, 5)).astype("float32"),
    "ViltForMaskedLM": lambda rng: np.where(
        rng.uniform(size=(BATCH, LENGTH)) < 0.4, -100, rng.integers(0, 131, (BATCH, LENGTH))
    ),
    "ViltForTokenClassification": lambda rng: np.where(
        rng.uniform(size=(BATCH, LENGTH)) < 0.4, -100, rng.integers(0, 5, (BATCH, LENGTH))
    ),
    "ViltForImagesAndTextClassification": lambda rng: rng.integers(0, 5, BATCH),
    "ViltForImageAndTextRetrieval": None,  # upstream does not train it
    "ViltModel": None,
}


def vilt_inputs(head: str = "ViltModel", seed: int = 0) -> dict[str, np.ndarray]:
    """Makes a batch of three texts of 7, 5, 6 words and images of 48×64, 48×40, 24×64 pixels, channels last."""
    rng = np.random.default_rng(seed)
    images = (SIZES["num_images"],) if head == "ViltForImagesAndTextClassification" else ()
    pixel_mask = np.zeros((BATCH, *images, HEIGHT, WIDTH), "int32")
    for row, (height, width) in enumerate(((48, 64), (48, 40), (24, 64))):
        pixel_mask[row, ..., :height, :width] = 1
    if images:
        pixel_mask[1, -1] = 1  # the second image of a pair has a size of its own
    pixel_values = rng.normal(size=(*pixel_mask.shape, SIZES["num_channels"])).astype("float32") * pixel_mask[..., None]
    return {
        "input_ids": rng.integers(0, SIZES["vocab_size"], (BATCH, LENGTH)).astype("int32"),
        "attention_mask": np.array([[1] * 7, [1] * 5 + [0] * 2, [1] * 6 + [0]], "int32"),
        "token_type_ids": rng.integers(0, 3, (BATCH, LENGTH)).astype("int32"),
        "pixel_values": pixel_values,
        "pixel_mask": pixel_mask,
    }


def real_positions(inputs) -> np.ndarray:
    """Returns which positions are not padding: bool (batch, length + patches + 1); an image's patches come first."""
    counts = inputs["pixel_mask"][:, ::8, ::8].sum((1, 2))
    image = np.arange(counts.max() + 1)[None] <= counts[:, None]
    return np.concatenate([inputs["attention_mask"] > 0, image], axis=1)


def randomise(model, seed: int = 0, stddev: float = 0.2) -> None:
    """Adds random values to every weight of a Keras model, also to norms and biases: fresh norms would hide swaps."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "float" in variable.dtype:
            variable.assign(variable.numpy() + rng.normal(0, stddev, variable.shape).astype("float32"))


def golden_tensor(name: str, shape) -> np.ndarray:
    """Returns the golden models' weight of this name in upstream's state dict: random, but always the same."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
    return (centre + 0.2 * rng.standard_normal(tuple(shape))).astype("float32")


def golden_checkpoint(config, shapes: dict, head: str, directory: Path) -> Path:
    """Writes a directory in the hub's layout, with golden weights under upstream's names; `shapes` are by head."""
    directory.mkdir(exist_ok=True)
    config.replace(architectures=(head,)).save_pretrained(directory)
    tensors = {name: golden_tensor(name, shape) for name, shape in shapes[head].items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory

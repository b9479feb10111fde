"""Random inputs of ViLT models, for the comparison with transformers (see `tfvl.cli.parity`)."""

import numpy as np

from tfvl.cli.parity import random_text

# Upstream has no class with both of ViLT's pre-training heads; its masked LM is compared.
UPSTREAM = {"ViltForPreTraining": ("ViltForMaskedLM", {"prediction_logits": "logits"})}


def inputs(model, random: np.random.Generator) -> dict[str, np.ndarray]:
    """A text and an image (or the number that the model takes), channels last."""
    config = model.config
    several = type(model).__name__ == "ViltForImagesAndTextClassification"
    sides = np.array(config.grid) * np.array(config.patch_shape)
    shape = (1, *((config.num_images,) if several else ()), *sides)
    pixels = random.uniform(-1, 1, (*shape, config.num_channels)).astype(np.float32)
    return random_text(config, random) | {"pixel_values": pixels, "pixel_mask": np.ones(shape, np.int32)}

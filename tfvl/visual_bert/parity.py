"""Random inputs of VisualBERT models, for the comparison with transformers (see `tfvl.cli.parity`)."""

import numpy as np

from tfvl.cli.parity import random_regions, random_text

UPSTREAM = {}  # upstream has all classes
CHOICES, PHRASES = 4, 5


def inputs(model, random: np.random.Generator) -> dict[str, np.ndarray]:
    """A text and regions; several of both for multiple choice; phrases for their alignment."""
    config, name = model.config, type(model).__name__
    choices = (CHOICES,) if name == "VisualBertForMultipleChoice" else ()
    text = random_text(config, random, *choices)
    features, mask = random_regions(random, config.visual_embedding_dim, *choices)
    types = random.integers(config.type_vocab_size, size=mask.shape, dtype=np.int32)
    inputs = text | {"visual_embeds": features, "visual_attention_mask": mask, "visual_token_type_ids": types}
    if name == "VisualBertForRegionToPhraseAlignment":
        places = random.integers(text["input_ids"].shape[-1], size=(1, PHRASES), dtype=np.int32)
        inputs["region_to_phrase_position"] = places
    return inputs

"""Random inputs of LXMERT models, for the comparison with transformers (see `tfvl.cli.parity`)."""

import numpy as np

from tfvl.cli.parity import random_regions, random_text

UPSTREAM = {}  # upstream has all classes


def inputs(model, random: np.random.Generator) -> dict[str, np.ndarray]:
    """A text, regions and where they are."""
    config = model.config
    features, mask = random_regions(random, config.visual_feat_dim)
    places = random.uniform(size=(*mask.shape, config.visual_pos_dim)).astype(np.float32)
    return random_text(config, random) | {
        "visual_feats": features,
        "visual_pos": places,
        "visual_attention_mask": mask,
    }

"""Tiny VisualBERT models with unequal sizes, and inputs with real padding, for parity and for every other test."""

import numpy as np

SIZES = {
    "vocab_size": 131,
    "hidden_size": 24,
    "visual_embedding_dim": 19,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": 13,
    "type_vocab_size": 3,
    "layer_norm_eps": 1e-6,
    "num_labels": 5,
}
BATCH, LENGTH, REGIONS, CHOICES, PHRASES = 3, 7, 5, 4, 6
TOTAL = LENGTH + REGIONS


def word_labels(rng):
    labels = {"labels": np.where(rng.uniform(size=(BATCH, TOTAL)) < 0.4, -100, rng.integers(0, 131, (BATCH, TOTAL)))}
    return labels | {"sentence_image_labels": rng.integers(0, 2, BATCH)}


def answer_targets(rng):
    targets = rng.uniform(size=(BATCH, 5)).astype("float32")
    return {"labels": targets * (targets > 0.3)}  # most answers of VQA have no share at all


def region_targets(rng):
    targets = rng.uniform(size=(BATCH, PHRASES, REGIONS)).astype("float32")
    targets *= regions_mask()[:, None] * (targets > 0.5)
    targets[0, -2:] = 0  # the phrases that `region_to_phrase_position` pads
    return {"labels": targets}


# name of the class: what it takes as labels
HEADS = {
    "VisualBertModel": None,
    "VisualBertForPreTraining": word_labels,
    "VisualBertForQuestionAnswering": answer_targets,
    "VisualBertForMultipleChoice": lambda rng: {"labels": rng.integers(0, CHOICES, BATCH)},
    "VisualBertForVisualReasoning": lambda rng: {"labels": rng.integers(0, 5, BATCH)},
    "VisualBertForRegionToPhraseAlignment": region_targets,
}
TRAINED = [head for head, labels in HEADS.items() if labels]


def regions_mask() -> np.ndarray:
    return np.array([[1] * 5, [1] * 3 + [0] * 2, [1] * 4 + [0]], "int32")


def visual_bert_inputs(head: str = "VisualBertModel", seed: int = 0) -> dict[str, np.ndarray]:
    """Makes a batch of three texts of 7, 5, 6 words, images of 5, 3, 4 regions; alignments of 8 regions to 3 words."""
    rng = np.random.default_rng(seed)
    choices = (CHOICES,) if head == "VisualBertForMultipleChoice" else ()

    def ints(limit, *shape):
        return rng.integers(0, limit, (BATCH, *choices, *shape)).astype("int32")

    words = np.array([[1] * 7, [1] * 5 + [0] * 2, [1] * 6 + [0]], "int32")
    alignment = ints(LENGTH + 1, REGIONS + 3, 3) - 1
    alignment[0, ..., 0, :] = -1  # a region without words
    inputs = {
        "input_ids": ints(SIZES["vocab_size"], LENGTH),
        "attention_mask": per_choice(words, choices),
        "token_type_ids": ints(3, LENGTH),
        "position_ids": ints(13, LENGTH),
        "visual_embeds": rng.normal(size=(BATCH, *choices, REGIONS, SIZES["visual_embedding_dim"])).astype("float32"),
        "visual_attention_mask": per_choice(regions_mask(), choices),
        "visual_token_type_ids": ints(3, REGIONS),
        "image_text_alignment": alignment,
    }
    if head == "VisualBertForRegionToPhraseAlignment":
        inputs["region_to_phrase_position"] = ints(TOTAL, PHRASES)
        inputs["region_to_phrase_position"][0, -2:] = -1
    return inputs


def per_choice(mask, choices):
    return np.repeat(mask[:, None], *choices, axis=1) if choices else mask


def labels_of(head: str, seed: int = 1) -> dict[str, np.ndarray]:
    return HEADS[head](np.random.default_rng(seed))

"""Tiny LXMERT models with unequal sizes, and inputs with real padding, for parity and for every other test."""

import numpy as np

SIZES = {
    "vocab_size": 131,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_qa_labels": 11,
    "num_object_labels": 9,
    "num_attr_labels": 6,
    "intermediate_size": 37,
    "max_position_embeddings": 13,
    "type_vocab_size": 3,
    "l_layers": 3,
    "x_layers": 2,
    "r_layers": 4,
    "visual_feat_dim": 19,
    "visual_pos_dim": 5,
    "visual_loss_normalizer": 2.5,
}
BATCH, LENGTH, REGIONS = 3, 7, 5
HEADS = ("LxmertModel", "LxmertForPreTraining", "LxmertForQuestionAnswering")
TRAINED = HEADS[1:]


def lxmert_inputs(seed: int = 0) -> dict[str, np.ndarray]:
    """Makes a batch of three texts of 7, 5, 6 words and images of 4, 5, 3 regions, in the order of the arguments."""
    rng = np.random.default_rng(seed)
    return {
        "input_ids": rng.integers(0, SIZES["vocab_size"], (BATCH, LENGTH)).astype("int32"),
        "visual_feats": rng.normal(size=(BATCH, REGIONS, SIZES["visual_feat_dim"])).astype("float32"),
        "visual_pos": rng.uniform(size=(BATCH, REGIONS, SIZES["visual_pos_dim"])).astype("float32"),
        "attention_mask": np.array([[1] * 7, [1] * 5 + [0] * 2, [1] * 6 + [0]], "int32"),
        "visual_attention_mask": np.array([[1] * 4 + [0], [1] * 5, [1] * 3 + [0] * 2], "int32"),
        "token_type_ids": rng.integers(0, 3, (BATCH, LENGTH)).astype("int32"),
    }


def lxmert_labels(head: str, seed: int = 1) -> dict:
    """Makes every label that the class takes, some of them -100, with a confidence for each region."""
    rng = np.random.default_rng(seed)
    if head == "LxmertForQuestionAnswering":
        return {"labels": np.array([3, 0, 10], "int32")}

    def ignoring(shape, classes):
        return np.where(rng.uniform(size=shape) < 0.4, -100, rng.integers(0, classes, shape)).astype("int32")

    def confidence():
        return rng.uniform(size=(BATCH, REGIONS)).astype("float32")

    features = 2 * rng.normal(size=(BATCH, REGIONS, SIZES["visual_feat_dim"])).astype("float32")
    return {
        "labels": ignoring((BATCH, LENGTH), SIZES["vocab_size"]),
        "obj_labels": {
            "obj": (ignoring((BATCH, REGIONS), SIZES["num_object_labels"]), confidence()),
            "attr": (ignoring((BATCH, REGIONS), SIZES["num_attr_labels"]), confidence()),
            "feat": (features, confidence()),
        },
        "matched_label": np.array([1, 0, -100], "int32"),
        "ans": np.array([7, -100, 2], "int32"),
    }

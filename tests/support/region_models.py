"""Tiny VisualBERT and LXMERT checkpoints with random weights, and regions for them."""

from pathlib import Path

import keras
import numpy as np

import tfvl
from support.checkpoint import LABELS, VOCABULARY

FEATURE_SIZE = 19
VISUAL_BERT_SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 12,
    "visual_embedding_dim": FEATURE_SIZE,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 13,
    "initializer_range": 0.5,  # so that other inputs give answers that differ in the decimals that are shown
    "id2label": LABELS,
}
LXMERT_SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 12,
    "visual_feat_dim": FEATURE_SIZE,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 13,
    "l_layers": 2,
    "x_layers": 1,
    "r_layers": 2,
    "num_qa_labels": len(LABELS),
    "num_object_labels": 7,
    "num_attr_labels": 5,
    "initializer_range": 0.5,
    "id2label": LABELS,
}


def tiny_region_model(class_name: str, **config) -> keras.Model:
    """Makes a tiny model of either family; `config` replaces sizes."""
    keras.utils.set_random_seed(0)
    model_class = getattr(tfvl, class_name)
    sizes = LXMERT_SIZES if class_name.startswith("Lxmert") else VISUAL_BERT_SIZES
    return model_class(model_class.config_class(**sizes | config))


def tiny_region_processor(family: str) -> "tfvl.VisualBertProcessor | tfvl.LxmertProcessor":
    """Makes the processor of "VisualBert" or "Lxmert"."""
    return getattr(tfvl, f"{family}Processor")(tfvl.BertTokenizer(VOCABULARY, model_max_length=13), FEATURE_SIZE)


def save_tiny_region_model(directory: Path, class_name: str, **config) -> Path:
    """Writes config.json, model.safetensors and the tokenizer's files; returns the directory."""
    tiny_region_model(class_name, **config).save_pretrained(directory)
    tiny_region_processor("Lxmert" if class_name.startswith("Lxmert") else "VisualBert").save_pretrained(directory)
    return directory


def some_regions(count: int, seed: int = 0, size: int = FEATURE_SIZE, boxes: bool = True) -> "tfvl.Regions":
    """Makes regions with distinct random features and boxes."""
    rng = np.random.default_rng([seed, count])
    corners = np.sort(rng.uniform(size=(count, 2, 2)), axis=1).reshape(count, 4)  # x1, y1, x2, y2
    return tfvl.Regions(rng.normal(size=(count, size)), corners if boxes else None, image_id=f"image-{seed}")

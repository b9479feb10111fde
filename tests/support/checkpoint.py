"""Tiny checkpoints with random weights, written in the hub's layout by tfvl itself."""

from pathlib import Path

import keras

import tfvl

WORDS = "a the is red blue circle square left of what color how many ##s ##ing ? . , !".split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
LABELS = {0: "red", 1: "blue", 2: "two"}
SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 11,
    "image_size": 32,
    "patch_size": 8,
}


def tiny_processor() -> "tfvl.ViltProcessor":
    image_processor = tfvl.ViltImageProcessor(size=32, size_divisor=8)
    return tfvl.ViltProcessor(image_processor, tfvl.BertTokenizer(VOCABULARY))


def tiny_model(class_name: str = "ViltForQuestionAnswering", **config) -> keras.Model:
    keras.utils.set_random_seed(0)
    return getattr(tfvl, class_name)(tfvl.ViltConfig(**SIZES | {"id2label": LABELS} | config))


def save_tiny(directory: Path, class_name: str = "ViltForQuestionAnswering", **config) -> Path:
    """Writes config.json, model.safetensors and the processor's files; returns the directory."""
    tiny_model(class_name, **config).save_pretrained(directory)
    tiny_processor().save_pretrained(directory)
    return directory

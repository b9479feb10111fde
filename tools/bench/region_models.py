"""Compares VisualBERT and LXMERT with transformers at base size (random weights), side by side in one run.

From a question and 36 regions of 2048 features to the answer: the exported SavedModel against transformers' tokenizer
and model. Run from the project's root with the extra `parity` installed and nothing else running:

    python tools/bench/region_models.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
import typer
from rich.console import Console
from rich.table import Table
from vilt import QUESTION, ROOT, compare  # first: it imports torch before TensorFlow

REGIONS, FEATURES, ANSWERS = 36, 2048, 3129
LABELS = {index: f"answer {index}" for index in range(ANSWERS)}
# By name: the model class, its configuration, the name of its scores, and its inputs' names of features and boxes.
MODELS = {
    "VisualBERT": (
        "VisualBertForQuestionAnswering",
        transformers.VisualBertConfig(visual_embedding_dim=FEATURES, id2label=LABELS),
        "logits",
        ("visual_embeds",),
    ),
    "LXMERT": (
        "LxmertForQuestionAnswering",
        transformers.LxmertConfig(num_qa_labels=ANSWERS, id2label=LABELS),
        "question_answering_score",
        ("visual_feats", "visual_pos"),
    ),
}


def make_checkpoint(directory: Path, name: str) -> None:
    """Writes a base-size checkpoint with its tokenizer, in the hub's layout."""
    class_name, config, *_ = MODELS[name]
    getattr(transformers, class_name)(config).save_pretrained(directory)
    transformers.BertTokenizer(str(ROOT / "tfvl/bundled/bert-base-uncased/vocab.txt")).save_pretrained(directory)


class Reference:
    """The tokenizer and the model of transformers."""

    def __init__(self, directory: Path, name: str):
        class_name, _, self.scores, self.names = MODELS[name]
        self.tokenizer = transformers.BertTokenizer.from_pretrained(directory)
        self.model = getattr(transformers, class_name).from_pretrained(directory).eval()

    def __call__(self, texts: list[str], *regions: np.ndarray) -> list[str]:
        inputs = dict(self.tokenizer(texts, padding=True, return_tensors="pt"))
        inputs |= {name: torch.from_numpy(value) for name, value in zip(self.names, regions, strict=True)}
        with torch.inference_mode():
            best = self.model(**inputs)[self.scores].argmax(-1)
        return [LABELS[int(index)] for index in best]


class Artefact:
    """The SavedModel that tfvl exports, loaded again."""

    def __init__(self, checkpoint: Path, directory: Path):
        import tensorflow as tf

        import tfvl

        model, processor = tfvl.auto.load(checkpoint)
        tfvl.export.saved_model(model, processor, directory)
        del model
        self.tf, self.serve = tf, tf.saved_model.load(str(directory)).signatures["serving_default"]

    def __call__(self, texts: list[str], *regions: np.ndarray) -> list[str]:
        inputs = zip(("regions", "boxes"), map(self.tf.constant, regions), strict=False)
        answers = self.serve(text=self.tf.constant(texts), **dict(inputs))["answers"]
        return [row[0].decode() for row in answers.numpy()]


def inputs_of(name: str, batch: int) -> tuple:
    """Returns questions, features ≥ 0, as after a detector's last ReLU, and boxes if the model takes them."""
    generator = np.random.default_rng(0)
    features = np.maximum(generator.normal(size=(batch, REGIONS, FEATURES)), 0).astype(np.float32)
    corners = np.sort(generator.uniform(size=(batch, REGIONS, 2, 2)), axis=2).astype(np.float32)
    regions = (features, corners.reshape(batch, REGIONS, 4))
    return [QUESTION] * batch, *regions[: len(MODELS[name][3])]


def main(repeats: int = 12) -> None:
    """Prints the table."""
    console = Console(width=100)
    title = "Question and regions to answer, median of one run"
    table = Table("", "batch", "transformers", "SavedModel", "ratio", title=title)
    for name in MODELS:
        with tempfile.TemporaryDirectory() as place:
            checkpoint = Path(place, "checkpoint")
            make_checkpoint(checkpoint, name)
            reference, artefact = Reference(checkpoint, name), Artefact(checkpoint, Path(place, "exported", "1"))
        for batch in (1, 8):
            theirs, ours = compare(reference, artefact, inputs_of(name, batch), repeats)
            table.add_row(name, str(batch), f"{theirs * 1e3:.0f} ms", f"{ours * 1e3:.0f} ms", f"{theirs / ours:.2f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)

"""Writes the card of a model on the hub, its README.md: metadata by `huggingface_hub`, and a text."""

from collections.abc import Sequence
from pathlib import Path

from tfvl.answers.rows import HEADS, head_name
from tfvl.files.whole import write_text

NAME = "README.md"
TAGS = {"labels": "visual-question-answering", "masks": "fill-mask", "tokens": "token-classification"}  # by kind


def pipeline_tag(model_class: type) -> str | None:
    """Returns the hub's name for the task of a class, or None if the hub has none."""
    head = HEADS.get(head_name(model_class) or "")
    return None if head is None or head.several else TAGS.get(head.kind)


def card(model, title: str, paragraphs: Sequence[str] = (), results: Sequence = (), **metadata) -> str:
    """Returns the text of a card.

    Args:
        model: the model.
        title: the heading.
        paragraphs: the text after the lines of Python that load the model.
        results: `huggingface_hub.EvalResult`s.
        **metadata: fields of `huggingface_hub.ModelCardData`: `license`, `base_model`, `datasets`, …; None is left out.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name="tfvl",
        tags=[model.config.model_type, "tfvl", "keras"],
        pipeline_tag=pipeline_tag(type(model)),
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=title if results else None,
        eval_results=list(results) or None,
        **{name: value for name, value in metadata.items() if value},
    )
    loading = [
        "```python",
        "import tfvl",
        "",
        'model, processor = tfvl.auto.load("DIRECTORY OR USER/NAME")  # transformers loads it too',
        "```",
    ]
    return "\n".join(["---", data.to_yaml(), "---", f"# {title}", "", *loading, "", *paragraphs, ""])


def write_card(model, directory: Path) -> None:
    """Writes a card if there is none."""
    if not (directory / NAME).exists():
        name = type(model).__name__
        weights = f"A `{name}` of {model.count_params():,} weights, written by tfvl."
        write_text(directory / NAME, card(model, name, [weights]))

"""How one paper's own weight files are laid out: what the tables of the families beside this module are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Sizes of a BERT, by the field of the configuration: a tensor under transformers' name, and one of its axes.
BERT_SIZES = {
    "vocab_size": ("embeddings.word_embeddings.weight", 0),
    "hidden_size": ("embeddings.word_embeddings.weight", 1),
    "max_position_embeddings": ("embeddings.position_embeddings.weight", 0),
    "type_vocab_size": ("embeddings.token_type_embeddings.weight", 0),
    "intermediate_size": ("encoder.layer.0.intermediate.dense.weight", 0),
}

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Original:
    """The layout of the files that one paper's authors published.

    Attributes:
        model_type: the family, as in `config.json`.
        prefix: what stands before the base model's names in transformers' state dicts, such as `vilt.`.
        marks: names of which such a file has one, and no other file any.
        renames: beginning of a name to what stands there in transformers' state dicts; `{i}` is a number. Several
            beginnings: the tensor is cut along its first axis into as many. None: no model here reads it. The first
            row that fits counts; names that no row fits stay as they are.
        sizes: field of the configuration to a tensor, under transformers' name without `prefix`, and one of its axes;
            "num_answers" stands for the field of a family that counts answers apart from labels.
        layers: field of the configuration to the name, with `{i}`, of a tensor that each layer has.
        more: from the shapes by name, the other fields: `architectures` above all.
    """

    model_type: str
    prefix: str
    marks: tuple[str, ...]
    renames: Mapping[str, str | tuple[str, ...] | None]
    sizes: Mapping[str, tuple[str, int]]
    layers: Mapping[str, str]
    more: Callable[[Shapes], dict]


def size_of(shapes: Shapes, name: str, axis: int) -> int | None:
    """Returns the size of one axis of a tensor; None where there is no such tensor or axis."""
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else None

"""`Original`, the layout of the weight files that a paper's authors published; each family's module has one."""

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
    """The layout of the files that a paper's authors published.

    Attributes:
        model_type: the family, as in `config.json`.
        prefix: begins the base model's names in transformers' state dicts, such as `vilt.`.
        marks: names by which such a file is recognised: it has one of them, other files have none.
        renames: for the beginning of a name, the beginning that transformers' state dicts have; `{i}` is a number. If
            there are several, the tensor is split along its first axis, one part for each; None: no model here reads
            the tensor. The first row that matches counts; names without a matching row stay as they are.
        sizes: for each field of the configuration, the tensor (transformers' name without `prefix`) and the axis whose
            size it is; "num_answers" is the field of a family that counts answers apart from labels.
        layers: for each field that counts layers, the name, with `{i}`, of a tensor that each layer has.
        more: a function of the shapes by name that returns the other fields, above all `architectures`.
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

"""What the signatures of a model take: what its head reads, by the table of heads, each part as a `Part`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfvl.answers.rows import Head, head_of
from tfvl.export.images import image
from tfvl.export.parts import ModelInput, spec
from tfvl.export.regions import regions
from tfvl.export.rows import first_problem
from tfvl.export.texts import TEXT, choices, phrases, text

# By what a head reads beside the text; boxes come with the regions.
PARTS = {"image": image, "regions": regions, "choices": choices, "phrases": phrases}


@dataclass(frozen=True)
class Inputs:
    """What the signatures of a model take; attributes as those of `Part`.

    Attributes:
        raw: name to spec of the inputs of `serving_default`; `text` is one of them.
        axes: the inputs of `tensors`, which are the model's.
        encode: from a dict as `raw` says to a dict as `tensors` says and the status (N,) of the rows.
        example: one row of `raw`.
    """

    raw: dict[str, tf.TensorSpec]
    axes: dict[str, ModelInput]
    encode: Callable[[dict], tuple[dict, tf.Tensor]]
    example: dict[str, np.ndarray]

    @property
    def tensors(self) -> dict[str, tf.TensorSpec]:
        """Name to spec of the inputs of `tensors`."""
        return {
            name: spec(dtype, name, *(None if isinstance(axis, str) else axis for axis in axes))
            for name, (dtype, axes) in self.axes.items()
        }


def inputs_of(model, processor) -> Inputs:
    """What the signatures of `model` take. Raises ValueError for a model that cannot be exported."""
    head = head_of_model(model)
    visual, *more = (PARTS[name](head, model.config, processor) for name in head.reads if name in PARTS)
    parts = (visual, text(head, model.config, processor), *more)

    def encode(raw: dict) -> tuple[dict, tf.Tensor]:
        encoded, statuses = {}, []
        for part in parts:
            tensors, *found = part.encode(raw, encoded)
            encoded |= tensors
            statuses += found
        return encoded, first_problem(*statuses)

    raw, axes, example = {}, dict.fromkeys(TEXT), {}
    for part in parts:
        raw |= part.raw
        axes |= part.tensors
        example |= part.example
    return Inputs(raw, axes, encode, example)


def head_of_model(model) -> Head:
    """The row of the nearest base class that has one. Raises ValueError where there is none."""
    names = [base.__name__ for base in type(model).__mro__]
    head = head_of(names)
    if head is None:
        family = [each.__name__ for each in type(model).family() if head_of([each.__name__])]
        raise ValueError(f"{names[0]} cannot be exported; of its family these can: {', '.join(family) or 'none'}")
    return head

"""The inputs of a model's signatures, which follow from its head's row in the table of heads."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from tfvl.answers.rows import HEADS, Head, head_name
from tfvl.export.images import image
from tfvl.export.parts import ModelInput, spec
from tfvl.export.regions import regions
from tfvl.export.rows import first_problem
from tfvl.export.texts import TEXT, choices, phrases, text
from tfvl.modeling.base import PreTrainedModel
from tfvl.processors.base import Processor

# The functions that describe what a head reads beside the text; boxes belong to the regions.
PARTS = {"image": image, "regions": regions, "choices": choices, "phrases": phrases}


@dataclass(frozen=True)
class Inputs:
    """The inputs of a model's signatures, joined from those of each `Part`.

    Attributes:
        raw: the specs of the inputs of `serving_default` by name; `text` is one of them.
        axes: the inputs of `tensors`, which are the model's, by name.
        encode: a function from a dict of raw inputs to a dict of the model's inputs, maybe with `REGION_BOXES`, and the
            status (N,) of the rows.
        example: one row of raw inputs.
    """

    raw: dict[str, tf.TensorSpec]
    axes: dict[str, ModelInput]
    encode: Callable[[dict], tuple[dict, tf.Tensor]]
    example: dict[str, np.ndarray]

    @property
    def tensors(self) -> dict[str, tf.TensorSpec]:
        """The specs of the inputs of the signature `tensors`, by name."""
        return {
            name: spec(dtype, name, *(None if isinstance(axis, str) else axis for axis in axes))
            for name, (dtype, axes) in self.axes.items()
        }


def inputs_of(model, processor) -> Inputs:
    """Returns the inputs of the signatures of `model`. Raises ValueError for a model that cannot be exported."""
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


def check_exportable(function: str, model, processor) -> None:
    """Raises ValueError, which names the export `function`, for arguments or a Keras backend that it cannot export."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"the Keras backend is {keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow to export")
    if not isinstance(model, PreTrainedModel) or not isinstance(processor, Processor):
        got = f"{type(model).__name__} and {type(processor).__name__}"
        raise ValueError(f"{function} takes a model of tfvl and its processor, got {got}")


def head_of_model(model) -> Head:
    """Returns the row of the model's nearest base class that has one. Raises ValueError if there is none."""
    name = head_name(type(model))
    if name is None:
        family = ", ".join(each.__name__ for each in type(model).family() if each.__name__ in HEADS)
        raise ValueError(f"{type(model).__name__} cannot be exported; of its family these can: {family or 'none'}")
    return HEADS[name]

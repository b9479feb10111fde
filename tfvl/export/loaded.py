"""Loads an exported model into this process and calls its signature `serving_default` with arrays."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvl.export.op_check import outside, variables
from tfvl.export.op_check.check import read_meta_graph
from tfvl.preprocessing.requests import Takes
from tfvl.preprocessing.text.tf_text import tensorflow_text  # noqa: F401  # registers the ops of artefacts
from tfvl.serving.server import kernels


class LoadedModel:
    """The `serving_default` signature of a SavedModel that tfvl exported.

    Attributes:
        inputs: the specs of its inputs by name.
        takes: the inputs that go with a text.

    Raises:
        ValueError: the directory has no such signature, or its model cannot be loaded.
    """

    def __init__(self, directory: str):
        if not Path(directory, "saved_model.pb").is_file():
            raise ValueError(f"{directory} holds no saved_model.pb; give the directory of an exported model.")
        meta_graph = read_meta_graph(Path(directory))
        if damage := [
            *variables.problems(Path(directory), meta_graph),
            *kernels.problems(meta_graph.graph_def),
            *outside.assets(Path(directory), meta_graph),
        ]:
            raise ValueError(f"{directory} cannot be loaded: {'; '.join(damage)}")
        if reached := outside.reached(meta_graph):
            warnings.warn(
                f"{directory} is a program that reaches {outside.sentence(reached)}; run it only if you trust whoever "
                "made it",
                stacklevel=3,
            )
        try:
            self._loaded = tf.saved_model.load(directory)  # kept: the signature does not keep its variables
        except Exception as error:  # whatever a damaged graph provokes
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{directory} cannot be loaded as a SavedModel, or is damaged ({reason})") from None
        if "serving_default" not in self._loaded.signatures:
            raise ValueError(f"{directory} has no signature serving_default; export the model without --signatures.")
        self._serve = self._loaded.signatures["serving_default"]
        self.inputs: Mapping[str, tf.TensorSpec] = self._serve.structured_input_signature[1]
        self.takes = Takes.of_signature(self.inputs)

    @property
    def signatures(self) -> dict[str, dict[str, Mapping[str, tf.TensorSpec]]]:
        """The inputs and outputs of all signatures, each a dict of specs by name."""
        return {
            name: {"inputs": function.structured_input_signature[1], "outputs": function.structured_outputs}
            for name, function in self._loaded.signatures.items()
        }

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of its outputs."""
        return tuple(self._serve.structured_outputs)

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the signature on inputs by name, as `requests.arrays` makes them; strings in the outputs are bytes."""
        outputs = self._serve(**{name: tf.constant(arrays[name], spec.dtype) for name, spec in self.inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

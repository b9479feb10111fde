"""The signatures of a served `.tflite` file: the SavedModel's, with the same names, types and shapes.

Here they are made from the head's row in `tfvl.answers.rows`; in the SavedModel, `tfvl.export.signatures` traces them.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from tfvl.answers.rows import FLOAT, STATUS, STRING, Output
from tfvl.lite import Runner
from tfvl.lite.inputs import FEATURES
from tfvl.serving.server.servable import DEFAULT_SIGNATURE

METHOD = "tensorflow/serving/predict"
PIXEL_INPUTS = ("pixel_values", "pixel_mask")


def outputs_of(runner: Runner) -> dict[str, Output]:
    """Returns the outputs of `serving_default`, by name. Raises ValueError for a model that has nothing to answer."""
    there = ("", *runner.file.description["outputs"])
    found = {name: output for name, output in runner.head.outputs.items() if output.needs in there}
    if found.keys() == STATUS.keys():
        raise ValueError(f"{runner.file.path}: the model was made without a pooler and has nothing to answer")
    return found


def axis_sizes(runner: Runner) -> dict[str, int]:
    """Returns the sizes of axes that do not depend on the request, and the largest number of answers to a row."""
    words = runner.words
    return {
        "labels": min(words.top_k, len(words.labels)),
        "words": min(words.top_k, words.vocabulary_size),
        "top_k": words.top_k,
        "hidden": runner.file.config.get("hidden_size", -1),
    }


def default_signature(runner: Runner) -> SignatureDef:
    """Returns the signature `serving_default`, from raw requests to answers."""
    sizes = axis_sizes(runner)
    outputs = {
        name: (each.dtype, [axis if isinstance(axis, int) else sizes.get(axis, -1) for axis in each.axes])
        for name, each in outputs_of(runner).items()
    }
    return signature(DEFAULT_SIGNATURE, raw_inputs(runner), outputs)


def raw_inputs(runner: Runner) -> dict[str, tuple[str, list[int]]]:
    """Returns the dtype and shape, without the axis of rows, of each input of `serving_default`."""
    several = [] if runner.takes.images is None else [runner.takes.images]
    every = {
        "image": (STRING, several),
        "regions": (FLOAT, [*several, -1, -1]),
        "boxes": (FLOAT, [-1, 4]),
        "choices": (STRING, [-1]),
        "phrases": (STRING, [-1]),
    }
    return {"text": (STRING, [])} | {name: every[name] for name in runner.head.reads}


def example(runner: Runner) -> dict[str, np.ndarray]:
    """Returns one row of example values for `raw_inputs`."""
    file = BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    features = next((shape[-1] for name, shape in runner.inputs.items() if name in FEATURES), 0)
    values: dict[str, Any] = {"image": file.getvalue(), "regions": np.ones(features), "boxes": np.array([0, 0, 1, 1])}
    found = {}
    for name, (dtype, shape) in raw_inputs(runner).items():
        sizes, value = [1, *map(abs, shape)], values.get(name, runner.words.mask_token.encode())
        if dtype == STRING:
            found[name] = np.full(sizes, value, object)
        else:
            found[name] = np.broadcast_to(value, [*sizes[:-1], len(value)]).astype(np.float32)
    return found


def bare_signature(runner: Runner) -> SignatureDef:
    """Returns the signature of the bare model, in the file's sizes, but with any number of rows.

    Runs the model to find its outputs, which also warms it up. Raises ValueError for a model that cannot run.
    """
    small = _run_on_blanks(runner, 4)
    large = _run_on_blanks(runner, 8) if runner.resizable else small  # a size that differs between the two is not fixed
    outputs = {
        name: (FLOAT, [size if size == other else -1 for size, other in zip(value, large[name], strict=True)])
        for name, value in small.items()
    }
    inputs = {name: (runner.dtype(name), shape[1:]) for name, shape in runner.inputs.items()}
    return signature(runner.file.flavour, inputs, outputs)


def _run_on_blanks(runner: Runner, scale: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the outputs, without the axis of rows; `scale` sets sizes that are not fixed."""
    patch = runner.file.config.get("patch_size", 1)
    inputs = {}
    for name, shape in runner.inputs.items():
        unknown = scale * (patch if name in PIXEL_INPUTS else 1)
        sizes = [1 if shape[0] == -1 else shape[0], *(unknown if size == -1 else size for size in shape[1:])]
        inputs[name] = np.ones(sizes, runner.dtype(name))
    return {name: value.shape[1:] for name, value in runner.run(inputs).items()}


def signature(
    name: str, inputs: Mapping[str, tuple[Any, Sequence[int]]], outputs: Mapping[str, tuple[Any, Sequence[int]]]
) -> SignatureDef:
    """Makes a signature from the dtype (TensorFlow's, NumPy's or a name) and the shape without rows of each tensor."""
    found = SignatureDef(method_name=METHOD)
    for kind, into, tensors in (("", found.inputs, inputs), ("output_", found.outputs, outputs)):
        for key, (dtype, sizes) in tensors.items():
            shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in (-1, *sizes)])
            into[key].CopyFrom(
                TensorInfo(name=f"{name}_{kind}{key}:0", dtype=tf.as_dtype(dtype).as_datatype_enum, tensor_shape=shape)
            )
    return found

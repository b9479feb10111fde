"""What a `.tflite` file takes and gives when it is served: the names, types and shapes of the SavedModel's signatures.

The table `OUTPUTS` stands beside `ANSWERS` of `tfvl.lite.answers`; in the SavedModel both come from the graph of
`tfvl.export.signatures`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from tfvl.lite import Runner
from tfvl.lite.inputs import FEATURES
from tfvl.lite.preparer import PAIRS
from tfvl.serving.server.servable import DEFAULT_SIGNATURE

METHOD = "tensorflow/serving/predict"
PIXEL_INPUTS = ("pixel_values", "pixel_mask")


@dataclass(frozen=True)
class Output:
    """Of `serving_default`.

    Attributes:
        dtype: of its values.
        axes: behind the rows: a size, or what each is named in `axis_sizes` or counts in a request.
        needs: an output of the model without which there is none, e.g. of a task that the configuration leaves out.
        ids_of: the axis of the request whose places the values are.
    """

    dtype: tf.DType
    axes: tuple[str | int, ...] = ()
    needs: str = ""
    ids_of: str = ""

    @property
    def blank(self) -> bytes | int:
        """What stands for padding, and in rows with a status."""
        return b"" if self.dtype == tf.string else 0


STRING, FLOAT, INT = tf.string, tf.float32, tf.int32
STATUS = {"status": Output(STRING)}
BEST = {"answers": Output(STRING, ("labels",)), "scores": Output(FLOAT, ("labels",))}
POOLED = {name: Output(FLOAT, ("hidden",), needs=name) for name in ("pooler_output", "pooled_output")}
MASKS = {
    "answers": Output(STRING, ("words",)),
    "scores": Output(FLOAT, ("words",)),
    "filled": Output(STRING),
    "candidates": Output(STRING, ("masks", "words")),
    "candidate_scores": Output(FLOAT, ("masks", "words")),
}
PRETRAINING = MASKS | {"match": Output(FLOAT)}
OF_OBJECTS, OF_ATTRIBUTES = "visual_prediction_scores_obj", "visual_prediction_scores_attr"
LXMERT_PRETRAINING = PRETRAINING | {
    "question_answers": Output(STRING, ("labels",), needs="question_answering_score"),
    "question_scores": Output(FLOAT, ("labels",), needs="question_answering_score"),
    "object_ids": Output(INT, ("regions",), needs=OF_OBJECTS),
    "object_scores": Output(FLOAT, ("regions",), needs=OF_OBJECTS),
    "attribute_ids": Output(INT, ("regions",), needs=OF_ATTRIBUTES),
    "attribute_scores": Output(FLOAT, ("regions",), needs=OF_ATTRIBUTES),
}
TOKENS = {
    "tokens": Output(STRING, ("tokens",)),
    "answers": Output(STRING, ("tokens",)),
    "scores": Output(FLOAT, ("tokens",)),
}
# By the name of the class in its family's table `HEADS`.
OUTPUTS = {
    "ViltModel": POOLED,
    "ViltForMaskedLM": MASKS,
    "ViltForPreTraining": PRETRAINING,
    "ViltForQuestionAnswering": BEST,
    "ViltForImagesAndTextClassification": BEST,
    "ViltForImageAndTextRetrieval": {"answers": Output(STRING, (1,)), "scores": Output(FLOAT, (1,))},
    "ViltForTokenClassification": TOKENS,
    "VisualBertModel": POOLED,
    "VisualBertForPreTraining": PRETRAINING,
    "VisualBertForQuestionAnswering": BEST,
    "VisualBertForMultipleChoice": {"answers": Output(STRING, ("choices",)), "scores": Output(FLOAT, ("choices",))},
    "VisualBertForVisualReasoning": BEST,
    "VisualBertForRegionToPhraseAlignment": {
        "region_ids": Output(INT, ("phrases",), ids_of="regions"),
        "scores": Output(FLOAT, ("phrases", "regions")),
    },
    "LxmertModel": POOLED,
    "LxmertForPreTraining": LXMERT_PRETRAINING,
    "LxmertForQuestionAnswering": BEST,
}


def outputs_of(runner: Runner) -> dict[str, Output]:
    """What `serving_default` gives. Raises ValueError for a model that has nothing to answer."""
    description = runner.file.description
    every = OUTPUTS[description["head"]]
    found = {name: each for name, each in every.items() if not each.needs or each.needs in description["outputs"]}
    if not found:
        raise ValueError(f"{runner.file.path}: the model was made without a pooler and has nothing to answer")
    return found | STATUS


def axis_sizes(runner: Runner) -> dict[str, int]:
    """The sizes that do not depend on the request, and how many answers a row gets, at most."""
    words = runner.words
    return {
        "labels": min(words.top_k, len(words.labels)),
        "words": min(words.top_k, max(words.tokens) + 1),
        "top_k": words.top_k,
        "hidden": runner.file.config.get("hidden_size", -1),
    }


def default_signature(runner: Runner) -> SignatureDef:
    """`serving_default`: raw requests to answers."""
    sizes = axis_sizes(runner)
    outputs = {
        name: (each.dtype, [axis if isinstance(axis, int) else sizes.get(axis, -1) for axis in each.axes])
        for name, each in outputs_of(runner).items()
    }
    return signature(DEFAULT_SIGNATURE, raw_inputs(runner), outputs)


def raw_inputs(runner: Runner) -> dict[str, tuple[tf.DType, list[int]]]:
    """Types and shapes, without the rows, of what `serving_default` takes."""
    shapes = runner.inputs
    pair = [2] if runner.file.description["head"] == PAIRS else []
    found = {"text": (STRING, [])}
    for name, shape in shapes.items():
        if name == "pixel_values":
            found["image"] = (STRING, list(shape[1:-3]))
        elif name in FEATURES:
            found["regions"] = (FLOAT, [*pair, -1, -1])
        elif name == "visual_pos":
            found["boxes"] = (FLOAT, [-1, 4])
        elif name == "region_to_phrase_position":
            found["phrases"] = (STRING, [-1])
    if len(runner.ids_shape) == 3:
        found["choices"] = (STRING, [-1])
    return found


def example(runner: Runner) -> dict[str, np.ndarray]:
    """One row of `raw_inputs`."""
    file = BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    features = next((shape[-1] for name, shape in runner.inputs.items() if name in FEATURES), 0)
    values = {"image": file.getvalue(), "regions": np.ones(features), "boxes": np.array([0, 0, 1, 1])}
    found = {}
    for name, (dtype, shape) in raw_inputs(runner).items():
        sizes, value = [1, *map(abs, shape)], values.get(name, runner.words.mask_token.encode())
        if dtype == STRING:
            found[name] = np.full(sizes, value, object)
        else:
            found[name] = np.broadcast_to(value, [*sizes[:-1], len(value)]).astype(np.float32)
    return found


def bare_signature(runner: Runner) -> SignatureDef:
    """The bare model, under the name of the file's flavour and in its sizes, but for the rows. Runs it, which warms up.

    Raises ValueError for a model that cannot run.
    """
    small = _run_on_blanks(runner, 4)
    large = _run_on_blanks(runner, 8) if runner.resizable else small  # what differs has no fixed size
    outputs = {
        name: (FLOAT, [size if size == other else -1 for size, other in zip(value, large[name], strict=True)])
        for name, value in small.items()
    }
    inputs = {name: (tf.as_dtype(runner.dtype(name)), list(shape[1:])) for name, shape in runner.inputs.items()}
    return signature(runner.file.flavour, inputs, outputs)


def _run_on_blanks(runner: Runner, scale: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the outputs, without the rows; `scale` sets sizes that are not fixed."""
    patch = runner.file.config.get("patch_size", 1)
    inputs = {}
    for name, shape in runner.inputs.items():
        unknown = scale * (patch if name in PIXEL_INPUTS else 1)
        sizes = [1 if shape[0] == -1 else shape[0], *(unknown if size == -1 else size for size in shape[1:])]
        inputs[name] = np.ones(sizes, runner.dtype(name))
    return {name: value.shape[1:] for name, value in runner.run(inputs).items()}


def signature(
    name: str, inputs: Mapping[str, tuple[tf.DType, list[int]]], outputs: Mapping[str, tuple[tf.DType, list[int]]]
) -> SignatureDef:
    """A proto of inputs and outputs of N rows."""
    found = SignatureDef(method_name=METHOD)
    for kind, into, tensors in (("", found.inputs, inputs), ("output_", found.outputs, outputs)):
        for key, (dtype, sizes) in tensors.items():
            shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in (-1, *sizes)])
            into[key].CopyFrom(
                TensorInfo(name=f"{name}_{kind}{key}:0", dtype=dtype.as_datatype_enum, tensor_shape=shape)
            )
    return found

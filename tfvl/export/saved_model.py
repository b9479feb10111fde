"""`saved_model`: writes a model and its processor as one SavedModel, which answers questions on images or regions."""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvl.export import warmup
from tfvl.export.eight_bits import PRODUCT, eight_bits
from tfvl.export.inputs import Inputs, check_exportable, inputs_of
from tfvl.export.op_check.check import check
from tfvl.export.signatures import SIGNATURES, checked_names
from tfvl.export.signatures import signatures as functions_of
from tfvl.files.whole import refuse_to_overwrite, written_whole
from tfvl.layers.quantization import refuse_quantized
from tfvl.modeling.changed_layers import in_dtype
from tfvl.serving.server import kernels

QUANTIZE = (None, "dynamic", "bfloat16")


def saved_model(
    model,
    processor,
    directory: str | Path,
    *,
    signatures: str | Sequence[str] = SIGNATURES,
    top_k: int = 5,
    explain: bool = False,
    quantize: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes `model` with all of its pre- and postprocessing as a SavedModel for TF Serving.

        tfvl.export.saved_model(model, processor, "models/vilt_vqa/1")

    Signature `serving_default` takes `text` (N,) and, for ViLT, `image` (N,) encoded files; for VisualBERT `regions`
    (N, R, size), a detector's features, in which regions of zeros are padding; for LXMERT also `boxes` (N, R, 4), the
    corners x1, y1, x2, y2 in 0 … 1. If the processor has a detector, these take `image` instead, and the detector
    becomes part of the artefact. Heads for NLVR2 take two images, or the regions of two (N, 2, …). It returns `answers`
    and `scores` (N, k) and `status` (N,), "" or a sentence that says what was wrong with the row. What else heads take
    or answer is described in `tfvl.export.texts` and `tfvl.export.answers`. Signature `tensors` takes what the
    processor returns and gives the model's outputs. Vocabulary, labels and preprocessing are inside; the weights are
    stored once. The artefact needs no Python.

    Args:
        model: a model of tfvl.
        processor: the processor of the same checkpoint.
        directory: the artefact's own directory. TF Serving serves the numbered subdirectories (versions) of a model's
            directory, so end it in a number for TF Serving.
        signatures: the signatures of the artefact, or a single one. With "tensors" alone it holds no op of tf.text, so
            that programs that do not register these load it too: `saved_model_cli`, Triton, TensorFlow for Java, C and
            Go.
        top_k: the most answers of a row; a model with fewer labels gives all of them.
        explain: whether there is a third signature, `explain`, which takes what `serving_default` takes and gives the
            scores of words and of patches or regions, see `tfvl.export.signatures.explain`.
        quantize: None: the dtype of the model. "dynamic": weights in 8 bits, a quarter of the size; products in 8 bits,
            whose activations are scaled row by row (see `tfvl.export.eight_bits`), everything else in 32-bit floats.
            For TensorFlow on x86-64; it needs oneDNN's op `_QuantizedMatMul`. "bfloat16": weights and products in
            bfloat16, normalisation and softmax in 32-bit floats; faster if the processor multiplies bfloat16.
        overwrite: whether a directory that is not empty may be replaced.

    Returns: the directory.

    Raises:
        ValueError: `signatures` or `quantize` is unknown, `quantize` is impossible for the model (one that Keras
            quantized) or with these options, the model has no export, model and processor do not fit together, or the
            artefact would need an op that TF Serving lacks (nothing is written then).
        FileExistsError: the directory is not empty and `overwrite` is false.
    """
    directory = Path(os.path.abspath(directory))
    versions = [int(path.name) for path in directory.glob("*") if path.name.isdigit()]
    advice = f"export to {directory / str(max(versions) + 1)}" if versions else ""
    refuse_to_overwrite(directory, overwrite, advice=advice)
    names = checked_names(signatures)
    if explain and "serving_default" not in names:
        raise ValueError("explain takes what serving_default takes, which signatures leaves out; leave one of them out")
    check_quantize(quantize, explain)
    check_exportable("saved_model", model, processor)
    if quantize is not None:
        refuse_quantized(model, f"saved_model(…, quantize={quantize!r})")
        model = in_dtype(model, "bfloat16" if quantize == "bfloat16" else "float32")
    inputs = inputs_of(model, processor)
    module = tf.Module()
    detector = processor.detector if "serving_default" in names else None  # it prepares the inputs of `tensors`
    with eight_bits(model) if quantize == "dynamic" else nullcontext([]) as made:
        functions = functions_of(model, processor, inputs, top_k, (*names, "explain") if explain else names)
    variables = [*model.variables, *(detector.variables if detector else ())]
    module.weights = read_by(functions, [*made, *(variable.value for variable in variables)])
    example = inputs.example if "serving_default" in names else encoded(inputs)

    with written_whole(directory) as new:  # until it is complete, its name is not a number, and TF Serving ignores it
        # Without custom gradients and debug information, which inference does not need.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False, save_debug_info=False)
        tf.saved_model.save(module, str(new), signatures=functions, options=options)
        warmup.write(new, directory.parent.name, names[0], example)
        if problems := check(new).problems:
            raise ValueError(f"the artefact would not be served: {'; '.join(problems)}")
    return directory


def check_quantize(quantize: str | None, explain: bool) -> None:
    """Raises ValueError if there is no such form of a SavedModel, or this TensorFlow cannot make it."""
    if quantize not in QUANTIZE:
        raise ValueError(
            f"quantize is {quantize!r}, expected one of {', '.join(map(repr, QUANTIZE))} for a SavedModel; a .tflite "
            "file has more"
        )
    if quantize == "dynamic" and explain:
        raise ValueError(
            'explain needs gradients, which quantize="dynamic" has none of; leave one of them out, or take "bfloat16"'
        )
    if quantize == "dynamic" and not kernels.has_kernel(PRODUCT):
        raise ValueError(
            f'quantize="dynamic" needs the op {PRODUCT}, whose kernel this TensorFlow ({tf.__version__} on '
            f"{platform.machine()}) lacks; export where TensorFlow is built with oneDNN, on x86-64"
        )


def read_by(functions: Mapping, variables: list[tf.Variable]) -> list[tf.Variable]:
    """Returns the variables that the concrete functions read; the others are not stored."""
    captured = {id(tensor) for function in functions.values() for tensor in function.captured_inputs}
    return [variable for variable in variables if id(variable.handle) in captured]


def encoded(inputs: Inputs) -> dict[str, np.ndarray]:
    """Converts the example of the raw inputs to inputs of the signature `tensors`."""
    tensors, _ = inputs.encode({name: tf.constant(value) for name, value in inputs.example.items()})
    return {name: tensors[name].numpy() for name in inputs.axes}

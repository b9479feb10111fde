"""`lite`: writes a model and its processor as one `.tflite` file, which answers on a phone (see `tfvl.lite.Runner`)."""

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError

from tfvl import __version__
from tfvl.answers.rows import head_name
from tfvl.explanations.maps import Recorder, names_of, passes_of
from tfvl.export.inputs import check_exportable, inputs_of
from tfvl.export.signatures import flattened, outputs_of
from tfvl.export.tflite import int8 as lite_int8
from tfvl.export.tflite import ops as lite_ops
from tfvl.export.tflite import sizes as lite_sizes
from tfvl.export.tflite import text as lite_text
from tfvl.export.tflite.calibration import requests
from tfvl.export.tflite.form import lite_form
from tfvl.files.quiet import quiet_logger, quiet_stderr
from tfvl.layers.attention import observed_attention
from tfvl.layers.quantization import refuse_quantized
from tfvl.lite import file as lite_file
from tfvl.lite import tokenizer as lite_tokenizer
from tfvl.lite.file import LiteFile
from tfvl.lite.preparer import Preparer
from tfvl.modeling.changed_layers import in_dtype

QUANTIZE = (None, "float16", "dynamic", "int8")
TOP_K = 5
EXAMPLES = 100  # questions about drawn scenes for calibration


def lite(
    model,
    processor,
    path: str | Path,
    *,
    flavour: str = "tensors",
    quantize: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    text_length: int | None = None,
    batch: int = 1,
    regions: int = lite_sizes.REGIONS,
    choices: int = lite_sizes.CHOICES,
    phrases: int = lite_sizes.PHRASES,
    pixel_mask: bool = True,
    resizable: bool = False,
    top_k: int = TOP_K,
    explain: bool = False,
    calibration: Iterable[dict] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes `model` as one TFLite file of builtin operators, with everything else that answers need.

        tfvl.export.lite(model, processor, "vilt_vqa.tflite", quantize="dynamic")

    The file has one signature, `tensors`, which maps ids, masks and pixels (or regions and boxes) to the model's
    outputs, under the names of the SavedModel's signature of that name. Behind the model lie vocabulary, labels,
    configuration and preprocessing (see `tfvl.lite.file`); `tfvl.lite.Runner` answers from that one file.

    Args:
        model: a model of tfvl, not quantized by Keras. The file computes in 32-bit floats whatever the model's dtype
            policy is, and holds the effective weights (with LoRA, the merged ones).
        processor: the processor of the same checkpoint.
        path: the file, whose name ends in `.tflite`.
        flavour: "tensors"; or "text", whose signature `text` takes the raw question (batch,), a string, in place of ids
            and masks. Its ids are those of `tensors`; but it holds operations of tf.text, which phones' runtimes lack
            unless they are built with them, as do LiteRT's `CompiledModel` and `@litertjs/core`.
        quantize: None: 32-bit floats. "float16": weights in 16 bits, half the size. "dynamic": matrices and the table
            of words in 8 bits, a quarter of the size, activations in 8 bits where they are multiplied; the fastest.
            "int8": activations in 8 bits too, with fixed ranges, which `calibration` measures.
        image_size: pixels, one number or (height, width), multiples of the patch's; None: the configuration's.
        text_length: tokens; longer texts are cut. None: 40, or as many as the model has positions.
        batch: number of rows of a call.
        regions: number of regions of an image, for VisualBERT and LXMERT.
        choices, phrases: numbers of choices and phrases of a row, for the heads that take them.
        pixel_mask: whether ViLT takes images smaller than `image_size`, padded; else all have that size.
        resizable: whether batch, length and image size may be any in place of fixed ones, which gives exactly the Keras
            model's results for images of any shape, but is slower. The sizes above are not used then. Only interpreters
            run such a file: LiteRT's newer `CompiledModel` gives zeros and NaN without an error, and `@litertjs/core`
            refuses its shapes.
        top_k: the number of answers that `Runner` gives.
        explain: whether the attention maps are among the outputs, so that `tfvl.explain` of the file's `Runner` can do
            "rollout" and "attention"; without them it can do "occlusion".
        calibration: for "int8", about a hundred requests, as `Runner` takes them; None: questions about drawn scenes.
        overwrite: whether a file may be replaced.

    Returns: the path.

    Raises:
        ValueError: an option is not possible, the model has no export, or its graph holds an operation that TFLite
            lacks, which is found before the conversion and named.
        FileExistsError: the file exists and `overwrite` is false.
    """
    check_exportable("lite", model, processor)
    refuse_quantized(model, "lite")
    path = lite_sizes.checked_path(path, overwrite)
    if flavour not in lite_file.FLAVOURS:
        raise ValueError(f"flavour is {flavour!r}, expected one of {', '.join(map(repr, lite_file.FLAVOURS))}")
    if quantize not in QUANTIZE:
        raise ValueError(f"quantize is {quantize!r}, expected one of {', '.join(map(repr, QUANTIZE))}")
    if explain and flavour != "tensors":
        raise ValueError(f'explain is for the flavour "tensors", not {flavour!r}; leave one of them out')
    if quantize != "int8" and calibration is not None:
        raise ValueError('calibration is for quantize="int8"; leave it out')
    if not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k is {top_k!r}, expected a whole number from 1 on")
    lite_ops.check_weights(model)
    model = in_dtype(model)
    inputs = inputs_of(model, processor)
    sizes = lite_sizes.sizes_of(model, processor, batch, text_length, image_size, regions, choices, phrases)
    specs = lite_sizes.fixed(inputs, None if resizable else sizes, pixel_mask and not resizable)
    vocabulary, options = processor_options(processor, model.config)
    characters, encode = lite_tokenizer.pack(options["tokenizer"]), None
    if flavour == "text":
        lite_text.check(type(model).__name__, specs, quantize)
        exact = lite_tokenizer.Tokenizer(vocabulary, options["tokenizer"], characters)
        limit = specs["input_ids"].shape[1] or options["tokenizer"]["model_max_length"]
        options["tokenizer"]["model_max_length"] = limit
        specs, encode = lite_text.raw(specs, exact, limit)
    function, variables = graph_of(model, specs, encode, eight_bits=quantize in ("dynamic", "int8"), explained=explain)
    lite_ops.check_graph(function, type(model).__name__, flavour)
    described = LiteFile(
        path,
        {
            "head": head_name(type(model)),
            "class": type(model).__name__,
            "quantize": quantize,
            "signature": flavour,
            "top_k": top_k,
            "inputs": {name: {"shape": shape_of(spec), "dtype": spec.dtype.name} for name, spec in specs.items()},
            "outputs": sorted(function.structured_outputs),
            "config": model.config.to_dict(),
            **options,
            "versions": {"tfvl": __version__, "tensorflow": tf.__version__, "keras": keras.__version__},
        },
        vocabulary,
        model.config.answer_names,
        characters,
    )
    rows = examples(Preparer(described), calibration) if quantize == "int8" else ()
    content, layers = convert(function, variables, flavour, quantize, rows)
    lite_ops.operators(content, flavour)
    described.description["sensitivity"] = [dataclasses.asdict(layer) for layer in layers]
    lite_file.write(described, content)
    return path


def examples(preparer: Preparer, calibration: Iterable[dict] | None) -> list[dict[str, np.ndarray]]:
    """Makes inputs, of as many rows as the file takes, from requests; by default from requests about drawn scenes."""
    shape = preparer.inputs["input_ids"]
    if preparer.resizable:
        raise ValueError('quantize="int8" needs fixed sizes; leave resizable out')
    if calibration is None:
        calibration = (asked for asked, _ in requests(preparer, EXAMPLES))
    rows = [preparer.prepare(**asked)[1] for asked in calibration]
    if not rows:
        raise ValueError("calibration is empty; give a hundred or so requests")
    return [{name: np.repeat(values[0][None], shape[0], axis=0) for name, values in row.items()} for row in rows]


def graph_of(
    model, specs: dict[str, tf.TensorSpec], encode: lite_text.Encode | None, eight_bits: bool, explained: bool = False
):
    """Traces the model in the form for TFLite; returns the concrete function and the variables that it reads."""

    def run(text=None, **inputs):
        inputs |= {} if text is None else encode(text)
        return outputs_and_maps(model, inputs) if explained else outputs_of(model, inputs)

    with lite_form(model, eight_bits) as made:
        function = tf.function(run, autograph=False).get_concrete_function(**specs)
    return function, [*made, *(variable.value for variable in model.variables)]


def outputs_and_maps(model, inputs: dict) -> dict[str, tf.Tensor]:
    """Returns the bare model's outputs, and every attention map under the name that `maps.names_of` gives it."""
    recorder = Recorder()
    with observed_attention(recorder):
        outputs = model(inputs, output_attentions=True, output_hidden_states=False, training=False)
    return flattened(outputs) | names_of(passes_of(model, recorder.of))


def convert(
    function, variables: list, flavour: str, quantize: str | None, calibration: Sequence[dict] = ()
) -> tuple[bytes, list]:
    """Converts a concrete function to a flatbuffer; for "int8" it also returns the layers, the largest error first.

    Args:
        variables: the variables that the function reads.

    Raises:
        ValueError: there is no room for temporary files, or the converter refused the graph; the message quotes its
            error.
    """
    with tempfile.TemporaryDirectory(prefix="tfvl-lite-") as directory, quiet_logger(), quiet_stderr():
        module = tf.Module()
        module.read = variables
        needed = sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)
        try:
            tf.saved_model.save(module, directory, signatures={flavour: function})
        except tf.errors.OpError as error:
            raise ValueError(
                f"the model cannot be put down in {tempfile.gettempdir()} for the converter; set TMPDIR to a "
                f"directory with {needed:,} free bytes ({str(error)[:200]})"
            ) from error

        def make_converter() -> tf.lite.TFLiteConverter:
            converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=[flavour])
            converter.allow_custom_ops = flavour == "text"
            return converter

        try:
            if quantize == "int8":
                return lite_int8.convert(make_converter, calibration, flavour)
            converter = make_converter()
            if quantize is not None:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if quantize == "float16":
                converter.target_spec.supported_types = [tf.float16]
            return converter.convert(), []
        except ConverterError as error:
            raise ValueError(f"TFLite's converter refused the graph: {str(error)[:300]}") from error


def shape_of(spec: tf.TensorSpec) -> list[int]:
    return [-1 if size is None else size for size in spec.shape]


def processor_options(processor, config) -> tuple[dict[str, int], dict]:
    """Returns what a client needs to prepare inputs: vocabulary, options of tokenizer and image processor."""
    vocabulary, options = lite_tokenizer.described(processor.tokenizer.get_config())
    options["model_max_length"] = min(options["model_max_length"], config.max_position_embeddings)
    image_processor = processor.image_processor
    images = image_processor and {**image_processor.to_dict(), "max_pixels": image_processor.max_pixels}
    return vocabulary, {"tokenizer": options, "image_processor": images}

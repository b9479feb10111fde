"""The ways to run one base-size model on a CPU that `lite.py` compares, and the files that they read.

Each file is made, and each way runs, in a process of its own, which `lite.py` starts:

    python tools/bench/lite_ways.py make FILE MODEL DIRECTORY [LAYERS]
    python tools/bench/lite_ways.py run WAY MODEL DIRECTORY
"""

import functools
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = ROOT / "tfvl/bundled/bert-base-uncased/vocab.txt"
TEXT_LENGTH, SIDE, REGIONS, FEATURES, ANSWERS = 20, 384, 36, 2048, 3129
THREADS = os.cpu_count()
PEAK, RESIDENT = (re.compile(rf"{name}:\s+(\d+)") for name in ("VmHWM", "VmRSS"))


@dataclass(frozen=True)
class Model:
    """A model. Attributes: head, config: class names in both packages; sizes: fields of config; output: is compared."""

    head: str
    config: str
    sizes: dict
    output: str = "logits"


MODELS = {
    "vilt": Model("ViltForQuestionAnswering", "ViltConfig", {"num_labels": ANSWERS}),
    "visual_bert": Model(
        "VisualBertForQuestionAnswering", "VisualBertConfig", {"num_labels": ANSWERS, "visual_embedding_dim": FEATURES}
    ),
    "lxmert": Model(
        "LxmertForQuestionAnswering",
        "LxmertConfig",
        {"num_qa_labels": ANSWERS, "num_labels": ANSWERS},
        "question_answering_score",
    ),
}
DEPTHS = ("num_hidden_layers", "l_layers", "r_layers", "x_layers")


def inputs_of(name: str) -> dict[str, np.ndarray]:
    """Makes the inputs of one row without padding, under tfvl's names."""
    rng = np.random.default_rng(0)
    inputs = {"input_ids": rng.integers(1000, 30000, (1, TEXT_LENGTH)), "token_type_ids": np.zeros((1, TEXT_LENGTH))}
    inputs["attention_mask"] = np.ones((1, TEXT_LENGTH))
    features = np.maximum(rng.normal(size=(1, REGIONS, FEATURES)), 0).astype(np.float32)
    match name:
        case "vilt":
            inputs["pixel_values"] = rng.uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
            inputs["pixel_mask"] = np.ones((1, SIDE, SIDE))
        case "visual_bert":
            inputs["visual_embeds"] = features
            inputs |= dict.fromkeys(("visual_attention_mask", "visual_token_type_ids"), np.ones((1, REGIONS)))
        case _:
            corners = np.sort(rng.uniform(size=(1, REGIONS, 2, 2)), axis=2).reshape(1, REGIONS, 4)
            inputs |= {"visual_feats": features, "visual_pos": corners.astype(np.float32)}
            inputs["visual_attention_mask"] = np.ones((1, REGIONS))
    return {key: value if value.dtype == np.float32 else value.astype(np.int32) for key, value in inputs.items()}


# ── files: functions of the model's name, the directory, the target, and the number of layers ──


def make_checkpoint(name: str, directory: Path, target: Path, layers: int | None) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, MODELS[name].config)(**MODELS[name].sizes)
    for depth in DEPTHS:
        if layers is not None and isinstance(getattr(config, depth, None), int):
            setattr(config, depth, layers)
    model = getattr(transformers, MODELS[name].head)(config)
    model.config.architectures = [MODELS[name].head]
    model.save_pretrained(target)
    transformers.BertTokenizer(str(VOCABULARY)).save_pretrained(target)
    if name == "vilt":
        transformers.ViltImageProcessor().save_pretrained(target)


def make_saved_model(name: str, directory: Path, target: Path, layers: int | None) -> None:
    import tfvl

    tfvl.export.saved_model(*tfvl.auto.load(directory / "checkpoint"), target)


def make_lite(name: str, directory: Path, target: Path, layers: int | None, quantize: str | None) -> None:
    import tfvl

    model, processor = tfvl.auto.load(directory / "checkpoint")
    tfvl.export.lite(model, processor, target, quantize=quantize, text_length=TEXT_LENGTH, regions=REGIONS)


def make_onnx(name: str, directory: Path, target: Path, layers: int | None) -> None:
    """Makes an ONNX file by Keras' own export, with two amendments to tf2onnx 1.17."""
    os.environ["TF2ONNX_CATCH_ERRORS"] = "0"  # else each of its forty passes works on a copy of the model
    import keras
    from tf2onnx.graph import Node
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")  # which it lacks, and which TensorFlow's GELU is made of
    class Erfc:
        @classmethod
        def version_9(cls, graph, node, **_):
            one = graph.make_const(f"{node.name}/one", np.ones([], np.float32))
            erf = graph.make_node("Erf", node.input)
            node.type = "Sub"
            graph.replace_inputs(node, [one.output[0], erf.output[0]])

    update = Node.update_proto  # after each pass it writes all weights again, and keeps what it wrote before
    Node.update_proto = lambda node, storage=None: None if node.is_const() else update(node, storage)
    model, signature = for_export(name, directory, batch=1)
    keras.Model.export(model, str(target), format="onnx", verbose=False, input_signature=[signature])


def make_openvino(name: str, directory: Path, target: Path, layers: int | None) -> None:
    """Makes an OpenVINO model of any batch by Keras' own export: OpenVINO 2026.4 refuses VisualBERT's with batch 1."""
    import keras

    model, signature = for_export(name, directory, batch=None)
    target.mkdir()
    path = str(target / "model.xml")
    keras.Model.export(model, path, format="openvino", verbose=False, input_signature=[signature])


def make_operations(name: str, directory: Path, target: Path, layers: int | None) -> None:
    """Writes the number of floating-point operations of a forward pass."""
    import tensorflow as tf

    model, signature = for_export(name, directory, batch=1)
    function = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    graph = function.get_concrete_function(signature).graph
    target.write_text(json.dumps(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops))


def for_export(name: str, directory: Path, batch: int | None):
    """Returns the model, without shapes that depend on a mask's values, and the specs of its inputs."""
    import tensorflow as tf

    import tfvl

    model = getattr(tfvl, MODELS[name].head).from_pretrained(directory / "checkpoint")
    if name == "vilt":
        model.vilt.embeddings.static_shapes = True
    specs = {
        key: tf.TensorSpec((batch, *value.shape[1:]), value.dtype, name=key) for key, value in inputs_of(name).items()
    }
    return model, specs


QUANTIZED = {f"{quantize or 'float32'}.tflite": quantize for quantize in (None, "float16", "dynamic", "int8")}
FILES: dict[str, Callable] = {
    "checkpoint": make_checkpoint,
    "operations.json": make_operations,
    "saved_model": make_saved_model,
    **{file: functools.partial(make_lite, quantize=quantize) for file, quantize in QUANTIZED.items()},
    "model.onnx": make_onnx,
    "openvino": make_openvino,
}


# ── ways: generators of the model's name and a directory; first they import, then they load and give what runs ──


def torch_way(name: str, directory: Path, *, bfloat16: bool = False, compiled: bool = False) -> Iterator:
    import torch
    import transformers

    model_class = getattr(transformers, MODELS[name].head)
    yield
    torch.set_num_threads(THREADS)
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    model = model_class.from_pretrained(directory / "checkpoint", dtype=dtype).eval()
    inputs = inputs_of(name)
    if name == "vilt":
        inputs["pixel_values"] = np.moveaxis(inputs["pixel_values"], -1, 1).copy()
    tensors = {
        key: torch.from_numpy(value).to(dtype if value.dtype == np.float32 else torch.int64)
        for key, value in inputs.items()
    }
    forward = torch.compile(model) if compiled else model

    def run():
        with torch.inference_mode():
            return forward(**tensors)[MODELS[name].output].float().numpy()

    yield run


def keras_way(name: str, directory: Path, *, xla: bool = False) -> Iterator:
    import tensorflow as tf

    import tfvl

    model_class = getattr(tfvl, MODELS[name].head)
    tf.ones(1)
    yield
    model = model_class.from_pretrained(directory / "checkpoint")
    if name == "vilt":
        model.vilt.embeddings.static_shapes = xla
    inputs = {key: tf.constant(value) for key, value in inputs_of(name).items()}
    function = tf.function(lambda: model(inputs, training=False), jit_compile=xla, autograph=False)
    yield lambda: function()[MODELS[name].output].numpy()


def saved_model_way(name: str, directory: Path) -> Iterator:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  # registers the tokenizer's ops

    tf.ones(1)
    yield
    serve = tf.saved_model.load(str(directory / "saved_model")).signatures["tensors"]
    inputs = {key: tf.constant(value) for key, value in inputs_of(name).items()}
    yield lambda: serve(**inputs)[MODELS[name].output].numpy()


def lite_way(name: str, directory: Path, *, file: str, runtime: str) -> Iterator:
    from tfvl.lite import Runner
    from tfvl.lite.runtime import interpreter_of

    interpreter_of(runtime)
    yield
    runner = Runner(directory / file, runtime=runtime, threads=THREADS, warm=False)
    inputs = inputs_of(name)
    yield lambda: runner.run(inputs)[MODELS[name].output]


def onnx_way(name: str, directory: Path) -> Iterator:
    import onnxruntime

    yield
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(directory / "model.onnx", options, providers=["CPUExecutionProvider"])
    inputs = inputs_of(name)
    yield lambda: session.run([MODELS[name].output], inputs)[0]


def openvino_way(name: str, directory: Path, *, precision: str) -> Iterator:
    import openvino

    core = openvino.Core()
    yield
    inputs = inputs_of(name)
    model = core.read_model(directory / "openvino/model.xml")
    model.reshape({key: list(value.shape) for key, value in inputs.items()})  # the batch, which is open in the file
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(model, "CPU", options)
    yield lambda: compiled(inputs)[MODELS[name].output]


@dataclass(frozen=True)
class Way:
    """A way to run. Attributes: make: a generator function; file: the one that it reads; options: its arguments."""

    make: Callable[..., Iterator]
    file: str
    options: dict = field(default_factory=dict)


WAYS = {
    "torch": Way(torch_way, "checkpoint"),
    "torch bfloat16": Way(torch_way, "checkpoint", {"bfloat16": True}),
    "torch.compile": Way(torch_way, "checkpoint", {"compiled": True}),
    "keras graph": Way(keras_way, "checkpoint"),
    "keras xla": Way(keras_way, "checkpoint", {"xla": True}),
    "savedmodel": Way(saved_model_way, "saved_model"),
    "onnxruntime": Way(onnx_way, "model.onnx"),
    "openvino": Way(openvino_way, "openvino", {"precision": "f32"}),
    "openvino bfloat16": Way(openvino_way, "openvino", {"precision": "bf16"}),
}
for file in QUANTIZED:
    for runtime in ("tensorflow", "litert"):
        WAYS[f"tflite {Path(file).stem}, {runtime}"] = Way(lite_way, file, {"file": file, "runtime": runtime})


# ── the processes ──


def make(file: str, name: str, directory: Path, layers: int | None) -> dict:
    """Makes a file, which appears only when it is complete. Returns seconds and bytes of memory."""
    unfinished = directory / "unfinished" / file
    shutil.rmtree(unfinished.parent, ignore_errors=True)
    unfinished.parent.mkdir(parents=True)
    start = time.perf_counter()
    FILES[file](name, directory, unfinished, layers)
    os.replace(unfinished, directory / file)
    return {"seconds": time.perf_counter() - start, "peak": status(PEAK)}


def run(label: str, name: str, directory: Path) -> Iterator[dict | list]:
    """Loads and runs once, and yields what that took; then, for each number on stdin, runs that often, yields times."""
    way = WAYS[label]
    steps = way.make(name, directory, **way.options)
    next(steps)
    # The imports are done by now, so they count neither as load time nor as memory of the model.
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = status(RESIDENT), time.perf_counter()
    call = next(steps)
    call()
    loaded = time.perf_counter() - start
    output = call()
    yield {"load": loaded, "memory": status(PEAK) - before, "output": np.ravel(output).tolist()}
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        yield times


def status(pattern: re.Pattern) -> int:
    """Reads memory in bytes, mapped files included; getrusage's maximum would be inherited from the parent."""
    return int(pattern.search(Path("/proc/self/status").read_text())[1]) * 1024


def main() -> None:
    task, what, name, directory, *layers = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no reply
    if task == "make":
        answers = iter([make(what, name, Path(directory), int(layers[0]) if layers else None)])
    else:
        answers = run(what, name, Path(directory))
    for answer in answers:
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    main()

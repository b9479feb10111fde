"""Compares ways to run one base-size model on a CPU: transformers, Keras, a SavedModel, and `.tflite` files.

One table of one run: the model alone, batch 1, from prepared inputs to logits. Each way lives in its own process, all
of them take turns, and the checkpoint has random weights. The roofline is the time that the model's products would
take at the rate of a large float32 matrix product. Run from the project's root with the extras `parity` and `lite`
installed and nothing else running:

    python tools/bench_lite.py vilt
    python tools/bench_lite.py visual_bert --only torch,dynamic
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = ROOT / "tfvl/bundled/bert-base-uncased/vocab.txt"
TEXT_LENGTH, SIDE, REGIONS, FEATURES, ANSWERS = 20, 384, 36, 2048, 3129
PAUSE = 0.3  # seconds; PyTorch's threads spin for a while after their work and would slow what runs next
IN_A_ROW = 4  # calls of one before it is the next one's turn
MODELS = {  # class, configuration, size of the configuration that sets the depth
    "vilt": ("ViltForQuestionAnswering", "ViltConfig", {"num_labels": ANSWERS}),
    "visual_bert": (
        "VisualBertForQuestionAnswering",
        "VisualBertConfig",
        {"num_labels": ANSWERS, "visual_embedding_dim": FEATURES},
    ),
    "lxmert": ("LxmertForQuestionAnswering", "LxmertConfig", {"num_qa_labels": ANSWERS, "num_labels": ANSWERS}),
}
FILES = (None, "float16", "dynamic", "int8")
PEAK = re.compile(r"VmHWM:\s+(\d+)")


def inputs_of(name: str) -> dict[str, np.ndarray]:
    """One row, nothing padded, under tfvl's names."""
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


# ── the ways, each a function from the directory to a function without arguments ──


def torch_way(directory: Path, name: str, *, bfloat16: bool = False, compiled: bool = False) -> Callable:
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count())
    model = getattr(transformers, MODELS[name][0]).from_pretrained(directory / "checkpoint").eval()
    inputs = inputs_of(name)
    if name == "vilt":
        inputs["pixel_values"] = np.moveaxis(inputs["pixel_values"], -1, 1).copy()
    inputs = {
        key: torch.from_numpy(value if value.dtype == np.float32 else value.astype(np.int64))
        for key, value in inputs.items()
    }
    forward = torch.compile(model) if compiled else model

    def run():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return forward(**inputs)

    return run


def keras_way(directory: Path, name: str, *, xla: bool = False) -> Callable:
    import tensorflow as tf

    import tfvl

    model = getattr(tfvl, MODELS[name][0]).from_pretrained(directory / "checkpoint")
    if name == "vilt":
        model.vilt.embeddings.static_shapes = xla
    inputs = {key: tf.constant(value) for key, value in inputs_of(name).items()}
    run = tf.function(lambda: model(inputs, training=False), jit_compile=xla, autograph=False)
    return lambda: [value.numpy() for value in run().values()]


def saved_model_way(directory: Path, name: str) -> Callable:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  # registers the tokenizer's ops

    serve = tf.saved_model.load(str(directory / "saved_model")).signatures["tensors"]
    inputs = {key: tf.constant(value) for key, value in inputs_of(name).items()}
    return lambda: [value.numpy() for value in serve(**inputs).values()]


def lite_way(directory: Path, name: str, *, file: str, runtime: str) -> Callable:
    from tfvl.lite import Runner

    runner = Runner(directory / file, runtime=runtime, threads=os.cpu_count(), warm=False)
    inputs = inputs_of(name)
    return lambda: runner.run(inputs)


def file_of(quantize: str | None) -> str:
    return f"{quantize or 'float32'}.tflite"


WAYS: dict[str, tuple[Callable, dict]] = {
    "torch": (torch_way, {}),
    "torch bfloat16": (torch_way, {"bfloat16": True}),
    "torch.compile": (torch_way, {"compiled": True}),
    "keras graph": (keras_way, {}),
    "keras xla": (keras_way, {"xla": True}),
    "savedmodel": (saved_model_way, {}),
}
for quantize in FILES:
    for runtime in ("tensorflow", "litert"):
        WAYS[f"{quantize or 'float32'} {runtime}"] = (lite_way, {"file": file_of(quantize), "runtime": runtime})


def worker(way: str, name: str, directory: Path) -> None:
    """Loads, runs once, and says so; then for each line of standard input, a number, runs that often."""
    make, options = WAYS[way]
    imports(way)
    before, start = peak(), time.perf_counter()
    run = make(directory, name, **options)
    run()
    loaded = time.perf_counter() - start
    run()
    print(json.dumps({"load": loaded, "memory": peak() - before}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


def imports(way: str) -> None:
    """What a process imports anyway is no load time and no memory of the model."""
    import tfvl.lite.runner  # noqa: F401

    if way.startswith("torch"):
        import torch  # noqa: F401
        import transformers  # noqa: F401
    elif not way.endswith("litert"):
        import tensorflow as tf

        tf.ones(1)


def peak() -> int:
    """Bytes; not getrusage, whose maximum a child inherits from its parent."""
    return int(PEAK.search(Path("/proc/self/status").read_text())[1]) * 1024


# ── what is measured ──


def prepare(name: str, directory: Path, files: list[str | None], layers: int | None) -> float:
    """Writes the checkpoint and every artefact of it; returns the operations of a forward pass."""
    import torch  # noqa: F401  # before TensorFlow
    import transformers

    class_name, config_name, sizes = MODELS[name]
    config = getattr(transformers, config_name)(**sizes)
    for field in ("num_hidden_layers", "l_layers", "r_layers", "x_layers"):
        if layers is not None and isinstance(getattr(config, field, None), int):
            setattr(config, field, layers)
    model = getattr(transformers, class_name)(config)
    model.config.architectures = [class_name]
    model.save_pretrained(directory / "checkpoint")
    del model
    transformers.BertTokenizer(str(VOCABULARY)).save_pretrained(directory / "checkpoint")
    if name == "vilt":
        transformers.ViltImageProcessor().save_pretrained(directory / "checkpoint")

    import tensorflow as tf

    import tfvl

    ours, processor = tfvl.auto.load(directory / "checkpoint")
    tfvl.export.saved_model(ours, processor, directory / "saved_model")
    for quantize in files:
        start = time.perf_counter()
        path = directory / file_of(quantize)
        tfvl.export.lite(ours, processor, path, quantize=quantize, text_length=TEXT_LENGTH, regions=REGIONS)
        print(f"{path.name}: converted in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    inputs = {key: tf.TensorSpec(value.shape, value.dtype) for key, value in inputs_of(name).items()}
    if name == "vilt":
        ours.vilt.embeddings.static_shapes = True
    function = tf.function(lambda inputs: ours(inputs, training=False), autograph=False)
    graph = function.get_concrete_function(inputs).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops


def product_rate(size: int = 1536, repeats: int = 8) -> float:
    """Operations per second of a float32 matrix product in TensorFlow, all cores."""
    import tensorflow as tf

    left, right = tf.random.normal((size, size)), tf.random.normal((size, size))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(left, right)), autograph=False)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product().numpy()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def measure(ways: list[str], name: str, directory: Path, turns: int) -> dict[str, dict]:
    """What each way's process said, and its times; a way that fails is left out, with the reason on stderr."""
    processes, found = {}, {}
    for way in ways:
        arguments = [sys.executable, __file__, name, "--worker", way, "--directory", str(directory)]
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        line = process.stdout.readline()
        if line.startswith("{"):
            processes[way], found[way] = process, json.loads(line) | {"times": []}
        else:
            print(f"{way}: failed: {process.communicate()[1].strip().splitlines()[-1:]}", file=sys.stderr)
    for _ in range(turns):
        for way, process in processes.items():
            time.sleep(PAUSE)
            process.stdin.write(f"{IN_A_ROW}\n")
            process.stdin.flush()
            found[way]["times"] += json.loads(process.stdout.readline())
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return found


def size_of(way: str, directory: Path) -> int:
    """Bytes of the file or directory that a way reads."""
    make, options = WAYS[way]
    path = directory / options.get("file", "saved_model" if make is saved_model_way else "checkpoint/model.safetensors")
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def main(
    model: Annotated[str, typer.Argument(help=", ".join(MODELS))],
    only: Annotated[str, typer.Option(help="Ways that contain one of these words, separated by commas.")] = "",
    turns: Annotated[int, typer.Option(help="How often each way has its turn.")] = 6,
    layers: Annotated[int | None, typer.Option(help="A shallower model, to try the tool.")] = None,
    worker_way: Annotated[str, typer.Option("--worker", hidden=True)] = "",
    directory: Annotated[Path | None, typer.Option(hidden=True)] = None,
):
    """Prints the table."""
    if worker_way:
        return worker(worker_way, model, directory)
    from rich.console import Console
    from rich.table import Table

    words = [word for word in only.split(",") if word]
    ways = [way for way in WAYS if not words or any(word in way for word in words)]
    files = [quantize for quantize in FILES if any(way.startswith(quantize or "float32 ") for way in ways)]
    with tempfile.TemporaryDirectory(prefix="tfvl-bench-") as place:
        operations = prepare(model, Path(place), files, layers)
        found = measure(ways, model, Path(place), turns)
        rate = product_rate()
        table = Table("", "ms", "× torch", "load, s", "MB on disk", "peak MB", title=f"{model}, batch 1, median")
        times = {way: median(each["times"]) * 1e3 for way, each in found.items()}
        for way, each in found.items():
            ratio = f"{times['torch'] / times[way]:.2f}" if "torch" in times else ""
            size = f"{size_of(way, Path(place)) / 1e6:.0f}"
            table.add_row(way, f"{times[way]:.0f}", ratio, f"{each['load']:.2f}", size, f"{each['memory'] / 1e6:.0f}")
        table.add_row("roofline", f"{operations / rate * 1e3:.0f}", "", "", "", "")
    Console(width=100).print(table)
    print(f"{operations / 1e9:.1f} GFLOP; a float32 product runs at {rate / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    typer.run(main)

"""Compares the forms of a SavedModel (float32, bfloat16, 8 bits) with transformers at base size, side by side.

Each goes from image bytes (or 36 regions) and text to the answer, with random weights, all in one run:

    python tools/bench/saved_models.py vilt          # or visual_bert, lxmert

Prints milliseconds as medians of rounds in which the ways take turns, bytes of the artefacts, the memory that a fresh
process needs to load and answer, and the cosine of the scores with those of float32. `ONEDNN_MAX_CPU_ISA=AVX2` keeps
oneDNN, and so transformers' products too, from using more than AVX2; Eigen's products are the same with and without it.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import region_models
import report
import typer
import vilt  # imports torch before TensorFlow
from rich.console import Console
from rich.table import Table

FORMS = (None, "bfloat16", "dynamic")
BATCHES = (1, 8)
NAMES = {"vilt": "ViLT", "visual_bert": "VisualBERT", "lxmert": "LXMERT"}
PEAK = """
import json, re, sys
import numpy as np, tensorflow as tf, tensorflow_text
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
tf.ones(1)
inputs, before = dict(np.load(sys.argv[2], allow_pickle=True)), peak()
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
for _ in range(3):
    serve(**{name: tf.constant(value.tolist() if value.dtype == object else value) for name, value in inputs.items()})
print(peak() - before)
"""


def request(family: str, batch: int) -> dict[str, np.ndarray]:
    """Makes a request of `batch` different rows: raw images and texts, or texts, regions and boxes."""
    if family == "vilt":
        images = np.array([vilt.photograph(row) for row in range(batch)], object)
        return {"image": images, "text": np.array([vilt.QUESTION] * batch, object)}
    texts, *regions = region_models.inputs_of(NAMES[family], batch)
    return {"text": np.array(texts, object)} | dict(zip(("regions", "boxes"), regions, strict=False))


def theirs(family: str, checkpoint: Path):
    """Returns a function that answers a request with transformers."""
    if family == "vilt":
        reference = vilt.Reference(checkpoint)
        return lambda asked: reference(asked["image"].tolist(), asked["text"].tolist())
    reference = region_models.Reference(checkpoint, NAMES[family])
    return lambda asked: reference(
        asked["text"].tolist(), *(asked[name] for name in ("regions", "boxes") if name in asked)
    )


def ours(directory: Path):
    """Returns a function that answers a request with a SavedModel."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  # registers the tokenizer's ops

    loaded = tf.saved_model.load(str(directory))

    def run(asked):
        return loaded.signatures["serving_default"](
            **{name: tf.constant(each.tolist() if each.dtype == object else each) for name, each in asked.items()}
        )

    return run


def scores_of(directory: Path, inputs: dict) -> np.ndarray:
    """Returns the scores (N, labels) of the signature "tensors", which is the model alone."""
    import tensorflow as tf

    outputs = tf.saved_model.load(str(directory)).signatures["tensors"](**inputs)
    return next(outputs[name].numpy() for name in ("logits", "question_answering_score") if name in outputs)


def measured(runs: dict, asked: dict, rounds: int) -> dict[str, float]:
    """Returns the median milliseconds of each way; the ways take turns."""
    times = {name: [] for name in runs}
    for run in runs.values():
        run(asked)
        run(asked)
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(vilt.PAUSE / 3)
            run(asked)  # after which its threads are awake
            start = time.perf_counter()
            run(asked)
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: median(each) for name, each in times.items()}


def main(family: Annotated[str, typer.Argument()] = "vilt", rounds: int = 7) -> None:
    """Prints the table."""
    console = Console(width=120)
    used = f"{report.processor()}; ONEDNN_MAX_CPU_ISA={os.environ.get('ONEDNN_MAX_CPU_ISA')}"
    console.print(f"{used}; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        checkpoint = directory / vilt.FORMATS[0] if family == "vilt" else directory
        if family == "vilt":
            vilt.make_checkpoint(directory, vilt.FORMATS[:1])
        else:
            region_models.make_checkpoint(directory, NAMES[family])
        from tfvl import auto
        from tfvl.export import saved_model
        from tfvl.export.inputs import inputs_of

        model, processor = auto.load(str(checkpoint))
        artefacts = {form: saved_model(model, processor, directory / str(form) / "1", quantize=form) for form in FORMS}
        inputs, _ = inputs_of(model, processor).encode(dict(request(family, 8)))
        del model
        runs = {"transformers": theirs(family, checkpoint)} | {form: ours(path) for form, path in artefacts.items()}
        times = {batch: measured(runs, request(family, batch), rounds) for batch in BATCHES}
        exact = scores_of(artefacts[None], inputs)
        table = Table("", *(f"batch {batch}, ms" for batch in BATCHES), "against transformers", "against float32")
        for column in ("MB", "memory, MB", "mean cosine"):
            table.add_column(column)
        np.savez(directory / "request.npz", **request(family, 1))
        for form in runs:
            cells = [f"{times[batch][form]:.0f}" for batch in BATCHES]
            cells += [
                " / ".join(f"{times[batch][base] / times[batch][form]:.2f}" for batch in BATCHES)
                for base in ("transformers", None)
            ]
            if form in artefacts:
                path = artefacts[form]
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                command = [sys.executable, "-c", PEAK, str(path), str(directory / "request.npz")]
                peak = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                found = scores_of(path, inputs)
                norms = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
                cosine = ((found * exact).sum(axis=1) / norms).mean()
                cells += [f"{size / 1e6:.0f}", f"{peak / 1e6:.0f}", f"{cosine:.5f}"]
            table.add_row(form or "float32", *cells)
        console.print(table)
        console.print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    typer.run(main)

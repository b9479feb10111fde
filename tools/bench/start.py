"""Times starts: load and first answer beside transformers, and the first `fit` with a fresh or a built optimizer.

    python tools/bench/start.py answer       # ViLT-B/32 with random weights: checkpoint, SavedModel and .tflite file
    python tools/bench/start.py fit          # every head, base depth, narrow layers

Each figure is the median of several fresh processes, which take turns: CPU seconds of all threads, and seconds on the
clock. "In a running Python" counts neither the imports nor the first operation that sets a library up.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
QUESTION = "How many rockets are standing on the launch pad?"
MEASURED = """
import json, resource, sys, time
def now():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, time.perf_counter()
{before}
start = now()
{code}
print(json.dumps([end - begin for end, begin in zip(now(), start)]))
"""
TRANSFORMERS = (
    """
import torch
from PIL import Image
from transformers import ViltForQuestionAnswering, ViltProcessor
torch.ones(2) + 1
""",
    """
image = Image.open({image!r}).convert("RGB")
model, processor = (kind.from_pretrained({src!r}) for kind in (ViltForQuestionAnswering, ViltProcessor))
with torch.inference_mode():
    logits = model(**processor(images=[image], text=[{question!r}], return_tensors="pt"))["logits"][0]
print(model.config.id2label[int(logits.argmax())])
""",
)
MODEL = (
    """
import tensorflow as tf
from PIL import Image
from tfvl import ViltForQuestionAnswering, ViltProcessor
tf.ones(2) + 1
""",
    """
image = Image.open({image!r}).convert("RGB")
model, processor = (kind.from_pretrained({src!r}) for kind in (ViltForQuestionAnswering, ViltProcessor))
logits = model(processor(images=[image], text=[{question!r}]))["logits"][0].numpy()
print(model.config.id2label[int(logits.argmax())])
""",
)
PIPELINE = (
    """
import tensorflow as tf, tfvl
from tfvl.pipelines import open_pipeline
tf.ones(2) + 1
""",
    "print(tfvl.pipeline({src!r})(image={image!r}, question={question!r})[0]['answer'])",
)
FIT = (
    """
from support.classes import BARE, HELPERS, LAYERS, dataset, family
import keras, tfvl
head = {head!r}
sizes = HELPERS[family(head)].SIZES | dict.fromkeys(LAYERS[family(head)], 6)
model = getattr(tfvl, head)(getattr(tfvl, head).config_class(**sizes))
loss = dict.fromkeys(BARE.get(head, ()), "mse") or None
data = dataset(head)
""",
    "model.compile({optimizer}, loss=loss); model.fit(data, verbose=0)",
)


def measure(before: str, code: str) -> list[float]:
    """Returns CPU seconds and seconds on the clock of `code`, in a process that has run `before`."""
    script = MEASURED.format(before=before, code=code)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def process(*command: str) -> list[float]:
    """Returns CPU seconds and seconds on the clock of a whole process."""
    return measure(
        "import subprocess",
        f"""
before = resource.getrusage(resource.RUSAGE_CHILDREN)
subprocess.run({list(command)!r}, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
after = resource.getrusage(resource.RUSAGE_CHILDREN)
start = now()[0] - after.ru_utime - after.ru_stime + before.ru_utime + before.ru_stime, start[1]
""",
    )


def compare(title: str, reference: str, rows: dict, repeats: int) -> None:
    """Prints the medians of each row's function, and their ratios to those of the row `reference`."""
    found: dict[str, list] = {name: [] for name in rows}
    for _ in range(repeats):
        for name, run in rows.items():
            found[name].append(run())
    medians = {name: [median(column) for column in zip(*each, strict=True)] for name, each in found.items()}
    table = Table("", "CPU seconds", "ratio", "seconds", "ratio", title=title)
    for name, values in medians.items():
        pairs = zip(values, medians[reference], strict=True)
        table.add_row(name, *(text for value, other in pairs for text in (f"{value:.2f}", f"{value / other:.2f}")))
    Console(width=110).print(table)


def answer(repeats: int = 5) -> None:
    """Prints two tables: one of a running Python, one of whole processes."""
    import vilt  # the benchmark beside this file, which makes the checkpoint

    import tfvl

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        vilt.make_checkpoint(directory)
        src, image = str(directory / vilt.FORMATS[0]), str(directory / "photograph.jpg")
        Path(image).write_bytes(vilt.photograph())
        sources = {"checkpoint": src, "SavedModel": f"{name}/saved", ".tflite file": f"{name}/model.tflite"}
        model, processor = tfvl.auto.load(src)
        tfvl.export.saved_model(model, processor, sources["SavedModel"])
        tfvl.export.lite(model, processor, sources[".tflite file"])
        del model

        def code(parts, src):
            return [part.format(src=src, image=image, question=QUESTION) for part in parts]

        theirs = code(TRANSFORMERS, src)
        running = {"transformers": theirs, "model and processor": code(MODEL, src)}
        running |= {f"pipeline, {kind}": code(PIPELINE, each) for kind, each in sources.items()}
        rows = {kind: lambda parts=parts: measure(*parts) for kind, parts in running.items()}
        compare("Load and first answer in a running Python", "transformers", rows, repeats)
        commands = {"transformers": (sys.executable, "-c", "\n".join(theirs))}
        commands |= {
            f"tfvl ask, {kind}": (sys.executable, "-m", "tfvl", "ask", image, QUESTION, "--model", each)
            for kind, each in sources.items()
        }
        rows = {kind: lambda command=command: process(*command) for kind, command in commands.items()}
        compare("Whole processes", "transformers", rows, repeats)


def fit(repeats: int = 3, heads: list[str] | None = None) -> None:
    """Prints a table for each head: `compile` and the first `fit`, with a fresh optimizer and with one built before."""
    from support.classes import CLASSES

    made = "optimizer = keras.optimizers.Adam(1e-3); optimizer.build(model.trainable_variables)\n"
    for head in heads or CLASSES:
        before, rows = FIT[0].format(head=head), {}
        for name, prepared, optimizer in (
            ("built before", made, "optimizer"),
            ("fresh", "", "keras.optimizers.Adam(1e-3)"),
        ):
            code = FIT[1].format(optimizer=optimizer)
            rows[name] = lambda before=before + prepared, code=code: measure(before, code)
        compare(head, "built before", rows, repeats)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(answer)
    app.command()(fit)
    app()

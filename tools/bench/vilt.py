"""Compares tfvl with transformers at base size (ViLT-B/32, 384 pixels, random weights), side by side in one run.

Three tables: answering (the exported SavedModel against transformers' processor and model, from image bytes and text
to the answer), loading (from the directory to the first answer) and memory (peak while each format is read).
Run from the project's root with the extra `parity` installed and nothing else running:

    python tools/bench/vilt.py
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import torch  # before TensorFlow: both bring an OpenMP runtime
import transformers
import typer
from PIL import Image, ImageChops
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "How many rockets are standing on the launch pad?"
PAUSE = 0.3  # seconds; PyTorch's threads spin for a while after their work and would slow what runs next
IN_A_ROW = 4  # calls of one before it is the other's turn, as a server under load makes them
FORMATS = ("model.safetensors", "pytorch_model.bin", "legacy pytorch_model.bin")


def photograph(shift: int = 0) -> bytes:
    """Makes a JPEG of 640×480 pixels, a different one for each `shift`: an artefact decodes equal images only once."""
    buffer = BytesIO()
    picture = Image.open(ROOT / "tests/data/rocket.jpg").convert("RGB").resize((640, 480))
    ImageChops.offset(picture, shift).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make_checkpoint(directory: Path, formats: tuple[str, ...] = FORMATS) -> None:
    """Writes a base-size checkpoint in each of these formats, with a processor beside each."""
    labels = {index: f"answer {index}" for index in range(3129)}
    model = transformers.ViltForQuestionAnswering(transformers.ViltConfig(id2label=labels)).eval()
    tokenizer = transformers.BertTokenizer(str(ROOT / "tfvl/bundled/bert-base-uncased/vocab.txt"), model_max_length=40)
    processor = transformers.ViltProcessor(transformers.ViltImageProcessor(), tokenizer)
    for name in formats:
        target = directory / name
        model.config.architectures = ["ViltForQuestionAnswering"]
        model.config.save_pretrained(target)
        processor.save_pretrained(target)
        if name == "model.safetensors":
            model.save_pretrained(target)
        else:
            torch.save(
                model.state_dict(), target / "pytorch_model.bin", _use_new_zipfile_serialization="legacy" not in name
            )


class Reference:
    """The processor and the model of transformers, from bytes to the answer."""

    def __init__(self, directory: Path):
        self.processor = transformers.ViltProcessor.from_pretrained(directory)
        self.model = transformers.ViltForQuestionAnswering.from_pretrained(directory).eval()

    def __call__(self, images: list[bytes], texts: list[str]) -> list[str]:
        pictures = [Image.open(BytesIO(image)).convert("RGB") for image in images]
        inputs = self.processor(pictures, texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            best = self.model(**inputs).logits.argmax(-1)
        return [self.model.config.id2label[int(index)] for index in best]


class Artefact:
    """The SavedModel that tfvl exports, loaded again."""

    def __init__(self, checkpoint: Path, directory: Path):
        import tensorflow as tf

        import tfvl

        model = tfvl.ViltForQuestionAnswering.from_pretrained(checkpoint)
        tfvl.export.saved_model(model, tfvl.ViltProcessor.from_pretrained(checkpoint), directory)
        del model
        self.tf, self.serve = tf, tf.saved_model.load(str(directory)).signatures["serving_default"]

    def __call__(self, images: list[bytes], texts: list[str]) -> list[str]:
        answers = self.serve(image=self.tf.constant(images), text=self.tf.constant(texts))["answers"]
        return [row[0].decode() for row in answers.numpy()]


def compare(reference, artefact, inputs: tuple, repeats: int) -> list[float]:
    """Asserts that both answer the same; then returns the median seconds of each, called in turns on these inputs."""
    assert reference(*inputs) == artefact(*inputs)
    times = {reference: [], artefact: []}
    for _ in range(repeats if len(inputs[0]) == 1 else max(2, repeats // 4)):
        for run, seconds in times.items():
            time.sleep(PAUSE)
            for _ in range(IN_A_ROW):
                start = time.perf_counter()
                run(*inputs)
                seconds.append(time.perf_counter() - start)
    return [median(seconds) for seconds in times.values()]


def answering(console: Console, checkpoint: Path, directory: Path, repeats: int) -> None:
    reference, artefact = Reference(checkpoint), Artefact(checkpoint, directory / "1")
    table = Table(
        "batch", "transformers", "SavedModel", "ratio", title="Image bytes and text to answer, median of one run"
    )
    for batch in (1, 8):
        images = [photograph(row) for row in range(batch)]
        theirs, ours = compare(reference, artefact, (images, [QUESTION] * batch), repeats)
        table.add_row(str(batch), f"{theirs * 1e3:.0f} ms", f"{ours * 1e3:.0f} ms", f"{theirs / ours:.2f}")
    console.print(table)


LOAD = {
    "transformers": "import torch; from transformers import ViltProcessor as P, ViltForQuestionAnswering as M",
    "tfvl": "from tfvl import ViltProcessor as P, ViltForQuestionAnswering as M; import tensorflow as tf; tf.ones(1)",
}
FIRST_ANSWER = """
import json, re, time
from PIL import Image
{imports}
# not getrusage, whose maximum a child inherits from its parent
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
image = Image.open({image!r}).convert("RGB")
before, start = peak(), time.perf_counter()
model = M.from_pretrained({directory!r})
loaded, memory = time.perf_counter() - start, peak() - before
inputs = P.from_pretrained({directory!r})(images=[image], text=[{question!r}], **{options})
logits = model(**inputs)
logits = logits["logits"][0].{numpy}
print(json.dumps([loaded, time.perf_counter() - start, memory]))
"""


def first_answer(package: str, directory: Path, image: Path) -> list[float]:
    """Returns seconds to load, seconds to the first answer, and bytes above the baseline, all in a fresh process."""
    theirs = package == "transformers"
    code = FIRST_ANSWER.format(
        imports=LOAD[package],
        image=str(image),
        directory=str(directory),
        question=QUESTION,
        options={"return_tensors": "pt"} if theirs else {},
        numpy="detach().numpy()" if theirs else "numpy()",
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def loading(console: Console, checkpoint: Path, image: Path, repeats: int) -> None:
    runs = {package: [] for package in LOAD}
    for _ in range(repeats):
        for package, times in runs.items():
            times.append(first_answer(package, checkpoint, image))
    table = Table("", "load", "load and first answer", title="Fresh processes, imports not counted, medians")
    results = {package: [median(column) for column in zip(*times, strict=True)] for package, times in runs.items()}
    for package, (load, answer, _) in results.items():
        table.add_row(package, f"{load:.2f} s", f"{answer:.2f} s")
    load, answer = (results["tfvl"][column] / results["transformers"][column] for column in (0, 1))
    table.add_row("tfvl / transformers", f"{load:.2f}", f"{answer:.2f}")
    console.print(table)


def memory(console: Console, directory: Path, image: Path) -> None:
    table = Table(
        "format", "file", "peak above the baseline", "ratio", title="Memory while a checkpoint is read by tfvl"
    )
    for name in FORMATS:
        size = max(path.stat().st_size for path in (directory / name).iterdir())
        peak = first_answer("tfvl", directory / name, image)[2]
        table.add_row(name, f"{size / 1e6:.0f} MB", f"{peak / 1e6:.0f} MB", f"{peak / size:.2f}")
    console.print(table)


def main(repeats: int = 12) -> None:
    """Prints the three tables."""
    console = Console(width=100)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        image = directory / "photograph.jpg"
        image.write_bytes(photograph())
        make_checkpoint(directory)
        memory(console, directory, image)
        loading(console, directory / FORMATS[0], image, max(3, repeats // 3))
        answering(console, directory / FORMATS[0], directory / "exported", repeats)


if __name__ == "__main__":
    typer.run(main)

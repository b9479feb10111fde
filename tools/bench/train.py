"""Compares training steps of tfvl with a plain PyTorch loop over transformers, side by side in one run.

Both train a base-size ViLT for VQA (ViLT-B/32, 3,129 answers, random weights) in float32 on one ready batch, by AdamW.
A step is forward pass, loss, gradients and update. Then the input pipeline alone is timed, from JPEG files of 640×480
pixels and VQA's files to batches of the same size, nothing kept in memory, beside the fastest step. Run from the root
with the extra `parity` installed and nothing else running:

    python tools/bench/train.py
"""

import io
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import torch  # before TensorFlow: both bring an OpenMP runtime
import transformers
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

ANSWERS, WORDS = 3129, 20
PAUSE = 0.5  # seconds; PyTorch's threads spin for a while after their work and would slow what runs next
IN_A_ROW = 2  # steps of one before it is the other's turn
PHOTOGRAPHS = [Path("tests/data") / name for name in ("astronaut.png", "rocket.jpg", "cat_444.jpg")]
PIXELS = (640, 480)  # as most of COCO's
QUESTIONS = [
    "What color is the hydrant?",
    "How many people are wearing hats in this picture?",
    "Is the man on the left looking at the camera?",
    "What is the animal next to the window doing?",
]
SAME_LOSS = 1e-3  # relative; the first steps of two frameworks, summed over 3,129 answers


def batch_of(rows: int, size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Makes inputs with channels last, and soft targets (rows, answers), with a few answers per question."""
    rng = np.random.default_rng(0)
    inputs = {
        "input_ids": rng.integers(1000, 30000, (rows, WORDS)).astype("int32"),
        "attention_mask": np.ones((rows, WORDS), "int32"),
        "token_type_ids": np.zeros((rows, WORDS), "int32"),
        "pixel_values": rng.normal(size=(rows, size, size, 3)).astype("float32"),
        "pixel_mask": np.ones((rows, size, size), "int32"),
    }
    return inputs, (rng.uniform(size=(rows, ANSWERS)) < 0.001).astype("float32")


class PyTorch:
    """The usual training loop in PyTorch."""

    def __init__(self, model, inputs: dict, labels: np.ndarray, fused: bool):
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=fused or None)
        self.batch = {name: torch.tensor(value) for name, value in (inputs | {"labels": labels}).items()}
        self.batch["pixel_values"] = self.batch["pixel_values"].permute(0, 3, 1, 2).contiguous()

    def __call__(self) -> float:
        self.optimizer.zero_grad()
        loss = self.model(**self.batch).loss
        loss.backward()
        self.optimizer.step()
        return float(loss)


class Tfvl:
    """`model.compile()` and a step of `fit`."""

    def __init__(self, checkpoint: Path, inputs: dict, labels: np.ndarray, jit_compile: bool):
        import tfvl

        self.model = tfvl.ViltForQuestionAnswering.from_pretrained(checkpoint)
        self.model.compile(jit_compile=jit_compile)
        self.batch = inputs, labels

    def __call__(self) -> float:
        self.model.reset_metrics()
        return float(self.model.train_on_batch(*self.batch, return_dict=True)["loss"])


def compare(runs: dict, repeats: int) -> dict[str, float]:
    """Asserts that all start with the same loss; then returns the median seconds of a step of each, run in turns."""
    first = {name: run() for name, run in runs.items()}
    reference = next(iter(first.values()))
    for name, loss in first.items():
        assert abs(loss - reference) < SAME_LOSS * reference, (name, loss, reference)
    seconds = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            time.sleep(PAUSE)
            for _ in range(IN_A_ROW):
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in seconds.items()}


def write_vqa(directory: Path, count: int) -> None:
    """Writes questions, answers and photographs as VQA publishes them; each photograph is a part of one of ours."""
    questions, annotations = [], []
    (directory / "images").mkdir()
    for number in range(count):
        with Image.open(PHOTOGRAPHS[number % len(PHOTOGRAPHS)]) as photograph:
            width, height = photograph.size
            left, upper = width * (number % 7) // 40, height * (number % 5) // 30
            part = photograph.convert("RGB").resize(PIXELS, box=(left, upper, width, height))
        content = io.BytesIO()
        part.save(content, "JPEG", quality=90)
        (directory / "images" / f"COCO_train2014_{number:012d}.jpg").write_bytes(content.getvalue())
        ids = {"image_id": number, "question_id": number}
        questions.append(ids | {"question": QUESTIONS[number % len(QUESTIONS)]})
        answers = [{"answer": "yes", "answer_confidence": "yes", "answer_id": place} for place in range(1, 11)]
        annotations.append(ids | {"answers": answers, "multiple_choice_answer": "yes", "answer_type": "yes/no"})
    files = {"v2_OpenEnded_mscoco_train2014_questions": {"data_subtype": "train2014", "questions": questions}}
    files["v2_mscoco_train2014_annotations"] = {"annotations": annotations}
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))


def pipeline_of(directory: Path, rows: int, size: int):
    """Returns a pipeline of `write_vqa`'s files, as `tfvl train` makes it; no image is kept in memory."""
    import tfvl
    from tfvl.training.data.images import ImageFolder
    from tfvl.training.data.loading import Pictures
    from tfvl.training.data.pipeline import BatchPipeline, BatchPlan, bucket_keys
    from tfvl.training.tasks.table import TASKS

    image_processor = tfvl.ViltImageProcessor(size=size)
    processor = tfvl.ViltProcessor(image_processor, tfvl.BertTokenizer.from_pretrained("bert-base-uncased"))
    visual = Pictures(ImageFolder(directory / "images"), image_processor)
    task, labels = TASKS["vqa"], {"yes": 0} | {f"answer {number}": number for number in range(1, ANSWERS)}
    examples = task.examples(directory, "train", images=visual)
    loader = task.loader(tfvl.ViltForQuestionAnswering, examples, visual, processor, labels)
    return BatchPipeline(loader, BatchPlan(len(examples), rows, keys=bucket_keys(loader)))


def pipeline_seconds(rows: int, size: int, batches: int) -> float:
    """Returns the mean seconds for a batch, over half of `batches` in a row, after the first ones have been made."""
    with tempfile.TemporaryDirectory() as directory:
        write_vqa(Path(directory), rows * batches)
        pipeline = pipeline_of(Path(directory), rows, size)
        iterator = iter(pipeline.dataset(epochs=2))
        for _ in range(batches):
            next(iterator)
        time.sleep(PAUSE)  # in which some are made ahead: they are not counted
        for _ in range(batches // 4):
            next(iterator)
        start = time.perf_counter()
        for _ in range(batches // 2):
            next(iterator)
        return (time.perf_counter() - start) / (batches // 2)


def main(
    repeats: int = typer.Option(6, help="turns of each, of two steps"),
    rows: int = typer.Option(4, help="questions in the batch"),
    size: int = typer.Option(384, help="height and width of the images, in pixels"),
    jit_compile: bool = typer.Option(True, help="measure tfvl under XLA as well"),
    fused: bool = typer.Option(True, help="measure PyTorch with its fused AdamW as well"),
    batches: int = typer.Option(80, help="batches of the pipeline, half of which are timed; 0 leaves it out"),
) -> None:
    """Prints one table, and a line for the pipeline."""
    inputs, labels = batch_of(rows, size)
    with tempfile.TemporaryDirectory() as directory:
        torch.manual_seed(0)
        config = transformers.ViltConfig(num_labels=ANSWERS, image_size=384)
        transformers.ViltForQuestionAnswering(config).save_pretrained(directory)
        runs = {}
        for is_fused in (False, True)[: 1 + fused]:
            model = transformers.ViltForQuestionAnswering.from_pretrained(directory)
            name = "transformers, PyTorch" + ", fused AdamW" * is_fused
            runs[name] = PyTorch(model, inputs, labels, is_fused)
        for is_jit in (False, True)[: 1 + jit_compile]:
            name = "tfvl, compile(" + "jit_compile=True" * is_jit + ")"
            runs[name] = Tfvl(Path(directory), inputs, labels, is_jit)
        seconds = compare(runs, repeats)
    table = Table(
        "", "step", "steps per second", "× PyTorch", title=f"ViLT-B/32 VQA, float32, batch {rows}, {size}×{size} pixels"
    )
    plain = next(iter(seconds.values()))
    for name, value in seconds.items():
        table.add_row(name, f"{value * 1e3:.0f} ms", f"{1 / value:.3f}", f"{plain / value:.2f}")
    console = Console(width=100)
    console.print(table)
    if batches:
        alone, step = pipeline_seconds(rows, size, batches), min(seconds.values())
        console.print(
            f"The input pipeline alone, {rows} JPEG files of {PIXELS[0]}×{PIXELS[1]} pixels in a batch: "
            f"{alone * 1e3:.0f} ms, {1 / alone:.2f} batches per second, {step / alone:.1f} times what the fastest step "
            "takes."
        )


if __name__ == "__main__":
    typer.run(main)

"""`tfvl demo`: a drawn scene, an exported model, and a process without tfvl that answers from it."""

import base64
import io
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfvl import auto, shapes
from tfvl.export import saved_model

# All that a Python client needs; tensorflow_text is imported for the ops of the tokenizer.
CLIENT = """
import base64, json, sys
import tensorflow as tf, tensorflow_text
request = json.load(sys.stdin)
serve = tf.saved_model.load(request["directory"]).signatures["serving_default"]
image = base64.b64decode(request["image"])
texts = request["texts"]
results = serve(image=tf.constant([image] * len(texts)), text=tf.constant(texts))
answers = [[answer.decode() for answer in row] for row in results["answers"].numpy()]
scores = results["scores"].numpy().tolist()
status = [row.decode() for row in results["status"].numpy()]
json.dump({"answers": answers, "scores": scores, "status": status}, sys.stdout)
"""
HUB_ID = "dandelin/vilt-b32-finetuned-vqa"


class Row(NamedTuple):
    """A question, the best answer with its score (0 to 1), and the answer that is right."""

    question: str
    answer: str
    score: float
    truth: str


def run_demo(model: str = "shapes-vilt", seed: int | None = None, out: str | Path = "tfvl-demo") -> list[Row]:
    """Draws a scene, exports a model, has the artefact answer in a clean process, prints a table, paints a picture.

    Args:
        model: bundled name, directory or hub id of a model for question answering.
        seed: of the scene; None draws one.
        out: directory for `scene.png`, `answers.png` and the artefact (in `<model's name>/1`, replaced if there).

    Raises:
        ValueError: the model cannot be loaded or exported, or does not answer questions.
        RuntimeError: the artefact does not run.
    """
    console = Console(soft_wrap=True, markup=False, highlight=False)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    scene = shapes.draw_scene(seed)
    png = io.BytesIO()
    scene.image().save(png, "png")
    (out / "scene.png").write_bytes(png.getvalue())
    console.print(f"Scene {seed} (the same again with --seed {seed}): {out / 'scene.png'}")

    directory = out / Path(model).resolve().name / "1"
    with console.status(f"Exporting {model} …"):
        loaded, processor = auto.load(model)
        if not type(loaded).__name__.endswith("ForQuestionAnswering"):
            raise ValueError(f"{model} is a {type(loaded).__name__}; the demo needs a model for question answering.")
        saved_model(loaded, processor, directory, overwrite=True)
    console.print(f"Exported {model}, with its tokenizer and image processing: {directory}")
    with console.status("Loading the artefact in a clean process and asking …"):
        rows = ask(directory, png.getvalue(), scene.questions(2))
    console.print(answer_table(rows))
    shapes.draw_answers(scene.image(), rows).save(out / "answers.png")
    console.print(f"Picture with the answers: {out / 'answers.png'}")
    console.print("The same with a checkpoint of the hub and a photograph of yours:")
    console.print(f"  tfvl export {HUB_ID} models/vilt_vqa/1")
    console.print('  tfvl ask photo.jpg "how many cats are there?" --model models/vilt_vqa/1')
    return rows


def ask(directory: Path, image: bytes, questions: list[shapes.Question]) -> list[Row]:
    """Answers from the SavedModel in `directory`, in a new interpreter that imports TensorFlow and nothing of tfvl."""
    texts = [question.text for question in questions]
    request = {"directory": str(directory), "image": base64.b64encode(image).decode(), "texts": texts}
    command = [sys.executable, "-I", "-c", CLIENT]  # -I: neither this directory nor PYTHONPATH helps it
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{directory} does not run: {done.stderr.strip()[-300:]}")
    results = json.loads(done.stdout)
    if problems := [status for status in results["status"] if status]:
        raise RuntimeError(f"{directory} refused a question: {problems[0]}")
    best = zip(questions, results["answers"], results["scores"], strict=True)
    return [Row(question.text, answers[0], scores[0], question.answer) for question, answers, scores in best]


def answer_table(rows: list[Row]) -> Table:
    right = sum(row.answer == row.truth for row in rows)
    table = Table("question", "answer", "score", "truth", caption=f"{right} of {len(rows)} right")
    for row in rows:
        answer = Text(row.answer, style="green" if row.answer == row.truth else "red")
        table.add_row(Text(row.question), answer, f"{row.score:.3f}", row.truth)
    return table

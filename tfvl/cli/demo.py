"""`tfvl demo`: draws a scene, exports a model, and asks the exported model in a process without tfvl."""

import base64
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from tfvl.answers.rows import HEADS, head_name
from tfvl.cli.console import DEFAULT_MODEL, SOURCE_HELP
from tfvl.cli.demo_tasks import TASKS, Asked, DemoAnswer
from tfvl.cli.serve import serve
from tfvl.files.backend import require_tensorflow
from tfvl.files.quiet import quiet_tensorflow
from tfvl.files.whole import written_files

# A complete Python client; it imports tensorflow_text for the ops of the tokenizer. Bytes are written as in the JSON
# requests of TensorFlow Serving.
CLIENT = """
import base64, json, sys
import tensorflow as tf, tensorflow_text
request = json.load(sys.stdin, object_hook=lambda it: base64.b64decode(it["b64"]) if "b64" in it else it)
serve = tf.saved_model.load(request["directory"]).signatures["serving_default"]
results = serve(**{name: tf.constant(values) for name, values in request["inputs"].items()})
json.dump({name: value.numpy().tolist() for name, value in results.items()}, sys.stdout, default=bytes.decode)
"""


class DemoModel(NamedTuple):
    """A family's models for the demo: the bundled one, one of the hub, and a detector if the latter reads regions."""

    bundled: str
    hub_id: str
    hub_detector: str | None = None


MODELS = {
    "vilt": DemoModel("shapes-vilt", "dandelin/vilt-b32-finetuned-vqa"),
    "visual_bert": DemoModel("shapes-visual-bert", "uclanlp/visualbert-vqa", "unc-nlp/frcnn-vg-finetuned"),
    "lxmert": DemoModel("shapes-lxmert", "unc-nlp/lxmert-vqa-uncased", "unc-nlp/frcnn-vg-finetuned"),
}
SCENES = ("scene.png", "scene-2.png")
SURE = 0.5  # smallest probability of a region that is outlined in the picture


def demo(
    model: Annotated[str, typer.Option(help="vilt, visual_bert or lxmert. " + SOURCE_HELP)] = DEFAULT_MODEL,
    seed: Annotated[int | None, typer.Option(help="Seed of the scene; without it, a new scene each time.")] = None,
    out: Annotated[Path, typer.Option(help="Directory for the picture and the exported model.")] = Path("tfvl-demo"),
    task: Annotated[
        str, typer.Option(help=f"What is asked: {', '.join(TASKS)}; others than vqa have a model.")
    ] = "vqa",
    page: Annotated[
        bool, typer.Option("--page", help="Then serve the model, with a page that asks it, until Ctrl-C.")
    ] = False,
):
    """Draw a scene, export a bundled model, and let the exported artefact answer questions on the scene."""
    require_tensorflow("tfvl demo, which exports a model,")
    quiet_tensorflow()
    if page:
        from tfvl.serving.server.launch import require_libraries

        require_libraries()
    run_demo(model=model, seed=seed, out=out, task=task)
    if page:
        serve(out / Path(shown_model(model, task)).resolve().name, rest_port=0, grpc_port=0, page=True)


def shown_model(model: str, task: str) -> str:
    """Returns the bundled name, directory or hub id of the model that `--model` and `--task` select.

    Raises ValueError if there is no such task.
    """
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r} to show; there are {', '.join(TASKS)}")
    if TASKS[task].model and model == DEFAULT_MODEL:
        return TASKS[task].model
    return MODELS[model].bundled if model in MODELS else model


def run_demo(
    model: str = DEFAULT_MODEL, seed: int | None = None, out: str | Path = "tfvl-demo", task: str = "vqa"
) -> list[DemoAnswer]:
    """Draws a scene, exports a model, asks the artefact in a clean process, prints a table, and paints a picture.

    Args:
        model: `vilt`, `visual_bert` or `lxmert` for the bundled model of that family; or a bundled name, directory or
            hub id of a model for the task. One that reads region features must take those of the bundled detector,
            `shapes-detector`. The default is the task's bundled model.
        seed: seed of the scene; None takes a random one.
        out: directory for `scene.png` (and `scene-2.png` if two are compared), `answers.png` and the artefact (in
            `<model's name>/1`, which is replaced if it exists).
        task: a key of `demo_tasks.TASKS`: "vqa" asks questions.

    Returns:
        The answers, as printed.

    Raises:
        ValueError: there is no such task, or the model cannot be loaded or exported, does not do the task, or takes
            other region features.
        RuntimeError: the artefact does not run.
    """
    from rich.console import Console

    from tfvl import auto, shapes
    from tfvl.export import saved_model
    from tfvl.porting import hub

    console = Console(soft_wrap=True, markup=False, highlight=False)
    model, shown_task = shown_model(model, task), TASKS[task]
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    asked = shown_task.ask(shapes.draw_scene(seed))
    if not asked.texts:
        raise ValueError(f"nothing of the task {task} can be asked about scene {seed}; take another seed")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    pictures = [scene.image() for scene in asked.scenes]
    files = [out / name for name in SCENES[: len(pictures)]]
    with written_files(*files) as new:
        for picture, file in zip(pictures, new, strict=True):
            picture.save(file)
    console.print(f"Scene {seed} (the same again with --seed {seed}): {', '.join(map(str, files))}")

    directory = out / Path(model).resolve().name / "1"
    with console.status(f"Exporting {model} …"):
        source = auto.find(model)
        detector = hub.BUNDLED_DETECTOR if source.reads_regions else None
        loaded, processor = source.load(detector=detector)
        head = HEADS.get(head_name(type(loaded)))
        if head is None or head.kind not in shown_task.kinds or head.several != shown_task.several:
            needed = f"the task {task}" if shown_task.model else "question answering"
            raise ValueError(f"{model} is a {type(loaded).__name__}; the demo needs a model for {needed}.")
        saved_model(loaded, processor, directory, overwrite=True)
    console.print(f"Exported {model}, preprocessing included: {directory}")
    with console.status("Loading the artefact in a clean process and asking …"):
        outputs = ask(directory, asked)
    found = None if detector is None or head.several else processor.detector.detect(pictures[0])
    rows = shown_task.read(asked, outputs, None if found is None else found["normalized_boxes"][0])
    console.print(answer_table(rows))
    boxes = () if found is None else found["normalized_boxes"][0][found["obj_probs"][0] > SURE].tolist()
    with written_files(out / "answers.png") as (new,):
        shapes.draw_answers(shapes.side_by_side(pictures), rows, boxes).save(new)
    console.print(f"Picture with the answers: {out / 'answers.png'}")
    shown = MODELS.get(loaded.config.model_type)
    if shown is None or shown_task.model:
        return rows
    name = f"models/{loaded.config.model_type}_vqa/1"
    with_detector = f" --detector {shown.hub_detector}" if shown.hub_detector else ""
    console.print("The same with a checkpoint of the hub and a photograph of your own:")
    console.print(f"  tfvl export {shown.hub_id} {name}{with_detector}")
    console.print(f'  tfvl ask photo.jpg "how many cats are there?" --model {name}')
    return rows


def ask(directory: Path, asked: Asked) -> dict[str, list]:
    """Runs the SavedModel in `directory` in a new interpreter, which does not import tfvl, and returns its outputs.

    Raises:
        RuntimeError: the artefact does not run, or refuses a question.
    """
    images = [{"b64": base64.b64encode(scene.png()).decode()} for scene in asked.scenes]
    inputs = {"image": [images if len(images) > 1 else images[0]] * len(asked.texts), "text": asked.texts, **asked.more}
    request = {"directory": str(directory), "inputs": inputs}
    command = [sys.executable, "-I", "-c", CLIENT]  # -I: imports nothing from this directory or PYTHONPATH
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{directory} does not run: {done.stderr.strip()[-300:]}")
    results = json.loads(done.stdout)
    if problems := [status for status in results["status"] if status]:
        raise RuntimeError(f"{directory} refused a question: {problems[0]}")
    return results


def answer_table(rows: list[DemoAnswer]):
    """Returns a table for `rich`, with the right answers in green and the wrong ones in red."""
    from rich.table import Table
    from rich.text import Text

    right = sum(row.answer == row.truth for row in rows)
    table = Table("question", "answer", "score", "truth", caption=f"{right} of {len(rows)} right")
    for row in rows:
        answer = Text(row.answer, style="green" if row.answer == row.truth else "red")
        table.add_row(Text(row.question), answer, f"{row.score:.3f}", row.truth)
    return table

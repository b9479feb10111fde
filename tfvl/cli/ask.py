"""`tfvl ask`."""

import sys
import warnings
from typing import Annotated

import typer

from tfvl.cli.console import (
    DEFAULT_MODEL,
    SOURCE_HELP,
    AsJson,
    Choices,
    ClassName,
    Detector,
    ImageIds,
    MoreImages,
    Phrases,
    Revision,
    TopK,
    console,
    print_json,
    print_table,
    say,
)
from tfvl.files.quiet import quiet_tensorflow

AT_ONCE = 8  # questions in a batch
SIDE, PLAIN = 64, 0.25  # pixels that are compared along an edge, and the share of one colour that makes a plain ground
PHOTOGRAPH = (
    "{} knows drawn shapes only, and this looks like a photograph; ask a checkpoint for those, such as "
    "--model dandelin/vilt-b32-finetuned-vqa"
)


def ask(
    image: Annotated[
        str,
        typer.Argument(
            help="JPEG, PNG, GIF, BMP or WebP file, or the http(s) address of one; for VisualBERT and LXMERT with "
            "--detector, or a file of region features: .npz or .npy, or .tsv, .h5 or .tfrecord with --image-id.",
        ),
    ],
    questions: Annotated[
        list[str],
        typer.Argument(
            metavar="QUESTION…",
            help="Questions, sentences with [MASK]s, or captions, as the model wants them; - reads lines of stdin.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help=SOURCE_HELP
            + " Or the directory of an exported model, or a .tflite file; with --server, the name of a served one.",
            show_default=DEFAULT_MODEL,
        ),
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask a server: http://HOST:8501 or grpc://HOST:8500.")
    ] = None,
    top_k: TopK = 5,
    more: MoreImages = None,
    image_id: ImageIds = None,
    choice: Choices = None,
    phrase: Phrases = None,
    detector: Detector = None,
    class_name: ClassName = None,
    revision: Revision = None,
    as_json: AsJson = False,
):
    """Ask a model, or an exported one, about an image or its region features."""
    from tfvl.pipelines import Pipeline, ServerPipeline, open_pipeline
    from tfvl.preprocessing.requests import Request
    from tfvl.preprocessing.visuals import read_all

    src = model or DEFAULT_MODEL
    is_lite = server is None and src.endswith(".tflite")
    if server is not None and (detector or class_name or revision):
        raise ValueError("--detector, --class and --revision are for loading a model; leave them out with --server")
    if is_lite and (class_name or revision):
        raise ValueError("--class and --revision are for a checkpoint; leave them out with a .tflite file")
    files, visuals = read_all([image, *(more or [])], image_id or [])
    names = [str(file) for file in files]
    texts = read_questions(questions)
    requests = [Request(text, visuals, choice or [], phrase or [], names) for text in texts]
    if server is None and (detector or not is_lite):
        quiet_tensorflow()
    with console(stderr=True).status("answering"):
        if server is not None:
            pipeline: Pipeline = ServerPipeline(server, model, top_k)
        else:
            pipeline = open_pipeline(src, top_k=top_k, detector=detector, architecture=class_name, revision=revision)
        with pipeline:
            chunks = [requests[start : start + AT_ONCE] for start in range(0, len(requests), AT_ONCE)]
            found = [answers for chunk in chunks for answers in pipeline.ask(chunk)]
    if server is None and src.startswith("shapes-") and not all(map(looks_drawn, visuals)):
        warnings.warn(PHOTOGRAPH.format(src), stacklevel=2)
    if as_json:
        shown = [document(text, answers) for text, answers in zip(texts, found, strict=True)]
        return print_json({"model": model or src, "images": names, "results": shown})
    for text, answers in zip(texts, found, strict=True):
        if answers.filled:
            say(answers.filled)
        if answers.match is not None:
            say(f"text and image belong together: {answers.match:.4f}")
        print_table(text, ("answer", "score"), [(said, f"{score:.4f}") for said, score in answers.scored])


def read_questions(given: list[str]) -> list[str]:
    """Returns the questions, with the lines of stdin in place of "-". Raises ValueError if there are none."""
    lines = (line.strip() for text in given if text == "-" for line in sys.stdin)
    read = [line for line in lines if line]
    texts = [each for text in given for each in (read if text == "-" else [text])]
    if not texts:
        raise ValueError("there are no questions on stdin; give one a line")
    return texts


def document(text: str, answers) -> dict:
    """Returns a model's answers to a question, for JSON."""
    more = {"filled": answers.filled or None, "match": answers.match}
    more = {name: value for name, value in more.items() if value is not None}
    return {"question": text, "answers": [dict(each) for each in answers], **more}


def looks_drawn(visual) -> bool:
    """Returns whether an image has a plain ground, as drawn scenes have and photographs hardly; True for regions."""
    if not isinstance(visual, bytes):
        return True
    import io

    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(visual)) as image:
        levels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)) >> 4
    _, counts = np.unique(levels.reshape(-1, 3), axis=0, return_counts=True)
    return counts.max() >= PLAIN * SIDE * SIDE

"""`tfvl ask`."""

from pathlib import Path
from typing import Annotated

import typer

from tfvl.cli.console import (
    DEFAULT_MODEL,
    SOURCE_HELP,
    ClassName,
    Detector,
    Revision,
    TopK,
    console,
    print_table,
)
from tfvl.files.quiet import quiet_tensorflow


def ask(
    image: Annotated[
        Path,
        typer.Argument(
            help="JPEG, PNG, GIF, BMP or WebP file; for VisualBERT and LXMERT with --detector, or a file of region "
            "features: .npz or .npy, or .tsv, .h5 or .tfrecord with --image-id.",
            exists=True,
            dir_okay=False,
        ),
    ],
    question: Annotated[
        str, typer.Argument(help="Question, sentence with [MASK]s, or caption, as the model wants it.")
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
    more: Annotated[
        list[Path] | None, typer.Option("--image", help="Second image, for a model that compares two.")
    ] = None,
    image_id: Annotated[list[str] | None, typer.Option(help="Which image, in a file of many.")] = None,
    choice: Annotated[list[str] | None, typer.Option(help="A text to choose from, for multiple choice.")] = None,
    phrase: Annotated[list[str] | None, typer.Option(help="A phrase of the text, for its region.")] = None,
    detector: Detector = None,
    class_name: ClassName = None,
    revision: Revision = None,
):
    """Ask a model, or an exported one, about an image or its region features."""
    from tfvl.pipelines import ServerPipeline, open_pipeline
    from tfvl.preprocessing.requests import Request
    from tfvl.preprocessing.visuals import read_all

    src = model or DEFAULT_MODEL
    is_lite = server is None and src.endswith(".tflite")
    if server is not None and (detector or class_name or revision):
        raise ValueError("--detector, --class and --revision are for loading a model; leave them out with --server")
    if is_lite and (class_name or revision):
        raise ValueError("--class and --revision are for a checkpoint; leave them out with a .tflite file")
    files, visuals = read_all([image, *(more or [])], image_id or [])
    request = Request(question, visuals, choice or [], phrase or [], [str(file) for file in files])
    if server is None and (detector or not is_lite):
        quiet_tensorflow()
    with console(stderr=True).status("answering"):
        if server is not None:
            pipeline = ServerPipeline(server, model, top_k)
        else:
            pipeline = open_pipeline(src, top_k=top_k, detector=detector, architecture=class_name, revision=revision)
        with pipeline:
            (answers,) = pipeline.ask([request])
    if answers.filled:
        print(answers.filled)
    if answers.match is not None:
        print(f"text and image belong together: {answers.match:.4f}")
    print_table(question, ("answer", "score"), [(text, f"{score:.4f}") for text, score in answers.scored])

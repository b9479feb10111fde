"""The command line: `tfvl demo | ask | port | train | eval | regions | export | check | serve`.

Everything heavy is imported inside the commands, so that `tfvl --help` answers at once. A user's mistake is one line
on stderr and exit code 2, anything unexpected one line and exit code 1; `TFVL_TRACEBACK=1` shows the traceback.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from tfvl.cli.check import check, show_report
from tfvl.cli.console import (
    DEFAULT_MODEL,
    SOURCE_HELP,
    ClassName,
    Detector,
    Overwrite,
    Revision,
    Source,
    TopK,
    console,
    print_table,
    progress_bar,
    quiet_tensorflow,
    refuse_to_overwrite,
)
from tfvl.cli.evaluate import evaluate
from tfvl.cli.export_options import (
    Batch,
    Flavour,
    Format,
    ImageSize,
    Quantize,
    RegionCount,
    Resizable,
    TextLength,
    check_format,
)
from tfvl.cli.regions import regions
from tfvl.cli.serve import serve
from tfvl.cli.train import train

app = typer.Typer(
    name="tfvl",
    help="Vision-language checkpoints of the Hugging Face hub in TensorFlow: load, ask, export, check.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    model: Annotated[str, typer.Option(help="vilt, visual_bert or lxmert. " + SOURCE_HELP)] = DEFAULT_MODEL,
    seed: Annotated[int | None, typer.Option(help="Seed of the scene; without it, a new scene each time.")] = None,
    out: Annotated[Path, typer.Option(help="Directory for the picture and the exported model.")] = Path("tfvl-demo"),
):
    """Draw a scene, export a bundled model, and let the exported artefact answer questions on the scene."""
    quiet_tensorflow()
    from tfvl.cli.demo import run_demo

    run_demo(model=model, seed=seed, out=out)


@app.command()
def ask(
    image: Annotated[
        Path,
        typer.Argument(
            help="JPEG, PNG, GIF, BMP or WebP file; for VisualBERT and LXMERT with --detector, or a file of region "
            "features: .npz, or .tsv, .h5 or .tfrecord with --image-id.",
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
    more_inputs = {"image_ids": image_id or [], "choices": choice or [], "phrases": phrase or []}
    load_options = {"detector": detector, "architecture": class_name, "revision": revision}
    files = [image, *(more or [])]
    if server is not None:
        if any(load_options.values()):
            raise ValueError("--detector, --class and --revision are for loading a model; leave them out with --server")
        from tfvl.serving.ask import answer

        answers = answer(files, question, server, model, top_k, **more_inputs)
    elif str(model).endswith(".tflite"):
        if class_name or revision:
            raise ValueError("--class and --revision are for a checkpoint; leave them out with a .tflite file")
        from tfvl.lite.ask import answer

        if detector is not None:
            quiet_tensorflow()
        answers = answer(files, question, model, top_k, **more_inputs, detector=detector)
    else:
        quiet_tensorflow()
        from tfvl.ask import answer

        with console(stderr=True).status("answering"):
            answers = answer(files, question, model or DEFAULT_MODEL, top_k, **more_inputs, **load_options)
    if answers.filled:
        print(answers.filled)
    if answers.match is not None:
        print(f"text and image belong together: {answers.match:.4f}")
    print_table(question, ("answer", "score"), [(text, f"{score:.4f}") for text, score in answers.scored])


@app.command()
def port(
    src: Source,
    dst: Annotated[Path, typer.Argument(metavar="DST", help="Directory to write.")],
    revision: Revision = None,
    class_name: ClassName = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; without it, float32.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with transformers (needs tfvl[parity]).")] = False,
    overwrite: Overwrite = False,
):
    """Rewrite a checkpoint of any source format as config.json and model.safetensors, with its tokenizer files."""
    refuse_to_overwrite(dst, overwrite)
    quiet_tensorflow()
    from rich.progress import DownloadColumn, TransferSpeedColumn

    from tfvl import auto
    from tfvl.cli import parity
    from tfvl.errors import CheckpointError
    from tfvl.files.whole import written_whole
    from tfvl.porting import hub
    from tfvl.porting.load import load_pretrained

    if check:
        parity.require_torch()
    path = hub.resolve(src, revision=revision)
    model_class, processor_class = auto.classes_of(path, class_name)
    with progress_bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        task = bar.add_task("reading weights", total=None)
        model, report = load_pretrained(
            model_class, path, dtype=dtype, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    rows = [("class", model_class.__name__), *report.rows(), ("parameters", f"{model.count_params():,}")]
    with written_whole(dst) as directory:
        model.save_pretrained(directory)
        try:
            processor_class.from_pretrained(path).save_pretrained(directory)
        except CheckpointError as error:
            rows.append((processor_class.__name__, f"not written: {error}"))
    rows += [(file.name, f"{file.stat().st_size:,} bytes") for file in sorted(dst.iterdir())]
    print_table(f"{src} → {dst}", ("", ""), rows)
    if check:
        differences = parity.compare(model_class.from_pretrained(dst), path)
        rows = [(row.output, f"{row.difference:.2e}", f"{row.largest:.2e}") for row in differences]
        print_table("against transformers", ("output", "largest difference", "largest value"), rows)


@app.command()
def export(
    src: Source,
    dst: Annotated[Path, typer.Argument(metavar="DST", help="Directory, e.g. models/vilt_vqa/1; of tflite, a file.")],
    top_k: TopK = 5,
    detector: Detector = None,
    revision: Revision = None,
    class_name: ClassName = None,
    overwrite: Overwrite = False,
    file_format: Format = "savedmodel",
    quantize: Quantize = None,
    flavour: Flavour = None,
    image_size: ImageSize = None,
    text_length: TextLength = None,
    batch: Batch = None,
    regions: RegionCount = None,
    resizable: Resizable = False,
):
    """Write a SavedModel that takes texts, and image bytes or regions, and gives answers, for TensorFlow Serving."""
    sizes = {"image_size": image_size, "text_length": text_length, "batch": batch, "regions": regions}
    sizes |= {"quantize": quantize, "flavour": flavour, "resizable": resizable or None}
    if file_format == "tflite":
        if detector is not None:
            raise ValueError("--detector becomes part of a SavedModel; a .tflite file takes regions, so leave it out")
        from tfvl.cli.export_tflite import write

        load = {"architecture": class_name, "revision": revision}
        return write(src, dst, top_k=top_k, overwrite=overwrite, load=load, **sizes)
    check_format(file_format, sizes, dst)
    refuse_to_overwrite(dst, overwrite)
    quiet_tensorflow()
    from tfvl import auto
    from tfvl.export import saved_model

    with console(stderr=True).status("exporting"):
        model, processor = auto.load(src, architecture=class_name, revision=revision, detector=detector)
        directory = saved_model(model, processor, dst, top_k=top_k, overwrite=overwrite)
    show_report(directory)
    print(f"Written to {directory}. Next:")
    image = "IMAGE" if processor.takes_images else "REGIONS"
    print(f'  tfvl ask {image} "question" --model {directory}')
    print(f"  tensorflow_model_server --model_name={directory.parent.name} --model_base_path={directory.parent}")


app.command()(check)
app.command()(serve)
app.command()(train)
app.command("eval")(evaluate)
app.command()(regions)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0; 1 unexpected error, 2 user's mistake, 75 another machine was lost while training, 130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what concerns developers only
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show_warning
            return app(args=arguments or ["--help"], prog_name="tfvl", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if os.environ.get("TFVL_TRACEBACK", "0") not in ("", "0"):
            raise
        code, line = describe(error)
        print(f"tfvl: {line}", file=sys.stderr)
        return code


def describe(error: Exception) -> tuple[int, str]:
    """Exit code and the one line that the user gets to read."""
    message = " ".join(str(error).split())
    if hasattr(error, "format_message"):  # a wrong option or argument, in typer's own words
        return 2, f"{' '.join(error.format_message().split())} (see `tfvl --help`)"
    if hasattr(error, "exit_code"):  # of its own
        return error.exit_code, message
    if isinstance(error, OSError) and error.filename and error.strerror:
        return 2, f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError | ValueError):
        return 2, message
    return 1, f"unexpected {type(error).__name__}: {message} (run again with TFVL_TRACEBACK=1 for the traceback)"


def show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"tfvl: warning: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

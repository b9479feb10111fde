"""The options that several commands of `tfvl` have, and functions that write to the terminal. Light to import."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_MODEL = "shapes-vilt"
SOURCE_HELP = "Hub id, directory in the hub's layout, or the name of a bundled model."
Source = Annotated[str, typer.Argument(metavar="SRC", help=SOURCE_HELP)]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the hub repository.")]
ClassName = Annotated[str | None, typer.Option("--class", help="Model class, where config.json names none or another.")]
TopK = Annotated[int, typer.Option(min=1, help="How many answers per question.")]
Detector = Annotated[
    str | None,
    typer.Option(help="Finds the regions of images, for VisualBERT and LXMERT: hub id, directory or shapes-detector."),
]
MoreImages = Annotated[list[str] | None, typer.Option("--image", help="Second image, for a model that compares two.")]
ImageIds = Annotated[list[str] | None, typer.Option("--image-id", help="Which image, in a file of many.")]
Choices = Annotated[list[str] | None, typer.Option("--choice", help="A text to choose from, for multiple choice.")]
Phrases = Annotated[list[str] | None, typer.Option("--phrase", help="A phrase of the text, for its region.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Directory with the data set's files as published or prepared; or a CSV, JSONL or Parquet file of your "
        "own, or a directory with one."
    ),
]
Images = Annotated[str | None, typer.Option(help="Folder of images, or TFRecord files; without it, DATA is searched.")]
RegionFile = Annotated[
    str | None, typer.Option("--regions", help="File of region features; without it, DATA is searched.")
]
MaxRegions = Annotated[int | None, typer.Option(help="Take so many regions of an image at most.")]
ImageColumn = Annotated[str | None, typer.Option(help="Of a file of your own, instead of image.")]
Image2Column = Annotated[str | None, typer.Option("--image2-column", help="Instead of image2.")]
QuestionColumn = Annotated[str | None, typer.Option(help="Instead of question, sentence, caption or text.")]
AnswerColumn = Annotated[str | None, typer.Option(help="Instead of answer, answers, label or labels.")]
SplitColumn = Annotated[str | None, typer.Option(help="Instead of split.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout and nothing else.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse data that cannot be used.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in DST.")]


_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def run_script(main: Callable[[], None]) -> None:
    """Runs a script of tools/; a mistake of the user's is one line on stderr, which begins with the script's name."""
    try:
        main()
    except (ImportError, ValueError, FileExistsError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {' '.join(str(error).split())}")


def plain(value: object) -> str:
    """Escapes control characters, and those that change the direction of text, so that a terminal only shows them.

    Labels, answers and names come from untrusted files, and a terminal would obey an escape sequence in one of them.
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def one_line(value: object) -> str:
    """Escapes what `plain` does, and line ends, by which a label could look like a line that tfvl says itself."""
    return plain(value).replace("\n", "\\n")


def say(text: object, stderr: bool = False) -> None:
    """Prints a line, with control characters escaped by `plain`."""
    print(plain(text), file=sys.stderr if stderr else sys.stdout)


def print_report(report, place: str = "") -> None:
    """Prints what was left out of a data set (`tfvl.training.data.examples.Report`): numbers, and first sentences."""
    say(f"{place}: {report}" if place else report)
    for sentence in report.sentences:
        say(f"  {sentence}")


def console(stderr: bool = False):
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False)


def progress_bar(*columns):
    """Makes a progress bar on stderr, which shows nothing if stderr is a file or a pipe."""
    from rich.progress import BarColumn, Progress, TextColumn

    stderr = console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), *columns, console=stderr, disable=not stderr.is_terminal
    )


def print_json(document: dict) -> None:
    """Prints a document on stdout; numbers that JSON does not have (NaN, infinity) become null."""
    import json
    import math

    def as_json(value):
        if isinstance(value, dict):
            return {str(name): as_json(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [as_json(each) for each in value]
        if hasattr(value, "tolist"):
            return as_json(value.tolist())
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)

    text = json.dumps(as_json(document), ensure_ascii=False, indent=2)
    print(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(title: str, columns: tuple[str, ...], rows: list[tuple]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console().print(Text(plain(title)), table, sep="\n")

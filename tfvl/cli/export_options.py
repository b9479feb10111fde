"""The options of `tfvl export --format tflite`. Light to import."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

Format = Annotated[str, typer.Option("--format", help="savedmodel, or tflite: one file that phones run too.")]
Quantize = Annotated[str | None, typer.Option(help="Of tflite: float16, dynamic (8-bit weights) or int8.")]
Flavour = Annotated[str | None, typer.Option(help="Of tflite: tensors (ids in), or text (the raw question in).")]
ImageSize = Annotated[str | None, typer.Option(metavar="N|HxW", help="Of tflite: pixels, e.g. 384 or 384x640.")]
TextLength = Annotated[int | None, typer.Option(help="Of tflite: tokens; 40 without it.")]
Batch = Annotated[int | None, typer.Option(help="Of tflite: rows of a call; 1 without it.")]
RegionCount = Annotated[int | None, typer.Option("--regions", help="Of tflite: regions of an image; 36 without it.")]
Resizable = Annotated[bool, typer.Option("--resizable", help="Of tflite: any sizes in place of fixed ones.")]


def check_format(file_format: str, of_tflite: Mapping[str, object], destination: Path) -> None:
    """Raises ValueError for an unknown format, or for options or a name of tflite with another."""
    if file_format != "savedmodel":
        raise ValueError(f"--format is {file_format!r}, expected savedmodel or tflite")
    given = [name for name, value in of_tflite.items() if value is not None]
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} is an option of --format tflite; leave it out, or add that")
    if destination.suffix == ".tflite":
        raise ValueError(f"{destination} would become a directory; add --format tflite, or choose another name")


def sides(text: str | None) -> tuple[int, int] | None:
    """(height, width) from "384" or "384x640". Raises ValueError for other texts."""
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,5}(x\d{1,5})?", text):
        raise ValueError(f"--image-size is {text!r}, expected pixels such as 384, or height and width such as 384x640")
    height, _, width = text.partition("x")
    return int(height), int(width or height)

"""`web`: writes a model and its processor as a folder for any static host, with a page that asks the model."""

import os
from pathlib import Path
from typing import Any

from tfvl.answers.rows import HEADS, head_name
from tfvl.export.inputs import check_exportable
from tfvl.export.tflite.convert import lite
from tfvl.files.whole import refuse_to_overwrite, written_whole
from tfvl.web import folder

RESAMPLE = (2, 3)  # Pillow's filters that `pixels.js` has


def web(
    model,
    processor,
    directory: str | Path,
    *,
    quantize: str | None = "dynamic",
    title: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Writes a folder with a page that asks `model` about pictures in the visitor's browser.

        tfvl.export.web(model, processor, "site")  # then `npm install` there, and serve it

    The model is a `.tflite` file (see `tfvl.export.lite`), which LiteRT's web runtime runs: WebAssembly, on the
    visitor's device. The folder's `tfvl.js` is an ES module for other pages.

    Args:
        model: a model of tfvl that reads images (ViLT) and has a head.
        processor: the processor of the same checkpoint.
        directory: the folder; it appears whole or not at all.
        quantize: as in `tfvl.export.lite`; by default 8-bit weights.
        title: the model's name on the page; None: that of its class.
        overwrite: whether a directory that is not empty may be replaced.
        options: `image_size`, `text_length`, `top_k`, `explain` and `calibration` of `tfvl.export.lite`.

    Returns: the directory.

    Raises:
        ValueError: the model reads regions or has no answers that a page could show, or an option is not possible.
        FileExistsError: the directory is not empty and `overwrite` is false.
    """
    directory = Path(os.path.abspath(directory))
    refuse_to_overwrite(directory, overwrite)
    check(model, processor)
    with written_whole(directory) as new:
        lite(model, processor, new / folder.MODEL, quantize=quantize, **options)
        folder.complete(new, title or type(model).__name__)
    return directory


def check(model, processor) -> None:
    """Raises ValueError if a page in a browser cannot ask the model."""
    check_exportable("web", model, processor)
    name, row = type(model).__name__, HEADS.get(head_name(type(model)))
    if row is not None and "regions" in row.reads:
        raise ValueError(
            f"{name} reads regions, and a browser has no detector to find them; `tfvl serve DIR --page` serves a page "
            "whose answers come from the server"
        )
    if row is None or row.kind == "pooled":
        raise ValueError(f"{name} has no head whose answers a page could show; export a class with a head")
    resample = processor.image_processor.resample
    if processor.image_processor.do_resize and resample not in RESAMPLE:
        raise ValueError(f"resample is {resample}, which the page does not know; expected 2 (bilinear) or 3 (bicubic)")

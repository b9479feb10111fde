"""`tfvl export`: a SavedModel for TensorFlow Serving, one `.tflite` file, or a folder with a page for browsers."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tfvl.cli.check import show_file, show_saved_model
from tfvl.cli.console import ClassName, Detector, Overwrite, Revision, Source, TopK, console, say
from tfvl.files.backend import require_tensorflow
from tfvl.files.quiet import quiet_tensorflow
from tfvl.files.whole import refuse_to_overwrite

ANY_SIZE = "Of tflite: any sizes in place of fixed ones; not for LiteRT's CompiledModel and @litertjs/core."
Signatures = Annotated[
    str | None, typer.Option(help="Of savedmodel: tensors makes one without the ops of tf.text; serving_default.")
]
Format = Annotated[str, typer.Option("--format", help="savedmodel, tflite (one file), or web (a page).")]
WEIGHTS = "dynamic (8-bit weights; web's default); of savedmodel also bfloat16; of tflite, web: none, float16, int8."
Quantize = Annotated[str | None, typer.Option(help=WEIGHTS)]
Flavour = Annotated[
    str | None,
    typer.Option(help="Of tflite: tensors (ids in), or text (the raw question in)."),
]
ImageSize = Annotated[str | None, typer.Option(metavar="N|HxW", help="Of tflite, web: pixels, e.g. 384 or 384x640.")]
TextLength = Annotated[int | None, typer.Option(help="Of tflite, web: tokens; 40 without it.")]
Batch = Annotated[int | None, typer.Option(help="Of tflite: rows of a call; 1 without it.")]
RegionCount = Annotated[int | None, typer.Option("--regions", help="Of tflite: regions of an image; 36 without it.")]
Resizable = Annotated[bool, typer.Option("--resizable", help=ANY_SIZE)]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Add the signature explain, which says why; else: put out the attention maps."),
]
SIZES = ("image_size", "text_length", "batch", "regions")  # options that do not go with --resizable
# The formats, and the options that belong to each.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "savedmodel": ("signatures", "detector"),
    "tflite": (*SIZES, "quantize", "flavour", "resizable"),
    "web": ("image_size", "text_length", "quantize"),
}


def export(
    src: Source,
    dst: Annotated[Path, typer.Argument(metavar="DST", help="Directory, e.g. models/vilt_vqa/1; of tflite, a file.")],
    top_k: TopK = 5,
    detector: Detector = None,
    revision: Revision = None,
    class_name: ClassName = None,
    explain: Explain = False,
    overwrite: Overwrite = False,
    signatures: Signatures = None,
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
    require_tensorflow("tfvl export")
    sizes: dict[str, Any] = {"image_size": image_size, "text_length": text_length, "batch": batch, "regions": regions}
    sizes |= {"flavour": flavour, "resizable": resizable or None}
    check_format(file_format, {**sizes, "signatures": signatures, "detector": detector}, dst)
    if detector is not None and signatures == "tensors":
        raise ValueError(
            "--detector is part of serving_default, which --signatures tensors leaves out; leave one of them out"
        )
    if file_format != "savedmodel":
        load = {"architecture": class_name, "revision": revision}
        write = {"tflite": export_tflite, "web": export_web}[file_format]
        sizes |= {"quantize": quantize, "explain": explain or None}
        return write(src, dst, top_k=top_k, overwrite=overwrite, load=load, **sizes)
    refuse_to_overwrite(dst, overwrite)
    quiet_tensorflow()
    from tfvl import auto
    from tfvl.export.saved_model import check_quantize, saved_model
    from tfvl.export.signatures import checked_names

    quantize = None if quantize == "none" else quantize
    check_quantize(quantize, explain)
    chosen: dict[str, Any] = {} if signatures is None else {"signatures": checked_names(signatures.split(","))}
    with console(stderr=True).status("exporting"):
        model, processor = auto.load(src, architecture=class_name, revision=revision, detector=detector)
        if not dst.name.isdecimal():
            advice = (
                f"{dst} has no version number, without which TensorFlow Serving finds no model; export to {dst / '1'}"
            )
            warnings.warn(advice, stacklevel=2)
        chosen |= {"explain": explain, "quantize": quantize, "overwrite": overwrite}
        directory = saved_model(model, processor, dst, top_k=top_k, **chosen)
    show_saved_model(directory)
    say(f"Written to {directory}. Next:")
    image = "IMAGE" if processor.takes_images else "REGIONS"
    if signatures is None or "serving_default" in signatures:
        say(f'  tfvl ask {image} "question" --model {directory}')
    if dst.name.isdecimal():
        say(f"  tensorflow_model_server --model_name={directory.parent.name} --model_base_path={directory.parent}")


def export_tflite(
    src: str, dst: Path, *, top_k: int, image_size: str | None, overwrite: bool, load: dict, **options
) -> None:
    """Writes a `.tflite` file and prints what it takes; `options` that are None keep their defaults."""
    options = given(options)
    fixed = [name for name in SIZES if name in options or (name == "image_size" and image_size is not None)]
    if fixed and "resizable" in options:
        raise ValueError(f"--{fixed[0].replace('_', '-')} fixes a size and --resizable none; leave one of them out")
    options["image_size"] = sides(image_size)
    quiet_tensorflow()
    from tfvl import auto
    from tfvl.export.tflite.convert import lite
    from tfvl.export.tflite.sizes import checked_path

    checked_path(dst, overwrite)
    with console(stderr=True).status("converting"):
        model, processor = auto.load(src, **load)
        if "regions" in options and processor.sees == "images":
            raise ValueError(f"--regions is for VisualBERT and LXMERT, but {src} takes images; leave it out")
        if image_size is not None and processor.sees == "regions":
            raise ValueError(f"--image-size is for ViLT, but {src} takes regions; leave it out")
        path = lite(model, processor, dst, top_k=top_k, overwrite=overwrite, **options)
    show_file(path)
    say(f"Written to {path}. Next:")
    image = "IMAGE" if processor.sees == "images" else "REGIONS"
    say(f'  tfvl ask {image} "question" --model {path}')
    say(f"  tfvl check {path} --against {src}")


def export_web(src: str, dst: Path, *, top_k: int, image_size: str | None, overwrite: bool, load: dict, **options):
    """Writes a folder with a page for browsers; `options` that are None keep their defaults."""
    options = {**given(options), "image_size": sides(image_size)}
    refuse_to_overwrite(dst, overwrite)
    quiet_tensorflow()
    from tfvl import auto
    from tfvl.export.web import web

    with console(stderr=True).status("converting"):
        model, processor = auto.load(src, **load)
        title = src.rstrip("/").rpartition("/")[2]
        web(model, processor, dst, title=title, top_k=top_k, overwrite=overwrite, **options)
    say(f"Written to {dst}. Next:")
    say(f"  cd {dst} && npm install && python3 -m http.server 8000")


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that are not None, with None for the weights if they are `--quantize none`."""
    found = {name: value for name, value in options.items() if value is not None}
    return found | {name: None for name in found if (name, found[name]) == ("quantize", "none")}


def check_format(file_format: str, options: Mapping[str, object], destination: Path) -> None:
    """Raises ValueError for an unknown format, or for options or a name that belong to another one."""
    if file_format not in OPTIONS:
        raise ValueError(f"--format is {file_format!r}, expected {', '.join(OPTIONS)}")
    for name, value in options.items():
        if value is not None and name not in OPTIONS[file_format]:
            if name == "detector":
                raise ValueError("--detector becomes part of a SavedModel, and of no other format; leave it out")
            owner = next(each for each in OPTIONS if name in OPTIONS[each])
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is an option of --format {owner}; leave it out, or export with that format")
    if destination.suffix == ".tflite" and file_format != "tflite":
        raise ValueError(f"{destination} would become a directory; add --format tflite, or choose another name")


def sides(text: str | None) -> tuple[int, int] | None:
    """Parses (height, width) from "384" or "384x640". Raises ValueError for other texts."""
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,5}(x\d{1,5})?", text):
        raise ValueError(f"--image-size is {text!r}, expected pixels such as 384, or height and width such as 384x640")
    height, _, width = text.partition("x")
    return int(height), int(width or height)

"""`tfvl regions`: writes or paints the regions that a detector finds in images, or rewrites features as one file."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tfvl.cli.beam import Runner, Shards, beam_flags, print_finished
from tfvl.cli.console import AsJson, plain, print_json, print_table, progress_bar
from tfvl.files.backend import require_tensorflow
from tfvl.files.quiet import quiet_tensorflow
from tfvl.files.whole import refuse_to_overwrite, written_files

# The suffixes of files of features, those of `preprocessing.regions.reading.READERS`, which is slow to import.
FEATURES = (".npz", ".npy", ".tsv", ".h5", ".hdf5", ".tfrecord", ".tfrecords")


def regions(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES…",
            help="Images, or directories of them. Or one file of features (.tsv, .npz, .h5, .tfrecord), or a directory "
            "of them, to rewrite; the file to write may follow it.",
        ),
    ],
    out: Annotated[
        str | None, typer.Option(help=".h5 or .tfrecord file to write; with --runner also a directory for the shards.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="Hub id, directory or shapes-detector; finds the regions of images.")
    ] = None,
    draw: Annotated[
        Path | None, typer.Option(help="Directory for pictures with boxes, objects and attributes.", file_okay=False)
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="lxmert (shortest edge 800 of at most 1333) or bottom-up (600, 1000).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that extract, each with its own detector.")] = 1,
    dtype: Annotated[str, typer.Option(help="float32, or float16 for half the size.")] = "float32",
    runner: Runner = None,
    shards: Shards = 32,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
    as_json: AsJson = False,
):
    """Write the regions that a detector finds in images as one file (tfvl.RegionStore), or paint them.

    A run that was cut off goes on where it was when the command is given again. Without a detector, features that
    others extracted are rewritten: tfvl regions train.tsv train.h5.
    """
    sources, flags = without_flags(words, runner)
    if runner is not None:
        check_beam(detector, out, draw, workers)
        flags = beam_flags(runner, flags)
        return extract_with_beam(sources, out, detector, preset, dtype, shards, flags, overwrite, as_json)
    file = None if out is None else Path(out)
    if detector is None:
        if file is None and len(sources) == 2:
            *sources, file = sources
        check_conversion(sources, file, draw, preset)
        refuse_to_overwrite(file, overwrite, "file")
        title, counts = rewrite(sources[0], file, dtype)
        return show(title, counts, as_json)
    if file is None and draw is None:
        raise ValueError("name the file to write with --out regions.h5, or a directory for pictures with --draw")
    require_tensorflow("the detector")
    quiet_tensorflow()
    if file is not None:
        from tfvl.detector.extract import remove_finished

        remove_finished(file)
        refuse_to_overwrite(file, overwrite, "file")
    with tempfile.TemporaryDirectory() as scratch:
        file = file or Path(scratch) / "regions.h5"
        title, counts = extract_images(sources, file, detector, preset, workers, dtype, draw)
    show(title, counts, as_json)


def show(title: str, counts: dict[str, int], as_json: bool) -> None:
    """Prints what was done, as a table or as JSON."""
    if as_json:
        return print_json({name.replace(" ", "_"): count for name, count in counts.items()})
    print_table(title, ("", ""), [(name, f"{count:,}") for name, count in counts.items()])


def without_flags(words: list[str], runner: str | None) -> tuple[list[Path], list[str]]:
    """Splits the arguments into paths and the flags of Apache Beam after them. Raises ValueError for other flags."""
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    sources, flags = [Path(word) for word in words[:first]], words[first:]
    if flags and runner is None:
        raise ValueError(f"no such option: {flags[0]}; flags of Apache Beam need --runner (see `tfvl regions --help`)")
    if not sources:
        raise ValueError("name the images before the flags of Apache Beam")
    return sources, flags


def check_conversion(sources: list[Path], out: Path | None, draw: Path | None, preset: str | None) -> None:
    """Raises ValueError for what only a detector can do, and unless there is one source and one file to write."""
    images = [path for path in sources if path.suffix.lower() not in FEATURES and not path.is_dir()]
    if draw is not None or preset is not None or (images and images[0].is_file()):
        raise ValueError(
            "name the detector that is to find the regions of images: --detector unc-nlp/frcnn-vg-finetuned, a "
            "directory, or shapes-detector"
        )
    if len(sources) != 1 or out is None:
        raise ValueError(
            "features are rewritten from one file or directory to one file: tfvl regions train.tsv train.h5"
        )


def check_beam(detector: str | None, out: str | None, draw: Path | None, workers: int) -> None:
    """Raises ValueError if options are missing that Apache Beam needs, or given that do not go with it."""
    if detector is None or out is None:
        raise ValueError("--runner finds the regions of images: name a --detector and what to write with --out")
    if draw is not None or workers != 1:
        raise ValueError("--draw and --workers do not go with --runner; the runner has workers of its own")


def extract_with_beam(
    sources: list[Path],
    out: str,
    detector: str,
    preset: str | None,
    dtype: str,
    shards: int,
    flags: list[str],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Writes the regions of images as a directory of shards, or as one file if `out` is the name of a file."""
    from tfvl.detector.config import preset_overrides
    from tfvl.preprocessing.regions.store import convert
    from tfvl.training.beam.extract import ExtractionSettings, extract

    overrides = tuple(sorted(preset_overrides(preset).items()))
    settings = ExtractionSettings(tuple(map(str, sources)), detector, overrides, dtype, shards)
    whole = out.lower().endswith(FEATURES)
    if whole:
        refuse_to_overwrite(Path(out), overwrite, "file")
    # Hidden, so that what is replaced is of a run of this command that was cut off, and nobody's own.
    parts = str(Path(out).with_name(f".{Path(out).name}.shards")) if whole else out
    finished = extract(settings, parts, flags, overwrite or whole)
    if whole:
        convert(parts, out, dtype=dtype)
        shutil.rmtree(parts)
    if as_json:
        return print_json({"could_not_be_used": finished.report.counts.total(), "workers": dict(finished.workers)})
    print_finished(finished, out)


def rewrite(source: Path, out: Path, dtype: str) -> tuple[str, dict[str, int]]:
    """Writes features that others extracted as one file; returns a title that says what was done, and counts."""
    from rich.progress import TaskProgressColumn, TimeRemainingColumn

    from tfvl.preprocessing.regions.store import convert

    with progress_bar(TaskProgressColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("reading regions", total=1.0)
        written = convert(
            source, out, dtype=dtype, on_error=warner(bar), on_progress=lambda done: bar.update(task, completed=done)
        )
    counts = {"images": written.images, "could not be used": written.skipped, "bytes": out.stat().st_size}
    return f"{source} → {out}", counts


def extract_images(sources, out: Path, detector: str, preset: str | None, workers: int, dtype: str, draw: Path | None):
    """Writes the regions of images as one file, and maybe as pictures; returns a title, and counts."""
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    from tfvl.detector.config import preset_overrides
    from tfvl.detector.extract import extract, named_images
    from tfvl.porting.hub import resolve

    overrides = preset_overrides(preset)
    images, found = named_images(sources), resolve(detector)
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("finding regions", total=len(images))
        done = extract(
            images,
            out,
            found,
            overrides=overrides,
            workers=workers,
            dtype=dtype,
            on_error=warner(bar),
            on_progress=lambda count, total: bar.update(task, completed=count, total=total),
        )
        drawn = paint(images, out, found, draw, bar) if draw else 0
    counts = {"images": done.images, "extracted earlier": done.resumed, "could not be used": len(done.unreadable)}
    return f"{detector} → {draw or out}", counts | ({"pictures": drawn} if draw else {})


def paint(images: dict[str, Path], store: Path, detector: Path, directory: Path, bar) -> int:
    """Paints a PNG for each image of the store; returns their number."""
    from PIL import Image

    from tfvl.detector.draw import draw_regions
    from tfvl.detector.files import read_config
    from tfvl.preprocessing.image.decode import to_levels
    from tfvl.preprocessing.regions.store import RegionStore

    config = read_config(detector, {})
    directory.mkdir(parents=True, exist_ok=True)
    with RegionStore(store) as found:
        for name in bar.track(found, description="painting", total=len(found)):
            picture = Image.fromarray(to_levels(images[name], config.max_pixels).levels)
            painted = draw_regions(picture, found[name], config.object_names, config.attribute_names)
            with written_files(directory / f"{name}.png") as (new,):
                painted.save(new)
        return len(found)


def warner(bar):
    """Returns a function that prints a warning above the bar."""
    return lambda sentence: bar.console.print(plain(f"tfvl: warning: {sentence}"), soft_wrap=True)

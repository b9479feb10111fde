"""`tfvl prepare`: writes a published data set as a few TFRecord files, with Apache Beam (extra `beam`)."""

from pathlib import Path
from typing import Annotated

import typer

from tfvl.cli.beam import Runner, Shards, beam_flags, print_finished


def prepare(
    beam: typer.Context,
    task: Annotated[str, typer.Option(help="vqa, gqa, nlvr2, retrieval, vcr-answer, vcr-rationale, …")],
    data: Annotated[Path, typer.Option(help="Directory with the data set's files as published.")],
    split: Annotated[list[str], typer.Option(help="As the files call it; may be given several times.")],
    out: Annotated[str, typer.Option(help="Directory to write; each split goes into one below it.")],
    images: Annotated[str | None, typer.Option(help="Folder of images.")] = None,
    regions: Annotated[str | None, typer.Option(help="File of region features (tfvl.RegionStore).")] = None,
    resize_for: Annotated[
        str | None, typer.Option(metavar="SRC", help="Write images at the size to which this model resizes them.")
    ] = None,
    shards: Shards = 32,
    min_answers: Annotated[int, typer.Option(help="How often an answer of the vocabulary occurs, at least.")] = 9,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse data that cannot be used.")] = False,
    runner: Runner = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
):
    """Write a data set as a few TFRecord files that --data of other commands takes, with Apache Beam."""
    flags = beam_flags(runner, beam.args)
    from tfvl.preprocessing.image.processor import ViltImageProcessor
    from tfvl.training.beam.prepare import prepare as prepare_split
    from tfvl.training.beam.settings import Settings

    processor = ViltImageProcessor.from_pretrained(resize_for).to_dict() if resize_for else None
    for name in split:
        settings = Settings(task, str(data), name, images, regions, processor, shards, min_answers, strict)
        print_finished(prepare_split(settings, out, flags, overwrite), f"{out}/{name}")

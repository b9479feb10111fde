"""`tfvl score`: writes an exported model's answers to a data set, with Apache Beam (extra `beam`)."""

from pathlib import Path
from typing import Annotated

import typer

from tfvl.cli.beam import Runner, Shards, beam_flags, print_finished


def score(
    beam: typer.Context,
    task: Annotated[str, typer.Option(help="vqa, gqa, nlvr2, retrieval, vcr-answer or vcr-rationale.")],
    data: Annotated[Path, typer.Option(help="Directory with the files as published, or as tfvl prepare wrote them.")],
    split: Annotated[str, typer.Option(help="As the files call it.")],
    model: Annotated[str, typer.Option(help="Directory of an exported model.")],
    out: Annotated[str, typer.Option(help="Directory to write.")],
    images: Annotated[str | None, typer.Option(help="Folder of images, or directory of a prepared data set.")] = None,
    regions: Annotated[
        str | None, typer.Option(help="File of region features, or directory of a prepared data set.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows that are answered at once, at most.")] = 32,
    shards: Shards = 32,
    runner: Runner = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
):
    """Write an exported model's answers to a data set as JSON lines, with Apache Beam."""
    flags = beam_flags(runner, beam.args)
    from tfvl.training.beam.score import score as score_split
    from tfvl.training.beam.settings import Settings

    settings = Settings(task, str(data), split, images, regions, shards=shards)
    print_finished(score_split(settings, model, out, flags, batch_size, overwrite), out)

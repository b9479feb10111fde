"""Shared code of the commands that run on Apache Beam: `tfvl prepare`, `tfvl score`, and `tfvl regions --runner`."""

import logging
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from tfvl.cli.console import print_report, say
from tfvl.files.quiet import quiet_tensorflow

BEAM_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}  # options that typer does not know are Beam's

Runner = Annotated[
    str | None,
    typer.Option(
        help="Where Apache Beam works: DirectRunner (this machine), DaskRunner, FlinkRunner, SparkRunner, "
        "DataflowRunner. Beam's own flags come after all other options and are passed on."
    ),
]
Shards = Annotated[int, typer.Option(min=1, help="Number of files.")]


def beam_flags(runner: str | None, others: Sequence[str]) -> list[str]:
    """Returns Beam's flags. Raises ImportError if Beam is not installed, ValueError for arguments that are no flags."""
    if others and not others[0].startswith("-"):
        raise ValueError(f"unexpected argument {others[0]!r}")
    quiet_tensorflow()
    logging.disable(logging.WARNING)  # Beam's imports warn of missing packages that are not needed here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tfvl.training.beam.shards  # noqa: F401  # raises before any work if the extra is missing
    finally:
        logging.disable(logging.NOTSET)
    return [*others] if runner is None else [f"--runner={runner}", *others]


def print_finished(finished, place: str) -> None:
    """Prints the examples that were left out, and the worker processes that took part."""
    print_report(finished.report, place)
    say("  shards by worker: " + ", ".join(f"{name}: {count}" for name, count in sorted(finished.workers.items())))

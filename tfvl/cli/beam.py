"""What the commands that run on Apache Beam share: `tfvl prepare`, `tfvl score`, and `tfvl regions --runner`."""

import logging
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from tfvl.cli.console import print_report, say
from tfvl.files.quiet import quiet_tensorflow

BEAM_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}  # what typer does not know is Beam's

Runner = Annotated[
    str | None,
    typer.Option(
        help="Where Apache Beam works: DirectRunner (this machine), DaskRunner, FlinkRunner, SparkRunner, "
        "DataflowRunner. Beam's own flags come after all other options and are passed on."
    ),
]
Shards = Annotated[int, typer.Option(min=1, help="Number of files.")]


def beam_flags(runner: str | None, others: Sequence[str]) -> list[str]:
    """Beam's flags, as the user gave them. Raises ImportError where Beam is missing, ValueError for other arguments."""
    if others and not others[0].startswith("-"):
        raise ValueError(f"unexpected argument {others[0]!r}")
    quiet_tensorflow()
    logging.disable(logging.WARNING)  # Beam's imports speak of packages that nobody needs here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tfvl.training.beam.shards  # noqa: F401  # says which extra is missing, before any work
    finally:
        logging.disable(logging.NOTSET)
    return [*others] if runner is None else [f"--runner={runner}", *others]


def print_finished(finished, place: str) -> None:
    """Prints what was left out, and which worker processes took part."""
    print_report(finished.report, place)
    say("  shards by worker: " + ", ".join(f"{name}: {count}" for name, count in sorted(finished.workers.items())))

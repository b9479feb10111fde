"""Runs the command line in this process, and checks what it prints."""

from collections.abc import Iterator
from functools import cache

import pytest

from tfvl import pipelines
from tfvl.cli.app import main


def sources_opened_once() -> Iterator[None]:
    """Has commands open each source once for the tests of a module: most of their time goes into its first graph.

    A module makes a fixture of it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines, "open_pipeline", cache(pipelines.open_pipeline))
        yield


def fails(capsys, *arguments, code=2):
    """Runs the command, expects that exit code and a single line on stderr, and returns the line."""
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("tfvl: ")
    return line


def scores(output: str) -> dict[str, float]:
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    return {label: float(score) for label, score in cells}

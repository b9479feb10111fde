"""Reads what differs from upstream in tfvl/README.md, "Coming from transformers", and lists calls that are refused."""

import pytest

from support.paths import ROOT

README = (ROOT / "tfvl/README.md").read_text(encoding="utf-8")


def left_out(heading: str) -> dict[str, str]:
    """Reads the table under a heading of the third level: what differs from upstream, and why."""
    section = README.split(f"### {heading}\n")[1].split("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return dict(line.strip("| ").split(" | ", 1) for line in lines)


def refused(call, message: str) -> None:
    with pytest.raises((AttributeError, TypeError, ValueError), match=message):
        call()

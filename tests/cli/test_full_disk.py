"""A full disk: every command that writes says in one sentence where, and how much is missing, and leaves nothing."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT

from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import RegionStore

LIMIT = 30_000  # bytes that a file may have
# Runs commands one after the other, in a process in which no file grows beyond that: LIMIT COMMANDS.
SCRIPT = """
import contextlib, io, json, resource, sys
from tfvl.cli.app import main
limit, commands = map(json.loads, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for command in commands:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main(command)
    print(json.dumps([code, said.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, tuple[int, str, list[str]]]:
    """Runs each command on a full disk; returns its exit code, its stderr and the files that it left."""
    place, sources = tmp_path_factory.mktemp("full"), tmp_path_factory.mktemp("sources")
    rows = [Regions(np.random.default_rng(n).random((9, 99)), image_id=f"{n}", width=9, height=9) for n in range(20)]
    RegionStore.write(sources / "rows.h5", rows)
    commands = {
        "port": ["port", "shapes-vilt", str(place / "port" / "model")],
        "export": ["export", "shapes-vilt", str(place / "export" / "1")],
        "tflite": ["export", "shapes-vilt", str(place / "tflite" / "a.tflite"), "--format", "tflite"],
        "h5": ["regions", str(sources / "rows.h5"), str(place / "h5" / "a.h5")],
        "tfrecord": ["regions", str(sources / "rows.h5"), str(place / "tfrecord" / "a.tfrecord")],
        "train": [
            *("train", "--task", "shapes", "--model", "shapes-vilt", "--steps", "1", "--batch-size", "2"),
            *("--out", str(place / "train" / "run")),
        ],
        "demo": ["demo", "--out", str(place / "demo" / "out")],
    }
    for name in commands:
        (place / name).mkdir()
    arguments = [json.dumps(LIMIT), json.dumps(list(commands.values()))]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    left = {name: sorted(path.name for path in Path(place, name).rglob("*") if path.is_file()) for name in commands}
    return {name: (*outcome, left[name]) for name, outcome in zip(commands, said, strict=True)}


@pytest.mark.parametrize("name", ["port", "export", "tflite", "h5", "tfrecord", "train", "demo"])
def test_it_is_said_in_a_sentence(outcomes, name):
    code, said, left = outcomes[name]
    assert code == 2, said
    *warnings, line = said.splitlines()
    assert all(warning.startswith("tfvl: ") for warning in warnings)
    assert "bytes" in line
    assert f"/{name}/" in line or "TMPDIR" in line
    allowed = {"train": {".lock", "run.yaml", "history.csv"}, "demo": {"scene.png"}}
    assert {file for file in left if not file.startswith("events.")} <= allowed.get(name, set())

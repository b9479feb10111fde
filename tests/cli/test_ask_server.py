"""`tfvl ask --server`: what it sends and prints, and one line for every mistake."""

import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.client import rest_server

from tfvl.cli import app as cli


@pytest.fixture(scope="module")
def server():
    """Runs a server of a model that takes regions, see support.client.SIGNATURE; yields its address and its script."""
    with rest_server() as (url, script):
        yield url, script


@pytest.fixture
def regions(tmp_path):
    np.savez(tmp_path / "one.npz", features=np.ones((3, 4), np.float32))
    return tmp_path / "one.npz"


def fails(capsys, *arguments) -> str:
    assert cli.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_an_answer(capsys, server, regions):
    url, script = server
    assert cli.main(["ask", str(regions), "how many?", "--server", url, "--model", "vqa", "--top-k", "1"]) == 0
    cells = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in cells] == [["how many?!", "0.7500"]]
    assert script.paths[-2:] == ["/v1/models/vqa/metadata", "/v1/models/vqa:predict"]
    assert script.inputs[-1]["regions"].astype(float).tolist() == [[[1] * 4] * 3]


def test_mistakes(capsys, server, regions, tmp_path):
    url, script = server
    image = tmp_path / "red.png"
    Image.new("RGB", (5, 4), "red").save(image)
    ask = ("ask", regions, "how many?", "--server", url)
    assert "name one" in fails(capsys, *ask)
    assert "vqa takes region features" in fails(capsys, "ask", image, "x", "--server", url, "--model", "vqa")
    assert "takes no choices" in fails(capsys, *ask, "--model", "vqa", "--choice", "a")
    assert "leave them out with --server" in fails(capsys, *ask, "--model", "vqa", "--revision", "main")
    assert "image: it is broken" in fails(capsys, "ask", regions, "bad", "--server", url, "--model", "vqa")
    script.failures = [(404, {"error": "Servable not found for request: Latest(nope)"})]
    assert "refused the request (404): Servable not found" in fails(capsys, *ask, "--model", "nope")


def test_nobody_is_there(capsys, monkeypatch, regions):
    monkeypatch.setattr("tfvl.serving.client.transport._FIRST_WAIT", 0.001)
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = fails(capsys, "ask", regions, "x", "--server", address, "--model", "m")
    assert line.startswith(f"tfvl: http://{address} cannot be reached: ")


def test_it_runs_without_tensorflow(server, regions):
    code = "import sys\nfor name in ('tensorflow', 'keras'):\n    sys.modules[name] = None\n"
    code += "from tfvl.cli import app\nsys.exit(app.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "ask", str(regions), "x", "--server", server[0], "--model", "vqa"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "x!" in done.stdout

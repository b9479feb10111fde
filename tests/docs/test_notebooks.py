"""The notebooks of `examples/` run from top to bottom, and are saved with what they print and draw."""

import json

import pytest
from support.paths import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SECONDS = 900  # of one cell, on a busy machine
PICTURES = {"answer_and_explain": 3, "fine_tune_on_your_csv": 1, "export_quantize_serve": 1}  # at least


def code_cells(path):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_there_are_three():
    assert {path.stem for path in NOTEBOOKS} == PICTURES.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_saved_with_its_outputs(path):
    """In the order of its cells, without an error, and with its pictures."""
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = [output for output in outputs if "image/png" in json.dumps(output.get("data", {}))]
    assert len(pictures) >= PICTURES[path.stem]
    assert "/home/" not in path.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    reason = "notebooks are run by nbclient (the extra notebooks)"
    nbformat = pytest.importorskip("nbformat", reason=reason)
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=SECONDS, startup_timeout=SECONDS, resources=where).execute()
    said = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len(said) >= PICTURES[path.stem]

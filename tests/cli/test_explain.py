"""`tfvl explain`: what it prints and draws, and one line for every mistake."""

import numpy as np
import pytest
from support.explained import CAT, saved
from support.region_models import some_regions

from tfvl.cli import app as cli

pytest.importorskip("matplotlib", reason="needs tfvl[plots]")


def lines(capsys, *arguments) -> list[str]:
    assert cli.main(["explain", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def fails(capsys, *arguments) -> str:
    assert cli.main(["explain", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_an_image(capsys, tmp_path):
    said = lines(capsys, CAT, "how many?", "--model", saved("ViltForQuestionAnswering"), "--out", tmp_path / "why.png")
    answer, score = said[0].split(": ")
    assert answer in ("red", "blue", "two")
    assert 0 <= float(score) <= 1
    assert any("many" in line for line in said)
    assert any("row" in line for line in said)
    assert said[-1] == f"Written to {tmp_path / 'why.png'}."
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


def test_regions_of_a_file_and_another_answer(capsys, tmp_path):
    regions = some_regions(3)
    np.savez(tmp_path / "one.npz", features=regions.features, boxes=regions.boxes)
    asked = (tmp_path / "one.npz", "how many?", "--model", saved("LxmertForQuestionAnswering"))
    for answer in ("red", "blue"):
        said = lines(capsys, *asked, "--answer", answer, "--method", "rollout")
        assert said[0].startswith(f"{answer}: 0.")
        assert any("region 2" in line for line in said)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--answer", "ultramarine"), "target is 'ultramarine', which is no answer of ViltForQuestionAnswering"),
        (("--method", "lime"), "method is 'lime'"),
        (("--word", "red"), "leave word out"),
        (("--method", "alignment", "--word", "purple"), "'purple' is not in the text"),
        (("--out", "why.doc"), "pictures end in"),
        (("--image", CAT), "takes"),
    ],
)
def test_mistakes(capsys, arguments, sentence):
    assert sentence in fails(capsys, CAT, "how many?", "--model", saved("ViltForQuestionAnswering"), *arguments)

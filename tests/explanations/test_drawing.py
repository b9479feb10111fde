"""The pictures: that they are drawn for every kind of explanation, and what is missing is one sentence."""

import sys

import numpy as np
import pytest
from PIL import Image
from support.explained import ASKED, loaded
from support.lxmert import SIZES, lxmert_inputs

import tfvl

pytest.importorskip("matplotlib", reason="needs tfvl[plots]")
HEADS = ("ViltForImagesAndTextClassification", "LxmertForQuestionAnswering", "ViltForTokenClassification")


@pytest.mark.parametrize("head", HEADS)
def test_pictures(tmp_path, head):
    one = tfvl.explain(*loaded(head), **ASKED[head][1])
    path = one.save(tmp_path / "why.png")
    with Image.open(path) as picture:
        assert picture.width == 1200
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert one._repr_png_().startswith(b"\x89PNG")
    assert "data:image/png" in one._repr_html_()
    assert one.save(tmp_path / "why.svg").read_text().lstrip().startswith("<?xml")


def test_what_is_refused(tmp_path, monkeypatch):
    one = tfvl.explain(*loaded("ViltForQuestionAnswering"), **ASKED["ViltForQuestionAnswering"][1])
    with pytest.raises(ValueError, match=r"why.doc: pictures end in .*\.png"):
        one.save(tmp_path / "why.doc")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install matplotlib \(the extra 'plots' of tfvl brings it\)"):
        one.save(tmp_path / "why.png")
    assert "<table>" in one._repr_html_()
    assert list(tmp_path.iterdir()) == []


def test_the_grid_of_attention_maps():
    model = tfvl.LxmertForQuestionAnswering(tfvl.LxmertConfig(**SIZES))
    figure = tfvl.explanations.attention_grid(model, lxmert_inputs())
    lines = SIZES["l_layers"] + SIZES["r_layers"] + 4 * SIZES["x_layers"]
    assert len(figure.axes) == lines * SIZES["num_attention_heads"]
    with pytest.raises(ValueError, match="row is 7, but there are 3"):
        tfvl.explanations.attention_grid(model, lxmert_inputs(), row=7)

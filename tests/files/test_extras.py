"""A library that only an extra brings is missing: found before the work, and said in one sentence."""

import configparser
import re
import sys

import pytest
from PIL import Image
from support.cli import fails
from support.paths import ROOT

from tfvl.files.extras import PACKAGES, MissingExtraError, hint, is_missing, require

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
EXTRAS = {name: lines.split() for name, lines in SETUP["options.extras_require"].items()}
CALL = re.compile(r"(?:require|hint)\(\s*\*?([\w\", ]+?),\s*extra=\"(\w+)\"", re.DOTALL)


def test_missing_libraries(monkeypatch):
    assert not is_missing("json.decoder")
    assert is_missing("no_such_library")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtraError, match=r"uvicorn is not installed, but it runs on it: pip install uvicorn \("):
        require("json", "uvicorn", extra="serving", purpose="it runs on it")
    monkeypatch.setitem(sys.modules, "grpc_health", None)
    with pytest.raises(ImportError) as caught:
        require("uvicorn", "grpc_health", extra="serving", purpose="it runs on them")
    assert str(caught.value) == (
        "uvicorn and grpc_health are not installed, but it runs on them: pip install uvicorn grpcio-health-checking "
        "(the extra 'serving' of tfvl brings them)."
    )
    assert isinstance(caught.value, ValueError)


def test_every_hint_names_an_extra_that_brings_it():
    """And no hint is `pip install tfvl[…]`, which does not hold before there is a release."""
    found = []
    for path in (ROOT / "tfvl").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install [\"']?tfvl", text), path
        found += [
            (module.strip('" '), extra)
            for modules, extra in CALL.findall(text)
            for module in modules.split(",")
            if '"' in module
        ]
    assert len(found) >= 8
    for module, extra in found:
        package = PACKAGES.get(module, module).strip('"').partition("[")[0]
        assert any(re.match(rf"{re.escape(package)}\b", line) for line in EXTRAS[extra]), (module, extra)


def test_a_hint():
    assert hint("ai_edge_litert.interpreter", extra="lite") == (
        "pip install ai-edge-litert (the extra 'lite' of tfvl brings it)"
    )


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("matplotlib", ("explain", "{picture}", "what?", "--out", "{out}/why.png")),
        ("matplotlib", ("check", "{out}/none.tflite", "--against", "shapes-vilt", "--png", "{out}/drift.png")),
        ("torch", ("port", "shapes-vilt", "{out}/ported", "--check")),
        ("starlette", ("serve", "{out}", "--embedded")),
        ("apache_beam", tuple("score --task vqa --data {out} --split val --model {out} --out {out}/scored".split())),
        ("apache_beam", ("regions", "{out}", "--detector", "none", "--out", "{out}/a.h5", "--runner", "DirectRunner")),
    ],
)
def test_commands_say_it_before_the_work(capsys, monkeypatch, tmp_path, module, arguments):
    """Before files are looked for, models loaded, or anything is written."""
    out = tmp_path / "out"
    (out / "1").mkdir(parents=True)
    (out / "1" / "saved_model.pb").touch()
    (out / "none.tflite").touch()
    picture = tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(picture)
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith("tfvl.training.beam")]:
        monkeypatch.delitem(sys.modules, name)
    before = sorted(out.iterdir())
    line = fails(capsys, *(argument.format(picture=picture, out=out) for argument in arguments))
    assert "pip install" in line
    assert "of tfvl brings" in line
    assert sorted(out.iterdir()) == before

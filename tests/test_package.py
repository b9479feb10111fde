"""The public names, how lightly the package imports, and what the installed package carries."""

import configparser
import subprocess
import sys
import warnings

import pytest
from support.paths import ROOT, tool

import tfvl


@pytest.mark.parametrize("name", tfvl.__all__)
def test_every_public_name_exists(name):
    assert getattr(tfvl, name) is not None
    assert name in dir(tfvl)


def test_aliases_are_the_same_class():
    assert tfvl.ViltFeatureExtractor is tfvl.ViltImageProcessor
    assert tfvl.BertTokenizerFast is tfvl.BertTokenizer
    assert tfvl.LxmertTokenizer is tfvl.BertTokenizer


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tfvl' has no attribute 'VitlModel'"):
        tfvl.VitlModel  # noqa: B018


def test_import_loads_neither_tensorflow_nor_keras():
    code = "import tfvl, sys; print([m for m in ('tensorflow', 'keras', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_import_rules_hold():
    check = tool("check_imports")
    assert [line for rule in check.RULES for line in check.violations(rule)] == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("tfvl/layers/bad.py", "import tensorflow as tf", "imports tensorflow"),
        ("tfvl/layers/bad.py", "from tfvl.vilt import config", "layers know no model"),
        ("tfvl/layers/bad.py", "from tfvl import helper", "loaded by tfvl/layers/bad.py"),
        ("tfvl/vilt/model.py", "import scipy.special", "imports scipy.special"),
        ("tfvl/vilt/bad.py", "from ..lxmert import model", "models do not import each other"),
        ("tfvl/bad.py", "def f():\n    import torch", "imports torch"),
        ("tfvl/porting/bad.py", "from tensorflow import io", "without TensorFlow"),
    ],
)
def test_import_check_finds(tmp_path, monkeypatch, file, source, complaint):
    check = tool("check_imports")
    monkeypatch.setattr(check, "ROOT", tmp_path)
    for path, text in {"tfvl/helper.py": "import tensorflow", file: source}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    found = [line for rule in check.RULES for line in check.violations(rule)]
    assert any(complaint in line and line.startswith("tfvl/") for line in found), found


def test_import_check_accepts_what_is_allowed(tmp_path, monkeypatch):
    check = tool("check_imports")
    monkeypatch.setattr(check, "ROOT", tmp_path)
    good = "import math\nimport keras\nimport numpy as np\nfrom keras import ops\nfrom tfvl.layers import attention"
    (tmp_path / "tfvl" / "vilt").mkdir(parents=True)
    (tmp_path / "tfvl" / "vilt" / "model.py").write_text(good)
    assert [line for rule in check.RULES for line in check.violations(rule)] == []


def test_data_files_are_package_data():
    """Every file of tfvl that is not Python matches a pattern of package_data: an installed tfvl has it too."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    package = ROOT / "tfvl"
    patterns = setup["options.package_data"]["tfvl"].split()
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    data = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert {path.parent.name for path in data} >= {
        "text",
        "shapes-vilt",
        "shapes-visual-bert",
        "shapes-lxmert",
        "shapes-detector",
    }
    assert data <= shipped


def test_warnings_from_tfvl_are_errors():
    with pytest.raises(UserWarning, match="careful"):
        warnings.warn_explicit("careful", UserWarning, "load.py", 1, module="tfvl.porting.load")


def test_readme_starts_with_the_two_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    block = lines[lines.index("```sh") + 1 : lines.index("```")]
    assert block == ["pip install . && tfvl demo", 'pip install ".[test]" && python -m pytest']

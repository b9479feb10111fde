"""The public names, how lightly the package imports, and what the installed package carries."""

import configparser
import subprocess
import sys
import warnings

import pytest
from support.paths import ROOT

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

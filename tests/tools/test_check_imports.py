"""The check of the import rules: today's tree passes it, and it finds an import of each kind that it is to find."""

import pytest
from support.paths import tool

# Files that every room of these trees has beside the one that is tried.
TREE = {
    "tfvl/__init__.py": "import importlib\nhome = lambda name: importlib.import_module(f'tfvl.{name}')\n",
    "tfvl/errors.py": "",
    "tfvl/files/whole.py": "",
    "tfvl/layers/x.py": "",
    "tfvl/vilt/helper.py": "import tensorflow",
    "tfvl/vilt/model.py": "import math\nimport keras\nfrom keras import ops\nfrom tfvl.layers import x",
    "tfvl/lxmert/model.py": "from tfvl.files import whole",
    "tfvl/cli/app.py": "from tfvl import __version__\ndef f():\n    from tfvl.vilt import model",
    "tools/a.py": "import tfvl\nfrom tfvl.cli import app",
}


def complaints(module) -> list[str]:
    graph = module.imports_between_rooms()
    rules = [line for rule in module.RULES for line in module.violations(rule)]
    return [*module.upward(graph), *module.circles(graph), *module.untraceable(), *rules]


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Runs the tool in a tree of its own: `check({file: source})` returns its complaints with these files added."""
    module = tool("check_imports")
    monkeypatch.setattr(module, "ROOT", tmp_path)

    def run(files):
        for path, text in (TREE | files).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return complaints(module)

    return run


def test_the_rules_hold():
    module = tool("check_imports")
    assert [*complaints(module), *module.stale()] == []


def test_what_is_allowed(check):
    assert check({}) == []


# The ways to import `tfvl.cli.app`: at the top of a module, inside a function, and by name.
WAYS = {
    "at the top": "from tfvl.cli import app",
    "at the top, as a module": "import tfvl.cli.app",
    "relative": "from ..cli import app",
    "inside a function": "def f():\n    from tfvl.cli.app import main",
    "for types only": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tfvl.cli import app",
    "by name": "import importlib\ndef f():\n    return importlib.import_module('tfvl.cli.app')",
    "by name, too": "from importlib import import_module\nmain = import_module('tfvl.cli.app').main",
    "by the oldest name": "def f():\n    return __import__('tfvl.cli.app')",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_import_that_runs_up(check, way):
    line = WAYS[way].count("\n", 0, WAYS[way].index("cli")) + 1
    found = check({"tfvl/files/bad.py": WAYS[way]})
    assert found == [f"tfvl/files/bad.py:{line}: files must not import cli, which does not come before it"]


@pytest.mark.parametrize("way", WAYS)
def test_a_circle(check, way):
    """cli imports vilt, and vilt imports files, through which it would come back to cli."""
    line = WAYS[way].count("\n", 0, WAYS[way].index("cli")) + 1
    found = check({"tfvl/files/bad.py": WAYS[way], "tfvl/vilt/more.py": "def f():\n    from tfvl.files import whole"})
    assert found == [
        f"tfvl/files/bad.py:{line}: files must not import cli, which does not come before it",
        f"circle: cli -> vilt -> files -> cli (tfvl/cli/app.py:3, tfvl/vilt/more.py:2, tfvl/files/bad.py:{line})",
    ]


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("tfvl/vilt/bad.py", "from ..lxmert import model", "vilt must not import lxmert"),
        ("tfvl/layers/bad.py", "from tfvl.vilt import model", "layers must not import vilt"),
        ("tfvl/vilt/bad.py", "import tfvl", "vilt must not import tfvl"),
        ("tfvl/vilt/bad.py", "from tfvl import ViltModel", "vilt must not import tfvl"),
        ("tfvl/cli/bad.py", "from tools import a", None),  # not a module of tfvl; the tests' own business
        ("tfvl/explain/bad.py", "", "explain: the room is missing in ORDER"),
        ("tfvl/cli/bad.py", "from importlib import import_module as load\nload(name)", "not written out"),
        ("tfvl/cli/bad.py", "import importlib\nf = lambda x: importlib.import_module(f'tfvl.{x}')", "not written out"),
        ("tfvl/cli/bad.py", "from importlib import import_module\nimport_module(name)", "not written out"),
        ("tfvl/layers/bad.py", "import tensorflow as tf", "imports tensorflow"),
        ("tfvl/vilt/model.py", "from tfvl.vilt import helper", "(loaded by tfvl/vilt/model.py"),
        ("tfvl/vilt/model.py", "import scipy.special", "imports scipy.special"),
        ("tfvl/cli/bad.py", "def f():\n    import torch", "imports torch"),
        ("tfvl/cli/bad.py", "import importlib\nimportlib.import_module('transformers')", "imports transformers"),
        ("tfvl/porting/bad.py", "from tensorflow import io", "without TensorFlow"),
        ("tfvl/porting/originals/bad.py", "from tensorflow import io", "without TensorFlow"),
        ("tfvl/serving/client/bad.py", "import keras", "without TensorFlow"),
    ],
)
def test_other_imports(check, file, source, complaint):
    found = check({file: source})
    assert bool(found) == (complaint is not None), found
    assert not found or complaint in found[0]


def test_a_pattern_that_nothing_matches_is_told(monkeypatch):
    module = tool("check_imports")
    monkeypatch.setattr(module, "RULES", (module.Rule(("tfvl/vilt/*.py", "tfvl/gone/*.py"), "why"),))
    assert module.stale() == ["check_imports.py: no file matches tfvl/gone/*.py"]

"""What the scripts of tools/ import from the package and from the helpers of the tests is there."""

import ast
from importlib import import_module
from importlib.util import find_spec

import pytest
from support.paths import ROOT

OURS = ("tfvl", "support")


def imported(path) -> list[tuple[str, str]]:
    """Module and name of each `from module import name` of ours, inside functions too."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.module]
    return [(node.module, name.name) for node in nodes if node.module.split(".")[0] in OURS for name in node.names]


@pytest.mark.parametrize("path", sorted((ROOT / "tools").rglob("*.py")), ids=lambda path: path.name)
def test_every_name_that_a_script_imports_is_there(path):
    missing = [
        f"{module}.{name}"
        for module, name in imported(path)
        if not hasattr(import_module(module), name) and find_spec(f"{module}.{name}") is None
    ]
    assert missing == []

"""The paths of files that the tests read."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
DATA, GOLDEN = TESTS / "data", TESTS / "golden"


def tool(name: str) -> ModuleType:
    """Imports a script of tools/ as a module, for example "bench/detector"."""
    spec = importlib.util.spec_from_file_location(f"tools_{name.replace('/', '_')}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # before it runs: its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module

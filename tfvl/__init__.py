"""VisualBERT, LXMERT and ViLT for TensorFlow and Keras: load a checkpoint of the hub, fine-tune, export, serve it.

The public names are those that `__init__.pyi` imports. Each is imported on first use, so that `import tfvl` costs
nothing, and editors and type checkers read them there.
"""

import ast
import importlib
from pathlib import Path

__version__ = "0.1.0"


def _names() -> dict[str, str | None]:
    """Reads the stub: returns the module of each public name, None if the name is a module of tfvl itself."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_bytes())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module and f"tfvl.{node.module}" for node in imports for alias in node.names}


_HOME = _names()

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'tfvl' has no attribute {name!r}")
    module = _HOME[name]
    if module is None:
        return importlib.import_module(f"tfvl.{name}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""Checks, before any work, that libraries are installed that only an extra of tfvl brings."""

import importlib.util
import sys

# Names for pip, where they are not those of the modules. Hints name the libraries, not `tfvl[extra]`: pip finds them
# wherever tfvl was installed from.
PACKAGES = {
    "ai_edge_litert": "ai-edge-litert",
    "apache_beam": '"apache-beam[dask]"',
    "mlflow": "mlflow-skinny",
    "grpc_health": "grpcio-health-checking",
    "tensorflow_serving": "tensorflow-serving-api",
}


class MissingExtraError(ImportError, ValueError):
    """A library is not installed. It is the user's mistake, so that the command line ends with code 2."""

    exit_code = 2


def is_missing(module: str) -> bool:
    """Returns whether a module is not installed, without importing it."""
    name = module.partition(".")[0]
    return sys.modules[name] is None if name in sys.modules else importlib.util.find_spec(name) is None


def hint(*modules: str, extra: str) -> str:
    """Returns the sentence that says how to install the libraries of these modules."""
    packages = " ".join(PACKAGES.get(module.partition(".")[0], module.partition(".")[0]) for module in modules)
    return f"pip install {packages} (the extra {extra!r} of tfvl brings {'them' if len(modules) > 1 else 'it'})"


def require(*modules: str, extra: str, purpose: str) -> None:
    """Raises MissingExtraError if a module is not installed.

    Args:
        *modules: names of the modules.
        extra: the extra in setup.cfg that installs them.
        purpose: a clause that says what they are for.
    """
    if missing := [module for module in modules if is_missing(module)]:
        named = " and ".join(module.partition(".")[0] for module in missing)
        verb = "are" if len(missing) > 1 else "is"
        raise MissingExtraError(f"{named} {verb} not installed, but {purpose}: {hint(*missing, extra=extra)}.")

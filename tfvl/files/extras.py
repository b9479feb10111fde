"""Libraries that only an extra of tfvl brings: missing ones are found before the work, and named in one sentence."""

import importlib.util
import sys


class MissingExtraError(ImportError):
    """A library is not installed, which is for the user to mend: the command line ends with code 2."""

    exit_code = 2


def require(module: str, extra: str, purpose: str, package: str = "") -> None:
    """Raises MissingExtraError where a module is not there; it is not imported.

    Args:
        module: its name.
        extra: of setup.cfg, that brings it.
        purpose: a clause that says what it is for.
        package: its name for pip, where that is another.
    """
    name = module.partition(".")[0]
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        package = package or name
        raise MissingExtraError(
            f"{package} is not installed, but {purpose}: pip install {package} (the extra {extra!r} of tfvl brings it)."
        )

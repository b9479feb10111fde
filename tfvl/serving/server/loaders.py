"""Loads the versions of a model into the embedded server; each is a SavedModel or a `.tflite` file."""

from pathlib import Path

from tfvl.serving.server import saved_model
from tfvl.serving.server.directories import lite_files
from tfvl.serving.server.lite import servable as lite
from tfvl.serving.server.servable import Servable


class Loader:
    """Loads a version, which is a directory or a file.

    Args:
        threads: CPU threads for a `.tflite` file; None: one for each core, at most four.
    """

    def __init__(self, threads: int | None = None):
        self._threads = threads

    def missing(self, version: Path) -> str:
        """Returns what the version still lacks before it can be loaded, as a clause; "" if nothing."""
        return (lite if _is_lite(version) else saved_model).missing(version)

    def load(self, version: Path) -> Servable:
        """Loads the model and runs its warm-up requests. May raise anything."""
        return lite.load(version, self._threads) if _is_lite(version) else saved_model.load(version)


def _is_lite(version: Path) -> bool:
    return bool(lite_files(version)) and not (version / "saved_model.pb").exists()

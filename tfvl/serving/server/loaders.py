"""What the embedded server loads: SavedModels and `.tflite` files, side by side among the versions of a model."""

from pathlib import Path

from tfvl.serving.server.directories import lite_files
from tfvl.serving.server.lite import servable as lite
from tfvl.serving.server.saved_model import SAVED_MODEL
from tfvl.serving.server.servable import VersionLoader


def either(threads: int | None = None) -> VersionLoader:
    """A loader that looks what a version holds.

    Args:
        threads: of the CPU for a `.tflite` file; None: one for each core, at most four.
    """
    of_files = lite.loader(threads)

    def of(version: Path) -> VersionLoader:
        return of_files if lite_files(version) and not (version / "saved_model.pb").exists() else SAVED_MODEL

    return VersionLoader(lambda version: of(version).missing(version), lambda version: of(version).load(version))

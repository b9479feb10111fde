"""A Keras model and its processor to an artefact that is served without Python. Imports auto, serving and below.

`saved_model(model, processor, directory)` writes a SavedModel for TF Serving; `check(directory)` says what is in one,
and what would keep a server from loading it. `lite(model, processor, file)` writes one file for TFLite.
"""

from typing import TYPE_CHECKING

from tfvl.export.op_check.check import check
from tfvl.export.saved_model import saved_model

__all__ = ["check", "lite", "saved_model"]


if TYPE_CHECKING:
    from tfvl.export.tflite.convert import lite
else:

    def __getattr__(name: str):
        if name != "lite":
            raise AttributeError(f"module 'tfvl.export' has no attribute {name!r}")
        from tfvl.export.tflite.convert import lite  # only here: it loads TFLite's converter

        globals()[name] = lite
        return lite

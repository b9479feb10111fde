"""Exports a Keras model and its processor to be served without Python. Imports auto, serving and below.

`saved_model(model, processor, directory)` writes a SavedModel for TF Serving; `check(directory)` says what is in one,
and what would keep a server from loading it. `lite(model, processor, file)` writes a file for TFLite, `web(model,
processor, directory)` a folder with a page that runs such a file in browsers.
"""

from typing import TYPE_CHECKING

from tfvl.export.op_check.check import check
from tfvl.export.saved_model import saved_model

__all__ = ["check", "lite", "saved_model", "web"]


if TYPE_CHECKING:
    from tfvl.export.tflite.convert import lite
    from tfvl.export.web import web
else:

    def __getattr__(name: str):  # imports these when they are used, since they load TFLite's converter
        if name == "lite":
            from tfvl.export.tflite.convert import lite as function
        elif name == "web":
            from tfvl.export.web import web as function
        else:
            raise AttributeError(f"module 'tfvl.export' has no attribute {name!r}")
        globals()[name] = function
        return function

"""From a Keras model and its processor to an artefact that is served without Python.

`saved_model(model, processor, directory)` writes a SavedModel for TF Serving; `check(directory)` says what is in one,
and what would keep a server from loading it.
"""

from tfvl.export.op_check import check
from tfvl.export.saved_model import saved_model

__all__ = ["check", "saved_model"]

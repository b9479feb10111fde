"""Refuses, with one sentence, what runs on TensorFlow only, if Keras is set up for another backend."""

import json
import os
from pathlib import Path


def keras_backend() -> str:
    """Returns the backend of Keras, without importing it: from KERAS_BACKEND, else from its file of settings."""
    if "KERAS_BACKEND" in os.environ:
        return os.environ["KERAS_BACKEND"]
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        return str(json.loads((home / "keras.json").read_text()).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def require_tensorflow(what: str, instead: str = "") -> None:
    """Raises ValueError if Keras runs on another backend than TensorFlow.

    Args:
        what: names what runs on TensorFlow only.
        instead: a clause that says what to do on other backends.
    """
    if (backend := keras_backend()) != "tensorflow":
        advice = "set KERAS_BACKEND=tensorflow" + (f", or {instead}" if instead else "")
        raise ValueError(f"{what} runs on TensorFlow, but the Keras backend is {backend!r}; {advice}.")

"""Imports tensorflow-text, which registers the ops that the tokenizer and exported models need."""

from tfvl.files.extras import MissingExtraError

try:
    import tensorflow_text
    from tensorflow_text.core.pybinds.pywrap_fast_wordpiece_tokenizer_model_builder import build_fast_wordpiece_model
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"tensorflow-text, which the tokenizer runs on, is not installed ({error}); there is none for Windows: take "
        "Linux, macOS or WSL, and there pip install tensorflow-text."
    ) from None

__all__ = ["build_fast_wordpiece_model", "tensorflow_text"]

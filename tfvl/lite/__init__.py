"""Answers from one `.tflite` file: `Runner(file)(images=[…], text=["…"])`. Imports answers, preprocessing and below.

It is light: NumPy, Pillow and a TFLite runtime (`ai-edge-litert`, or TensorFlow's own if that is missing). With
`ai-edge-litert` it imports TensorFlow only for files of the flavour `text`, and it never imports Keras.
"""

__all__ = ["Runner", "attach"]


def __getattr__(name: str):
    if name == "Runner":
        from tfvl.lite.runner import Runner

        return Runner
    if name == "attach":
        from tfvl.lite.rewritten import attach

        return attach
    raise AttributeError(f"module 'tfvl.lite' has no attribute {name!r}")

"""Measures how far a SavedModel differs from the model it was made of: `tfvl check DIRECTORY --against SRC`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf

from tfvl import auto
from tfvl.answers.rows import Head
from tfvl.export.inputs import Inputs, head_of_model, inputs_of
from tfvl.export.signatures import outputs_of
from tfvl.export.tflite.calibration import requests
from tfvl.export.tflite.drift import EXAMPLES, DriftReport, accuracy, compare
from tfvl.export.tflite.sizes import CHOICES, REGIONS
from tfvl.lite.inputs import FEATURES
from tfvl.preprocessing.image.decode import encode_png
from tfvl.preprocessing.requests import Request, Takes, arrays


def saved_model_drift(directory: Path, src: str, count: int = EXAMPLES, **load_options) -> DriftReport:
    """Asks the signature `tensors` and the model the same questions about drawn scenes.

    Raises:
        ValueError: the directory has no such signature, or was made of another kind of model.
    """
    model, processor = auto.load(src, **load_options)
    loaded, inputs = tf.saved_model.load(str(directory)), inputs_of(model, processor)
    if "tensors" not in loaded.signatures:
        raise ValueError(f"{directory} has no signature tensors to compare with; export the model without --signatures")
    serve = loaded.signatures["tensors"]
    run = tf.function(lambda inputs: outputs_of(model, inputs), autograph=False, reduce_retracing=True)
    encode = tf.function(lambda **raw: inputs.encode(raw)[0], autograph=False).get_concrete_function(**inputs.raw)
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    truths = []
    for asked, truth in requests(described(head_of_model(model), inputs), count):
        encoded = encode(**{name: tf.constant(value) for name, value in raw_row(asked, inputs).items()})
        try:
            outputs, expected = serve(**encoded), run(encoded)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            raise ValueError(f"{directory} was made of another model than {src} ({str(error)[:200]})") from None
        if outputs.keys() != expected.keys():
            raise ValueError(f"{directory} was made of another model than {src}: it gives {', '.join(outputs)}")
        for name, value in expected.items():
            pair = outputs[name].numpy()[0], value.numpy()[0]
            if pair[0].shape != pair[1].shape:
                raise ValueError(f"{directory} was made of another model than {src}: {name} is {pair[0].shape}")
            found.setdefault(name, []).append(pair)
        truths.append(truth)
    outputs = tuple(compare(name, pairs) for name, pairs in found.items())
    return DriftReport(directory, src, len(truths), outputs, accuracy(found, truths, model.config.answer_names))


def described(head: Head, inputs: Inputs) -> Any:
    """Returns an object with the attributes of a `Preparer` that `calibration.requests` reads."""
    shapes = {name: (1, REGIONS, axes[-1]) for name, (_, axes) in inputs.axes.items() if name in FEATURES}
    return SimpleNamespace(head=head, takes=Takes.of_signature(inputs.raw), inputs=shapes, ids_shape=(1, CHOICES))


def raw_row(asked: dict[str, Any], inputs: Inputs) -> dict[str, np.ndarray]:
    """Converts a request of `calibration.requests` to one row of the raw inputs."""
    takes = Takes.of_signature(inputs.raw)
    (visuals,) = asked[takes.visual] if takes.images else [asked[takes.visual]]
    visuals = [encode_png(np.asarray(each)) if takes.visual == "images" else each for each in visuals]
    more = {name: asked[name][0] for name in ("choices", "phrases") if name in asked}
    return arrays([Request(asked["text"], visuals, **more)], takes)

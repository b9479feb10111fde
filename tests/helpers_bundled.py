"""Held-out scenes and what a model says about them, shared by the tests of the bundled models."""

from pathlib import Path

import numpy as np

import tfvl
from tfvl import shapes

SHAPES_VILT = Path(tfvl.__file__).parent / "bundled" / "shapes-vilt"


def held_out(count: int):
    """The pictures, for each question the place of its picture among them, and the questions."""
    pairs = list(shapes.held_out_questions(count))
    places = {scene: place for place, scene in enumerate(dict.fromkeys(scene for scene, _ in pairs))}
    pictures = [scene.image() for scene in places]
    return pictures, [places[scene] for scene, _ in pairs], [question for _, question in pairs]


def predictions(model, processor, pictures, places, questions) -> list[str]:
    """The best answer to every question. Each picture is processed once; all have one size, so none is padded."""
    pixel_values = processor(images=pictures)["pixel_values"].numpy()[places]
    texts = processor(text=[question.text for question in questions])
    logits = model.predict(texts | {"pixel_values": pixel_values}, batch_size=250, verbose=0)["logits"]
    return [model.config.id2label[best] for best in np.argmax(logits, axis=-1).tolist()]

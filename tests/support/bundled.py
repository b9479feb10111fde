"""Loads the bundled models and asks them about held-out scenes, for the tests of the bundled models."""

from pathlib import Path

import numpy as np

import tfvl
from tfvl import auto, shapes
from tfvl.porting import hub

DIRECTORY = Path(tfvl.__file__).parent / "bundled"
NAMES = ("shapes-vilt", "shapes-visual-bert", "shapes-lxmert")
DETECTOR = hub.BUNDLED_DETECTOR


def load(name: str):
    """Loads a model and its processor, which takes pictures."""
    source = auto.find(name)
    return source.load(detector=source.default_detector)


def held_out(count: int):
    """Returns scenes, for each question the index of its scene, and the questions."""
    pairs = list(shapes.held_out_questions(count))
    places = {scene: place for place, scene in enumerate(dict.fromkeys(scene for scene, _ in pairs))}
    return list(places), [places[scene] for scene, _ in pairs], [question for _, question in pairs]


def shown(processor, scenes) -> dict[str, np.ndarray]:
    """Returns the model's inputs except those of the text, a row for each scene."""
    inputs = processor(images=[scene.image() for scene in scenes], return_tensors="np")
    inputs.pop("pixel_mask", None)  # all pictures have one size, so none is padded
    return inputs


def predictions(model, processor, scenes, places, questions) -> list[str]:
    """Returns the best answer to every question; each scene is processed once."""
    texts = processor.tokenizer([question.text for question in questions])
    visual = {name: values[places] for name, values in shown(processor, scenes).items()}
    outputs = model.predict(texts | visual, batch_size=250, verbose=0)
    return [model.config.id2label[best] for best in np.argmax(scores(outputs), axis=-1).tolist()]


def scores(outputs):
    """Returns the logits of the answers from the outputs of any of the models, ours or upstream's."""
    return outputs["question_answering_score" if "question_answering_score" in outputs else "logits"]

"""The bundled models, held-out scenes, and what a model says about them, shared by the tests of the bundled models."""

from pathlib import Path

import numpy as np

import tfvl
from tfvl import auto, shapes
from tfvl.porting import hub

DIRECTORY = Path(tfvl.__file__).parent / "bundled"
NAMES = ("shapes-vilt", "shapes-visual-bert", "shapes-lxmert")
DETECTOR = hub.BUNDLED_DETECTOR


def load(name: str):
    """The model and its processor, which takes pictures."""
    return auto.load(name, detector=auto.default_detector(name))


def held_out(count: int):
    """Scenes, for each question the place of its scene among them, and the questions."""
    pairs = list(shapes.held_out_questions(count))
    places = {scene: place for place, scene in enumerate(dict.fromkeys(scene for scene, _ in pairs))}
    return list(places), [places[scene] for scene, _ in pairs], [question for _, question in pairs]


def shown(processor, scenes) -> dict[str, np.ndarray]:
    """The model's inputs but those of the text, a row for each scene."""
    inputs = processor(images=[scene.image() for scene in scenes], return_tensors="np")
    inputs.pop("pixel_mask", None)  # all pictures have one size, so none is padded
    return inputs


def predictions(model, processor, scenes, places, questions) -> list[str]:
    """The best answer to every question. Each scene is processed once."""
    texts = processor.tokenizer([question.text for question in questions])
    visual = {name: values[places] for name, values in shown(processor, scenes).items()}
    outputs = model.predict(texts | visual, batch_size=250, verbose=0)
    return [model.config.id2label[best] for best in np.argmax(scores(outputs), axis=-1).tolist()]


def scores(outputs):
    """The logits of the answers, of any of the models, ours or upstream's."""
    return outputs["question_answering_score" if "question_answering_score" in outputs else "logits"]

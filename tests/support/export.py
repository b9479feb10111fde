"""Exports every head with random weights, once for all tests of artefacts, and makes raw requests for ViLT's heads."""

import tempfile
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  # registers the ops that reloaded artefacts use
from PIL import Image

from support.checkpoint import tiny_model, tiny_processor
from support.export_regions import REGION_HEADS, region_inputs, region_model, region_processor, region_requests
from support.once import once
from tfvl.export import saved_model

HEADS = (
    "ViltModel",
    "ViltForMaskedLM",
    "ViltForPreTraining",
    "ViltForQuestionAnswering",
    "ViltForImagesAndTextClassification",
    "ViltForImageAndTextRetrieval",
    "ViltForTokenClassification",
)
NLVR2 = "ViltForImagesAndTextClassification"
LABELS = {index: f"label {index}" for index in range(7)}
TOP_K = 4


@dataclass(frozen=True)
class Artefact:
    """A head with random weights, which is exported once it is asked for its directory."""

    class_name: str
    model: keras.Model
    processor: object

    @cached_property
    def directory(self) -> Path:
        return once(f"{self.class_name}/1", lambda path: saved_model(self.model, self.processor, path, top_k=TOP_K))


def random_model(class_name: str) -> keras.Model:
    """Makes a model with large random weights, so that rows differ clearly, and so do the answers of a row."""
    config = {"id2label": LABELS, "type_vocab_size": 3}
    if class_name in REGION_HEADS:
        model = region_model(class_name, **config)
    else:
        pair = {"num_images": 2, "modality_type_vocab_size": 3} if class_name == NLVR2 else {}
        model = tiny_model(class_name, **config, **pair)
    generator = np.random.default_rng((*HEADS, *REGION_HEADS).index(class_name))
    for variable in model.weights:
        variable.assign(generator.normal(0.3 if "gamma" in variable.path else 0.0, 0.7, variable.shape))
    return model


@cache
def artefact(class_name: str) -> Artefact:
    """Makes a head to be exported; the files from which its processor was loaded are removed before."""
    model = random_model(class_name)
    processor = region_processor(class_name) if class_name in REGION_HEADS else tiny_processor()
    with tempfile.TemporaryDirectory() as source:
        processor.save_pretrained(source)
        model.config.save_pretrained(source)
        processor = type(processor).from_pretrained(source)
    return Artefact(class_name, model, processor)


@cache
def in_eight_bits(class_name: str) -> Path:
    """Exports the same head once with `quantize="dynamic"`."""
    made = artefact(class_name)
    return once(
        f"{class_name}-dynamic/1",
        lambda path: saved_model(made.model, made.processor, path, top_k=TOP_K, quantize="dynamic"),
    )


def picture(seed: int, height: int, width: int, file_format: str = "JPEG") -> bytes:
    """Encodes an image of a few large random patches as a file."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST).save(file, file_format)
    return file.getvalue()


def strings(*values: str | bytes) -> np.ndarray:
    return np.array([value.encode() if isinstance(value, str) else value for value in values], object)


GOOD_IMAGES = strings(picture(1, 40, 60), picture(2, 64, 33, "PNG"), picture(3, 50, 50, "BMP"))
GOOD_TEXTS = strings("What color is the [MASK]?", "the [MASK] is left of a blue [MASK] , how many ?", "Red [MASK]")


def requests(
    class_name: str, images: np.ndarray = GOOD_IMAGES, texts: np.ndarray = GOOD_TEXTS
) -> dict[str, np.ndarray]:
    """Returns raw inputs of a head; if it takes two images, the second ones are the first ones in another order."""
    if class_name in REGION_HEADS:
        return region_requests(class_name)
    return {"image": np.stack([images, images[::-1]], axis=1) if class_name == NLVR2 else images, "text": texts}


def prepare(class_name: str) -> dict[str, np.ndarray]:
    """Converts the good requests to the model's inputs by the processor in Python."""
    if class_name in REGION_HEADS:
        return region_inputs(class_name)
    raw, exported = requests(class_name), artefact(class_name)
    texts, positions = [text.decode() for text in raw["text"]], exported.model.config.max_position_embeddings
    inputs = exported.processor(images=raw["image"].tolist(), text=texts, max_length=positions)
    return {name: value.numpy() for name, value in inputs.items()}


@cache
def loaded(class_name: str):
    return tf.saved_model.load(str(artefact(class_name).directory))


def serve(class_name: str, signature: str = "serving_default", **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Runs the reloaded artefact of a head in this process."""
    outputs = loaded(class_name).signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in outputs.items()}

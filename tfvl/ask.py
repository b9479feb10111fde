"""One question about one image: to a checkpoint, or to an exported artefact. Both take the same way to an answer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  # registers the ops that an exported tokenizer needs

from tfvl import auto
from tfvl.export.signatures import inputs_of, serving_default
from tfvl.preprocessing.regions.regions import Regions, with_corners
from tfvl.question import Answers, answers_of, image_inputs, more_texts, read_all


def answer(
    files: Sequence[Path],
    question: str,
    src: str,
    top_k: int = 5,
    *,
    image_ids: Sequence[str] = (),
    choices: Sequence[str] = (),
    phrases: Sequence[str] = (),
    detector: str | None = None,
    **load_options,
) -> Answers:
    """Asks the model `src` (hub id, bundled name, directory, or directory of a SavedModel) about images.

    Args:
        files: image files, or files of region features, whichever the model takes; as many as it takes with a text.
        question: the text.
        src: the model.
        top_k: how many answers, at most.
        image_ids: which images, where the files hold the regions of many; several may be of one file.
        choices, phrases: for a model that chooses among texts, or finds the regions of phrases of the text.
        detector: finds the regions of image files for a model that takes regions (hub id, directory, bundled name);
            bundled models have one.
        **load_options: of `auto.load`.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file cannot be used, the model wants other ones, or gives no answers.
    """
    files, images = read_all(files, image_ids)
    if is_saved_model(src):
        serve, specs = exported(src, detector)
    else:
        regions = any(isinstance(image, Regions) for image in images)
        detector = detector or (None if regions else auto.default_detector(src))
        serve, specs, processor = ported(src, top_k, detector=detector, **load_options)
        images = [as_read(image, processor) for image in images]
    inputs = {"text": np.array([question], object)}
    inputs |= image_inputs(images, files, specs, src) | more_texts({"choices": choices, "phrases": phrases}, specs, src)
    outputs = serve(**{name: tf.constant(value) for name, value in inputs.items()})
    return answers_of({name: value[0].numpy() for name, value in outputs.items()}, files, question, src, phrases, top_k)


def as_read(image: bytes | Regions, processor) -> bytes | Regions:
    """Regions as the model reads them: with their boxes behind the features, where those are too narrow without."""
    if not isinstance(image, Regions) or image.boxes is None:
        return image
    narrow = image.features.shape[1] == processor.size_without_corners
    return with_corners(image) if narrow else image


def is_saved_model(src: str) -> bool:
    return Path(src, "saved_model.pb").is_file()


def exported(directory: str, detector: str | None = None):
    """The serving signature of an artefact, and the specs of its inputs."""
    if detector is not None:
        raise ValueError(f"{directory} is exported, with its detector or without; leave --detector out")
    serve = tf.saved_model.load(directory).signatures["serving_default"]
    return serve, serve.structured_input_signature[1]


def ported(src: str, top_k: int, **load_options):
    """The same of a checkpoint, not exported, and its processor."""
    model, processor = auto.load(src, **load_options)
    inputs = inputs_of(model, processor)
    return serving_default(model, processor, inputs, top_k), inputs.raw, processor

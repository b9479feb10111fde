"""One question about one image: to a checkpoint, or to an exported artefact. Both take the same way to an answer."""

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
import tensorflow_text  # noqa: F401  # registers the ops that an exported tokenizer needs

from tfvl import auto
from tfvl.export.signatures import inputs_of, serving_default
from tfvl.preprocessing import formats
from tfvl.preprocessing.decode import to_levels
from tfvl.preprocessing.image import ViltImageProcessor

GRAPH_FORMATS = (formats.JPEG, formats.PNG, formats.GIF, formats.BMP)


@dataclass(frozen=True)
class Answers:
    """What a model says.

    Attributes:
        scored: answers with their scores, best first; for a token classifier, the tokens in their order.
        filled: for a masked language model, the text with its masks filled, else "".
    """

    scored: list[tuple[str, float]]
    filled: str = ""


def answer(images: list[Path], question: str, src: str, top_k: int = 5, **load_options) -> Answers:
    """Asks the model `src` (hub id, bundled name, directory, or directory of a SavedModel) about image files.

    Raises:
        OSError: an image cannot be read.
        ValueError: an image cannot be decoded, the model wants another number of images, or gives no answers.
    """
    contents = [servable(path) for path in images]
    serve, wanted = exported(src) if is_saved_model(src) else ported(src, top_k, **load_options)
    if wanted != len(images):
        raise ValueError(f"{src} takes {wanted} image{'s' * (wanted > 1)} with a text, got {len(images)}")
    image = tf.constant([contents] if wanted > 1 else contents)
    results = {name: value[0].numpy() for name, value in serve(image=image, text=tf.constant([question])).items()}
    if status := results["status"].decode():
        raise ValueError(f"{', '.join(map(str, images))} with {question!r}: {status}")
    if "answers" not in results:
        raise ValueError(f"{src} has no head that answers; its outputs are {', '.join(results)}")
    labels = [label.decode() for label in results["answers"]]
    if "tokens" in results:
        top_k = len(labels)
        labels = [f"{token.decode()}: {label}" for token, label in zip(results["tokens"], labels, strict=True)]
    scored = [(label, float(score)) for label, score in zip(labels, results["scores"], strict=True) if label]
    return Answers(scored[:top_k], results.get("filled", b"").decode())


def servable(path: Path) -> bytes:
    """An image file as the graph can decode it: what only Pillow can (WebP, …) becomes a PNG."""
    contents = path.read_bytes()
    if contents.startswith(tuple(formats.SIGNATURES[number] for number in GRAPH_FORMATS)):
        return contents
    try:
        return tf.io.encode_png(to_levels(contents, ViltImageProcessor.max_pixels).levels).numpy()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def is_saved_model(src: str) -> bool:
    return Path(src, "saved_model.pb").is_file()


def exported(directory: str):
    """The serving signature of an artefact, and how many images it takes with a text."""
    serve = tf.saved_model.load(directory).signatures["serving_default"]
    return serve, number_of_images(serve.structured_input_signature[1]["image"])


def ported(src: str, top_k: int, **load_options):
    """The same of a checkpoint, not exported."""
    model, processor = auto.load(src, **load_options)
    inputs = inputs_of(model, processor)
    return serving_default(model, processor, inputs, top_k), number_of_images(inputs.raw["image"])


def number_of_images(spec: tf.TensorSpec) -> int:
    return spec.shape[1] if spec.shape.rank > 1 else 1

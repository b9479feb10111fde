"""`tfvl ask … --model x.tflite`: one question to one file, as `tfvl.ask` asks a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfvl.lite.runner import Runner
from tfvl.preprocessing.regions.regions import Regions
from tfvl.question import Answers, answers_of, read_all


def answer(
    files: Sequence[Path],
    question: str,
    path: str | Path,
    top_k: int = 5,
    *,
    image_ids: Sequence[str] = (),
    choices: Sequence[str] = (),
    phrases: Sequence[str] = (),
    detector: str | None = None,
) -> Answers:
    """Asks a `.tflite` file about images; arguments as `tfvl.ask.answer`.

    TensorFlow is imported for a detector only.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file cannot be used, or the model wants other ones.
    """
    files, images = read_all(files, image_ids)
    runner = Runner(path, top_k=top_k, warm=False)
    if runner.image_processor is None:
        images = [found(image, file, path, detector) for image, file in zip(images, files, strict=True)]
    elif detector is not None:
        raise ValueError(f"{path} reads images itself; leave the detector out")
    visual = "regions" if all(isinstance(image, Regions) for image in images) else "images"
    asked = {visual: [images] if len(images) > 1 else images, "text": question}
    asked |= {name: [list(texts)] for name, texts in (("choices", choices), ("phrases", phrases)) if texts}
    (row,) = runner(**asked)
    results = {"status": b"", **{name: as_array(value) for name, value in row.items()}}
    results |= {"filled": row["filled"].encode()} if "filled" in row else {}
    return answers_of(results, files, question, str(path), phrases, top_k)


def found(image: bytes | Regions, file: Path, path: str | Path, detector: str | None) -> Regions:
    """The regions of what was in a file. Raises ValueError where it is an image and there is no detector."""
    if isinstance(image, Regions):
        return image
    if detector is None:
        raise ValueError(
            f"{path} takes region features, but {file} is an image; name the detector that its features came from, "
            "e.g. --detector unc-nlp/frcnn-vg-finetuned"
        )
    from tfvl.detector.model import RegionDetector

    return RegionDetector.from_pretrained(detector).regions([image])[0]


def as_array(value) -> np.ndarray:
    """Strings as the bytes that a SavedModel gives."""
    array = np.asarray(value) if not isinstance(value, list) else np.array(value, object)
    return np.vectorize(str.encode, otypes=[object])(array) if array.dtype == object and array.size else array

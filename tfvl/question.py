"""One question about one image, as a row of a serving signature's inputs; and a row of its outputs as answers.

The same for a model in this process and for one behind a server, so there is no TensorFlow here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tfvl.preprocessing.image.decode import to_levels
from tfvl.preprocessing.regions.reading import READERS, open_regions, read_npz
from tfvl.preprocessing.regions.regions import Regions, pad_regions
from tfvl.preprocessing.regions.store import FORMATS as STORES
from tfvl.preprocessing.regions.store import RegionStore

GRAPH_FORMATS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")  # how the files begin that a graph decodes
MAX_PIXELS = 89_478_485  # of an image that is rewritten as PNG here; that of ViltImageProcessor
# More texts that some heads take with a question: input of the signature to option of the command line.
MORE_TEXTS = {"choices": "--choice", "phrases": "--phrase"}


@dataclass(frozen=True)
class Answers:
    """What a model says.

    Attributes:
        scored: answers with their scores, best first; for a token classifier, the tokens in their order; for the
            alignment of phrases, the best region of each.
        filled: for a masked language model, the text with its masks filled, else "".
        match: for a pre-training model, the probability that the text belongs to the image.
    """

    scored: list[tuple[str, float]]
    filled: str = ""
    match: float | None = None


def read_all(files: Sequence[Path], image_ids: Sequence[str] = ()) -> tuple[list[Path], list[bytes | Regions]]:
    """What is in the files, and the file of each image: one file may hold several of them.

    Args:
        files: image files, or files of region features.
        image_ids: which images, where the files hold the regions of many; several may be of one file.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file cannot be used, or not every file has its image id.
    """
    files = [*files] * (len(image_ids) if len(files) == 1 and image_ids else 1)
    if image_ids and len(image_ids) != len(files):
        raise ValueError(f"got {len(image_ids)} image ids for {len(files)} files; give one for each")
    return files, [read(path, one) for path, one in zip(files, image_ids or [None] * len(files), strict=True)]


def answers_of(results: dict, files: Sequence[Path], question: str, src: str, phrases: Sequence[str], top_k: int):
    """A row of a head's results as `Answers`. Raises ValueError where the row has a status or the head no answers."""
    if status := results["status"].decode():
        raise ValueError(f"{', '.join(map(str, files))} with {question!r}: {status}")
    scored = scored_answers(results, phrases, top_k)
    if scored is None:
        raise ValueError(f"{src} has no head that answers; its outputs are {', '.join(results)}")
    match = float(results["match"]) if "match" in results else None
    return Answers(scored, results.get("filled", b"").decode(), match)


def read(path: Path, image_id: str | None = None) -> bytes | Regions:
    """An image file as the graph can decode it, or one image's regions from a file of region features."""
    if path.suffix.lower() in READERS:
        return read_regions(path, image_id)
    if image_id is not None:
        raise ValueError(f"{path} is no file of region features, in which {image_id!r} could be; leave --image-id out")
    return servable(path)


def servable(path: Path) -> bytes:
    """An image file as the graph can decode it: what only Pillow can (WebP, …) becomes a PNG."""
    contents = path.read_bytes()
    if contents.startswith(GRAPH_FORMATS):
        return contents
    try:
        image = Image.fromarray(to_levels(contents, MAX_PIXELS).levels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; region features come in {', '.join(READERS)} files") from error
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def read_regions(path: Path, image_id: str | None) -> Regions:
    """The regions of one image; where a file holds many, `image_id` says which.

    Raises:
        ValueError: the file cannot be used, has no such image, or has several and `image_id` is None.
    """
    if path.suffix.lower() == ".npz":
        if image_id is not None:
            raise ValueError(f"{path} holds the regions of one image only; leave --image-id out")
        return read_npz(path)
    if path.suffix.lower() in STORES:
        with RegionStore(path) as store:
            ids = list(store)
            if image_id is not None or len(ids) == 1:
                return store[ids[0] if image_id is None else image_id]
            raise several(path, ids[0])
    found, damaged = None, []
    for regions in open_regions(path, on_error=damaged.append):
        if image_id == regions.image_id:
            return regions
        if image_id is None and found is not None:
            raise several(path, found.image_id)
        found = regions
    if image_id is None:
        return found
    torn = f" ({len(damaged)} lines could not be read, the first: {damaged[0]})" if damaged else ""
    raise ValueError(f"{path}: there is no image {image_id!r}{torn}")


def several(path: Path, example: str) -> ValueError:
    return ValueError(f"{path} holds the regions of several images; name one, e.g. --image-id {example}")


def image_inputs(images: list, files: Sequence[Path], specs: Mapping, src: str) -> dict:
    """The images as one row of what the signature takes. Raises ValueError where it takes something else."""
    name = "regions" if "regions" in specs else "image"
    for path, image in zip(files, images, strict=True):
        if isinstance(image, Regions) and name == "image":
            raise ValueError(f"{src} takes images, but {path} holds region features")
        if not isinstance(image, Regions) and name == "regions":
            raise ValueError(
                f"{src} takes region features ({', '.join(READERS)} files), but {path} is an image; name the detector "
                "that its features came from, e.g. --detector unc-nlp/frcnn-vg-finetuned, here or in the export"
            )
        if "boxes" in specs and image.boxes is None:
            raise ValueError(f"{path}: there are no boxes, and {src} needs the box of each region")
    in_a_row = len(specs[name].shape) > (3 if name == "regions" else 1)  # several images go with one text
    wanted = specs[name].shape[1] if in_a_row else 1
    if wanted != len(images):
        raise ValueError(f"{src} takes {wanted} image{'s' * (wanted > 1)} with a text, got {len(images)}")
    inputs = {"image": images}
    if name == "regions":
        padded = pad_regions(images if "boxes" in specs else [image.features for image in images])
        inputs = {"regions": padded["features"], "boxes": padded.get("boxes")}
    rows = {name: [value] if in_a_row else value for name, value in inputs.items() if name in specs}
    return {name: np.array(row, object if name == "image" else np.float32) for name, row in rows.items()}


def more_texts(given: dict[str, Sequence[str]], specs: Mapping, src: str) -> dict:
    """One row of each of `MORE_TEXTS` that the signature takes. Raises ValueError where one is missing or too much."""
    for name, texts in given.items():
        if bool(texts) != (name in specs):
            raise ValueError(
                f"{src} takes no {name}; leave {MORE_TEXTS[name]} out"
                if texts
                else f"{src} takes {name} beside the text; give each with {MORE_TEXTS[name]}"
            )
    return {name: np.array([list(texts)], object) for name, texts in given.items() if texts}


def scored_answers(results: dict, phrases: Sequence[str], top_k: int) -> list[tuple[str, float]] | None:
    """A row of a head's results as answers with scores; None where it has none."""
    if "region_ids" in results:
        best = zip(phrases, results["region_ids"], results["scores"], strict=True)
        return [(f"{phrase}: region {region}", float(scores[region])) for phrase, region, scores in best]
    if "answers" not in results:
        return None
    labels, scores = (results[name].tolist() for name in ("answers", "scores"))
    if "tokens" in results:
        labels = [token + b": " + label for token, label in zip(results["tokens"], labels, strict=True)]
        top_k = len(labels)
    elif not any(labels) and "question_answers" in results:  # a pre-training model that was asked without a [MASK]
        labels, scores = (results[name].tolist() for name in ("question_answers", "question_scores"))
    return [(label.decode(), score) for label, score in zip(labels, scores, strict=True) if label][:top_k]

"""Retrieval on the captions of COCO or Flickr30k: finding the image of a text, and the texts of an image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfvl.training.data import json_stream
from tfvl.training.data.examples import Example, Report
from tfvl.training.data.loading import Batch, Loader
from tfvl.training.data.masking import draw_other
from tfvl.training.data.pipeline import BatchPipeline
from tfvl.training.data.records import converted, text_of
from tfvl.training.tasks.measures import RECALLS
from tfvl.training.tasks.predictions import best_places
from tfvl.training.tasks.task import Progress, Task, find_file, logits_of

FALSE_TEXTS = 15  # texts of other images that are trained with each true one (ViLT, section 4.3)
TEXTS_AT_ONCE = 64  # texts with which an image is scored in one call
TEXT_INPUTS = ("input_ids", "token_type_ids", "attention_mask")
LOWEST = np.float32(-1e30)  # the scores of an image that cannot be read; twice that for its own texts
CHUNK = 512  # rows or columns of a score matrix that are compared at once


class Retrieval(Task):
    """Retrieval. The model scores every image with every text; predictions are the scores, float32 (images, texts).

    Rows are in the order in which the images first occur. An exported model scores only the examples' own pairs.
    """

    name = "retrieval"
    reads_json = True
    kinds = ("match",)
    prepared_for: ClassVar[tuple[str, ...]] = ("retrieval", "pretraining")
    checkpoint_only = "retrieval scores every image with every text; evaluate the checkpoint, not an exported model."

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """Yields an example for each caption of `dataset_*.json`, Karpathy's splits; COCO's "restval" is training."""
        path = find_file(directory, "dataset_*.json")
        wanted = {"train", "restval"} if split == "train" else {split}

        def captions():
            for number, image in enumerate(json_stream.stream_list(path, "images")):
                sentences = image.get("sentences")
                if image.get("split") in wanted:
                    for sentence in sentences if isinstance(sentences, list) and sentences else [None]:
                        yield f"image {image.get('filename', number)}", (image, sentence)

        def convert(pair):
            image, sentence = pair
            name = text_of(image["filename"]).rpartition(".")[0]
            return Example(id=str(sentence["sentid"]), images=(name,), text=text_of(sentence["raw"]))

        return converted(path, captions(), convert, report)

    def collate(self, batch: Batch, model_class: type[Any]) -> tuple[dict, np.ndarray]:
        """Returns inputs with texts (N, 16, length), the true one first, and labels, int32 (N,), which are all 0."""
        texts = []
        for row, (place, example) in enumerate(zip(batch.places, batch.examples, strict=True)):
            drawn = batch.generator(row, "negatives")
            others = draw_other(batch.loader.examples.images, int(place), drawn, FALSE_TEXTS)
            texts += [example.text, *(batch.loader.examples[int(other)].text for other in others)]
        encoded = batch.texts(texts)
        shaped = {name: value.reshape(len(batch.examples), FALSE_TEXTS + 1, -1) for name, value in encoded.items()}
        return shaped | batch.pictures, np.zeros(len(batch.examples), np.int32)

    def predictions(self, model, pipeline: BatchPipeline, progress: Progress) -> Any:
        """Computes the scores of all pairs; the order of the pipeline does not matter."""
        loader = pipeline.loader
        examples = loader.examples
        firsts = np.sort(examples.first_of_image)
        row_of_text = np.searchsorted(firsts, examples.first_of_image[examples.images])
        by_length = np.argsort(examples.lengths, kind="stable")
        chunks = [by_length[start : start + TEXTS_AT_ONCE] for start in range(0, len(by_length), TEXTS_AT_ONCE)]
        encoded = [_encoded(loader, [examples[int(place)].text for place in chunk]) for chunk in chunks]
        scores = np.empty([len(firsts), len(examples)], np.float32)
        for row, first in enumerate(firsts):
            inputs, _, (weight,) = loader(np.array([first]), 0)
            picture = {name: value for name, value in inputs.items() if name not in TEXT_INPUTS}
            scores[row] = LOWEST * (1 + (row_of_text == row))
            if weight:
                for chunk, texts in zip(chunks, encoded, strict=True):
                    scores[row, chunk] = logits_of(model, model.predict_on_batch(texts | picture))[0]
            progress(row + 1, len(firsts))
        return scores

    def has_truth(self, example: Example) -> bool:
        """Returns True, since a text always comes with its image."""
        return True

    def metric(self, predictions: Any, examples: Sequence[Example]) -> dict[str, float]:
        """Returns recalls, by `retrieval_recalls`."""
        rows: dict[tuple[str, ...], int] = {}
        return retrieval_recalls(predictions, [rows.setdefault(example.images, len(rows)) for example in examples])

    def from_exported(self, example: Example, answer: str, score: float) -> float:
        return score

    def row(self, example: Example, score: float) -> dict:
        """Returns a text and the image that it was scored with."""
        return {"id": example.id, "image": "/".join(example.images)}

    def rows(self, examples: Sequence[Example], predictions: Any) -> Iterator[dict]:
        """Yields the best images of each text, then the best texts of each image."""
        examples = list(examples)
        names = list(dict.fromkeys(example.images for example in examples))
        for column, example in enumerate(examples):
            yield {"id": example.id, "images": ["/".join(names[row]) for row in best_places(predictions[:, column])]}
        for row, name in enumerate(names):
            yield {"image": "/".join(name), "ids": [examples[column].id for column in best_places(predictions[row])]}


def _encoded(loader: Loader, texts: list[str]) -> dict[str, np.ndarray]:
    """Returns the tokenizer's arrays, (1, texts, length)."""
    encoded = loader.processor(text=texts, return_tensors="np", **loader.text_options)
    return {name: value[None] for name, value in encoded.items()}


def retrieval_recalls(
    scores: np.ndarray, image_of_text: Sequence[int], recalls: Sequence[int] = RECALLS
) -> dict[str, float]:
    """Computes recall at k in both directions: texts that find their image, images that find one of their texts.

    Equal scores rank in the order of rows and columns, so that a model that scores everything alike gains nothing.

    Args:
        scores: (images, texts), higher is better; may be memory-mapped, and is read in chunks.
        image_of_text: (texts,), the row of each text's image.
        recalls: the values of k.

    Returns:
        `image@k`: share of texts whose image is among the k best of all images; `text@k`: share of images with one of
        their (Karpathy: five) texts among the k best of all texts.

    Raises:
        ValueError: shapes do not match, a text's image has no row, an image has no text, or a score is not finite.
    """
    image_of_text = np.asarray(image_of_text)
    if scores.ndim != 2 or image_of_text.shape != scores.shape[1:]:
        raise ValueError(
            f"scores have shape {scores.shape} and image_of_text {image_of_text.shape}, "
            "expected (images, texts) and (texts,)"
        )
    rows, columns = scores.shape
    texts_of_image = np.bincount(image_of_text, minlength=rows) if columns and image_of_text.min() >= 0 else []
    if len(texts_of_image) != rows or not rows:
        raise ValueError(f"image_of_text must hold rows of scores, 0 to {rows - 1}")
    if not np.all(texts_of_image):
        raise ValueError(f"image {int(np.argmin(texts_of_image))} has no text, so no text can be found for it")
    image_ranks = np.concatenate([_ranks_of_images(scores, image_of_text, start) for start in range(0, columns, CHUNK)])
    text_ranks = np.concatenate([_ranks_of_texts(scores, image_of_text, start) for start in range(0, rows, CHUNK)])
    named = (("image", image_ranks), ("text", text_ranks))
    return {f"{name}@{k}": float((ranks < k).mean()) for name, ranks in named for k in recalls}


def _ranks_of_images(scores: np.ndarray, image_of_text: np.ndarray, start: int) -> np.ndarray:
    """Returns the rank of the right image for `CHUNK` texts from `start` on."""
    chunk = np.ascontiguousarray(scores[:, start : start + CHUNK].T)  # (chunk, images)
    return _ranks(chunk, image_of_text[start : start + CHUNK])


def _ranks_of_texts(scores: np.ndarray, image_of_text: np.ndarray, start: int) -> np.ndarray:
    """Returns the rank of the best right text for `CHUNK` images from `start` on."""
    chunk = np.asarray(scores[start : start + CHUNK])  # (chunk, texts)
    own = image_of_text == np.arange(start, start + len(chunk))[:, None]
    return _ranks(chunk, np.argmax(np.where(own, chunk, -np.inf), axis=1))


def _ranks(scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns the rank of the chosen column in each row, from 0; an equal score to the left of it ranks higher."""
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite; the model's logits must be finite")
    score = np.take_along_axis(scores, chosen[:, None], axis=1)
    left = np.arange(scores.shape[1]) < chosen[:, None]
    return np.count_nonzero((scores > score) | ((scores == score) & left), axis=1)

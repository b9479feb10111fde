"""Pre-training on captions, and for LXMERT on questions with their answers."""

import functools
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tfvl.modeling.losses import IGNORED
from tfvl.training.data.examples import Example, Report
from tfvl.training.data.loading import Batch
from tfvl.training.data.masking import draw_other, mask_regions
from tfvl.training.tasks.retrieval import Retrieval
from tfvl.training.tasks.task import Task
from tfvl.training.tasks.vocabulary import best_answers
from tfvl.training.tasks.vqa import Vqa

UNMATCHED = 0.5  # the share of pairs whose text is replaced by another image's


class Pretraining(Task):
    """Pre-training on captions: masked words, and matching, regions and answers if the model has labels for them."""

    name = "pretraining"
    reads_json = True
    kinds = ("masks", "pretraining")
    prepared_for = Retrieval.prepared_for
    free_label_axes: ClassVar = dict.fromkeys(("labels", "obj", "attr", "feat"), (1,))

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        return Retrieval().read(directory, split, report)

    def collate(self, batch: Batch, model_class: type[Any]) -> tuple[dict, Any]:
        """Returns inputs, and labels by the model class's names; only one array if the class has masked words alone.

        labels: int32 (N, length), the ids of hidden words, -100 elsewhere; VisualBERT's also cover the regions.
        matched_label: int32 (N,), 1 if the text belongs to the image; half of the texts are another image's.
        sentence_image_labels: int32 (N,), 0 if the second text belongs to the image, else 1 (VisualBERT, section 3.3).
        obj_labels: see `mask_regions`.
        ans: int32 (N,), the class of the answer, if there is a vocabulary; as in LXMERT's code, -100 if the text has no
            answer or belongs to another image.
        """
        wanted = model_class.label_names
        texts, others, matched = [example.text for example in batch.examples], None, None
        if "matched_label" in wanted:
            texts, matched = swapped_texts(batch)
        if "sentence_image_labels" in wanted:
            others, matched = second_texts(batch)
        rows = matched == 1 if matched is not None and not model_class.masks_unmatched else None
        encoded, words = hide_words(batch, batch.texts(texts, others), rows)
        inputs: dict[str, Any] = encoded | batch.pictures
        labels: dict[str, Any] = {"labels": words}
        if "matched_label" in wanted:
            labels["matched_label"] = matched
        if "sentence_image_labels" in wanted:
            regions = np.full(inputs["visual_embeds"].shape[:2], IGNORED, np.int32)
            labels = {"labels": np.concatenate([words, regions], axis=1), "sentence_image_labels": 1 - matched}
        if "obj_labels" in wanted:
            inputs["visual_feats"], labels["obj_labels"] = hide_regions(batch)
        if "ans" in wanted and batch.loader.label2id:
            answers = best_answers([example.answers for example in batch.examples], batch.loader.label2id)
            labels["ans"] = np.where(matched == 1, answers, IGNORED).astype(np.int32)
        return inputs, labels if len(wanted) > 1 else words


class PretrainingQuestions(Pretraining):
    """Pre-training on captions and on questions, whose answers LXMERT predicts (section 3.1 of its paper)."""

    name = "pretraining-questions"
    label = "ans"
    prepared_for: ClassVar[tuple[str, ...]] = ()
    answers = True

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        return chain(super().read(directory, split, report), Vqa().read(directory, split, report))


def swapped_texts(batch: Batch) -> tuple[list[str], np.ndarray]:
    """Replaces half of the texts by another image's; returns texts and int32 (N,), 1 if a text is the image's own."""
    texts, matched = [], np.ones(len(batch.examples), np.int32)
    for row, (place, example) in enumerate(zip(batch.places, batch.examples, strict=True)):
        generator = batch.generator(row, "negatives")
        text = example.text
        if generator.random() < UNMATCHED:
            (other,) = draw_other(batch.loader.examples.images, int(place), generator)
            text, matched[row] = batch.loader.examples[int(other)].text, 0
        texts.append(text)
    return texts, matched


def second_texts(batch: Batch) -> tuple[list[str], np.ndarray]:
    """Draws second texts, half of another image; returns them and int32 (N,), 1 if a text is the image's own."""
    texts, matched = [], np.ones(len(batch.examples), np.int32)
    images = batch.loader.examples.images
    for row, place in enumerate(batch.places.tolist()):
        generator = batch.generator(row, "negatives")
        if generator.random() < UNMATCHED:
            (other,) = draw_other(images, place, generator)
            matched[row] = 0
        else:
            same = np.flatnonzero(images == images[place])
            others = same[same != place]
            other = generator.choice(others) if len(others) else place
        texts.append(batch.loader.examples[int(other)].text)
    return texts, matched


def hide_words(batch: Batch, texts: dict, rows: np.ndarray | None = None) -> tuple[dict, np.ndarray]:
    """Hides words, only in `rows` (bool) if given; returns the texts and the labels, int32 (N, length)."""
    shown, labels = texts["input_ids"].copy(), np.full_like(texts["input_ids"], IGNORED)
    for row in range(len(shown)):
        if rows is None or rows[row]:
            shown[row], labels[row] = batch.loader.masker(shown[row], batch.generator(row, "words"))
    return texts | {"input_ids": shown}, labels


def hide_regions(batch: Batch) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, ...]]]:
    """Hides regions; returns `visual_feats` and LXMERT's `obj_labels`, padded like the batch's other inputs."""
    random_feature = functools.partial(_random_feature, batch.loader)
    hidden = [
        mask_regions(regions, batch.generator(row, "regions"), random_feature)
        for row, (regions,) in enumerate(batch.visuals)
    ]
    most = batch.pictures["visual_feats"].shape[1]
    objects: dict[str, tuple[np.ndarray, ...]] = {
        name: tuple(
            _padded([regions.obj_labels[name][part] for regions in hidden], most, IGNORED if part == 0 else 0.0)
            for part in (0, 1)
        )
        for name in ("obj", "attr", "feat")
    }
    feat, confidence = objects["feat"]
    objects["feat"] = (np.where(batch.pictures["visual_attention_mask"][..., None] == 1, feat, 0.0), confidence)
    return _padded([regions.features for regions in hidden], most), objects


def _random_feature(loader, generator: np.random.Generator) -> np.ndarray:
    """Draws the features of a random region of a random example's image; zeros if that image cannot be read."""
    example = loader.examples[int(generator.integers(len(loader.examples)))]
    try:
        features = loader.visual.get(example.images[0]).features
    except ValueError:
        features = loader.visual.blank().features
    return features[generator.integers(len(features))]


def _padded(rows: Sequence[np.ndarray], length: int, value: float = 0.0) -> np.ndarray:
    """Pads rows (regions, …) into one array (N, length, …)."""
    padded = np.full([len(rows), length, *rows[0].shape[1:]], value, rows[0].dtype)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return padded

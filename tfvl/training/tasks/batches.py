"""What each task makes of a batch: the model's inputs, and labels in the form that its head takes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfvl.modeling.losses import IGNORED
from tfvl.training.data.loading import Batch
from tfvl.training.data.masking import draw_other, mask_regions
from tfvl.training.tasks.measures import region_matches
from tfvl.training.tasks.vocabulary import alignment_targets, best_answers, soft_targets

FALSE_TEXTS = 15  # beside the true one, for retrieval (ViLT, section 4.3)
UNMATCHED = 0.5  # the share of pairs whose text is of another image


def plain_inputs(batch: Batch) -> dict[str, np.ndarray]:
    """One text about what the example shows."""
    return batch.texts([example.text for example in batch.examples]) | batch.pictures


# --- question answering and classification --------------------------------------------------------------------------


def soft_answers(batch: Batch) -> tuple[dict, np.ndarray]:
    """Labels: float32 (N, num_labels), soft targets (ViLT, VisualBERT)."""
    rows = [example.answers for example in batch.examples]
    return plain_inputs(batch), soft_targets(rows, batch.loader.label2id, batch.loader.num_labels)


def single_answers(batch: Batch) -> tuple[dict, np.ndarray]:
    """Labels: int32 (N,), the best answer (LXMERT)."""
    rows = [example.answers for example in batch.examples]
    return plain_inputs(batch), best_answers(rows, batch.loader.label2id)


def classes(batch: Batch) -> tuple[dict, np.ndarray]:
    """Labels: int32 (N,), -100 where the split has none (NLVR2)."""
    return plain_inputs(batch), _labels(batch)


def choices(batch: Batch) -> tuple[dict, np.ndarray]:
    """Texts (N, choices, length); labels: int32 (N,), the place of the right choice (VCR)."""
    texts = batch.texts(
        [example.text for example in batch.examples], [list(example.choices) for example in batch.examples]
    )
    return texts | batch.pictures, _labels(batch)


def alignment(batch: Batch) -> tuple[dict, np.ndarray]:
    """Positions of phrases, int32 (N, phrases); labels: float32 (N, phrases, regions) (Flickr30k Entities).

    A phrase is read at its last token, as in VisualBERT's code; one that was cut off with the end of its sentence has
    the position -1 and no target.
    """
    inputs = plain_inputs(batch)
    words = [example.text.split(" ") for example in batch.examples]
    spans = [[phrase.last for phrase in example.phrases] for example in batch.examples]
    ends = [" ".join(row[: last + 1]) for row, lasts in zip(words, spans, strict=True) for last in lasts]
    tokenizer = batch.loader.processor.tokenizer
    counted = tokenizer(ends, add_special_tokens=False, padding=False, return_length=True)
    counts = counted["length"].numpy()  # = place, after [CLS]
    rows = np.split(counts, np.cumsum([len(lasts) for lasts in spans])[:-1])
    lengths, starts = inputs["attention_mask"].sum(axis=1), inputs["attention_mask"].argmax(axis=1)
    positions = np.full([len(rows), max(len(row) for row in rows)], -1, np.int32)
    matches = []
    for row, (counted, example) in enumerate(zip(rows, batch.examples, strict=True)):
        kept = counted < lengths[row] - 1  # before [SEP]
        positions[row, : len(counted)] = np.where(kept, starts[row] + counted, -1)
        matches.append(phrase_matches(example.phrases, batch.visuals[row][0]) & kept[:, None])
    targets = alignment_targets(matches, positions.shape[1], inputs["visual_embeds"].shape[1])
    return inputs | {"region_to_phrase_position": positions}, targets


def phrase_matches(phrases: Sequence, regions, merged: bool = False) -> np.ndarray:
    """Which regions of an image are right for its phrases: bool (phrases, regions), see `evaluation.region_matches`.

    Raises:
        ValueError: the regions have no boxes, or the image's size is not known (phrases have boxes in pixels).
    """
    if regions.boxes is None or not (regions.width and regions.height):
        raise ValueError(f"the regions of image {regions.image_id!r} need boxes, and the image's width and height")
    pixels = regions.boxes * np.float32([regions.width, regions.height] * 2)
    return np.stack([region_matches(pixels, phrase.boxes, merged) for phrase in phrases])


# --- texts of other images ------------------------------------------------------------------------------------------


def ranking(batch: Batch) -> tuple[dict, np.ndarray]:
    """Texts (N, 16, length), the true one first; labels: int32 (N,), zeros (ViLT's retrieval)."""
    texts = []
    for row, (place, example) in enumerate(zip(batch.places, batch.examples, strict=True)):
        others = draw_other(batch.loader.examples.images, int(place), batch.generator(row, "negatives"), FALSE_TEXTS)
        texts += [example.text, *(batch.loader.examples[int(other)].text for other in others)]
    encoded = batch.texts(texts)
    shaped = {name: value.reshape(len(batch.examples), FALSE_TEXTS + 1, -1) for name, value in encoded.items()}
    return shaped | batch.pictures, np.zeros(len(batch.examples), np.int32)


def swapped_texts(batch: Batch) -> tuple[list[str], np.ndarray]:
    """The examples' texts, half of them replaced by another image's; int32 (N,), 1 where the text is its own."""
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
    """Another text of the same image, or half of the time of another one; int32 (N,), 1 where it is of the same."""
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


# --- pre-training ---------------------------------------------------------------------------------------------------


def hide_words(batch: Batch, texts: dict, rows: np.ndarray | None = None) -> tuple[dict, np.ndarray]:
    """The texts with words hidden, and labels int32 (N, length); only in `rows` (bool), where given."""
    shown, labels = texts["input_ids"].copy(), np.full_like(texts["input_ids"], IGNORED)
    for row in range(len(shown)):
        if rows is None or rows[row]:
            shown[row], labels[row] = batch.loader.masker(shown[row], batch.generator(row, "words"))
    return texts | {"input_ids": shown}, labels


def masked_words(batch: Batch) -> tuple[dict, np.ndarray]:
    """Labels: int32 (N, length), -100 where nothing is hidden (ViltForMaskedLM)."""
    texts, labels = hide_words(batch, batch.texts([example.text for example in batch.examples]))
    return texts | batch.pictures, labels


def vilt_pretraining(batch: Batch) -> tuple[dict, dict]:
    """Masked words and image-text matching. Words are hidden only where the text belongs to the image, as ViLT does."""
    texts, matched = swapped_texts(batch)
    encoded, labels = hide_words(batch, batch.texts(texts), matched == 1)
    return encoded | batch.pictures, {"labels": labels, "matched_label": matched}


def visual_bert_pretraining(batch: Batch) -> tuple[dict, dict]:
    """Masked words, and whether a second text is of the same image (0) or not (1) (VisualBERT, section 3.3)."""
    others, matched = second_texts(batch)
    encoded, labels = hide_words(batch, batch.texts([example.text for example in batch.examples], others))
    pictures = batch.pictures
    of_regions = np.full(pictures["visual_embeds"].shape[:2], IGNORED, np.int32)
    return encoded | pictures, {
        "labels": np.concatenate([labels, of_regions], axis=1),
        "sentence_image_labels": 1 - matched,
    }


def lxmert_pretraining(batch: Batch) -> tuple[dict, dict]:
    """Masked words, matching, masked regions, and, where there is a vocabulary of answers, their classes.

    As in LXMERT's code, texts without an answer, or about another image, have the class -100.
    """
    texts, matched = swapped_texts(batch)
    encoded, labels = hide_words(batch, batch.texts(texts))
    random_feature = functools.partial(_random_feature, batch.loader)
    hidden = [
        mask_regions(regions, batch.generator(row, "regions"), random_feature)
        for row, (regions,) in enumerate(batch.visuals)
    ]
    pictures = dict(batch.pictures)
    most = pictures["visual_feats"].shape[1]
    pictures["visual_feats"] = _padded([regions.features for regions in hidden], most)
    objects = {
        name: tuple(
            _padded([regions.obj_labels[name][part] for regions in hidden], most, IGNORED if part == 0 else 0.0)
            for part in (0, 1)
        )
        for name in ("obj", "attr", "feat")
    }
    feat, confidence = objects["feat"]
    objects["feat"] = (np.where(pictures["visual_attention_mask"][..., None] == 1, feat, 0.0), confidence)
    targets = {"labels": labels, "matched_label": matched, "obj_labels": objects}
    if batch.loader.label2id:
        answers = best_answers([example.answers for example in batch.examples], batch.loader.label2id)
        targets["ans"] = np.where(matched == 1, answers, IGNORED).astype(np.int32)
    return encoded | pictures, targets


def _random_feature(loader, generator: np.random.Generator) -> np.ndarray:
    """The features of any region of any example's image; zeros where that image cannot be read."""
    example = loader.examples[int(generator.integers(len(loader.examples)))]
    try:
        features = loader.visual.get(example.images[0]).features
    except ValueError:
        features = loader.visual.blank().features
    return features[generator.integers(len(features))]


def _padded(rows: Sequence[np.ndarray], length: int, value: float = 0.0) -> np.ndarray:
    """Rows (regions, …) as one array (N, length, …)."""
    padded = np.full([len(rows), length, *rows[0].shape[1:]], value, rows[0].dtype)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return padded


def _labels(batch: Batch) -> np.ndarray:
    return np.array([IGNORED if example.label is None else example.label for example in batch.examples], np.int32)


# Of labels, the axes beside the first whose size differs between batches; those of a dict by name.
FREE_LABEL_AXES: dict[Callable, Any] = {
    alignment: (1, 2),
    masked_words: (1,),
    vilt_pretraining: {"labels": (1,)},
    visual_bert_pretraining: {"labels": (1,)},
    lxmert_pretraining: {"labels": (1,), "obj": (1,), "attr": (1,), "feat": (1,)},
}

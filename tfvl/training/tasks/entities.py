"""Flickr30k Entities: sentences with phrases that name boxes in the image."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from tfvl.preprocessing.regions.regions import Regions
from tfvl.training.data.examples import Example, Phrase, Report
from tfvl.training.data.loading import Batch
from tfvl.training.data.records import converted
from tfvl.training.tasks.measures import RECALLS
from tfvl.training.tasks.predictions import best_places
from tfvl.training.tasks.task import Task, logits_of

PHRASE = re.compile(r"\[/EN#(\d+)((?:/\w+)+) ([^\]]+)\]")
MAX_FILE_BYTES = 1 << 22
CORNERS = ("xmin", "ymin", "xmax", "ymax")
MATCHING_IOU = 0.5

Box = tuple[float, float, float, float]


class Entities(Task):
    """Finding the regions that phrases name; a prediction is a pair of scores and right regions, (phrases, regions).

    A phrase that is cut off with the end of its sentence has no right region, so that it counts as not found; so do the
    phrases about an image that cannot be read.
    """

    name = "entities"
    kinds = ("phrases",)
    free_label_axes: ClassVar = {"labels": (1, 2)}
    unread = None

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """Yields the sentences that have a phrase with a box.

        Args:
            directory: holds `Sentences/*.txt`, `Annotations/*.xml` and `<split>.txt`, which lists the images' ids.
            split: "train", "val" or "test".
            report: counts what cannot be used.

        Raises:
            ValueError: there is no list of the split.
        """
        listing = directory / f"{split}.txt"
        if not listing.is_file():
            raise ValueError(f"{listing} is missing; it lists the ids of the images of {split}, one per line.")
        ids = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]

        def sentences():
            for image in ids:
                try:
                    boxes = read_boxes(_file(directory, "Annotations", image, ".xml"))
                    lines = _read(_file(directory, "Sentences", image, ".txt")).decode("utf-8").splitlines()
                except ValueError as error:
                    yield f"image {image}", error
                    continue
                for number, line in enumerate(lines):
                    sentence, mentions = parse_sentence(line)
                    grounded = [mention for mention in mentions if mention.entity in boxes]
                    if grounded:
                        yield f"image {image}", (image, number, sentence, grounded, boxes)

        def convert(found):
            image, number, sentence, grounded, boxes = found
            phrases = tuple(Phrase(first, last, tuple(boxes[entity])) for entity, first, last in grounded)
            return Example(id=f"{image}#{number}", images=(image,), text=sentence, phrases=phrases)

        return converted(directory, sentences(), convert, report)

    def collate(self, batch: Batch, model_class: type[Any]) -> tuple[dict, np.ndarray]:
        """Adds the phrases' positions, int32 (N, phrases), to the inputs; labels are float32 (N, phrases, regions).

        The position of a phrase is that of its last token, as in VisualBERT's code; a phrase that is cut off with the
        end of its sentence has the position -1 and no target.
        """
        inputs = batch.inputs
        words = [example.text.split(" ") for example in batch.examples]
        spans = [[phrase.last for phrase in example.phrases] for example in batch.examples]
        ends = [" ".join(row[: last + 1]) for row, lasts in zip(words, spans, strict=True) for last in lasts]
        tokenizer = batch.loader.processor.tokenizer
        counted = tokenizer(ends, add_special_tokens=False, padding=False, return_length=True)
        counts = counted["length"].numpy()  # also the index of the last token, since [CLS] comes first
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

    def predict(self, model, outputs: Mapping, labels: np.ndarray, examples: Sequence[Example]) -> list[tuple]:
        counts = [len(example.phrases) for example in examples]
        logits = logits_of(model, outputs)
        return [(logits[row, :count], labels[row, :count] > 0) for row, count in enumerate(counts)]

    def metric(self, predictions: Sequence[tuple[np.ndarray, np.ndarray]], examples: Sequence) -> dict[str, float]:
        """Returns recalls and their upper bound, by `entities_recalls`."""
        return entities_recalls([scores for scores, _ in predictions], [matches for _, matches in predictions])

    def row(self, example: Example, prediction: tuple[np.ndarray, np.ndarray]) -> dict:
        """Returns the best regions of each phrase, as their indices in the image."""
        return {"id": example.id, "regions": best_places(prediction[0]).tolist()}


# --- the published files --------------------------------------------------------------------------------------------


class Mention(NamedTuple):
    """A phrase of a sentence: the entity that it names, and the indices of its first and last word."""

    entity: str
    first: int
    last: int


def parse_sentence(line: str) -> tuple[str, list[Mention]]:
    """Parses a line such as "[/EN#1/people A man] in [/EN#2/clothing a hat] ." into its sentence and its phrases."""
    mentions, words, end = [], [], 0
    for match in PHRASE.finditer(line):
        words += line[end : match.start()].split()
        phrase = match[3].split()
        mentions.append(Mention(match[1], len(words), len(words) + len(phrase) - 1))
        words += phrase
        end = match.end()
    words += line[end:].split()
    return " ".join(words), mentions


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Reads the boxes of each entity in an annotation file; entities without a box (scenes) are left out.

    Raises:
        ValueError: the file is missing, is not XML, declares a document type (which annotations do not, and whose
            XML entities could expand without end), or holds a box of another form.
    """
    boxes: dict[str, list[Box]] = {}
    for item in _parse_xml(_read(path), path).iter("object"):
        corners = item.find("bndbox")
        if corners is None or not len(corners):
            continue
        try:
            left, top, right, bottom = (float(corners.findtext(name)) for name in CORNERS)
        except (TypeError, ValueError):
            raise ValueError(f"{path} has a box without {', '.join(CORNERS)}") from None
        for name in item.findall("name"):
            boxes.setdefault((name.text or "").strip(), []).append((left, top, right, bottom))
    return boxes


def _parse_xml(content: bytes, path: Path) -> Element:
    """Parses XML and returns its root element, without reading other files or expanding XML entities."""

    def refuse(*_):
        raise ValueError(f"{path} declares a document type; annotations have none, and it might expand without end")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
        return builder.close()
    except expat.ExpatError as error:
        raise ValueError(f"{path} is not valid XML ({error})") from None


def _file(directory: Path, kind: str, image: str, suffix: str) -> Path:
    if not image.isalnum():
        raise ValueError(f"{image!r} is no id of an image")
    return directory / kind / f"{image}{suffix}"


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes, which no annotation is")
    return content


# --- right regions and recalls --------------------------------------------------------------------------------------


def phrase_matches(phrases: Sequence[Phrase], regions: Regions) -> np.ndarray:
    """Returns which regions of an image are right for its phrases, bool (phrases, regions); see `region_matches`.

    Raises:
        ValueError: the regions have no boxes, or the image's size is not known (phrases have boxes in pixels).
    """
    if regions.boxes is None or not (regions.width and regions.height):
        raise ValueError(f"the regions of image {regions.image_id!r} need boxes, and the image's width and height")
    pixels = regions.boxes * np.array([regions.width, regions.height] * 2, np.float32)
    return np.stack([region_matches(pixels, np.array(phrase.boxes)) for phrase in phrases])


def alignment_targets(matches: Sequence[np.ndarray], phrases: int, regions: int) -> np.ndarray:
    """Returns targets that share each phrase equally among its right regions (VisualBERT, Flickr30k Entities).

    Args:
        matches: for each row, bool (its phrases, its regions), from `region_matches`.
        phrases, regions: the sizes to pad to.

    Returns:
        float32 (N, phrases, regions); a phrase without a right region is all zeros.
    """
    targets = np.zeros((len(matches), phrases, regions), np.float32)
    for row, match in enumerate(matches):
        counts = np.maximum(match.sum(axis=1, keepdims=True), 1)
        targets[row, : match.shape[0], : match.shape[1]] = match / counts
    return targets


def box_ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the intersection over union, float64 (N, M), of boxes (N, 4) and (M, 4), corners x1, y1, x2, y2."""
    boxes, others = (np.asarray(value, np.float64).reshape(-1, 4) for value in (boxes, others))
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas, other_areas = (np.prod(value[:, 2:] - value[:, :2], axis=1) for value in (boxes, others))
    union = areas[:, None] + other_areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def region_matches(regions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns which regions are right for a phrase: those with an IoU of at least 0.5 with one of its boxes.

    VisualBERT and BAN do the same; Plummer et al. 2017 compare with one box around all boxes of the phrase.

    Args:
        regions: (regions, 4), corners in the unit of `boxes`.
        boxes: (boxes, 4), the boxes of the phrase.

    Returns:
        bool (regions,).
    """
    return np.any(box_ious(regions, boxes) >= MATCHING_IOU, axis=1)


def entities_recalls(scores: Iterable[np.ndarray], matches: Iterable[np.ndarray]) -> dict[str, float]:
    """Computes the metrics of Flickr30k Entities: how many phrases have a right region among the k best.

    Args:
        scores: for each sentence (phrases, regions), without phrases that have no boxes.
        matches: for each sentence bool (phrases, regions), from `region_matches`.

    Returns:
        `recall@k`: the share of phrases with a right region among the k best; `upper_bound`: the share of phrases with
        a right region among all that the detector found.

    Raises:
        ValueError: shapes differ, or there are no phrases.
    """
    ranks = []
    for number, (score, match) in enumerate(zip(scores, matches, strict=True)):
        score, match = np.asarray(score), np.asarray(match, bool)
        if score.shape != match.shape or score.ndim != 2:
            raise ValueError(
                f"sentence {number}: scores have shape {score.shape}, matches {match.shape}; they must agree"
            )
        order = np.argsort(-score, axis=1, kind="stable")
        ranked = np.take_along_axis(match, order, axis=1)
        ranks.append(np.where(ranked.any(axis=1), ranked.argmax(axis=1), np.inf) if match.shape[1] else [np.inf])
    ranks = np.concatenate(ranks) if ranks else np.zeros(0)
    if not len(ranks):
        raise ValueError("there are no phrases with boxes to be found")
    found = {f"recall@{k}": float((ranks < k).mean()) for k in RECALLS}
    return found | {"upper_bound": float(np.isfinite(ranks).mean())}

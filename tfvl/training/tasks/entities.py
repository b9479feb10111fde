"""Flickr30k Entities: sentences whose phrases point at boxes in the image."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from tfvl.training.data.examples import Example, Phrase, Report
from tfvl.training.data.records import converted

PHRASE = re.compile(r"\[/EN#(\d+)((?:/\w+)+) ([^\]]+)\]")
MAX_FILE_BYTES = 1 << 22
CORNERS = ("xmin", "ymin", "xmax", "ymax")

Box = tuple[float, float, float, float]


class Mention(NamedTuple):
    """A phrase of a sentence: the entity that it names, and the places of its words."""

    entity: str
    first: int
    last: int


def read_entities(directory: Path, split: str, report: Report) -> Iterator[Example]:
    """The sentences that have a phrase with a box.

    Args:
        directory: with `Sentences/*.txt`, `Annotations/*.xml` and `<split>.txt`, which lists the images' ids.
        split: "train", "val" or "test".

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


def parse_sentence(line: str) -> tuple[str, list[Mention]]:
    """A line such as "[/EN#1/people A man] in [/EN#2/clothing a hat] ." as its words and the phrases among them."""
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
    """The boxes of each entity in an annotation file; entities without a box (scenes) are not among them.

    Raises:
        ValueError: the file is missing, is not XML, declares a document type (which annotations do not, and entities
            could expand without end), or holds a box of another form.
    """
    boxes: dict[str, list[Box]] = {}
    for item in _parse_xml(_read(path), path).iter("object"):
        corners = item.find("bndbox")
        if corners is None or not len(corners):
            continue
        try:
            box = tuple(float(corners.findtext(name)) for name in CORNERS)
        except (TypeError, ValueError):
            raise ValueError(f"{path} has a box without {', '.join(CORNERS)}") from None
        for name in item.findall("name"):
            boxes.setdefault((name.text or "").strip(), []).append(box)
    return boxes


def _parse_xml(content: bytes, path: Path) -> Element:
    """The root element; nothing outside the file is read and no entity is expanded."""

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

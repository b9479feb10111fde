"""What `tfvl demo --task` asks about a drawn scene, and how an exported model's answers are read. Light to import."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

OVERLAP = 0.5  # of a region and an object, from which on the region is the object's


class DemoAnswer(NamedTuple):
    """A question, the best answer with its score (0 to 1), and the answer that is right."""

    question: str
    answer: str
    score: float
    truth: str


class Asked(NamedTuple):
    """What is asked at once about one scene.

    Attributes:
        scene: a `tfvl.shapes.Scene`.
        texts: of the rows; all are about the scene.
        more: other inputs of the signature by name, a value for each row.
        truths: of each row; of phrases one for each phrase.
    """

    scene: Any
    texts: list[str]
    more: Mapping[str, list]
    truths: list


class DemoTask(NamedTuple):
    """A row of `TASKS`.

    Attributes:
        kinds: of answers that its models give (`tfvl.answers.rows`).
        model: the bundled one.
        ask: makes what is asked of a scene.
        read: from that, the outputs of the exported model by name, and the regions' boxes (regions, 4) from 0 to 1, to
            the answers.
    """

    kinds: tuple[str, ...]
    model: str
    ask: Callable[[Any], Asked]
    read: Callable[[Asked, Mapping[str, list], Any], list[DemoAnswer]]


def ask_questions(scene) -> Asked:
    questions = scene.questions(2)
    return Asked(scene, [each.text for each in questions], {}, [each.answer for each in questions])


def ask_phrases(scene) -> Asked:
    from tfvl import shapes

    drawn = shapes.phrases(scene, 6)
    most = max((len(each.phrases) for each in drawn), default=0)
    phrases = [[*each.phrases, *[""] * (most - len(each.phrases))] for each in drawn]
    return Asked(scene, [each.text for each in drawn], {"phrases": phrases}, [each.things for each in drawn])


def best_answers(asked: Asked, outputs: Mapping[str, list], boxes) -> list[DemoAnswer]:
    """The first of each row's answers."""
    rows = zip(asked.texts, outputs["answers"], outputs["scores"], asked.truths, strict=True)
    return [DemoAnswer(text, answers[0], scores[0], truth) for text, answers, scores, truth in rows]


def best_regions(asked: Asked, outputs: Mapping[str, list], boxes) -> list[DemoAnswer]:
    """The object that the best region of each phrase covers, by its colour and shape."""
    rows = zip(asked.more["phrases"], asked.truths, outputs["region_ids"], outputs["scores"], strict=True)
    return [
        DemoAnswer(phrase, covered(asked.scene, boxes[region]), scores[region], f"{thing.color} {thing.shape}")
        for phrases, things, regions, of_row in rows
        for phrase, thing, region, scores in zip(phrases, things, regions, of_row, strict=False)
    ]


def covered(scene, box) -> str:
    """The object that overlaps a box (corners from 0 to 1) by one half or more."""
    from tfvl.shapes import SIDE

    for thing in scene.things:
        edges = [edge / SIDE for edge in thing.box]
        width, height = (min(box[i + 2], edges[i + 2]) - max(box[i], edges[i]) for i in (0, 1))
        shared = max(width, 0) * max(height, 0)
        areas = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (box, edges))
        if shared >= OVERLAP * (areas - shared):
            return f"{thing.color} {thing.shape}"
    return "nothing"


TASKS = {
    "vqa": DemoTask(("labels",), "", ask_questions, best_answers),
    "phrases": DemoTask(("phrases",), "shapes-visual-bert-phrases", ask_phrases, best_regions),
}

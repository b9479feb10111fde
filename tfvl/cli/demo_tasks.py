"""The questions of `tfvl demo --task` about a drawn scene, and functions that read the answers. Light to import."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ROWS = 6  # the most sentences about a scene
CAPTIONS = 4  # captions to choose from, of which one is true
OVERLAP = 0.5  # smallest intersection over union of a region and the object that it covers


class DemoAnswer(NamedTuple):
    """A question, the best answer with its score (0 to 1), and the answer that is right."""

    question: str
    answer: str
    score: float
    truth: str


class Asked(NamedTuple):
    """The rows that are asked at once about one scene, or about two side by side.

    Attributes:
        scenes: the scenes, each a `tfvl.shapes.Scene`.
        texts: the text of each row.
        more: other inputs of the signature by name, a value for each row.
        truths: the truth of each row; a list of one for each phrase with phrases; one for `CAPTIONS` rows of captions.
    """

    scenes: tuple
    texts: list[str]
    more: Mapping[str, list]
    truths: list


class DemoTask(NamedTuple):
    """A row of `TASKS`.

    Attributes:
        kinds: the kinds of answers that its models may give (`tfvl.answers.rows`).
        several: whether its models take two pictures.
        model: the name of its bundled model; "" for "vqa", whose model depends on `--model`.
        ask: a function that makes the rows to be asked about a scene.
        read: a function from these rows, the outputs of the exported model by name, and the regions' boxes (regions, 4)
            from 0 to 1 to the answers.
    """

    kinds: tuple[str, ...]
    several: bool
    model: str
    ask: Callable[[Any], Asked]
    read: Callable[[Asked, Mapping[str, list], Any], list[DemoAnswer]]


def ask_questions(scene) -> Asked:
    questions = scene.questions(2)
    return Asked((scene,), [each.text for each in questions], {}, [each.answer for each in questions])


def ask_phrases(scene) -> Asked:
    from tfvl import shapes

    drawn = shapes.phrases(scene, ROWS)
    most = max((len(each.phrases) for each in drawn), default=0)
    phrases = [[*each.phrases, *[""] * (most - len(each.phrases))] for each in drawn]
    return Asked((scene,), [each.text for each in drawn], {"phrases": phrases}, [each.things for each in drawn])


def ask_masked_words(scene) -> Asked:
    """Asks for one word of each caption, which can be told from the picture and the other words."""
    from tfvl import shapes

    texts, truths = [], []
    for caption in shapes.captions(scene, 2 * ROWS):
        for place in shapes.hidden_words(scene, caption)[-1:]:
            truths.append(caption.split()[place])
            texts.append(shapes.with_word(caption, place, "[MASK]"))
    return Asked((scene,), texts[:ROWS], {}, truths[:ROWS])


def ask_captions(scene) -> Asked:
    """Asks which of several captions fits; the others differ from it by a word."""
    from tfvl import shapes

    texts, truths = [], []
    for caption in shapes.captions(scene, ROWS):
        others = shapes.false_captions(scene, caption)
        if len(others) >= CAPTIONS - 1:
            texts += [*others[:: len(others) // (CAPTIONS - 1)][: CAPTIONS - 1], caption]
            truths.append(caption)
    return Asked((scene,), texts, {}, truths)


def ask_choices(scene) -> Asked:
    from tfvl import shapes

    drawn = shapes.choices(scene, ROWS)
    choices, truths = [list(each.choices) for each in drawn], [each.choices[each.right] for each in drawn]
    return Asked((scene,), [each.prompt for each in drawn], {"choices": choices}, truths)


def ask_about_two(scene) -> Asked:
    """Asks whether sentences about the scene, on the left, and the next one are true."""
    from tfvl import shapes

    pair = scene, shapes.draw_scene(scene.seed + 1, scene.split)
    drawn = shapes.sentences_about(*pair, ROWS)
    return Asked(pair, [each.text for each in drawn], {}, [str(each.label) for each in drawn])


def best_answers(asked: Asked, outputs: Mapping[str, list], boxes) -> list[DemoAnswer]:
    """Returns the first answer of each row."""
    rows = zip(asked.texts, outputs["answers"], outputs["scores"], asked.truths, strict=True)
    return [DemoAnswer(text, answers[0], scores[0], truth) for text, answers, scores, truth in rows]


def best_captions(asked: Asked, outputs: Mapping[str, list], boxes) -> list[DemoAnswer]:
    """Returns the caption with the highest score of each `CAPTIONS`, with its share by a softmax over these."""
    rows = []
    for start, truth in zip(range(0, len(asked.texts), CAPTIONS), asked.truths, strict=True):
        scores = [math.exp(score) for (score,) in outputs["scores"][start : start + CAPTIONS]]
        best = scores.index(max(scores))
        rows.append(
            DemoAnswer("which caption fits?", asked.texts[start + best], scores[best] / math.fsum(scores), truth)
        )
    return rows


def best_regions(asked: Asked, outputs: Mapping[str, list], boxes) -> list[DemoAnswer]:
    """Returns for each phrase the colour and shape of the object that its best region covers."""
    rows = zip(asked.more["phrases"], asked.truths, outputs["region_ids"], outputs["scores"], strict=True)
    return [
        DemoAnswer(phrase, covered(asked.scenes[0], boxes[region]), scores[region], f"{thing.color} {thing.shape}")
        for phrases, things, regions, of_row in rows
        for phrase, thing, region, scores in zip(phrases, things, regions, of_row, strict=False)
    ]


def covered(scene, box) -> str:
    """Returns colour and shape of the object that a box (corners from 0 to 1) covers, see `OVERLAP`, or "nothing"."""
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
    "vqa": DemoTask(("labels",), False, "", ask_questions, best_answers),
    "mlm": DemoTask(("masks", "pretraining"), False, "shapes-vilt-mlm", ask_masked_words, best_answers),
    "retrieval": DemoTask(("match",), False, "shapes-vilt-retrieval", ask_captions, best_captions),
    "nlvr2": DemoTask(("labels",), True, "shapes-vilt-nlvr2", ask_about_two, best_answers),
    "choice": DemoTask(("choices",), False, "shapes-visual-bert-choice", ask_choices, best_answers),
    "phrases": DemoTask(("phrases",), False, "shapes-visual-bert-phrases", ask_phrases, best_regions),
}

"""Examples for the page: drawn scenes and questions about them, for each kind of answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tfvl import shapes

COUNT = 4
DIRECTORY = "examples"  # of the pictures, beside the page


class Example(NamedTuple):
    """A question that the page asks at a click.

    Attributes:
        scenes: a scene for each picture of the question.
        text: the question; for the kind "match", a text on each line.
        more: "choices" or "phrases", if the head reads them.
    """

    scenes: Sequence[shapes.Scene]
    text: str
    more: Mapping[str, Sequence[str]] = {}


def drawn(kind: str, images: int, mask_token: str) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Draws examples for a kind of answer.

    Args:
        kind: the kind of answer, of `tfvl.answers.rows.KINDS`.
        images: number of pictures of a question, 1 or 2.
        mask_token: the tokenizer's mask token.

    Returns: the field `examples` of description.json, and the PNG files that it names, by their names.
    """
    described, files = [], {}
    for number, example in enumerate(_pairs() if images > 1 else _of_scenes(kind, mask_token)):
        names = [f"{DIRECTORY}/{number}{side}.png" for side in "ab"[: len(example.scenes)]]
        files |= {name: scene.png() for name, scene in zip(names, example.scenes, strict=True)}
        described.append({"images": names, "text": example.text, **example.more})
    return described, files


def _of_scenes(kind: str, mask_token: str) -> list[Example]:
    found: list[Example] = []
    for seed in range(100):  # some scenes have no example
        example = EXAMPLES[kind](shapes.draw_scene(seed), len(found), mask_token)
        if example is not None:
            found.append(example)
        if len(found) == COUNT:
            break
    return found


def _question(scene: shapes.Scene, number: int, mask_token: str) -> Example | None:
    questions = scene.questions({shapes.KINDS[number]: 1})
    return Example([scene], questions[0].text) if questions else None


def _caption(scene: shapes.Scene, number: int, mask_token: str) -> Example:
    return Example([scene], shapes.captions(scene)[0])


def _gap(scene: shapes.Scene, number: int, mask_token: str) -> Example | None:
    caption = shapes.captions(scene)[0]
    hidden = shapes.hidden_words(scene, caption)
    return Example([scene], shapes.with_word(caption, hidden[0], mask_token)) if hidden else None


def _texts(scene: shapes.Scene, number: int, mask_token: str) -> Example:
    true = shapes.captions(scene)[0]
    return Example([scene], "\n".join(sorted([true, *shapes.false_captions(scene, true)[:2]])))


def _choices(scene: shapes.Scene, number: int, mask_token: str) -> Example | None:
    found = shapes.choices(scene, COUNT)
    return Example([scene], found[0].prompt, {"choices": list(found[0].choices)}) if found else None


def _phrases(scene: shapes.Scene, number: int, mask_token: str) -> Example | None:
    found = shapes.phrases(scene, COUNT)
    return Example([scene], found[0].text, {"phrases": list(found[0].phrases)}) if found else None


EXAMPLES: Mapping[str, Callable[[shapes.Scene, int, str], Example | None]] = {
    "pooled": _caption,
    "labels": _question,
    "masks": _gap,
    "pretraining": _gap,
    "match": _texts,
    "tokens": _caption,
    "choices": _choices,
    "phrases": _phrases,
}


def _pairs() -> list[Example]:
    sentences = shapes.pair_sentences(COUNT, scenes=200)
    return [Example(each.scenes, each.text) for each in list(sentences)[:: shapes.PAIRS]]

"""Sentences about a drawn scene whose truth is known: captions, texts to choose from, and phrases for its objects.

The scene's seed and split determine its sentences, as they do its questions.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from tfvl.shapes.scenes import (
    COLORS,
    CORNERS,
    MOST_OBJECTS,
    RELATIONS,
    SHAPES,
    SPLITS,
    Scene,
    Thing,
    draw_scene,
    vocabulary,
)

FORMS = ("existence", "count", "relation", "corner")  # the forms of captions
FORM_SHARES = (1, 1, 3, 1)  # the frequency of each form; relations are the most informative
CHOICES_OF_A_PROMPT = 4
MORE_WORDS = ("in", "image", "images", "both", "one")  # words of sentences that questions do not have
# Classes of words: a caption in which a word is replaced by another of its class is still a caption.
CLASSES = (
    tuple(COLORS),
    SHAPES,
    tuple(f"{shape}s" for shape in SHAPES),
    tuple(map(str, range(2, MOST_OBJECTS + 1))),
    ("left", "right"),
    ("above", "below"),
    ("top", "bottom"),
)
_NAME = r"(?:the|an?) ([a-z]+(?: [a-z]+)?)"
_RELATION = "|".join(RELATIONS)
_EXISTENCE = re.compile(rf"there is {_NAME}")
_COUNT = re.compile(r"there are (\d) ([a-z]+(?: objects)?)")
_BETWEEN = re.compile(rf"{_NAME} is ({_RELATION}) {_NAME}")
_CORNER = re.compile(rf"{_NAME} is ({'|'.join(CORNERS)})")


@dataclass(frozen=True)
class Choice:
    """A prompt about a scene and the texts to choose from, of which only `choices[right]` is true."""

    prompt: str
    choices: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class Phrases:
    """A true caption, the phrases in it that name an object, and those objects."""

    text: str
    phrases: tuple[str, ...]
    things: tuple[Thing, ...]


def caption_vocabulary() -> tuple[str, ...]:
    """Returns every token of questions and sentences, as in `vocab.txt` of the models that are trained on both."""
    return (*vocabulary(), *MORE_WORDS)


def matching(scene: Scene, name: str) -> list[Thing]:
    """Returns the objects that a name fits, such as "circle", "red object", "red circle", or a plural of these."""
    words = {word.removesuffix("s") for word in name.split()} - {"object"}
    return [thing for thing in scene.things if words <= {thing.color, thing.shape}]


def fits(caption: str, scene: Scene) -> bool:
    """Returns whether a caption is true of a scene, that is, whether objects of the scene are as the caption says.

    Raises:
        ValueError: the caption has none of the forms that `captions` draws.
    """
    if found := _EXISTENCE.fullmatch(caption):
        return bool(matching(scene, found[1]))
    if found := _COUNT.fullmatch(caption):
        return len(matching(scene, found[2])) == int(found[1])
    if found := _CORNER.fullmatch(caption):
        return any(thing.corner == found[2] for thing in matching(scene, found[1]))
    if found := _BETWEEN.fullmatch(caption):
        pairs = product(matching(scene, found[1]), matching(scene, found[3]))
        return any(one is not other and one.is_(found[2], other) for one, other in pairs)
    raise ValueError(f"{caption!r} is no caption of drawn scenes, such as those of tfvl.shapes.captions.")


def captions(scene: Scene, count: int = 1) -> list[str]:
    """Returns 1 to `count` different true captions, the same on every call; objects are named as in `Scene.names`."""
    rng = _stream(scene, 2)
    shares = [form for form, share in zip(FORMS, FORM_SHARES, strict=True) for _ in range(share)]
    said = {}
    for _ in range(count):
        said[_DRAW[_pick(rng, shares)](scene, rng) or _existence(scene, rng)] = None
    return list(said)


def with_word(caption: str, place: int, word: str) -> str:
    """Returns the caption with `word` in the place of another; its articles stay as they are."""
    words = caption.split()
    return " ".join([*words[:place], word, *words[place + 1 :]])


def changed_captions(caption: str) -> list[list[str]]:
    """Returns, for each word, the captions in which another word of its class replaces it ("blue" for "red", …)."""
    words = caption.split()
    rows = []
    for place, word in enumerate(words):
        others = next((tuple(other for other in each if other != word) for each in CLASSES if word in each), ())
        rows.append([_with_article([*words[:place], other, *words[place + 1 :]]) for other in others])
    return rows


def false_captions(scene: Scene, caption: str) -> list[str]:
    """Returns the false captions that differ from a true one by one word."""
    return [each for row in changed_captions(caption) for each in row if not fits(each, scene)]


def hidden_words(scene: Scene, caption: str) -> list[int]:
    """Returns the indices of the words that can be told from the scene and the rest: no other word makes it true."""
    rows = enumerate(changed_captions(caption))
    return [place for place, row in rows if row and not any(fits(each, scene) for each in row)]


def choices(scene: Scene, count: int = 1) -> list[Choice]:
    """Returns up to `count` prompts: "where is the circle?" with relations, "what is above the star?" with names."""
    rng = _stream(scene, 3)
    drawn = {}
    for _ in range(count):
        made = (_where if rng.random() < 0.5 else _what)(scene, rng)
        if made is None:
            continue
        prompt, true, false = made
        texts = [_pick(rng, true), *(false[place] for place in rng.permutation(len(false))[: CHOICES_OF_A_PROMPT - 1])]
        order = rng.permutation(CHOICES_OF_A_PROMPT).tolist()
        drawn[prompt] = Choice(prompt, tuple(texts[place] for place in order), order.index(0))
    return list(drawn.values())


def phrases(scene: Scene, count: int = 1) -> list[Phrases]:
    """Returns up to `count` captions that say where objects are, each with the phrases that name an object."""
    rng = _stream(scene, 4)
    drawn = {}
    for _ in range(count):
        text = _DRAW["relation" if rng.random() < 0.75 else "corner"](scene, rng)
        found = text and (_BETWEEN.fullmatch(text) or _CORNER.fullmatch(text))
        if not found:
            continue
        names = [name for name in (found[1], found[3] if found.re is _BETWEEN else None) if name]
        things = [matching(scene, name)[0] for name in names]
        drawn[text] = Phrases(text, tuple(f"the {name}" for name in names), tuple(things))
    return list(drawn.values())


def held_out(draw: Callable[[Scene, int], list], count: int, per_scene: int = 1) -> list[tuple[Scene, object]]:
    """Returns the first `count` sentences on scenes of the test split; `draw` is `captions`, `choices` or `phrases`."""
    pairs, seed = [], 0
    while len(pairs) < count:
        scene = draw_scene(seed, "test")
        pairs += [(scene, each) for each in draw(scene, per_scene)]
        seed += 1
    return pairs[:count]


def _stream(scene: Scene, number: int) -> np.random.Generator:
    return np.random.default_rng([SPLITS.index(scene.split), scene.seed, number])


def _pick(rng: np.random.Generator, values):
    return values[int(rng.integers(len(values)))]


def _with_article(words: list[str]) -> str:
    pairs = zip(words, [*words[1:], ""], strict=True)
    return " ".join(_a(following).split()[0] if word in ("a", "an") else word for word, following in pairs)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


# --- captions: each function draws one, or returns None if the scene has none of the form ---


def _existence(scene: Scene, rng: np.random.Generator) -> str:
    thing = _pick(rng, scene.things)
    return f"there is {_a(f'{thing.color} {thing.shape}')}"


def _count(scene: Scene, rng: np.random.Generator) -> str:
    subjects = [f"{shape}s" for shape in SHAPES] + [f"{color} objects" for color in COLORS] + ["objects"]
    counts = {subject: len(matching(scene, subject)) for subject in subjects}
    subject = _pick(rng, [subject for subject, count in counts.items() if count > 1])
    return f"there are {counts[subject]} {subject}"


def _relation(scene: Scene, rng: np.random.Generator) -> str | None:
    pairs = [
        (name, relation, other_name)
        for (name, thing), (other_name, other), relation in product(scene.names, scene.names, RELATIONS)
        if thing.is_(relation, other)
    ]
    return "the {} is {} the {}".format(*_pick(rng, pairs)) if pairs else None


def _corner(scene: Scene, rng: np.random.Generator) -> str | None:
    if not scene.names:
        return None
    name, thing = _pick(rng, scene.names)
    return f"the {name} is {thing.corner}"


_DRAW = dict(zip(FORMS, (_existence, _count, _relation, _corner), strict=True))


# --- choices: each function draws a prompt, true texts and false texts, or returns None ---


def _where(scene: Scene, rng: np.random.Generator) -> tuple[str, list[str], list[str]] | None:
    if not scene.names:
        return None
    name, thing = _pick(rng, scene.names)
    others = [(other_name, other) for other_name, other in scene.names if other is not thing]
    places = {True: [], False: []}
    for (other_name, other), relation in product(others, RELATIONS):
        places[thing.is_(relation, other)].append(f"{relation} the {other_name}")
    return _prompt(f"where is the {name}?", places[True], places[False])


def _what(scene: Scene, rng: np.random.Generator) -> tuple[str, list[str], list[str]] | None:
    if not scene.names:
        return None
    name, thing = _pick(rng, scene.names)
    relation = _pick(rng, tuple(RELATIONS))
    true = {f"{each.color} {each.shape}" for each in scene.things if each.is_(relation, thing)}
    shown = {f"{each.color} {each.shape}" for each in scene.things if each is not thing} - true
    absent = {f"{color} {shape}" for color, shape in product(COLORS, SHAPES)} - true - shown
    # Objects that are in the picture, but elsewhere, come first; it is then not enough to see that they are there.
    near = [*sorted(shown), *(sorted(absent)[place] for place in rng.permutation(len(absent)))]
    near = near[: CHOICES_OF_A_PROMPT - 1]
    return _prompt(f"what is {relation} the {name}?", [_a(each) for each in sorted(true)], [_a(each) for each in near])


def _prompt(text: str, true: list[str], false: list[str]) -> tuple[str, list[str], list[str]] | None:
    return (text, true, false) if true and len(false) >= CHOICES_OF_A_PROMPT - 1 else None

"""Sentences about two drawn scenes, as in NLVR2; each comes with several pairs, and is true of half of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from tfvl.shapes.scenes import COLORS, MOST_OBJECTS, SHAPES, SPLITS, Scene, draw_scene
from tfvl.shapes.sentences import matching

PAIRS = 4  # pairs of scenes for each sentence, which is true of two and false of two
SIDES = ("in the left image", "in the right image", "in both images", "in one image")
# For each side that a sentence speaks of: whether (left, right) show the fact, in the cases in which it is true, and in
# those in which it is false.
TRUE = {
    SIDES[0]: ((True, False), (True, True)),
    SIDES[1]: ((False, True), (True, True)),
    SIDES[2]: ((True, True),),
    SIDES[3]: ((True, False), (False, True)),
}
FALSE = {side: tuple(each for each in product((True, False), repeat=2) if each not in TRUE[side]) for side in SIDES}


@dataclass(frozen=True)
class PairSentence:
    """A sentence and a pair of scenes, left and right.

    Attributes:
        text: the sentence.
        scenes: the left and the right scene.
        label: whether the sentence is true of them.
        number: the number of the sentence, which `PAIRS` pairs share.
    """

    text: str
    scenes: tuple[Scene, Scene]
    label: bool
    number: int


def pair_sentences(count: int, split: str = "test", scenes: int = 1000, seed: int = 0) -> Iterator[PairSentence]:
    """Yields `count` sentences, each with `PAIRS` pairs of scenes; the same arguments give the same sentences.

    A model cannot guess the label from the sentence, which is true of half of its pairs.

    Args:
        count: number of sentences.
        split: the scenes' split.
        scenes: number of scenes that the pairs are drawn from.
        seed: seeds the choice; the scenes are those from `seed` · 10⁶ on.
    """
    pool = [draw_scene(seed * 10**6 + number, split) for number in range(scenes)]
    rng = np.random.default_rng([SPLITS.index(split), seed, 5])
    facts = [(text, _fitting(pool, fact)) for text, fact in _facts()]
    facts = [(text, places) for text, places in facts if min(map(len, places.values())) >= PAIRS]
    for number in range(count):
        text, places = facts[int(rng.integers(len(facts)))]
        side = SIDES[int(rng.integers(len(SIDES)))]
        for label in (True, False) * (PAIRS // 2):
            ways = (TRUE if label else FALSE)[side]
            wanted = ways[int(rng.integers(len(ways)))]
            left, right = (pool[int(rng.choice(places[each]))] for each in wanted)
            yield PairSentence(f"{text} {side}", (left, right), label, number)


def sentences_about(left: Scene, right: Scene, count: int = 1) -> list[PairSentence]:
    """Draws up to `count` different sentences about two scenes, true and false in turn, the same on every call."""
    rng = np.random.default_rng([SPLITS.index(left.split), left.seed, right.seed, 6])
    said = {True: [], False: []}
    for text, fact in _facts():
        shown = fact(left), fact(right)
        if any(shown):  # what is in neither picture is false of every side: nothing has to be compared
            for side in SIDES:
                said[shown in TRUE[side]].append(f"{text} {side}")
    turns = zip(*(rng.permutation(said[label])[: (count + 1) // 2].tolist() for label in said), strict=False)
    drawn = [pair for turn in turns for pair in zip(turn, said, strict=True)][:count]
    return [PairSentence(text, (left, right), label, number) for number, (text, label) in enumerate(drawn)]


def _facts() -> Sequence[tuple[str, Callable[[Scene], bool]]]:
    """Returns what can be said of a scene, each with the function that says whether it is true of one."""
    names = [*SHAPES, *(f"{color} object" for color in COLORS)]
    names += [f"{color} {shape}" for color, shape in product(COLORS, SHAPES)]
    article = {name: "an" if name[0] in "aeiou" else "a" for name in names}
    counted = product((*(f"{shape}s" for shape in SHAPES), "objects"), range(2, MOST_OBJECTS + 1))
    return [(f"there is {article[name]} {name}", partial(_has, name)) for name in names] + [
        (f"there are {number} {name}", partial(_counts, name, number)) for name, number in counted
    ]


def _fitting(pool: list[Scene], fact: Callable[[Scene], bool]) -> dict[bool, np.ndarray]:
    """Returns the indices of the scenes of which a fact is true (True), and of the others (False)."""
    true = np.array([fact(scene) for scene in pool])
    return {True: np.flatnonzero(true), False: np.flatnonzero(~true)}


def _has(name: str, scene: Scene) -> bool:
    return bool(matching(scene, name))


def _counts(name: str, number: int, scene: Scene) -> bool:
    return len(matching(scene, name)) == number

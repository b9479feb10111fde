"""Makes requests for calibration if the user gives none: drawn scenes (`tfvl.shapes`) and their questions."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfvl import shapes
from tfvl.lite.inputs import FEATURES
from tfvl.lite.preparer import Preparer
from tfvl.preprocessing.regions.regions import Regions, widened


def requests(preparer: Preparer, count: int) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields requests of one row each, as `Runner` takes them, with the true answers.

    Regions are those of `shapes.regions`, or those that the bundled detector finds, if their features have the size
    that the model takes; else random ones.
    """
    rng = np.random.default_rng(0)
    features = next((preparer.inputs[name] for name in FEATURES if name in preparer.inputs), None)
    find = functools.lru_cache(maxsize=4)(lambda scene: regions_of(scene, features, rng))  # once for all its questions
    for scene, question in shapes.held_out_questions(count):
        asked: dict[str, Any] = {"text": question.text}
        scenes = [scene, *(shapes.draw_scene(int(rng.integers(1000))) for _ in range((preparer.takes.images or 1) - 1))]
        shown = [each.image() if features is None else find(each) for each in scenes]
        asked[preparer.takes.visual] = shown if preparer.takes.images is None else [shown]
        if "choices" in preparer.head.reads:
            asked["choices"] = [list(shapes.COLORS)[: preparer.ids_shape[1]]]
        if "phrases" in preparer.head.reads:
            asked["phrases"] = [question.text.split()[:1]]
        yield asked, question.answer


def regions_of(scene: shapes.Scene, shape: tuple[int, ...], rng: np.random.Generator):
    if shape[2] == shapes.FEATURE_SIZE:
        return shapes.regions(scene)
    (found,) = bundled_detector().regions(scene.image())
    if (found := widened(found, shape[2])).features.shape[1] == shape[2]:
        return found
    count = max(shape[1] // 2, 1)
    corners = np.sort(rng.uniform(size=(count, 2, 2)), axis=1).reshape(count, 4)
    return Regions(np.maximum(rng.normal(size=(count, shape[2])), 0), corners)


@functools.cache
def bundled_detector():
    from tfvl.detector.model import RegionDetector
    from tfvl.porting.hub import BUNDLED_DETECTOR

    return RegionDetector.from_pretrained(BUNDLED_DETECTOR)

"""Questions about drawn scenes (`tfvl.shapes`), a task that needs no files: a seed determines all examples."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from tfvl import shapes
from tfvl.porting.hub import BUNDLED_DETECTOR
from tfvl.training.data.examples import Example, Report
from tfvl.training.tasks.answering import Answering
from tfvl.training.tasks.measures import accuracies

SCENES = 8000  # in the training split
ASKED = 2000  # questions in the test split
PER_SCENE = {"color": 2, "shape": 2, "count": 4, "existence": 3, "position": 9}  # more questions of harder kinds
LENGTH = 14  # tokens of the longest question, [CLS] and [SEP] included
SEEDS = 10**6  # the scenes of a seed begin at so many times the seed


class Shapes(Answering):
    """Questions about drawn scenes.

    Args:
        scenes: the number of training scenes; the test split has `ASKED` questions.
        seed: seeds the training scenes; two seeds have no scene in common.
    """

    name = "shapes"
    splits = ("train", "test")
    needs_data = False
    checkpoint_only = "the drawn scenes are evaluated from a checkpoint, not from an exported model."

    def __init__(self, scenes: int = SCENES, seed: int = 0):
        self.scenes, self.seed = scenes, seed

    def configured(self, scenes: int, seed: int) -> Self:
        return type(self)(scenes, seed)

    def vocabulary(self) -> tuple[str, ...]:
        return shapes.answers()

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """Yields the questions of "train", or of "test", whose scenes are drawn from another random stream."""
        if split not in shapes.SPLITS:
            raise ValueError(f"the drawn scenes have no split {split!r}; they have {', '.join(shapes.SPLITS)}.")
        if split == "test":
            asked = shapes.held_out_questions(ASKED)
        else:
            drawn = (shapes.draw_scene(self.seed * SEEDS + number, split) for number in range(self.scenes))
            asked = ((scene, question) for scene in drawn for question in scene.questions(PER_SCENE))
        for number, (scene, question) in enumerate(asked):
            name = f"{scene.split}-{scene.seed}"
            yield Example(f"{name}-{number}", (name,), question.text, answers=(question.answer,), group=question.kind)

    def visual(self, processor) -> "DrawnScenes":
        return DrawnScenes(processor)

    def metric(self, predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """Returns `accuracy`, and that of each kind of question."""
        pairs = zip(predictions, examples, strict=True)
        right = np.array([said == example.answers[0] for said, example in pairs], float)
        return accuracies(right, [example.group for example in examples])


class DrawnScenes:
    """Draws the scenes and makes a model's visual inputs of them: pixels for ViLT, regions for VisualBERT and LXMERT.

    Regions are those that the bundled detector finds; for models with features of `shapes.FEATURE_SIZE` they are
    `shapes.regions`, at the true boxes. Each scene is drawn once and kept (50 kB for ViLT, 5 kB for the others). All
    inputs have the same shape, so that XLA compiles a step once.
    """

    def __init__(self, processor):
        if not processor.takes_images and processor.feature_size != shapes.FEATURE_SIZE:
            processor = type(processor)(processor.tokenizer, processor.feature_size, BUNDLED_DETECTOR)
        self.processor = processor
        self._seen: dict[str, dict[str, np.ndarray]] = {}

    def __contains__(self, name: str) -> bool:
        split, _, seed = name.partition("-")
        return split in shapes.SPLITS and seed.isdecimal()

    def get(self, name: str) -> dict[str, np.ndarray]:
        if name not in self._seen:
            split, _, seed = name.partition("-")
            self._seen[name] = self._inputs(shapes.draw_scene(int(seed), split))
        return self._seen[name]

    def content(self, name: str) -> bytes:
        """Returns nothing: the name says which scene is drawn; its arrays may differ by machine in their last bits."""
        return b""

    def inputs(self, rows: Sequence[Sequence[dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
        return {name: np.stack([row[name] for (row,) in rows]) for name in rows[0][0]}

    def _inputs(self, scene: shapes.Scene) -> dict[str, np.ndarray]:
        if self.processor.sees == "images":  # all images are square, so that nothing is padded
            return {"pixel_values": self.processor(images=[scene.image()])["pixel_values"].numpy()[0]}
        if self.processor.detector:  # pads to the largest number of regions that it finds
            arrays = self.processor(images=[scene.image()], return_tensors="np")
            return {name: value[0] for name, value in arrays.items()}
        arrays = self.processor(regions=[shapes.regions(scene)], return_tensors="np")
        missing = shapes.MOST_OBJECTS - len(scene.things)
        return {name: np.pad(value[0], [(0, missing)] + [(0, 0)] * (value.ndim - 2)) for name, value in arrays.items()}

"""Trains small models of tasks on drawn scenes, each from the body of one that is trained already.

    python tools/train/shapes_tasks.py shapes-visual-bert-phrases out/phrases              # from shapes-visual-bert
    python tools/train/shapes_tasks.py shapes-visual-bert-phrases out/blind --text-only    # the picture withheld
    python tools/train/shapes_tasks.py shapes-vilt-nlvr2 out/nlvr2 --start out/mlm         # from another directory

What differs between the models stands in `shapes_tasks.yaml`: where each starts, how many scenes and steps. The loss,
the optimizer and its schedule are those of each head's paper, with a higher rate, as the models are so small. Prints
the figures on held-out scenes; `--text-only` trains and measures the same with every picture blank.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import yaml
from shapes_tasks_data import EXAMPLES, Examples
from shapes_tasks_figures import FIGURES, blank, predicted, together
from shapes_tasks_start import START

from tfvl import auto, shapes
from tfvl.porting.hub import BUNDLED_DETECTOR

SETTINGS = Path(__file__).with_suffix(".yaml")
AT_ONCE = 256  # scenes that a processor gets
PARTS = 8  # of the training, after each of which the model is saved


class Settings(NamedTuple):
    """A model's row in `shapes_tasks.yaml`.

    Attributes:
        architecture: the name of its class.
        task: the key in `TASKS` of its examples and its figures.
        start: the bundled model, or a directory, whose weights it starts from.
        scenes: the number of scenes drawn for training.
        rounds: how often each scene is used, in most tasks with other words hidden or other sentences.
        learning_rate: the highest of the schedule.
        length: the number of tokens of a text, padding included.
        config: fields of the configuration that differ from those of `start`.
    """

    architecture: str
    task: str
    start: str
    scenes: int
    rounds: int
    learning_rate: float
    length: int
    batch_size: int = 128
    config: Mapping = MappingProxyType({})


class Task(NamedTuple):
    """The functions of a task: one makes examples of scenes, one measures a model."""

    examples: Callable[..., Examples]
    figures: Callable[..., dict[str, float]]


TASKS = {name: Task(examples, FIGURES[name]) for name, examples in EXAMPLES.items()}


def read_settings(name: str) -> Settings:
    """Reads the settings of a model. Raises ValueError if the file has none of that name."""
    rows = yaml.safe_load(SETTINGS.read_text())
    if name not in rows:
        raise ValueError(f"{SETTINGS.name} has no model {name!r}; it has {', '.join(rows)}.")
    return Settings(**rows[name])


def seen(processor, scenes: list) -> dict[str, np.ndarray]:
    """Returns the model's visual inputs, a row for each scene."""
    parts = [scenes[start : start + AT_ONCE] for start in range(0, len(scenes), AT_ONCE)]
    rows = [processor(images=[scene.image() for scene in part], return_tensors="np") for part in parts]
    # All pictures are square, so they have no padding, and the model needs no pixel_mask.
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0] if name != "pixel_mask"}


def batches(examples: Examples, visual: dict, batch_size: int) -> tf.data.Dataset:
    """Returns batches of inputs and labels in a random order."""
    rows = examples.places, examples.inputs, examples.labels

    def at(numbers):
        places, inputs, labels = tf.nest.map_structure(lambda values: tf.gather(values, numbers), rows)
        return inputs | together({name: tf.gather(values, places) for name, values in visual.items()}), labels

    count = len(examples.places)
    return tf.data.Dataset.range(count).shuffle(count).batch(batch_size, drop_remainder=True).map(at).prefetch(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help=f"one of the models of {SETTINGS.name}")
    parser.add_argument("out", type=Path, help="directory for the model, in the hub's layout")
    parser.add_argument("--start", help="in place of the start in the settings")
    parser.add_argument("--scenes", type=int, help="in place of the number in the settings")
    parser.add_argument("--rounds", type=int, help="likewise")
    parser.add_argument("--learning-rate", type=float, help="likewise")
    parser.add_argument("--test", type=int, default=1000, help="number of held-out examples")
    parser.add_argument("--text-only", action="store_true", help="withhold the picture, in training and measuring")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    given = {name: getattr(arguments, name) for name in ("start", "scenes", "rounds", "learning_rate")}
    settings = read_settings(arguments.name)._replace(**{name: each for name, each in given.items() if each})
    started, task = time.time(), TASKS[settings.task]

    detector = BUNDLED_DETECTOR if settings.architecture.startswith(("VisualBert", "Lxmert")) else None
    _, processor = auto.load(settings.start, detector=detector)
    model, processor = START[settings.task](settings, processor)
    scenes = [shapes.draw_scene(arguments.seed * 10**6 + number, "train") for number in range(settings.scenes)]
    visual = seen(processor, scenes)
    examples = task.examples(scenes, processor, settings, arguments.seed, visual)
    training = batches(examples, blank(visual) if arguments.text_only else visual, settings.batch_size)
    print(f"{len(scenes)} scenes, {len(examples.places)} examples, {len(training)} steps", flush=True)
    measure = predicted(model, processor, lambda scenes: seen(processor, scenes), arguments.text_only)
    optimizer = model.default_optimizer(steps=len(training), learning_rate=settings.learning_rate)
    model.compile(optimizer=optimizer)
    processor.save_pretrained(arguments.out)
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: model.save_pretrained(arguments.out))
    model.fit(training.repeat(), steps_per_epoch=-(-len(training) // PARTS), epochs=PARTS, verbose=2, callbacks=[keep])
    for name, share in task.figures(measure, arguments.test).items():
        print(f"| {name} | {share:.1%} |", flush=True)
    print(f"{time.time() - started:.0f} seconds")


if __name__ == "__main__":
    main()

"""Trains `shapes-lxmert` and `shapes-visual-bert` on what the bundled `shapes-detector` finds in the drawn scenes.

    python examples/train_shapes_vqa.py --model lxmert --out stage-1       # from true boxes: a detector that never errs
    python tools/train/shapes_from_pixels.py stage-1 shapes-lxmert         # about four minutes on two cores

The second stage keeps the first one's weights: only the layer that reads a region's features is new. It starts as the
old layer behind a linear regression from the detector's features to those of the first stage; then everything learns.
Prints the share of right answers on held-out questions, asked about pixels.
"""

import argparse
import os
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from tfvl import auto, shapes
from tfvl.detector.model import RegionDetector
from tfvl.preprocessing.regions.regions import CORNERS
from tfvl.training.tasks.shapes import LENGTH

QUESTIONS = {"color": 2, "shape": 2, "count": 6, "existence": 3, "position": 9}  # per scene, more of what is harder
FITTED = 1000  # scenes of the linear regression
AT_ONCE = 256  # scenes that the detector gets
# By family: the config's field and the layer's path for a region's features, and whether boxes are appended to them.
READERS = {
    "lxmert": ("visual_feat_dim", "lxmert/visual_embeddings/visn_fc", False),
    "visual_bert": ("visual_embedding_dim", "visual_bert/embeddings/visual_projection", True),
}


def second_stage(first, detector: RegionDetector):
    """Returns the first stage's model with a new layer for the features of `detector`."""
    field, reader, with_boxes = READERS[first.config.model_type]
    size = detector.config.feature_size + CORNERS * with_boxes
    model = type(first)(first.config.replace(**{field: size}))
    slope, offset = regression(detector, with_boxes)
    old = dict(zip((variable.path for variable in model.variables), first.variables, strict=True))
    kernel, bias = (old[f"{reader}/{part}"].numpy() for part in ("kernel", "bias"))
    started = {f"{reader}/kernel": slope @ kernel, f"{reader}/bias": offset @ kernel + bias}
    for variable in model.variables:
        variable.assign(started.get(variable.path, old[variable.path].value))
    return model


def regression(detector: RegionDetector, with_boxes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Fits the map from detected features of true boxes to those of `shapes.regions`: slope (own, theirs), offset."""
    scenes = [shapes.draw_scene(seed, "train") for seed in range(FITTED)]
    theirs = [shapes.regions(scene) for scene in scenes]
    boxes = [[thing.box for thing in scene.things] for scene in scenes]
    own = detector.regions([scene.image() for scene in scenes], boxes=boxes)
    inputs = [np.concatenate([each.features, *[each.boxes] * with_boxes], axis=1) for each in own]
    inputs = np.pad(np.concatenate(inputs), [(0, 0), (0, 1)], constant_values=1)
    solved = np.linalg.lstsq(inputs, np.concatenate([each.features for each in theirs]), rcond=1e-4)[0]
    return solved[:-1], solved[-1]


def seen(processor, scenes: list) -> dict[str, np.ndarray]:
    """Returns the model's visual inputs, a row for each scene, made from its pixels alone."""
    parts = [scenes[start : start + AT_ONCE] for start in range(0, len(scenes), AT_ONCE)]
    rows = [processor(images=[scene.image() for scene in part], return_tensors="np") for part in parts]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def batches(processor, visual: dict, questions: list, family: str, batch_size: int) -> tf.data.Dataset:
    """Returns batches of inputs and targets, in a new order each time, of pairs (index of the scene, question)."""
    texts = processor.tokenizer([question.text for _, question in questions], padding="max_length", max_length=LENGTH)
    labels = [shapes.answers().index(question.answer) for _, question in questions]
    rows = tf.data.Dataset.from_tensor_slices(([place for place, _ in questions], texts, labels))

    def join(places, texts, labels):
        target = labels if family == "lxmert" else tf.one_hot(labels, len(shapes.answers()))
        return texts | {name: tf.gather(values, places) for name, values in visual.items()}, target

    return rows.shuffle(len(questions)).batch(batch_size, drop_remainder=True).map(join).prefetch(2)


def right_answers(model, processor, count: int) -> dict[str, float]:
    """Returns the share of held-out questions that are answered rightly, by kind and for "all"."""
    pairs = list(shapes.held_out_questions(count))
    places = {scene: place for place, scene in enumerate(dict.fromkeys(scene for scene, _ in pairs))}
    visual = seen(processor, list(places))
    texts = processor.tokenizer([question.text for _, question in pairs])
    rows = [places[scene] for scene, _ in pairs]
    outputs = model.predict(texts | {name: values[rows] for name, values in visual.items()}, 250, verbose=0)
    best = np.argmax(outputs.get("question_answering_score", outputs.get("logits")), axis=-1)
    asked, right = Counter(), Counter()
    for (_, question), label in zip(pairs, best, strict=True):
        asked.update((question.kind, "all"))
        right.update((question.kind, "all") if shapes.answers()[label] == question.answer else ())
    return {kind: right[kind] / asked[kind] for kind in (*shapes.KINDS, "all")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage_1", type=Path, help="directory of the model that examples/train_shapes_vqa.py trained")
    parser.add_argument("out", type=Path, help="directory for the model, in the hub's layout")
    parser.add_argument("--detector", default="shapes-detector")
    parser.add_argument("--scenes", type=int, default=8000, help="number of scenes to train on")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="at its highest")
    parser.add_argument("--test", type=int, default=2000, help="number of held-out questions")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    detector = RegionDetector.from_pretrained(arguments.detector)
    first, processor = auto.load(arguments.stage_1)
    model = second_stage(first, detector)
    field, *_ = READERS[model.config.model_type]
    processor = type(processor)(processor.tokenizer, getattr(model.config, field), detector)
    scenes = [shapes.draw_scene(seed, "train") for seed in range(arguments.scenes)]
    questions = [(place, question) for place, scene in enumerate(scenes) for question in scene.questions(QUESTIONS)]
    print(f"{len(scenes)} scenes, {len(questions)} questions; the detector looks at them", flush=True)
    family = model.config.model_type
    training = batches(processor, seen(processor, scenes), questions, family, arguments.batch_size)
    print(f"untrained: {right_answers(model, processor, arguments.test)['all']:.1%}", flush=True)
    steps = arguments.epochs * len(training)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 20, alpha=0.01, warmup_target=arguments.learning_rate, warmup_steps=steps // 20
    )
    model.compile(optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0), jit_compile=True)
    model.fit(training, epochs=arguments.epochs, verbose=2)
    model.save_pretrained(arguments.out)
    processor.save_pretrained(arguments.out)
    for kind, share in right_answers(model, processor, arguments.test).items():
        print(f"| {kind} | {share:.1%} |")


if __name__ == "__main__":
    main()

"""Trains `shapes-detector`, the tiny detector of the drawn scenes: objects are shapes, attributes are colours.

    python tools/train/shapes_detector.py DIRECTORY [--batches 200] [--epochs 12]

2,400 steps of about 0.17 s on two cores. Prints, for held-out scenes, the share of objects that a region with the right
shape and colour covers, and how many regions of more than half a probability cover nothing.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from tfvl import shapes
from tfvl.detector import ops
from tfvl.detector.config import DetectorConfig
from tfvl.detector.model import RegionDetector
from tfvl.detector.training import DetectorTraining, training_batch

BATCH, HELD_OUT = 16, 100
COVERED = 0.5  # overlap from which a region covers an object
COLORS = tuple(shapes.COLORS)
CONFIG = DetectorConfig(
    min_size=shapes.SIDE // 2,  # a cell of the feature map is then a quarter of an object's largest side
    max_size=shapes.SIDE // 2,
    pixel_mean=(128.0,) * 3,
    pixel_std=(64.0,) * 3,
    depth=14,
    stem_out_channels=16,
    res2_out_channels=16,
    width_per_group=8,
    anchor_sizes=(24,),
    anchor_ratios=(1.0,),
    rpn_hidden_channels=64,
    rpn_pre_nms=64,
    rpn_post_nms=20,
    roi_size=6,
    num_objects=len(shapes.SHAPES),
    object_names=shapes.SHAPES,
    num_attributes=len(COLORS),
    attribute_names=COLORS,
    nms_thresholds=(0.3,),
    min_detections=1,
    max_detections=8,
)


def batch(detector: RegionDetector, seeds: range) -> dict[str, tf.Tensor]:
    scenes = [shapes.draw_scene(seed, "train") for seed in seeds]
    return training_batch(
        detector,
        [scene.image() for scene in scenes],
        [[thing.box for thing in scene.things] for scene in scenes],
        [[shapes.SHAPES.index(thing.shape) for thing in scene.things] for scene in scenes],
        [[COLORS.index(thing.color) for thing in scene.things] for scene in scenes],
    )


def dataset(detector: RegionDetector, batches: int) -> tf.data.Dataset:
    drawn = [batch(detector, range(BATCH * number, BATCH * (number + 1))) for number in range(batches)]
    specs = {name: tf.TensorSpec([BATCH, None, *each.shape[2:]], each.dtype) for name, each in drawn[0].items()}
    specs |= {
        name: tf.TensorSpec(drawn[0][name].shape, drawn[0][name].dtype) for name in ("pixel_values", "image_sizes")
    }
    made = tf.data.Dataset.from_generator(lambda: iter(drawn), output_signature=specs)
    return made.apply(tf.data.experimental.assert_cardinality(batches)).shuffle(batches)


def evaluate(detector: RegionDetector) -> tuple[float, float]:
    """Returns the share of objects found, and the number of regions per scene with p > 0.5 that cover no object."""
    found = total = wrong = 0
    for seed in range(HELD_OUT):
        scene = shapes.draw_scene(seed, "test")
        outputs = {name: value[0] for name, value in detector.detect(scene.image()).items() if value.ndim > 1}
        truth = np.array([thing.box for thing in scene.things], np.float32)
        covers = ops.overlaps(tf.constant(truth), tf.constant(outputs["boxes"])).numpy() >= COVERED  # (things, regions)
        for thing, row in zip(scene.things, covers, strict=True):
            found += np.any(row & (outputs["obj_names"] == thing.shape) & (outputs["attr_names"] == thing.color))
        total += len(truth)
        wrong += np.sum((outputs["obj_probs"] > 0.5) & ~covers.any(axis=0))
    return found / total, wrong / HELD_OUT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    detector = RegionDetector(CONFIG)
    training = DetectorTraining(detector, anchors=64, regions=24)
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, arguments.batches * arguments.epochs)
    training.compile(keras.optimizers.Adam(schedule))
    training.fit(dataset(detector, arguments.batches), epochs=arguments.epochs, verbose=2, shuffle=False)
    detector.save_pretrained(arguments.directory)
    found, wrong = evaluate(detector)
    print(f"held out: {found:.1%} of the objects found; {wrong:.2f} sure regions per scene cover none")


if __name__ == "__main__":
    main()

"""Training a detector: targets and losses against plain NumPy, gradients; `tools/train/shapes_detector.py` in small."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.detector import pictures, shared, tiny
from support.paths import tool

from tfvl.detector import training
from tfvl.detector.layers import Conv
from tfvl.detector.model import RegionDetector
from tfvl.detector.training import LOSSES, NONE, DetectorTraining, training_batch

train_shapes_detector = tool("train/shapes_detector")

ROUNDING = 1e-5
STEPS = 45
SAMPLES = 5  # of anchors and regions, which are drawn at random: a loss is the mean of so many
LEARNED = 0.5  # of the first loss, after STEPS; 0.2 is usual


def small_batch(detector):
    return training_batch(
        detector,
        pictures((64, 90), (70, 60)),
        boxes=[[[5, 5, 40, 50], [50, 10, 85, 60]], [[10, 20, 50, 60]]],
        objects=[[3, 8], [0]],
        attributes=[[2, NONE], [1]],
    )


def test_a_batch_is_in_resized_pixels_and_padded():
    batch = small_batch(shared())
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "pixel_values": (2, 75, 90, 3),
        "image_sizes": (2, 2),
        "boxes": (2, 2, 4),
        "objects": (2, 2),
        "attributes": (2, 2),
    }
    np.testing.assert_allclose(batch["boxes"][1, 0], np.array([10, 20, 50, 60]) * 64 / 60, rtol=0.01)
    assert batch["objects"].numpy().tolist() == [[3, 8], [0, NONE]]
    assert batch["attributes"].numpy().tolist() == [[2, NONE], [1, NONE]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[[1, 1, 1, 5]]]}, r"boxes\[0\] hold an empty box"),
        ({"boxes": [[[200, 1, 210, 5]]]}, r"boxes\[0\] hold an empty box, or one outside"),
        ({"objects": [[9]]}, r"objects\[0\] are \[9\], expected one of 0 to 8 for each of 1 boxes"),
        ({"objects": [[1, 2]]}, r"objects\[0\] are \[1, 2\], expected"),
        ({"attributes": [[4]]}, r"attributes\[0\] are \[4\], expected one of -1 to 3"),
        ({"objects": []}, "there are objects for 0 images, but 1 images"),
    ],
)
def test_unusable_truth_is_refused_in_one_sentence(change, message):
    truth = {"boxes": [[[1, 1, 30, 30]]], "objects": [[1]], "attributes": [[1]]} | change
    with pytest.raises(ValueError, match=message):
        training_batch(shared(), pictures((40, 90)), **truth)


def test_sampling_takes_a_share_of_objects_and_fills_up_with_background():
    objects = tf.constant([True] * 5 + [False] * 10)
    kept = training.sampled(objects, ~objects, 8, 0.25).numpy()
    assert (kept < 5).sum() == 2
    assert len(set(kept)) == 8
    assert len(training.sampled(objects, objects & False, 8, 0.25)) == 2


def test_dilated_convolutions_are_the_same_in_training():
    for size in ((14, 14), (7, 10)):
        conv = Conv(3, 4, 3, dilation=2, norm_eps=1e-5)
        conv.build()
        x = tf.random.stateless_normal([2, *size, 3], seed=[1, 2])
        np.testing.assert_allclose(conv(x, training=True), conv(x), atol=ROUNDING)


def test_the_losses_of_regions_are_their_definitions():
    detector = shared()
    rng = np.random.default_rng(0)
    pooled = rng.standard_normal((5, detector.config.feature_size)).astype(np.float32)
    wanted = rng.standard_normal((5, 4)).astype(np.float32)
    objects = np.array([3, 9, 0, NONE, 8], np.int32)  # 9 is the background
    attributes = np.array([1, NONE, NONE, NONE, 3], np.int32)
    losses = DetectorTraining(detector).classification_losses(pooled, wanted, objects, attributes)

    logits, attribute_logits, moves = (
        each.numpy() for each in detector.box_predictor(pooled, np.maximum(objects, 0))
    )  # fmt: skip

    def entropy(row, label):
        return np.log(np.exp(row - row.max()).sum()) + row.max() - row[label]

    expected = np.mean([entropy(logits[row], objects[row]) for row in (0, 1, 2, 4)])
    np.testing.assert_allclose(losses["object_loss"], expected, rtol=ROUNDING)
    expected = sum(np.abs(moves[row, objects[row]] - wanted[row]).sum() for row in (0, 2, 4)) / 4
    np.testing.assert_allclose(losses["box_loss"], expected, rtol=ROUNDING)
    expected = np.mean([entropy(attribute_logits[row, :-1], attributes[row]) for row in (0, 4)])
    np.testing.assert_allclose(losses["attribute_loss"], expected, rtol=ROUNDING)


def test_every_kernel_learns_and_batch_norm_does_not():
    detector = tiny()
    learning = DetectorTraining(detector, anchors=200, regions=12)
    with tf.GradientTape() as tape:
        losses = learning(small_batch(detector), training=True)
        loss = tf.add_n(list(losses.values()))
    assert losses.keys() == LOSSES.keys()
    variables = [variable.value for variable in learning.trainable_variables]
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    silent = [v.path for v, g in zip(learning.trainable_variables, gradients, strict=True) if not np.any(g)]
    assert silent == []
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)
    frozen = {variable.path.rpartition("/")[2] for variable in learning.non_trainable_variables}
    assert {"norm", "cell_anchors"} <= frozen
    assert not {"kernel", "bias", "embeddings"} & frozen


def test_an_image_without_objects_has_a_finite_loss():
    detector = tiny()
    batch = training_batch(detector, pictures((64, 90)), boxes=[[]], objects=[[]])
    losses = DetectorTraining(detector, regions=12)(batch, training=True)
    assert all(np.isfinite(value) for value in losses.values())
    assert losses["rpn_box_loss"] == losses["box_loss"] == losses["attribute_loss"] == 0


@pytest.mark.slow
def test_fit_learns_drawn_scenes():
    keras.utils.set_random_seed(0)
    detector = RegionDetector(train_shapes_detector.CONFIG.replace(rpn_hidden_channels=32))
    batch = train_shapes_detector.batch(detector, range(8))
    learning = DetectorTraining(detector, anchors=64, regions=16)
    learning.compile(keras.optimizers.Adam(2e-3))
    assert learning.optimizer.built
    once = tf.data.Dataset.from_tensors(batch)
    before = learning.evaluate(once.repeat(SAMPLES), verbose=0, return_dict=True)
    learning.fit(once.repeat(STEPS), shuffle=False, verbose=0)
    after = learning.evaluate(once.repeat(SAMPLES), verbose=0, return_dict=True)
    assert before.keys() == {"loss", *LOSSES}
    assert after["loss"] < LEARNED * before["loss"], (before, after)
    assert all(after[name] < before[name] for name in ("rpn_score_loss", "object_loss", "attribute_loss"))

"""Rows of one request that share an image: it is decoded, resized and looked at once."""

import base64

import numpy as np
import pytest
import tensorflow as tf
from support.export import GOOD_IMAGES, NLVR2, artefact, serve, strings
from support.export_answers import BATCH_TOLERANCE

import tfvl
from tfvl.export.rows import once_each
from tfvl.preprocessing.image.limits import BASE64_HINT

pytestmark = pytest.mark.numeric

TEXTS = strings("what color is the circle ?", "how many ?", "what is left of the red square ?")


def numbered(values: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns, for each string of a call, the number of strings, and the string with its index."""
    count = tf.size(values)
    return tf.fill([count], count), tf.stack([values, tf.strings.as_string(tf.range(count))], axis=1)


def test_every_different_string_is_worked_on_once():
    count, pairs = once_each(numbered, tf.constant(["b", "a", "b", "b", "c"]))
    assert count.numpy().tolist() == [3] * 5
    assert pairs.numpy()[:, 0].tolist() == [b"b", b"a", b"b", b"b", b"c"]
    assert pairs.numpy()[:, 1].tolist() == [b"0", b"1", b"0", b"0", b"2"]

    function = tf.function(
        lambda values: once_each(numbered, values), input_signature=[tf.TensorSpec([None, 2], "string")]
    )
    count, pairs = function(tf.constant([["a", "a"], ["b", "a"]]))
    assert count.numpy().tolist() == [[2, 2], [2, 2]]
    assert pairs.numpy()[..., 0].tolist() == [[b"a", b"a"], [b"b", b"a"]]
    assert function.get_concrete_function().structured_outputs[0].shape.as_list() == [None, 2]


def test_questions_on_one_image():
    class_name = "ViltForQuestionAnswering"
    assert tfvl.export.check(artefact(class_name).directory).ops["Unique"] == 1
    images = GOOD_IMAGES[[0, 0, 1]]  # of different sizes
    together = serve(class_name, image=images, text=TEXTS)
    assert together["status"].tolist() == [b"", b"", b""]
    for row in range(3):
        alone = serve(class_name, image=images[row : row + 1], text=TEXTS[row : row + 1])
        assert alone["answers"].tolist() == together["answers"][row : row + 1].tolist()
        np.testing.assert_allclose(alone["scores"][0], together["scores"][row], rtol=0, atol=BATCH_TOLERANCE)


def test_pairs_of_the_same_image():
    image = GOOD_IMAGES[0]
    same = serve(NLVR2, image=np.array([[image, image]], object), text=TEXTS[:1])
    other = serve(NLVR2, image=np.array([[image, GOOD_IMAGES[1]], [image, image]], object), text=TEXTS[[0, 0]])
    assert same["answers"].tolist() == other["answers"][1:].tolist()
    assert not np.array_equal(other["scores"][0], other["scores"][1])


def test_a_bad_image_of_a_pair_is_named():
    """One of them as base64 that the request did not mark; the other pairs are answered."""
    good, unmarked = GOOD_IMAGES[0], base64.b64encode(GOOD_IMAGES[0])
    pairs = np.array([[good, good], [good, unmarked]], object)
    alone, both = serve(NLVR2, image=pairs[:1], text=TEXTS[:1]), serve(NLVR2, image=pairs, text=TEXTS[[0, 0]])
    assert both["status"][0] == b""
    assert both["status"][1].startswith(b"image")
    assert both["status"][1].endswith(BASE64_HINT.encode())
    assert both["answers"][:1].tolist() == alone["answers"].tolist()

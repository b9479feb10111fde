"""A step of `fit` compiled by XLA is the step of plain training; one head per family."""

import keras
import pytest
import tensorflow as tf
from support.classes import small_model
from support.training import HEADS, example, train, values, worst

pytestmark = pytest.mark.numeric

TOLERANCE = 1e-5  # relative to 1 + the value: sums of some dozen float32 terms in another order


@pytest.mark.parametrize("head", HEADS)
def test_under_xla(head):
    """With a step as long as the gradient: AdamW's own, in test_training_optimizers, would enlarge roundings."""
    plain, compiled = small_model(head), small_model(head)
    plain.compile(keras.optimizers.SGD(1e-2))
    train(plain, head)
    compiled.compile(keras.optimizers.SGD(1e-2), jit_compile=True)
    compiled.fit(tf.data.Dataset.from_tensors(example(head)), verbose=0)
    assert worst(values(compiled), values(plain)) < TOLERANCE

"""How models are trained: mixed precision, accumulation, recomputed blocks, weights of rows, numbers of steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.classes import BARE, CLASSES, loss_of, small_model, training_example
from support.training import HEADS, example, rows, train, values, worst

from tfvl.modeling.optimizers import AdamW

# relative to 1 + the value: sums of some dozen float32 terms in another order
TOLERANCE = 1e-5
# a forward pass in bfloat16 has 8 bits, in float16 11; several roundings add up
HALF = {"mixed_bfloat16": 0.05, "mixed_float16": 0.01}
every_family = pytest.mark.parametrize("head", HEADS)
every_head = pytest.mark.parametrize("head", [head for head in CLASSES if head not in BARE])


def sgd(**options):
    """Returns SGD, whose step has the gradient's length: Adam's would hide a wrong scale, and enlarge roundings."""
    return keras.optimizers.SGD(1e-2, **options)


@every_family
def test_recomputed_blocks_give_the_same_step(head):
    plain, recomputed = small_model(head), small_model(head)
    recomputed.gradient_checkpointing_enable()
    for model in (plain, recomputed):
        model.compile(sgd())
        train(model, head)
    assert worst(values(recomputed), values(plain)) < TOLERANCE


@every_family
@pytest.mark.parametrize("policy", HALF)
def test_mixed_precision(head, policy):
    """Weights stay float32, the loss is near that of float32 and goes down; float16 has its loss scaled."""
    full = small_model(head)
    model = type(full)(full.config, dtype=policy)
    model.set_weights(full.get_weights())
    model.compile(model.default_optimizer(learning_rate=1e-3))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
    losses = train(model, head, 4)
    assert {variable.dtype for variable in model.weights} == {"float32"}
    expected = float(loss_of(head, full, *training_example(head)))
    assert losses[0] == pytest.approx(expected, rel=HALF[policy])
    assert losses[-1] < losses[0]


@every_family
def test_accumulated_batches_are_the_big_batch(head):
    """Two batches of two rows, as heavy as each other, against the four rows at once."""
    big, accumulated = small_model(head), small_model(head)
    big.compile(sgd())
    big.train_step(rows(example(head), [0, 1, 1, 0]))
    accumulated.compile(sgd(gradient_accumulation_steps=2))
    for half in ([0, 1], [1, 0]):
        accumulated.train_step(rows(example(head), half))
    assert worst(values(accumulated), values(big)) < TOLERANCE
    assert int(accumulated.optimizer.iterations) == 1


@every_head
def test_a_row_without_weight_is_as_if_it_were_not_there(head):
    """In the loss and in every metric."""
    model, batch = small_model(head), example(head)
    model.compile()
    weighted = scores(model, (*batch, tf.constant([1.0, 0.0, 1.0])))
    alone = scores(model, rows(batch, [0, 2]))
    assert weighted.keys() == alone.keys()
    assert len(weighted) > 1
    for name, value in weighted.items():
        np.testing.assert_allclose(value, alone[name], rtol=TOLERANCE, err_msg=name)
    assert weighted["loss"] != pytest.approx(scores(model, batch)["loss"], rel=TOLERANCE)


def scores(model, batch) -> dict[str, float]:
    model.reset_metrics()
    return {name: float(value) for name, value in model.test_step(batch).items()}


@every_family
def test_steps_bring_the_papers_schedule(head):
    model = small_model(head)
    model.compile(steps=10)
    before = values(model)
    train(model, head)
    assert worst(values(model), before) == 0.0  # the very first rate is 0
    train(model, head)
    assert worst(values(model), before) > 0.0
    model.optimizer._iterations.assign(10)
    assert float(model.optimizer.learning_rate) == 0.0
    model.compile()
    train(model, head)
    assert float(model.optimizer.learning_rate) > 0.0


def test_steps_with_an_optimizer_of_the_users_own():
    model = small_model("ViltForQuestionAnswering")
    with pytest.raises(ValueError, match="steps=10 is for the paper's optimizer"):
        model.compile("adam", steps=10)
    model.compile(model.default_optimizer(steps=10, gradient_accumulation_steps=4))
    assert isinstance(model.optimizer, AdamW)
    assert model.optimizer.gradient_accumulation_steps == 4

"""Schedules and AdamW against their definitions in NumPy, alone and inside Keras' wrappers."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfvl
from tfvl.answers.rows import HEADS
from tfvl.modeling.optimizers import AdamW
from tfvl.modeling.recipes import Recipe
from tfvl.modeling.schedules import WarmupDecay

pytestmark = pytest.mark.numeric

# some twenty operations in float32, on weights that seven steps of up to 0.1 move across 0
FLOAT32 = {"rtol": 2e-6, "atol": 2e-7}
PATHS = ("encoder/kernel", "encoder/bias", "classifier/kernel", "classifier/gamma")


# ── schedules ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_linear_warmup_and_decay_by_hand():
    schedule = WarmupDecay(1e-3, 10, warmup=0.4)
    expected = [0, 0.25, 0.5, 0.75, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0]
    np.testing.assert_allclose([schedule(step) for step in range(12)], 1e-3 * np.array(expected), rtol=1e-6, atol=1e-12)


def test_polynomial_decay_to_a_rate_of_its_own():
    schedule = WarmupDecay(1.0, 4, warmup=0, end=0.2, power=2)
    expected = 0.2 + 0.8 * np.array([1, 0.75, 0.5, 0.25, 0, 0]) ** 2
    np.testing.assert_allclose([schedule(step) for step in range(6)], expected, rtol=1e-6)


@pytest.mark.parametrize("steps", [0, -3, 2.5, True])
def test_a_number_of_steps_that_is_none(steps):
    with pytest.raises(ValueError, match=f"steps is {steps!r}, expected how many batches"):
        WarmupDecay(1e-3, steps)


def test_a_warmup_that_is_no_share():
    with pytest.raises(ValueError, match="warmup is 500, expected the share"):
        WarmupDecay(1e-3, 1000, warmup=500)


# ── AdamW ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def variables():
    """Makes variables with names like a model's; returns them and their values."""
    rng = np.random.default_rng(0)
    values = [rng.normal(0, 0.1, (5, 3)).astype("float32") for _ in PATHS]
    made = []
    for path, value in zip(PATHS, values, strict=True):
        scope, name = path.rsplit("/", 1)
        with keras.name_scope(scope):
            made.append(keras.Variable(value, name=name))
    return made, values


def gradients_of(steps):
    """Makes gradients from 1 down to far below any epsilon."""
    rng = np.random.default_rng(1)
    scale = 10.0 ** -np.arange(15).reshape(5, 3)
    return [[(rng.normal(size=(5, 3)) * scale).astype("float32") for _ in PATHS] for _ in range(steps)]


def reference(values, steps, rates, decays, beta_1=0.9, beta_2=0.98, epsilon=1e-8):
    """Computes `torch.optim.AdamW` as its documentation defines it, in float64; `rates` are per step and variable."""
    results = []
    for index, value in enumerate(values):
        value, momentum, velocity = value.astype("float64"), 0.0, 0.0
        for step, gradients in enumerate(steps, start=1):
            gradient, rate = gradients[index].astype("float64"), rates[step - 1][index]
            value = value - rate * decays[index] * value
            momentum = beta_1 * momentum + (1 - beta_1) * gradient
            velocity = beta_2 * velocity + (1 - beta_2) * gradient**2
            root = np.sqrt(velocity / (1 - beta_2**step))
            value = value - rate * momentum / (1 - beta_1**step) / (root + epsilon)
        results.append(value)
    return results


STEPS, OPTIONS = gradients_of(7), {"weight_decay": 0.1, "beta_2": 0.98, "epsilon": 1e-8}
TENFOLD = {"classifier": 10.0}
DECAYS = (0.1, 0.0, 0.1, 0.0)


def rates(rate, count=7):
    return [[rate, rate, 10 * rate, 10 * rate]] * count


def run(optimizer, steps=STEPS):
    made, values = variables()
    for gradients in steps:
        optimizer.apply([tf.constant(gradient) for gradient in gradients], made)
    return made, values


def check(made, expected):
    for variable, value in zip(made, expected, strict=True):
        np.testing.assert_allclose(variable, value, err_msg=variable.path, **FLOAT32)


@pytest.mark.parametrize("update", ["fused", "by_parts"])
def test_adamw_is_pytorchs(update, monkeypatch):
    """Rates of parts, decays but for biases and norms, and gradients down to 1e-14, where epsilon decides."""
    if update == "by_parts":
        monkeypatch.setattr("tfvl.modeling.optimizers.update_fused", AdamW.update_by_parts)
    made, values = run(AdamW(1e-2, **OPTIONS, rate_multipliers=TENFOLD))
    check(made, reference(values, STEPS, rates(1e-2), DECAYS))


def test_keras_own_adamw_is_another():
    made, values = run(keras.optimizers.AdamW(1e-2, **OPTIONS))
    expected = reference(values, STEPS, [[1e-2] * 4] * 7, (0.1,) * 4)
    assert max(np.abs(variable - value).max() for variable, value in zip(made, expected, strict=True)) > 1e-3


def test_under_xla():
    made, values = variables()
    optimizer = AdamW(1e-2, **OPTIONS, rate_multipliers=TENFOLD)
    optimizer.build(made)
    step = tf.function(optimizer.apply, jit_compile=True)
    for gradients in STEPS:
        step([tf.constant(gradient) for gradient in gradients])
    check(made, reference(values, STEPS, rates(1e-2), DECAYS))


def test_with_a_schedule():
    made, values = run(AdamW(WarmupDecay(1e-2, 7, warmup=0.5), **OPTIONS, rate_multipliers=TENFOLD))
    shares = [0, 1 / 3, 2 / 3, 1, 3 / 4, 2 / 4, 1 / 4]
    check(made, reference(values, STEPS, [rates(1e-2 * share, 1)[0] for share in shares], DECAYS))


def test_accumulated_gradients_are_one_step_of_their_mean():
    made, values = run(AdamW(1e-2, **OPTIONS, rate_multipliers=TENFOLD, gradient_accumulation_steps=3), STEPS[:6])
    means = [[np.mean(of_one, axis=0) for of_one in zip(*STEPS[first : first + 3], strict=True)] for first in (0, 3)]
    check(made, reference(values, means, rates(1e-2), DECAYS))


def test_inside_loss_scaling():
    """Gradients are divided by the scale; those that overflowed are no step at all."""
    optimizer = keras.optimizers.LossScaleOptimizer(AdamW(1e-2, **OPTIONS, rate_multipliers=TENFOLD), 1024.0)
    scaled = [[1024 * gradient for gradient in gradients] for gradients in STEPS]
    made, values = run(optimizer, scaled[:3])
    optimizer.apply([tf.fill((5, 3), np.inf)] * 4, made)
    assert float(optimizer.dynamic_scale) == 512.0
    check(made, reference(values, STEPS[:3], rates(1e-2), DECAYS))


def test_rows_that_were_read_twice():
    """Both the norm to which gradients are clipped and the update see the sum."""
    value = np.full((4, 2), 0.1, "float32")
    rows = tf.IndexedSlices(tf.constant([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), tf.constant([2, 0, 2]), (4, 2))
    summed = np.zeros((4, 2), "float32")
    summed[0, 1], summed[2, 0] = 1.0, 4.0
    table = keras.Variable(value, name="embeddings")
    optimizer = AdamW(1e-2, **OPTIONS, global_clipnorm=2.0)
    optimizer.apply([rows], [table])
    clipped = summed * 2.0 / np.sqrt(17.0)
    np.testing.assert_allclose(optimizer._momentums[0], 0.1 * clipped, **FLOAT32)
    np.testing.assert_allclose(table, reference([value], [[clipped]], [[1e-2]], (0.1,))[0], **FLOAT32)


def test_restored_from_its_configuration():
    optimizer = AdamW(WarmupDecay(1e-2, 9), **OPTIONS, rate_multipliers=TENFOLD, no_decay=["bias"], clipnorm=1.0)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert restored.get_config() == optimizer.get_config()
    for mine, other in zip(run(restored)[0], run(optimizer)[0], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="has no amsgrad"):
        AdamW(amsgrad=True)
    with pytest.raises(ValueError, match="rate_multipliers names 'head', but no variable"):
        run(AdamW(rate_multipliers={"head": 10.0}))


# ── recipes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_class_has_the_recipe_of_its_paper():
    """Question answering and pre-training have one of their own, the other classes that of their family."""
    vilt = Recipe(1e-4, beta_2=0.98, epsilon=1e-8)
    own = {
        "ViltForQuestionAnswering": dataclasses.replace(vilt, rate_multipliers=TENFOLD),
        "VisualBertForPreTraining": Recipe(5e-5, clip_norm=1.0),
        "LxmertForPreTraining": Recipe(1e-4, warmup=0.05, clip_norm=1.0),
    }
    families = {"Vilt": vilt, "VisualBert": Recipe(2e-5, clip_norm=1.0), "Lxmert": Recipe(5e-5, clip_norm=5.0)}
    for name in HEADS:
        family = next(recipe for family, recipe in families.items() if name.startswith(family))
        assert getattr(tfvl, name).recipe == own.get(name, family), name


def test_what_the_paper_has_and_what_is_changed():
    plain = tfvl.ViltForQuestionAnswering.recipe.optimizer()
    assert float(plain.learning_rate) == np.float32(1e-4)
    assert (plain.weight_decay, plain.beta_2, plain.rate_multipliers) == (0.01, 0.98, TENFOLD)
    scheduled = tfvl.LxmertForPreTraining.recipe.optimizer(200, learning_rate=3e-5)
    np.testing.assert_allclose([scheduled._learning_rate(step) for step in (5, 10, 200)], [1.5e-5, 3e-5, 0])
    assert scheduled.global_clipnorm == 1.0
    own = tfvl.LxmertForPreTraining.recipe.optimizer(clipnorm=0.5)
    assert (own.clipnorm, own.global_clipnorm) == (0.5, None)
    with pytest.raises(ValueError, match="not both"):
        tfvl.ViltForMaskedLM.recipe.optimizer(100, learning_rate=WarmupDecay(1e-3, 10))

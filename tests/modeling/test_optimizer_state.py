"""The optimizer's state: made at `compile`, so that a step is traced once, for what is trained when `fit` begins."""

import warnings

import keras
import numpy as np
import pytest
from support.classes import CLASSES, compiled, dataset, small_model
from support.training import HEADS, example

from tfvl.modeling.optimizers import AdamW

HEAD = "VisualBertForPreTraining"
OPTIMIZERS = {
    "paper": lambda: None,
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(AdamW(1e-3)),
    "moving average": lambda: keras.optimizers.Adam(1e-3, use_ema=True),
    "accumulation": lambda: keras.optimizers.Adam(1e-3, gradient_accumulation_steps=2),
    "state of the weights": lambda: keras.optimizers.ScheduleFreeAdamW(1e-3),
}
CHANGES = {
    "nothing": lambda model: None,
    "frozen": lambda model: model.freeze("embeddings"),
    "a flag": lambda model: setattr(model.layers[0], "trainable", False),
    "adapted": lambda model: model.enable_lora(2),
}


def shapes(optimizer) -> list[tuple]:
    return [tuple(variable.shape) for variable in optimizer.variables]


@pytest.mark.parametrize("head", CLASSES)
def test_every_class_has_it_once_compiled(head):
    model = compiled(small_model(head))
    assert model.optimizer.built
    assert list(map(id, model.optimizer._trainable_variables)) == list(map(id, model.trainable_variables))


@pytest.mark.parametrize("head", HEADS)
def test_the_first_step_is_traced_once(head, monkeypatch):
    model, traces = small_model(head), []
    compute_loss = type(model).compute_loss
    monkeypatch.setattr(
        type(model), "compute_loss", lambda *arguments, **more: traces.append(1) or compute_loss(*arguments, **more)
    )
    model.compile()
    model.fit(dataset(head), verbose=0)
    assert len(traces) == 1


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_is_trained_changes_before_the_first_step(kind, change):
    """As if the model had been compiled after the change, and in the same optimizer, which the user may hold."""
    model, expected = small_model(HEAD), small_model(HEAD)
    model.compile(OPTIMIZERS[kind](), run_eagerly=True)
    optimizer = model.optimizer
    assert optimizer.built == (kind != "state of the weights")
    CHANGES[change](model)
    CHANGES[change](expected)
    expected.compile(OPTIMIZERS[kind](), run_eagerly=True)
    for value, other in zip(model.weights, expected.weights, strict=True):
        other.assign(value)
    for each in (model, expected):
        each.train_on_batch(*example(HEAD))
        each.train_on_batch(*example(HEAD))
    assert model.optimizer is optimizer
    assert shapes(optimizer) == shapes(expected.optimizer)
    for value, other in zip(optimizer.variables, expected.optimizer.variables, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.parametrize("first", ["embeddings", None])
def test_one_optimizer_in_two_compiles(first):
    """What was frozen at the first is trained after the second; with everything frozen there is no state to make."""
    model, optimizer = small_model(HEAD), keras.optimizers.Adam(1e-3)
    model.freeze(first)
    model.compile(optimizer)
    assert optimizer.built == (first is not None)
    model.unfreeze()
    model.compile(optimizer, run_eagerly=True)
    model.train_on_batch(*example(HEAD))
    assert len(optimizer.variables) == 2 + 2 * len(model.trainable_variables)


def test_steps_that_were_taken_are_not_forgotten():
    model = small_model(HEAD)
    model.compile(run_eagerly=True)
    model.train_on_batch(*example(HEAD))
    taken = [value.numpy() for value in model.optimizer.variables]
    model.freeze("embeddings")
    model.compile(model.optimizer, run_eagerly=True)
    for value, before in zip(model.optimizer.variables, taken, strict=True):
        np.testing.assert_array_equal(value, before)


def test_words_added_after_compile():
    model, optimizer = small_model(HEAD), keras.optimizers.Adam(1e-3)
    model.compile(optimizer)
    model.resize_token_embeddings(model.config.vocab_size + 3)
    model.compile(optimizer, run_eagerly=True)
    model.train_on_batch(*example(HEAD))
    assert int(optimizer.iterations) == 1


def test_a_part_with_a_rate_of_its_own_is_unfrozen_before_the_first_step():
    model = small_model("ViltForQuestionAnswering")
    model.freeze("classifier")
    model.compile(run_eagerly=True)
    with pytest.raises(ValueError, match="rate_multipliers names 'classifier', but no variable"):
        model.train_on_batch(*example("ViltForQuestionAnswering"))
    model.unfreeze()
    model.train_on_batch(*example("ViltForQuestionAnswering"))


def test_weights_excluded_from_decay_after_compile():
    model = small_model(HEAD)
    model.compile(model.default_optimizer(learning_rate=0.0625, weight_decay=1.0), run_eagerly=True)
    kept, table = [each for each in model.trainable_variables if each.name in ("kernel", "embeddings")][:2]
    model.optimizer.exclude_from_weight_decay(var_list=[kept])
    assert model.optimizer.rate_and_decay_of(kept) == (1.0, 0.0)
    assert model.optimizer.rate_and_decay_of(table) == (1.0, 1.0)


@pytest.mark.parametrize("steps", [0, 2])
def test_a_keras_file_keeps_it(steps, tmp_path):
    model = small_model(HEAD)
    model.compile(run_eagerly=True)
    for _ in range(steps):
        model.train_on_batch(*example(HEAD))
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of Keras, where the optimizer's state does not fit
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    for value, other in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(value, other)

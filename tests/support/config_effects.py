"""Finds what a field of a configuration changes in a model, by changing it alone, in transformers and in tfvl."""

from functools import cache
from typing import NamedTuple
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import tfvl
from support.classes import LAYERS, flat, training_example
from support.reference import SIZES, to_torch, torch, transformers

# Large enough that attention is far from even: with small ones the number of heads, for one, hardly changes an answer.
STDDEV = 0.5
CHANGED = 1e-4  # between what a field changes, and what sums in another order do
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def changed_sizes(family: str, changes: dict):
    """A context in which a family's tiny models, of one block of each kind, and their inputs have these fields."""
    model_type = getattr(tfvl, f"{family}Config").model_type
    return mock.patch.dict(SIZES[family], dict.fromkeys(LAYERS[model_type], 1) | NO_DROPOUT | changes)


def their_config(family: str):
    config = getattr(transformers, f"{family}Config")(**SIZES[family])
    config._attn_implementation = "eager"
    return config


class Theirs:
    """A fresh model of transformers, made with the same seed for all configurations."""

    def __init__(self, family: str, head: str, changes: dict):
        torch.manual_seed(0)
        self.model = getattr(transformers, head)(their_config(family)).eval()
        self.weights = {name: weight.detach().numpy() for name, weight in self.model.named_parameters()}

    def assign(self, name: str, value: np.ndarray) -> None:
        self.model.get_parameter(name).data.copy_(torch.tensor(value))

    def outputs(self, inputs: dict, training: bool) -> dict[str, np.ndarray]:
        torch.manual_seed(0)
        with torch.no_grad():
            return flat(dict(self.model.train(training)(**to_torch(inputs))))

    def word_gradient(self, inputs: dict) -> np.ndarray:
        self.model.eval()(**to_torch(inputs)).loss.backward()
        return self.model.get_input_embeddings().weight.grad.numpy()


class Ours:
    """A fresh model of tfvl from the `config.json` that transformers writes, with the same seed in every case."""

    def __init__(self, family: str, head: str, changes: dict):
        keras.utils.set_random_seed(0)
        model_class = getattr(tfvl, head)
        self.model = model_class(model_class.config_class.from_dict(their_config(family).to_dict() | changes))
        self.weights = {name: weight.numpy() for name, weight in self.model.weight_names().items()}

    def assign(self, name: str, value: np.ndarray) -> None:
        self.model.weight_names()[name].assign(value)

    def outputs(self, inputs: dict, training: bool) -> dict[str, np.ndarray]:
        return flat(self.model(inputs, training=training))

    def word_gradient(self, inputs: dict) -> np.ndarray:
        table = self.model.get_input_embeddings().embeddings
        with tf.GradientTape() as tape:
            loss = self.model(inputs)["loss"]
        return tf.convert_to_tensor(tape.gradient(loss, table.value)).numpy()


class Start(NamedTuple):
    """The properties of fresh weights that do not depend on the random numbers."""

    range: int  # the power of ten next to the tables' standard deviation
    zeros: dict  # by table, its rows of zeros
    copies: list  # pairs of tables with the same values


class Seen(NamedTuple):
    """The properties of a model that are compared."""

    shapes: dict
    start: Start
    outputs: dict | None  # with weights that are the same in every model of these shapes; None if they are others
    drops: bool = False  # whether outputs in training are others
    gradient: np.ndarray | None = None


def seen(side: type, family: str, head: str, changes: dict, shapes: dict | None = None) -> Seen:
    """Returns the properties of the class with a changed configuration; without outputs if its shapes differ."""
    with changed_sizes(family, changes):
        subject = side(family, head, changes)
        found = {name: value.shape for name, value in subject.weights.items()}
        start = start_of(subject.weights)
        if found != (shapes or found):
            return Seen(found, start, None)
        rng = np.random.default_rng(0)
        for name in sorted(found):
            subject.assign(name, rng.normal(0, STDDEV, found[name]).astype("float32"))
        inputs, labels = training_example(head)
        outputs = subject.outputs(inputs | labels, training=False)
        drops = differ(outputs, subject.outputs(inputs | labels, training=True))
        return Seen(found, start, outputs, drops, subject.word_gradient(inputs | labels))


@cache
def unchanged(side: type, family: str, head: str) -> Seen:
    return seen(side, family, head, {})


def effects(side: type, family: str, head: str, field: str, value) -> str:
    """Finds what a field changes.

    Returns:
        "weights" (their names or shapes); or those that apply of "start" (the values before training), "outputs" (their
        names), "answers", "loss", "training" (dropout) and "gradient"; or "nothing".
    """
    before = unchanged(side, family, head)
    after = seen(side, family, head, {field: value}, before.shapes)
    if after.outputs is None:
        return "weights"
    old, new = before.outputs, after.outputs
    answers = {name for name in old.keys() & new.keys() if "loss" not in name}
    table = {
        "start": before.start != after.start,
        "outputs": old.keys() != new.keys(),
        "answers": any(differ({name: old[name]}, new) for name in answers),
        "loss": differ({"loss/": old["loss/"]}, new),
        "training": before.drops != after.drops,
        "gradient": differ({"": before.gradient}, {"": after.gradient}),
    }
    # other answers have another loss, and another loss has other gradients
    implied = {"answers": ("loss", "gradient"), "loss": ("gradient",)}
    hidden = {name for cause, names in implied.items() if table[cause] for name in names}
    return ", ".join(name for name, changes in table.items() if changes and name not in hidden) or "nothing"


def start_of(weights: dict) -> Start:
    tables = {name: value for name, value in weights.items() if value.ndim == 2 and value.any()}
    spread = np.concatenate([value.ravel() for value in tables.values()]).std()
    zeros = {name: np.flatnonzero(~value.any(axis=1)).tolist() for name, value in tables.items()}
    copies = [(a, b) for a in tables for b in tables if a < b and np.array_equal(tables[a], tables[b])]
    return Start(round(np.log10(spread)), zeros, copies)


def differ(one: dict, other: dict) -> bool:
    return any(np.abs(value - other[name]).max(initial=0) > CHANGED for name, value in one.items())

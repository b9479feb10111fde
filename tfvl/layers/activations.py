"""The activations that the three models' configurations may name (`hidden_act`)."""

import keras
from keras import ops


def gelu(x):
    """Exact GELU, x·Φ(x) by the error function (Hendrycks & Gimpel 2016)."""
    return ops.gelu(x, approximate=False)


def gelu_new(x):
    """GELU by the tanh approximation, as GPT-2 and upstream's `gelu_new`."""
    return ops.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_new": gelu_new,
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
    "swish": keras.activations.silu,
    "selu": keras.activations.selu,
}


def activation(name: str):
    """Returns the function called `name`.

    Raises:
        ValueError: no activation has that name; the sentence lists those that exist.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"hidden_act is {name!r}, expected one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]

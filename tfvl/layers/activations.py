"""The activations that the three models' configurations may name (`hidden_act`), under upstream's names (`ACT2FN`)."""

import keras
from keras import ops


def gelu(x):
    """Exact GELU, x·Φ(x) by the error function (Hendrycks & Gimpel 2016)."""
    return ops.gelu(x, approximate=False)


def gelu_new(x):
    """GELU by the tanh approximation, as GPT-2 and upstream's `gelu_new`."""
    return ops.gelu(x, approximate=True)


def gelu_10(x):
    """Exact GELU, clipped to -10 … 10."""
    return ops.clip(gelu(x), -10.0, 10.0)


def quick_gelu(x):
    """GELU by the logistic approximation, x·σ(1.702·x), as in CLIP."""
    return x * ops.sigmoid(1.702 * x)


def leaky_relu(x):
    """ReLU that lets a hundredth of what is negative pass, PyTorch's default."""
    return ops.leaky_relu(x, negative_slope=0.01)


def squared_relu(x):
    """The square of ReLU (So et al. 2021)."""
    return ops.square(ops.relu(x))


def mish(x):
    """x·tanh(softplus(x)) (Misra 2019)."""
    return x * ops.tanh(ops.softplus(x))


def laplace(x):
    """The distribution function of a normal one with mean 0.707107 and deviation 0.282095 (MEGA, Ma et al. 2022)."""
    return 0.5 * (1.0 + ops.erf((x - 0.707107) / (0.282095 * 2**0.5)))


def root_of_softplus(x):
    """The square root of softplus, as DeepSeek's router."""
    return ops.sqrt(ops.softplus(x))


# Upstream's `prelu` and `xielu` have weights of their own, for which no checkpoint of these models has a name.
ACTIVATIONS = {
    "gelu": gelu,
    "gelu_10": gelu_10,
    "gelu_accurate": gelu_new,
    "gelu_fast": gelu_new,
    "gelu_new": gelu_new,
    "gelu_python": gelu,
    "gelu_python_tanh": gelu_new,
    "gelu_pytorch_tanh": gelu_new,
    "hardswish": keras.activations.hard_silu,
    "laplace": laplace,
    "leaky_relu": leaky_relu,
    "linear": keras.activations.linear,
    "mish": mish,
    "quick_gelu": quick_gelu,
    "relu": keras.activations.relu,
    "relu2": squared_relu,
    "relu6": keras.activations.relu6,
    "selu": keras.activations.selu,
    "sigmoid": keras.activations.sigmoid,
    "silu": keras.activations.silu,
    "sqrtsoftplus": root_of_softplus,
    "swish": keras.activations.silu,
    "tanh": keras.activations.tanh,
}


def activation(name: str):
    """Returns the function called `name`.

    Raises:
        ValueError: no activation has that name; the sentence lists those that exist.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"hidden_act is {name!r}, expected one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]

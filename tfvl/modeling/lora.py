"""Low-rank adaptation (Hu et al. 2021) by Keras' own `enable_lora`, saved as plain, merged weights."""

from collections.abc import Sequence

import keras
import numpy as np

# the projections to queries, keys and values, which the paper adapts; `qkv` and `key_value` are several in one kernel
ATTENTION = ("qkv", "query", "key_value")
NO_FLOAT8 = "Keras has no LoRA on layers quantized to float8; choose int8 or int4, or leave LoRA out."


def enable_lora(model, base: keras.layers.Layer, rank: int, targets: Sequence[str], alpha: float | None) -> None:
    """Implements `PreTrainedModel.enable_lora`. Of the part `base`, only the new matrices stay trainable."""
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"rank is {rank!r}, expected the width of the low-rank matrices, such as 8.")
    if lora_layers(model):
        raise ValueError("LoRA is enabled already; load the model anew to choose another rank or other targets.")
    dense = [layer for layer in base._flatten_layers() if isinstance(layer, keras.layers.Dense)]
    chosen = [layer for layer in dense if set(layer.path.split("/")) & set(targets)]
    if not chosen:
        names = sorted({layer.name for layer in dense})
        raise ValueError(
            f"No dense layer is in a part named {' or '.join(targets)}; dense layers are {', '.join(names)}."
        )
    if any(layer.quantization_mode == "float8" for layer in chosen):
        raise ValueError(NO_FLOAT8)
    for variable in base.variables:
        variable.trainable = False
    for layer in chosen:
        if layer.trainable:
            layer.enable_lora(rank, lora_alpha=alpha)


def lora_layers(model) -> list[keras.layers.Layer]:
    """Returns the layers of `model` that LoRA adapts."""
    return [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]


def weight(layer, name: str = ""):
    """Returns a layer's adapted kernel or table, without what LoRA adds; or one of LoRA's matrices, "a" or "b"."""
    kind = "kernel" if hasattr(layer, "lora_kernel_a") else "embeddings"
    return getattr(layer, f"lora_{kind}_{name}" if name else f"_{kind}")


class MergedWeight:
    """The effective kernel or table of an adapted layer: the frozen one plus the product of the low-rank matrices.

    It has what `tfvl.porting.save` reads of a variable: `shape`, `dtype`, `path`, `numpy()`.
    """

    def __init__(self, layer):
        self.layer = layer
        self.frozen = weight(layer)
        self.shape, self.dtype, self.path = self.frozen.shape, self.frozen.dtype, self.frozen.path

    def numpy(self) -> np.ndarray:
        layer = self.layer
        low_rank = weight(layer, "a").numpy() @ weight(layer, "b").numpy()  # float32, whatever the model computes in
        frozen = self.frozen.numpy()
        return (frozen.astype("float32") + layer.lora_alpha / layer.lora_rank * low_rank).astype(frozen.dtype)


def merged(names: dict[str, keras.Variable], model) -> dict:
    """Leaves LoRA's matrices out of weights by name, and replaces the adapted weights by their merged form."""
    layers = lora_layers(model)
    adapted = {id(weight(layer)): MergedWeight(layer) for layer in layers}
    low_rank = {id(weight(layer, name)) for layer in layers for name in "ab"}
    return {name: adapted.get(id(value), value) for name, value in names.items() if id(value) not in low_rank}

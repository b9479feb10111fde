"""Low-rank adaptation (Hu et al. 2021) by Keras' own `enable_lora`, saved as plain, merged weights."""

from collections.abc import Sequence

import keras
import numpy as np

# the projections to queries, keys and values, which the paper adapts; `qkv` and `key_value` are several in one kernel
ATTENTION = ("qkv", "query", "key_value")


def enable_lora(model, base: keras.layers.Layer, rank: int, targets: Sequence[str], alpha: float | None) -> None:
    """As `PreTrainedModel.enable_lora`; `base` is the part of the model that is frozen but for the new matrices."""
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
    for variable in base.variables:
        variable.trainable = False
    for layer in chosen:
        if layer.trainable:
            layer.enable_lora(rank, lora_alpha=alpha)


def lora_layers(model) -> list[keras.layers.Layer]:
    """The layers of `model` that are adapted."""
    return [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]


class MergedKernel:
    """An adapted layer's kernel as it acts: the frozen one plus the product of the low-rank matrices.

    What `tfvl.porting.save` reads of a variable: `shape`, `dtype`, `path`, `numpy()`.
    """

    def __init__(self, layer):
        self.layer = layer
        self.shape, self.dtype, self.path = layer._kernel.shape, layer._kernel.dtype, layer._kernel.path

    def numpy(self) -> np.ndarray:
        layer = self.layer
        low_rank = layer.lora_kernel_a.numpy() @ layer.lora_kernel_b.numpy()  # float32, whatever the model computes in
        merged = layer._kernel.numpy().astype("float32") + layer.lora_alpha / layer.lora_rank * low_rank
        return merged.astype(layer._kernel.numpy().dtype)


def merged(names: dict[str, keras.Variable], model) -> dict:
    """Weights by name with those of LoRA left out and the adapted kernels in their merged form."""
    layers = lora_layers(model)
    kernels = {id(layer._kernel): MergedKernel(layer) for layer in layers}
    low_rank = {id(variable) for layer in layers for variable in (layer.lora_kernel_a, layer.lora_kernel_b)}
    return {name: kernels.get(id(value), value) for name, value in names.items() if id(value) not in low_rank}

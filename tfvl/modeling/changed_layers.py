"""Changes of a model's layers after they are made: dtype policies, quantization, LoRA on quantized kernels.

A `.keras` file stores them beside the configuration; `in_dtype` is for exports that take plain weights only.
"""

from collections.abc import Mapping

import keras
from keras.saving import deserialize_keras_object, serialize_keras_object

from tfvl.modeling import lora


def changes_of(model: keras.Model) -> dict[str, dict]:
    """Returns the changes, by path, of layers that do not follow the model's dtype policy, for `apply_changes`."""
    return {
        layer.path: {
            "dtype": serialize_keras_object(layer.dtype_policy),
            "quantization_config": serialize_keras_object(getattr(layer, "quantization_config", None)),
            "lora": [layer.lora_rank, layer.lora_alpha] if getattr(layer, "keeps_lora", False) else None,
        }
        for layer in model._flatten_layers(include_self=False)
        if layer.path and layer.dtype_policy.name != model.dtype_policy.name
    }


def apply_changes(model: keras.Model, changes: Mapping[str, Mapping]) -> None:
    """Changes the layers of a new model like those of another one, whose `changes_of` are given."""
    for layer in list(model._flatten_layers(include_self=False)):
        if layer.path not in changes:
            continue
        change = changes[layer.path]
        policy = deserialize_keras_object(change["dtype"])
        if policy.quantization_mode is None:
            layer.dtype_policy = policy
            continue
        layer.dtype_policy = policy.name.partition("_from_")[2]
        config = deserialize_keras_object(change["quantization_config"])
        layer.quantize(policy.quantization_mode, config=config)
        if change["lora"]:
            rank, alpha = change["lora"]
            layer.enable_lora(rank, lora_alpha=alpha)


def in_dtype(model: keras.Model, dtype: str = "float32") -> keras.Model:
    """Returns the model itself, or, if it computes in another dtype or has LoRA, a plain model with its weights.

    Args:
        model: a `PreTrainedModel` that is not quantized.
        dtype: the dtype of weights and computations, "float32" or "bfloat16".
    """
    if not lora.lora_layers(model) and all(layer.dtype_policy.name == dtype for layer in model._flatten_layers()):
        return model
    policy = serialize_keras_object(keras.DTypePolicy(dtype))
    plain = type(model).from_config({**model.get_config(), "dtype": policy, "changed_layers": {}})
    values = model.weight_names()
    for name, variable in plain.weight_names().items():
        variable.assign(values[name].numpy().astype("float32"))
    return plain

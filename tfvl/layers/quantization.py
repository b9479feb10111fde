"""Refuses models that `keras.Model.quantize` has changed, where weights are read or written in floats."""


def refuse_quantized(model, function: str) -> None:
    """Raises ValueError, which names a function that takes floats only, if a layer of `model` is quantized."""
    layer = next((layer for layer in model._flatten_layers() if layer.quantization_mode is not None), None)
    if layer is not None:
        raise ValueError(
            f"{function} takes weights in floats, but {layer.path} is quantized ({layer.dtype_policy.name}); call it "
            'before model.quantize(…), or keep the quantized model by model.save("model.keras") or '
            "tfvl.export.saved_model(…)"
        )

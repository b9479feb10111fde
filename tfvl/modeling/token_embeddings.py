"""Resizes the table of word embeddings, and the parts of a model whose size is the number of words."""

import keras
import numpy as np

from tfvl.layers.attention import normal
from tfvl.layers.embeddings import TextEmbeddings
from tfvl.layers.heads import MaskedLMHead


def word_embeddings(model) -> keras.layers.Embedding:
    """Returns the layer that holds the model's word embeddings."""
    return next(layer for layer in model._flatten_layers() if isinstance(layer, TextEmbeddings)).word_embeddings


def resize_token_embeddings(model, words: int, mean_resizing: bool) -> None:
    """Implements `PreTrainedModel.resize_token_embeddings`; `words` has been checked."""
    table = word_embeddings(model)
    layers = list(model._flatten_layers())
    if any(getattr(layer, "quantization_mode", None) for layer in layers):
        raise ValueError("The model is quantized, and its tables cannot be resized any more; resize them before.")
    stddev = None if mean_resizing else model.config.initializer_range
    replace_weight(table, "_embeddings", 0, words, stddev)
    if table.lora_enabled:
        replace_weight(table, "lora_embeddings_a", 0, words, 0)  # LoRA has not changed words that are new
    table.input_dim = words
    for head in layers:
        if isinstance(head, MaskedLMHead):
            replace_weight(head, "bias", 0, words, stddev)
            head.vocab_size = words
            if head.decoder is not None:
                replace_weight(head.decoder, "_kernel", 1, words, stddev)
                if head.decoder.lora_enabled:
                    replace_weight(head.decoder, "lora_kernel_b", 1, words, 0)
                head.decoder.units = words
    changed = {"vocab_size": words}
    if model.config.pad_token_id is not None:
        changed["pad_token_id"] = model.config.pad_token_id % model.config.vocab_size  # as it was counted so far
    config = model.config.replace(**changed)
    for layer in layers:
        if hasattr(layer, "config"):
            layer.config = config
    model.train_function = model.test_function = model.predict_function = None
    model.compiled = False  # the optimizer has states for the weights of before


def replace_weight(layer: keras.layers.Layer, name: str, axis: int, length: int, stddev: float | None) -> None:
    """Replaces the weight `name` of `layer` by one of another length along `axis`.

    New entries are the mean of the old ones (`stddev` None), zero (`stddev` 0), or normal with that standard deviation;
    biases then zero.
    """
    old = getattr(layer, name)
    values = np.moveaxis(old.numpy(), axis, 0)
    kept, more = values[:length], length - len(values)
    if more > 0:
        shape = (more, *values.shape[1:])
        if stddev is None:
            added = np.broadcast_to(values.mean(axis=0, dtype="float64"), shape)
        else:
            drawn = normal(stddev) if stddev and len(shape) > 1 else keras.initializers.Zeros()
            added = keras.ops.convert_to_numpy(drawn(shape, "float32"))
        kept = np.concatenate([kept, added.astype(values.dtype)])
    value = np.moveaxis(kept, 0, axis)
    layer._untrack_variable(old)
    layer._tracker.unlock()
    with layer._open_name_scope():
        new = layer.add_weight(shape=value.shape, initializer="zeros", name=old.name, dtype=old.dtype)
    layer._tracker.lock()
    new.trainable = old.trainable
    new.assign(value)
    setattr(layer, name, new)

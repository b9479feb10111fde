"""Loads a model from a checkpoint: its configuration, its weights, and the answers of published heads."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from tfvl.errors import CheckpointError
from tfvl.modeling.published_answers import with_answers
from tfvl.porting.formats import open_checkpoint
from tfvl.porting.hub import resolve
from tfvl.porting.load import LoadReport, load_weights, uninitialised_variables
from tfvl.porting.originals.reading import config_values
from tfvl.porting.plan import decoder_is_untied


def load_pretrained(
    model_class: Any,
    src: str | Path,
    *,
    config=None,
    config_overrides: Mapping | None = None,
    ignore_mismatched_sizes: bool = False,
    resize_position_embeddings: bool = False,
    dtype: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **hub_options,
) -> tuple[Any, LoadReport]:
    """Returns a model with the weights of `src` (see `PreTrainedModel.from_pretrained`), and the `LoadReport`."""
    policy = keras.dtype_policies.get(dtype)
    if policy.quantization_mode is not None:
        raise ValueError(
            f"dtype is {policy.name!r}, but a checkpoint holds floats; load it without, then call "
            f"model.quantize({policy.quantization_mode!r})."
        )
    path = resolve(src, **hub_options)
    checkpoint = open_checkpoint(path)
    label_fields = {"num_labels", *model_class.config_class.answer_fields(())}
    published = config is None and not label_fields & (config_overrides or {}).keys()
    if config is None:
        values = config_values(path, checkpoint, (config_overrides or {}).get("num_attention_heads"))
        file = (path if path.is_dir() else path.parent) / "config.json"
        config = model_class.config_class.from_values(values, file if file.is_file() else path, config_overrides)
    elif config_overrides:
        config = config.replace(**config_overrides)
    refits = {}
    if ignore_mismatched_sizes:
        config, refits = model_class.completed(config), dict(model_class.refits)
    if resize_position_embeddings:
        held = model_class.config_class.from_values(config_values(path, checkpoint, config.num_attention_heads), path)
        refits |= model_class.position_refits(held, config)
    if decoder_is_untied(checkpoint, model_class.weight_rules, model_class.base_model_prefix):
        config = config.replace(tie_word_embeddings=False)
    layers = sum(value for name, value in vars(config).items() if name.endswith("_layers") and isinstance(value, int))
    if layers > len(checkpoint):  # else all would be built before they are found missing
        raise CheckpointError(
            f"{path}: its configuration asks for {layers} layers, but {len(checkpoint)} tensors are all it has."
        )
    with uninitialised_variables():
        model = model_class(config, dtype=dtype)
    others = {rule for each in model_class.family() for rule in each.weight_rules}
    report = load_weights(
        model,
        checkpoint,
        ignore_mismatched_sizes=ignore_mismatched_sizes,
        progress=progress,
        others=others,
        refits=refits,
    )
    if published and not report.plan.initialised:  # a new head has answers of its own
        model.config = with_answers(model.config, model_class.__name__)
    return model, report

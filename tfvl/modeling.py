"""The base class of all models: inputs by name, checkpoints in and out, the paper's training by default."""

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import keras

from tfvl.configuration import Config
from tfvl.training.losses import weighted_mean


class PreTrainedModel(keras.Model):
    """A Keras model with upstream's conventions (upstream: `PreTrainedModel`).

    A call takes a dict of tensors under `input_names`, the same as keywords, or a list in that order, and returns a
    dict under upstream's field names. Where `labels` are among the inputs, the result has a `loss`, a float32 scalar.
    The constructor makes every variable, so weights can be read and assigned before the first call.

    Args:
        config: sizes and options; an instance of the class's `config_class`.
        name, dtype: as in any Keras model; `dtype` may be a policy such as "mixed_bfloat16".
    """

    config_class: ClassVar[type[Config]]
    base_model_prefix: ClassVar[str]
    input_names: ClassVar[tuple[str, ...]]
    label_names: ClassVar[tuple[str, ...]] = ()
    weight_rules: ClassVar[tuple] = ()
    architecture_aliases: ClassVar[tuple[str, ...]] = ()
    constructor_options: ClassVar[tuple[str, ...]] = ()  # arguments beside the config; kept in `.keras` files

    def __init__(self, config: Config, **kwargs):
        if not isinstance(config, self.config_class):
            raise ValueError(
                f"{type(self).__name__} takes a {self.config_class.__name__}, got {type(config).__name__}; "
                f"to load a checkpoint use {type(self).__name__}.from_pretrained(…)."
            )
        super().__init__(**kwargs)
        self.config = config
        self.defaults = types.SimpleNamespace(optimizer=False, loss=False, metrics=[])

    def __call__(self, inputs=None, *more, **keywords):
        inputs = self.named_inputs(inputs, more, keywords)
        self.check_inputs(inputs)  # here, because Keras wraps what is raised inside a call in a page of arguments
        keywords.setdefault("output_attentions", self.config.output_attentions)
        keywords.setdefault("output_hidden_states", self.config.output_hidden_states)
        return super().__call__(inputs, **keywords)

    def named_inputs(self, inputs, more, keywords) -> dict[str, Any]:
        """Brings every way to pass inputs to one dict without Nones; takes what it uses out of `keywords`."""
        names = (*self.input_names, *self.label_names)
        if isinstance(inputs, Mapping):
            named = dict(inputs)
        else:
            listed = (*(inputs if isinstance(inputs, (list, tuple)) else (inputs,)), *more)
            if len(listed) > len(names):
                raise ValueError(
                    f"{type(self).__name__} got {len(listed)} inputs, expected at most {len(names)}: {names}."
                )
            named = dict(zip(names, listed, strict=False))
        named |= {name: keywords.pop(name) for name in names if name in keywords}
        unknown = named.keys() - set(names)
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no input {', '.join(sorted(unknown))}; it takes {', '.join(names)}."
            )
        ragged = [name for name, value in named.items() if hasattr(value, "row_splits")]
        if ragged:
            raise ValueError(f"{', '.join(ragged)} are ragged; call the processor or the tokenizer with padding=True.")
        return {name: as_tensors(value) for name, value in named.items() if value is not None}

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Raises ValueError, one sentence, for inputs that the model cannot take."""

    def get_config(self):
        return {
            "config": self.config.to_dict(),
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "gradient_checkpointing": self.is_gradient_checkpointing,
            **{name: getattr(self, name) for name in self.constructor_options},
        }

    @classmethod
    def from_config(cls, config):
        dtype = keras.saving.deserialize_keras_object(config["dtype"])
        options = {name: config[name] for name in cls.constructor_options}
        model = cls(cls.config_class.from_dict(config["config"]), **options, name=config["name"], dtype=dtype)
        model.gradient_checkpointing_enable(config.get("gradient_checkpointing", False))
        return model

    def weight_names(self) -> dict[str, keras.Variable]:
        """Every weight under the name that the porting tables use: its path below this model.

        Returns:
            Names such as `vilt/encoder/layer_0/attention/qkv/kernel` (`encoder/…` in a bare base model).
        """
        base = getattr(self, self.base_model_prefix, None)
        of_base = {id(variable) for variable in base.weights} if base is not None else set()
        names = {}
        for variable in self.weights:
            path = variable.path
            if id(variable) in of_base:
                path = f"{self.base_model_prefix}/{path.removeprefix(base.name + '/')}"
            names[path.removeprefix(self.name + "/")] = variable
        return names

    @classmethod
    def from_pretrained(
        cls,
        src: str | Path,
        *,
        config: Config | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        ignore_mismatched_sizes: bool = False,
        dtype: str | None = None,
        progress=None,
        **config_overrides,
    ) -> Self:
        """Loads a checkpoint of the hub, of a directory, of a single weight file, or a bundled one.

        Args:
            src: hub id, directory in the hub's layout, weight file beside its `config.json`, or bundled name.
            config: taken instead of the checkpoint's own `config.json`.
            revision, token, cache_dir, local_files_only: as in huggingface_hub.
            ignore_mismatched_sizes: initialise a head anew whose shapes differ, instead of refusing.
            dtype: Keras dtype policy, for example "mixed_bfloat16"; the global one where None.
            progress: called with (bytes done, bytes in all) while weights are read.
            **config_overrides: fields that replace the configuration's, for example `num_labels=3`.

        Returns:
            The model. One `UserWarning` names a head that the checkpoint has not got (and that was initialised) and
            weights of other heads that were left out.

        Raises:
            CheckpointError: a file is missing or damaged, or does not fit the class; lists every key that is wrong.
        """
        from tfvl.porting.load import load_pretrained

        hub = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        model, _ = load_pretrained(
            cls,
            src,
            config=config,
            config_overrides=config_overrides,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            dtype=dtype,
            progress=progress,
            **hub,
        )
        return model

    def save_pretrained(self, directory: str | Path, *, max_shard_size: str | int = "5GB") -> None:
        """Writes `config.json` and `model.safetensors` as upstream does; `transformers` loads the directory.

        Args:
            directory: made if missing.
            max_shard_size: bytes, or a text such as "5GB"; a larger model is written in several files and an index.
        """
        from tfvl.porting.save import save_weights

        save_weights(self, Path(directory), max_shard_size=max_shard_size)
        extra = {name: value for name, value in self.config.extra.items() if name != "torch_dtype"}
        extra["dtype"] = self.dtype_policy.variable_dtype  # of these weights, whatever the checkpoint's were
        self.config.replace(architectures=(type(self).__name__,), extra=extra).save_pretrained(directory)

    def gradient_checkpointing_enable(self, enable: bool = True) -> None:
        """Recomputes each block in the backward pass instead of keeping its activations (upstream's name)."""
        for layer in self.checkpointing_layers:
            layer.gradient_checkpointing = enable

    def gradient_checkpointing_disable(self) -> None:
        """Keeps all activations again (upstream's name)."""
        self.gradient_checkpointing_enable(False)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass (upstream's name)."""
        return any(layer.gradient_checkpointing for layer in self.checkpointing_layers)

    @property
    def checkpointing_layers(self) -> list[keras.layers.Layer]:
        return [layer for layer in self._flatten_layers() if hasattr(layer, "gradient_checkpointing")]

    def export(self, *_, **__):
        """Not Keras' export: an artefact without its tokenizer and image processing would answer nobody."""
        raise ValueError("Use tfvl.export.saved_model(model, processor, directory), which exports the processor too.")

    # ── training ────────────────────────────────────────────────────────────────────────────────────────────────

    def loss_terms(self, labels, outputs) -> dict[str, tuple]:
        """The paper's loss: a name and (values, weights) per term, as the functions of `tfvl.training.losses` return.

        Args:
            labels: what `fit` got as y: a tensor, or a dict for a model with several losses.
            outputs: what the model's call returned.
        """
        raise ValueError(f"{type(self).__name__} has no loss of its own; train one of the classes with a head.")

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that `compile()` installs; each is updated with (labels, outputs)."""
        return []

    def head_loss(self, labels, outputs, sample_weight=None):
        """Sum of the loss terms' weighted means, a float32 scalar."""
        return sum(
            weighted_mean(values, weights, sample_weight)
            for values, weights in self.loss_terms(labels, outputs).values()
        )

    def with_loss(self, outputs: dict, inputs: Mapping) -> dict:
        """Adds `loss` to `outputs` where `inputs` hold labels."""
        labels = {name: inputs[name] for name in self.label_names if name in inputs}
        if not labels:
            return outputs
        return {"loss": self.head_loss(labels if len(self.label_names) > 1 else labels["labels"], outputs)} | outputs

    def compile(self, optimizer=None, loss=None, *, metrics=None, jit_compile=False, **options):
        """As `keras.Model.compile`; what is left out is the paper's: AdamW, the head's loss, the head's metrics.

        A loss and metrics of your own see the labels and the `logits`, or, where labels are a dict, the outputs of the
        same names.

        `jit_compile` is off unless asked for, since every new image or text size would be compiled anew.
        """
        default_optimizer = optimizer is None
        if default_optimizer:
            optimizer = without_decay_of_norms(keras.optimizers.AdamW(1e-4, weight_decay=0.01))
        chosen = self.default_metrics() if loss is None and metrics is None else []
        # a plain object, because Keras tracks no new metrics in a model that is already built
        self.defaults = types.SimpleNamespace(optimizer=default_optimizer, loss=loss is None, metrics=chosen)
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=jit_compile, **options)
        for layer in self._flatten_layers():
            if hasattr(layer, "static_shapes"):
                layer.static_shapes = bool(self.jit_compile)

    def get_compile_config(self):
        config = super().get_compile_config()
        return config and {**config, "default_optimizer": self.defaults.optimizer}

    def compile_from_config(self, config):
        """Called when a compiled model is loaded from a `.keras` file; training goes on where it stopped."""
        config = keras.saving.deserialize_keras_object(config)
        default_optimizer = config.pop("default_optimizer")
        self.compile(**config)
        if default_optimizer:  # what is excluded from the weight decay does not stand in an optimizer's configuration
            without_decay_of_norms(getattr(self.optimizer, "inner_optimizer", self.optimizer))  # of loss scaling
            self.defaults.optimizer = True
        self.optimizer.build(self.trainable_variables)

    @property
    def metrics(self):
        return super().metrics + self.defaults.metrics

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not self.defaults.loss:
            return super().compute_loss(x, y, self.outputs_of(y, y_pred), sample_weight, training)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} is trained without labels; give fit y, or a dataset of (inputs, labels)."
            )
        return sum(self.losses, start=self.head_loss(y, y_pred, sample_weight))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        for metric in self.defaults.metrics:
            metric.update_state(y, y_pred, sample_weight)
        if self.defaults.metrics:
            return self.get_metrics_result()
        return super().compute_metrics(x, y, self.outputs_of(y, y_pred), sample_weight)

    @staticmethod
    def outputs_of(labels, outputs):
        """The outputs that a loss or metric of the user's sees: those under the labels' names, or else the logits."""
        if not isinstance(labels, dict):
            return outputs.get("logits", outputs)
        return {name: outputs[name] for name in labels if name in outputs}


class HeadModel(PreTrainedModel):
    """A base model with a head on top; the base model is an attribute named as `base_model_prefix` says.

    A family mixes it into its own classes: `class ViltHeadModel(HeadModel, ViltPreTrainedModel)`. A class with a head
    makes its layers in `add_head(config, policy)` and builds them in `build`.
    """

    base_model_class: ClassVar[type[PreTrainedModel]]
    label_names = ("labels",)
    add_pooling_layer: ClassVar[bool] = True
    reads_pooler: ClassVar[bool] = True

    def __init__(self, config: Config, **kwargs):
        super().__init__(config, **kwargs)
        name, policy = self.base_model_prefix, self.dtype_policy
        options = {option: getattr(self, option) for option in self.base_model_class.constructor_options}
        base = self.base_model_class(config, **options, dtype=policy, name=name)
        setattr(self, name, base)
        if self.add_pooling_layer and not self.reads_pooler:
            base.pooler.trainable = False  # upstream has one here as well; it never gets a gradient
        self.add_head(config, policy)
        self.build()

    def encode(self, inputs, num_outputs, output_attentions, output_hidden_states, training):
        """Runs the base model and returns the two outputs that heads read, and the dict of those that pass through."""
        base = getattr(self, self.base_model_prefix)
        outputs = base(
            {name: value for name, value in inputs.items() if name in base.input_names},
            num_outputs=num_outputs,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            training=training,
        )
        return outputs.pop("last_hidden_state"), outputs.pop("pooler_output", None), outputs


def as_tensors(value):
    """An array or a list as a tensor; in a dict of pairs (LXMERT's `obj_labels`) each item of each pair."""
    if isinstance(value, Mapping):
        return {name: tuple(as_tensors(item) for item in pair) for name, pair in value.items()}
    return value if hasattr(value, "shape") else keras.ops.convert_to_tensor(value)


def without_decay_of_norms(optimizer):
    """Excludes biases and norms from the weight decay, as the papers do; returns the optimizer."""
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer

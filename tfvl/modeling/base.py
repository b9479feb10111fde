"""The base class of all models, which takes inputs by name, reads and writes checkpoints, and trains as the papers."""

import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import keras

from tfvl.modeling import lora
from tfvl.modeling.card import write_card
from tfvl.modeling.changed_layers import apply_changes, changes_of
from tfvl.modeling.configuration import Config
from tfvl.modeling.labels import flat
from tfvl.modeling.loadable import Loadable
from tfvl.modeling.losses import is_float
from tfvl.modeling.trainable import Trainable
from tfvl.porting.save import save_weights
from tfvl.porting.upload import push


class PreTrainedModel(Loadable, Trainable, keras.Model):
    """A Keras model with upstream's conventions (upstream: `PreTrainedModel`).

    A call takes a dict of tensors under `input_names`, the same as keywords, or a list in that order, and returns a
    dict under upstream's field names. If `labels` are among the inputs, the result has a `loss`, a float32 scalar.
    The constructor makes every variable, so weights can be read and assigned before the first call.

    Args:
        config: sizes and options; an instance of the class's `config_class`.
        name, dtype: as in any Keras model; `dtype` may be a policy such as "mixed_bfloat16".
    """

    config_class: ClassVar[type[Config]]
    base_model_prefix: ClassVar[str]
    input_names: ClassVar[tuple[str, ...]]
    label_names: ClassVar[tuple[str, ...]] = ()
    float_inputs: ClassVar[frozenset[str]]  # the other inputs are of integers
    exported_inputs: ClassVar[Mapping[str, tuple]]  # the inputs of an exported model, and their axes after the batch
    weight_rules: ClassVar[tuple] = ()  # the porting table; a head adds rows of its own to those of its family
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
        # plain objects, which Keras does not track: what `compile` chose, and the layers that are never trained
        self.defaults = types.SimpleNamespace(loss=False, metrics=[])
        self.unread = types.SimpleNamespace(layers=[])

    def build(self, input_shape=None):
        """Builds the layers; the constructor has already done so, so that further calls change nothing.

        Args:
            input_shape: the shapes of inputs by name; kept for `tf.lite.TFLiteConverter.from_keras_model`.
        """
        if not self.built:
            self.build_layers()
            self.freeze_unread()
            self.follow_remat_scope()
        if isinstance(input_shape, Mapping):
            self.check_names(input_shape)

    def compute_output_shape(self, input_shape):
        """Returns the shapes of the outputs for a dict of input shapes."""
        self.check_names(input_shape)
        inputs = {
            name: keras.KerasTensor(shape, "float32" if name in self.float_inputs else "int32")
            for name, shape in input_shape.items()
        }
        return keras.tree.map_structure(lambda output: output.shape, self.compute_output_spec(inputs))

    def compute_output_spec(self, *inputs, **keywords):
        """Returns the outputs of a call as `keras.KerasTensor`s.

        (Keras' own method assumes one dtype for all inputs.)
        """
        return keras.Operation.compute_output_spec(self, *inputs, **keywords)

    def __call__(self, inputs=None, *more, **keywords):
        inputs = self.named_inputs(inputs, more, keywords)
        self.check_inputs(inputs)  # here, because Keras wraps what is raised inside a call in a page of arguments
        for name in inputs.keys() & set(self.input_names) - self.float_inputs:
            if is_float(inputs[name]):
                inputs[name] = keras.ops.cast(inputs[name], "int32")  # before Keras casts it to half precision
        for option in ("output_attentions", "output_hidden_states"):
            if keywords.get(option) is None:
                keywords[option] = getattr(self.config, option)
        if not self._build_shapes_dict:  # type: ignore[has-type]  # Keras makes it
            shapes = {
                name: tuple(inputs[name].shape) for name in self.input_names if hasattr(inputs.get(name), "shape")
            }
            self._build_shapes_dict = {"input_shape": shapes}
        return super().__call__(inputs, **keywords)

    def named_inputs(self, inputs, more, keywords) -> dict[str, Any]:
        """Collects inputs, however they were passed, in a dict without Nones; takes them out of `keywords`."""
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
        self.check_names(named)
        ragged = [name for name, value in named.items() if hasattr(value, "row_splits")]
        if ragged:
            raise ValueError(f"{', '.join(ragged)} are ragged; call the processor or the tokenizer with padding=True.")
        return {name: as_tensors(value) for name, value in named.items() if value is not None}

    def check_names(self, inputs: Mapping[str, Any]) -> None:
        """Raises ValueError for a name that is neither an input nor a label of the model."""
        names = (*self.input_names, *self.label_names)
        unknown = inputs.keys() - set(names)
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no input {', '.join(sorted(unknown))}; it takes {', '.join(names)}."
            )

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Raises ValueError, whose message is one sentence, for inputs that the model cannot take."""

    def get_config(self):
        return {
            "config": self.config.to_dict(),
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "gradient_checkpointing": self.is_gradient_checkpointing,
            "frozen": self.frozen_weights,
            "changed_layers": changes_of(self),
            **{name: getattr(self, name) for name in self.constructor_options},
        }

    @classmethod
    def from_config(cls, config):
        dtype = keras.saving.deserialize_keras_object(config["dtype"])
        options = {name: config[name] for name in cls.constructor_options}
        model = cls(cls.config_class.from_dict(config["config"]), **options, name=config["name"], dtype=dtype)
        model.gradient_checkpointing_enable(config.get("gradient_checkpointing", False))
        apply_changes(model, config.get("changed_layers", {}))
        frozen = set(config.get("frozen", ()))
        for variable in model.weights:
            variable.trainable = variable.trainable and variable.path not in frozen
        return model

    def weight_names(self) -> dict[str, keras.Variable]:
        """Returns every weight under the name that the porting tables use, which is its path below this model.

        Returns:
            Names such as `vilt/encoder/layer_0/attention/qkv/kernel` (`encoder/…` in a bare base model). With LoRA,
            the kernels in their merged form.
        """
        base = getattr(self, self.base_model_prefix, None)
        of_base = {id(variable) for variable in base.weights} if base is not None else set()
        names = {}
        for variable in self.weights:
            path = variable.path
            if id(variable) in of_base:
                path = f"{self.base_model_prefix}/{path.removeprefix(base.name + '/')}"
            names[path.removeprefix(self.name + "/")] = variable
        return lora.merged(names, self)

    @classmethod
    def family(cls) -> list[type]:
        """Returns the imported model classes that have the same configuration class."""
        found = [PreTrainedModel]
        for each in found:  # the list grows in this loop
            found += [below for below in each.__subclasses__() if below not in found]
        return [each for each in found if getattr(each, "config_class", None) is cls.config_class]

    def start_as_waves(self) -> None:
        """Initialises position embeddings as waves, so that near patches get similar ones; see `ViltEmbeddings`.

        Raises:
            ValueError: the model has no patches.
        """
        raise ValueError(f"wave_positions is for ViLT, whose patches have positions, not {type(self).__name__}.")

    def quantize(self, mode=None, config=None, **options):
        """Quantizes, as in Keras, every dense layer and table of the model, or those that `filters` names."""
        if "float8" in (mode, getattr(config, "mode", None)) and lora.lora_layers(self):
            raise ValueError(lora.NO_FLOAT8)
        super().quantize(mode, config=config, **options)

    def load_weights(self, filepath, skip_mismatch=False, **options):
        """Loads weights as in Keras; the layers of the model in the file must be quantized as this one's are."""
        try:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **options)
        except ValueError as error:
            if "could not be loaded" not in str(error):
                raise
            raise ValueError(
                f"{filepath} holds the weights of other layers than this {type(self).__name__} has; where they were "
                "quantized or adapted, call model.quantize(…) or enable_lora(…) first, as for the model in the file."
            ) from error

    def save_pretrained(self, directory: str | Path, *, max_shard_size: str | int = "5GB") -> None:
        """Writes `config.json` and `model.safetensors` as upstream does; `transformers` loads the directory.

        A model card, `README.md`, is written if there is none.

        Args:
            directory: the directory, which is made if it is missing.
            max_shard_size: bytes, or a text such as "5GB"; a larger model is written in several files and an index.
        """
        save_weights(self, Path(directory), max_shard_size=max_shard_size)
        extra = {name: value for name, value in self.config.extra.items() if name != "torch_dtype"}
        extra["dtype"] = self.dtype_policy.variable_dtype  # of these weights, whatever the checkpoint's were
        self.config.replace(architectures=(type(self).__name__,), extra=extra).save_pretrained(directory)
        write_card(self, Path(directory))

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Uploads what `save_pretrained` writes, a model card with it, to a repository of the hub.

        Args:
            repo_id: "USER/NAME"; the repository is made if there is none.
            **options: `commit_message`, `private`, `token`, `revision`, `create_pr`, as in huggingface_hub.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: the hub refused it or cannot be reached.
        """
        return push(self.save_pretrained, repo_id, **options)

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Returns the number of values in all weights (upstream's name)."""
        weights = self.trainable_weights if only_trainable else self.weights
        return sum(math.prod(variable.shape) for variable in weights)

    def gradient_checkpointing_enable(self, enable: bool = True) -> None:
        """Recomputes each block in the backward pass instead of keeping its activations (upstream's name)."""
        for layer in self.checkpointing_layers:
            layer.gradient_checkpointing = enable

    def gradient_checkpointing_disable(self) -> None:
        """Keeps all activations again (upstream's name)."""
        self.gradient_checkpointing_enable(False)

    def follow_remat_scope(self) -> None:
        """Recomputes blocks if the model is made within a `keras.RematScope`, except in its mode "activations".

        Keras would recompute each layer's call, which TensorFlow refuses in a graph, since the calls have keywords.
        """
        scope = self._remat_mode
        if scope is None or scope.mode in (None, "activations"):
            return
        for layer in self._flatten_layers():
            layer._remat_mode = None
        for stack in self.checkpointing_layers:
            names = {stack.name, *(block.name for block in stack.layers)}
            stack.gradient_checkpointing = scope.mode != "list_of_layers" or not names.isdisjoint(scope.layer_names)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass (upstream's name)."""
        return any(layer.gradient_checkpointing for layer in self.checkpointing_layers)

    @property
    def checkpointing_layers(self) -> list[keras.layers.Layer]:
        return [layer for layer in self._flatten_layers() if hasattr(layer, "gradient_checkpointing")]

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **options):
        """Exports the bare model, from the tensors of `exported_inputs` to its outputs, as `keras.Model.export` does.

        `tfvl.export.saved_model(model, processor, directory)` writes an artefact that takes texts and images.

        Args:
            filepath, verbose, options: as in Keras.
            format: a format of Keras, except "litert".
            input_signature: as in Keras; None: `exported_inputs`, with any number of rows, words, pixels, regions.

        Raises:
            ValueError: `format` is "litert", for which TensorFlow lacks some operations.
        """
        if format == "litert":
            raise ValueError("Use tfvl.export.lite(model, processor, file), which writes .tflite files.")
        if input_signature is None:
            input_signature = [self.exported_specs()]
        if format != "tf_saved_model":
            super().export(filepath, format, verbose, input_signature, **options)
            return
        archive = keras.export.ExportArchive()
        archive.add_endpoint("serve", lambda inputs: flat(self(inputs, training=False)), input_signature, **options)
        archive.write_out(filepath, verbose=verbose is None or verbose)

    @property
    def _default_save_signature(self):
        """The signature that `tf.saved_model.save(model, directory)` writes, which is that of `export`."""
        import tensorflow as tf

        specs = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in self.exported_specs().items()}
        return tf.function(lambda inputs: flat(self(inputs, training=False)), [specs])

    def exported_specs(self) -> dict[str, keras.InputSpec]:
        """Returns the `keras.InputSpec`s of `exported_inputs`, for a batch of any size."""
        return {
            name: keras.InputSpec(
                shape=(None, *(getattr(self.config, size) if isinstance(size, str) else size for size in sizes)),
                dtype="float32" if name in self.float_inputs else "int32",
                name=name,
            )
            for name, sizes in self.exported_inputs.items()
        }


class HeadModel(PreTrainedModel):
    """A base model with a head on top; the base model is an attribute named as `base_model_prefix` says.

    A family mixes it into its own classes: `class ViltHeadModel(HeadModel, ViltPreTrainedModel)`. A class with a head
    makes its layers in `add_head(config, policy)` and builds them in `build_layers`.
    """

    base_model_class: ClassVar[type[PreTrainedModel]]
    label_names: ClassVar[tuple[str, ...]] = ("labels",)
    # whether labels are a float target for each class, and not the index of the right one; None: the task decides
    soft_labels: ClassVar[bool | None] = False
    masks_whole_words: ClassVar[bool] = False  # whether pre-training hides whole words, and not single tokens
    masks_unmatched: ClassVar[bool] = True  # whether pre-training also hides words of a text that is another image's
    targets: ClassVar[Mapping[str, str]] = {"labels": "logits"}
    add_pooling_layer: ClassVar[bool] = True
    reads_pooler: ClassVar[bool] = True

    def __init__(self, config: Config, **kwargs):
        super().__init__(config, **kwargs)
        name, policy = self.base_model_prefix, self.dtype_policy
        options = {option: getattr(self, option) for option in self.base_model_class.constructor_options}
        base = self.base_model_class(config, **options, dtype=policy, name=name)
        setattr(self, name, base)
        if self.add_pooling_layer and not self.reads_pooler:
            base.never_train(base.pooler)  # upstream has one here as well
        self.add_head(config, policy)
        self.build()

    def encode(self, inputs, positions, output_attentions, output_hidden_states, training):
        """Runs the base model; returns the two outputs that heads read, and a dict of the others."""
        base = getattr(self, self.base_model_prefix)
        outputs = base(
            {name: value for name, value in inputs.items() if name in base.input_names},
            positions=positions,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            training=training,
        )
        return outputs.pop("last_hidden_state"), outputs.pop("pooler_output", None), outputs


def as_tensors(value):
    """Converts an array or list to a tensor, or each item of each pair in a dict of pairs (LXMERT's `obj_labels`)."""
    if isinstance(value, Mapping):
        return {name: tuple(as_tensors(item) for item in pair) for name, pair in value.items()}
    return value if hasattr(value, "shape") else keras.ops.convert_to_tensor(value)

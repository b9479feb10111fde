"""What a model brings to `compile` and `fit`: the paper's loss, optimizer and metrics, freezing, and LoRA."""

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import keras

from tfvl.modeling import lora, replicas
from tfvl.modeling.losses import weighted_mean
from tfvl.modeling.optimizers import AdamW
from tfvl.modeling.recipes import Recipe


class Trainable:
    """The training half of `PreTrainedModel`, mixed in before `keras.Model`.

    Attributes:
        recipe: how the paper trained the class.
    """

    recipe: ClassVar[Recipe]

    def loss_terms(self, labels, outputs) -> dict[str, tuple]:
        """The paper's loss: a name and (values, weights) per term, as the functions of `tfvl.modeling.losses` return.

        Args:
            labels: what `fit` got as y: a tensor, or a dict for a model with several losses.
            outputs: what the model's call returned.
        """
        raise ValueError(f"{type(self).__name__} has no loss of its own; train one of the classes with a head.")

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that `compile()` installs; each is updated with (labels, outputs)."""
        return []

    def default_optimizer(self, steps: int | None = None, **changes) -> AdamW:
        """The paper's optimizer (the class's `recipe`), as `compile()` takes it.

        Args:
            steps: how many batches `fit` draws in all, epochs times batches. The rate then rises for the paper's share
                of them and falls linearly to 0 at the last one. Without it the rate is the paper's peak throughout.
            **changes: what shall be otherwise, as `AdamW` takes it: `learning_rate` (the peak, or a schedule instead of
                `steps`), `gradient_accumulation_steps`, `global_clipnorm`, `rate_multipliers`, …
        """
        return self.recipe.optimizer(steps, **changes)

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

    def compile(self, optimizer=None, loss=None, *, steps=None, metrics=None, jit_compile=False, **options):
        """As `keras.Model.compile`; what is left out is the paper's: optimizer, the head's loss, the head's metrics.

        A loss and metrics of your own see the labels and the `logits`, or, where labels are a dict, the outputs of the
        same names.

        Args:
            steps: as `default_optimizer` takes it.
            jit_compile: off unless asked for, since every new image or text size would be compiled anew.
        """
        with replicas.scope_of(self):
            if optimizer is None:
                optimizer = self.default_optimizer(steps)
            elif steps is not None:
                raise ValueError(
                    f"steps={steps} is for the paper's optimizer; give your own a schedule, "
                    "or change the paper's: model.default_optimizer(steps=…, learning_rate=…)."
                )
            chosen = self.default_metrics() if loss is None and metrics is None else []
            # a plain object, because Keras tracks no new metrics in a model that is already built
            self.defaults = types.SimpleNamespace(loss=loss is None, metrics=chosen)
            super().compile(optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=jit_compile, **options)
            if replicas.strategy_in_use():
                replicas.prepare(self)
        for layer in self._flatten_layers():
            if hasattr(layer, "static_shapes"):
                layer.static_shapes = bool(self.jit_compile)

    def compile_from_config(self, config):
        """Called when a compiled model is loaded from a `.keras` file; training goes on where it stopped."""
        self.compile(**keras.saving.deserialize_keras_object(config))
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
        penalties = [replicas.portion(penalty) for penalty in self.losses]
        return replicas.shared_loss(sum(penalties, start=self.head_loss(y, y_pred, sample_weight)))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        for metric in self.defaults.metrics:
            metric.update_state(y, y_pred, sample_weight)
        if self.defaults.metrics:
            return self.get_metrics_result()
        return super().compute_metrics(x, y, self.outputs_of(y, y_pred), sample_weight)

    def get_metrics_result(self):
        if replicas.replica() is None:
            return super().get_metrics_result()
        with replicas.sums_of(variable for metric in self.metrics for variable in metric.variables):
            return super().get_metrics_result()

    def train_step(self, *data):
        return replicas.for_keras(super().train_step(*data))

    def test_step(self, *data):
        return replicas.for_keras(super().test_step(*data))

    def predict_on_batch(self, x):
        """As in Keras; under a `tf.distribute` strategy over machines, this machine alone for its own batch."""
        if not replicas.on_several_machines(getattr(self, "_distribute_strategy", None)):
            return super().predict_on_batch(x)
        with replicas.alone(self):
            return super().predict_on_batch(x)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if iterator is not None and replicas.on_several_machines(self._distribute_strategy):
            of_users = [part for part in (self._compile_metrics, self._compile_loss) if part is not None]
            if not all(part.built for part in of_users):
                data_batch = replicas.first_batch(self._distribute_strategy, iterator)
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    @staticmethod
    def outputs_of(labels, outputs):
        """The outputs that a loss or metric of the user's sees: those under the labels' names, or else the logits."""
        if not isinstance(labels, dict):
            return outputs.get("logits", outputs)
        return {name: outputs[name] for name in labels if name in outputs}

    # ── what is trained ─────────────────────────────────────────────────────────────────────────────────────────

    def freeze(self, part: str | None = None, *, layers: int | Iterable[int] | None = None) -> None:
        """Keeps weights as they are from now on; a compiled model goes on with those that are left.

        Args:
            part: name of a part of the model: "embeddings", "encoder", "pooler", "classifier", "vilt", …, one of the
                components of `weight_names()`. A name stands for longer ones too: LXMERT's "encoder" is its
                `language_encoder`, `vision_encoder` and `cross_encoder`. None is the whole model.
            layers: only these of the part's blocks, counted from 0; a number is that many first blocks.

        Raises:
            ValueError: the model has no such part or block; names those that there are.
        """
        self._set_trainable(part, layers, False)

    def unfreeze(self, part: str | None = None, *, layers: int | Iterable[int] | None = None) -> None:
        """Trains weights again; arguments as `freeze`. Compile the model again, since its optimizer knows the others.

        What a class never trains (a pooler that its head does not read) stays as it is.
        """
        self._set_trainable(part, layers, True)

    def _set_trainable(self, part, layers, trainable):
        never_trained = {
            id(variable) for layer in self._flatten_layers() if not layer.trainable for variable in layer.variables
        }
        for variable in chosen_weights({v.path: v for v in self.trainable_candidates()}, part, layers):
            variable.trainable = trainable and id(variable) not in never_trained
        self.train_function = None  # a graph that is there already would train what it did before

    def trainable_candidates(self) -> list[keras.Variable]:
        """All weights but the kernels that LoRA adapts, which stay as they are."""
        adapted = {id(layer._kernel) for layer in lora.lora_layers(self)}
        return [variable for variable in self.weights if id(variable) not in adapted]

    @property
    def frozen_weights(self) -> list[str]:
        """Paths of the weights that are not trained; none with LoRA, which files hold as a plain, merged model."""
        if lora.lora_layers(self):
            return []
        return [variable.path for variable in self.weights if not variable.trainable]

    def enable_lora(self, rank: int, targets: Sequence[str] = lora.ATTENTION, *, alpha: float | None = None) -> None:
        """Low-rank adaptation (Hu et al. 2021): freezes the base model and trains a product of two thin matrices beside
        chosen kernels; the head's own layers are trained whole.

        `save_pretrained` and `.keras` files hold the merged weights, those of a plain model. Compile after it.

        Args:
            rank: width of the thin matrices.
            targets: names of dense layers, or of parts that hold them: "qkv" (LXMERT's cross-attention: "query",
                "key_value"), "attention", "intermediate", "output", "encoder", …
            alpha: the product counts `alpha / rank` times; `rank` where None.

        Raises:
            ValueError: no dense layer is in such a part, `rank` is no size, or the model is adapted already.
        """
        base = getattr(self, self.base_model_prefix, self)
        lora.enable_lora(self, base, rank, targets, alpha)
        self.train_function = None


def chosen_weights(weights: Mapping[str, keras.Variable], part, layers) -> list[keras.Variable]:
    """Those of `weights`, by their paths, that `freeze(part, layers=…)` speaks of."""
    pattern = re.compile("" if part is None else rf"(^|/)([^/]+_)?{re.escape(part)}(/|$)")
    found = {path: variable for path, variable in weights.items() if pattern.search(path)}
    if not found:
        parts = sorted({name for path in weights for name in path.split("/")[:-1]})
        raise ValueError(f"The model has no part {part!r}; its parts are {', '.join(parts)}.")
    if layers is None:
        return list(found.values())
    wanted = set(range(layers)) if isinstance(layers, int) else set(layers)
    blocks = {path: re.search(r"/layer_(\d+)/", path) for path in found}
    there = {int(match[1]) for match in blocks.values() if match}
    if not wanted <= there:
        raise ValueError(
            f"layers names {', '.join(map(str, sorted(wanted - there)))}, but {part or 'the model'} has "
            + (f"the blocks 0 to {max(there)}." if there else "no blocks.")
        )
    return [variable for path, variable in found.items() if blocks[path] and int(blocks[path][1]) in wanted]

"""The methods of a model for `compile` and `fit`: the paper's loss, optimizer and metrics, freezing, and LoRA."""

import contextlib
import functools
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import keras

from tfvl.layers.embeddings import needs_static_shapes
from tfvl.modeling import lora, replicas
from tfvl.modeling.labels import by_label, by_output, factors, renamed, weight_of
from tfvl.modeling.losses import cross_entropy, weighted_mean
from tfvl.modeling.metrics import HeadAccuracy
from tfvl.modeling.optimizer_state import StateBeforeSteps, make_state_at_compile
from tfvl.modeling.optimizers import AdamW
from tfvl.modeling.recipes import Recipe


@contextlib.contextmanager
def forgotten_if_refused(model) -> Iterator[None]:
    """Restores a compiled model when the block raises an error, so that the same call with other data works."""
    parts = [getattr(model, name) for name in ("_compile_metrics", "_compile_loss")]
    unbuilt = [part for part in parts if part is not None and not part.built]
    try:
        yield
    except Exception:
        # a graph that was not finished, and what Keras concluded from the labels about losses and metrics by name
        model.train_function = model.test_function = model.predict_function = None
        for part in unbuilt:
            part.built = False
            part.metrics.clear()
        raise


def unharmed(name: str):
    """Returns Keras' method of that name, wrapped in `forgotten_if_refused`."""

    @functools.wraps(getattr(keras.Model, name))
    def method(self, *args, **options):
        with forgotten_if_refused(self):
            return getattr(super(Trainable, self), name)(*args, **options)

    return method


def with_unread_frozen(name: str) -> property:
    """Returns Keras' property of that name, a list of weights, which counts `unread` layers as frozen in any case."""
    inherited = getattr(keras.Model, name)

    def weights(self):
        self.freeze_unread()
        return inherited.fget(self)

    return property(weights, doc=inherited.__doc__)


class Trainable(StateBeforeSteps):
    """The methods of `PreTrainedModel` for training: loss, optimizer, metrics, freezing, LoRA.

    Attributes:
        recipe: the settings with which the paper trained the class.
        loss_name: for a class whose loss is the cross-entropy of hard labels, the name of that loss.
    """

    recipe: ClassVar[Recipe]
    loss_name: ClassVar[str | None] = None

    # maps the name of a label to the name of the output whose target it is
    targets: ClassVar[Mapping[str, str]] = {}
    # maps the name of a term of the loss to that of its label, if the two differ and there are several labels
    labels_of_terms: ClassVar[Mapping[str, str]] = {}

    def loss_terms(self, labels, outputs) -> dict[str, tuple]:
        """Computes the paper's loss: a dict of terms, each a pair (values, weights), see `tfvl.modeling.losses`.

        Args:
            labels: what `fit` got as y: a tensor, or a dict for a model with several losses.
            outputs: what the model's call returned.
        """
        if self.loss_name is None:
            raise ValueError(f"{type(self).__name__} has no loss of its own; train one of the classes with a head.")
        return {self.loss_name: cross_entropy(labels, outputs["logits"])}

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """Returns the metrics that `compile()` installs; each is updated with (labels, outputs)."""
        return [HeadAccuracy()] if self.loss_name else []

    def default_optimizer(self, steps: int | None = None, **changes) -> AdamW:
        """Returns the paper's optimizer (the class's `recipe`), which `compile()` uses by default.

        Args:
            steps: number of batches that `fit` draws in all, epochs times batches. The rate then rises for the paper's
                share of them and falls linearly to 0 at the last one. None: the rate is the paper's peak throughout.
            **changes: arguments of `AdamW` that replace the paper's: `learning_rate` (the peak, or a schedule in
                place of `steps`), `gradient_accumulation_steps`, `global_clipnorm`, `rate_multipliers`, …
        """
        return self.recipe.optimizer(steps, **changes)

    def head_loss(self, labels, outputs, sample_weight=None, loss_weights=None):
        """Computes the loss, a float32 scalar: the sum of the weighted means of its terms.

        Args:
            labels: as `loss_terms` takes them.
            outputs: what the model's call returned.
            sample_weight: (batch,) for all labels, a dict under the names of labels, or None.
            loss_weights: factor of each label's part of the loss; a label without one has the factor 1.
        """
        loss = 0.0
        for term, (values, weights) in self.loss_terms(labels, outputs).items():
            label = self.labels_of_terms.get(term, term) if len(self.label_names) > 1 else self.label_names[0]
            mean = weighted_mean(values, weights, weight_of(sample_weight, label, term))
            loss += (loss_weights or {}).get(label, 1.0) * mean
        return loss

    def with_loss(self, outputs: dict, inputs: Mapping) -> dict:
        """Adds `loss` to `outputs` if `inputs` hold labels."""
        labels = {name: inputs[name] for name in self.label_names if name in inputs}
        if not labels:
            return outputs
        return {"loss": self.head_loss(labels if len(self.label_names) > 1 else labels["labels"], outputs)} | outputs

    def compile(
        self,
        optimizer=None,
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        *,
        steps=None,
        jit_compile=False,
        **options,
    ):
        """Configures training as `keras.Model.compile` does; the defaults are those of the head's paper.

        The optimizer's state is made here, and again if other weights are trained when `fit` begins.

        A loss and metrics of your own get labels, and the outputs whose targets these are. The keys of dicts of losses,
        metrics, labels and weights are the names of outputs, as in Keras, or those of labels. With the paper's loss,
        `loss_weights` are the factors of its parts, one for each label.

        Args:
            steps: number of batches that `fit` draws in all; see `default_optimizer`.
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
            own = [renamed(part, self.targets) for part in (loss, loss_weights, metrics, weighted_metrics)]
            own_metrics = [part for part in own[2:] if part is not None]
            paper = {"loss": loss is None, "metrics": [], "factors": None}
            if loss is None:
                paper["factors"] = factors(loss_weights, self.targets)
                if not own_metrics:
                    paper["metrics"] = self.default_metrics()
            # a plain object, because Keras tracks no new metrics in a model that is already built
            self.defaults = types.SimpleNamespace(**paper)
            by_name = all(isinstance(part, Mapping) for part in own_metrics)
            self.defaults.chosen = {name for part in own_metrics for name in part} if by_name else None
            self._compile_loss = self._compile_metrics = None  # those of an earlier call, which Keras keeps
            super().compile(optimizer, *own, jit_compile=jit_compile, **options)
            if replicas.strategy_in_use():
                replicas.prepare(self)
        make_state_at_compile(self)
        for layer in self._flatten_layers():
            if hasattr(layer, "static_shapes"):
                layer.static_shapes = needs_static_shapes(self.jit_compile)

    def compile_from_config(self, config):
        """Compiles a model that is loaded from a `.keras` file, so that training goes on where it stopped."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    @property
    def metrics(self):
        return super().metrics + self.defaults.metrics

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not self.defaults.loss:
            chosen = self.loss.keys() if isinstance(self.loss, Mapping) else None
            own = by_output(y, y_pred, sample_weight, self.targets, chosen)
            return super().compute_loss(x, *own, training)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} is trained without labels; give fit y, or a dataset of (inputs, labels)."
            )
        penalties = [replicas.portion(penalty) for penalty in self.losses]
        labels, outputs, weights = self.of_the_paper(y, y_pred, sample_weight)
        loss = self.head_loss(labels, outputs, weights, self.defaults.factors)
        return replicas.shared_loss(sum(penalties, start=loss))

    def of_the_paper(self, labels, outputs, sample_weight):
        """Converts labels, outputs and weights to what `head_loss` and the paper's metrics take."""
        labels, sample_weight = by_label(labels, self.targets), by_label(sample_weight, self.targets)
        if isinstance(labels, Mapping) and len(self.label_names) == 1:
            if self.label_names[0] not in labels:
                raise ValueError(
                    f"There are labels of {', '.join(labels) or 'nothing'}; expected {self.label_names[0]}."
                )
            labels = labels[self.label_names[0]]
        return labels, outputs, sample_weight

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        for metric in self.defaults.metrics:
            metric.update_state(*self.of_the_paper(y, y_pred, sample_weight))
        if self._compile_metrics is None:
            return self.get_metrics_result()
        return super().compute_metrics(x, *by_output(y, y_pred, sample_weight, self.targets, self.defaults.chosen))

    def get_metrics_result(self):
        if replicas.replica() is None:
            return super().get_metrics_result()
        with replicas.sums_of(variable for metric in self.metrics for variable in metric.variables):
            return super().get_metrics_result()

    def train_step(self, *data):
        return replicas.for_keras(super().train_step(*data))

    def test_step(self, *data):
        return replicas.for_keras(super().test_step(*data))

    fit, evaluate, predict, train_on_batch, test_on_batch = (
        unharmed(name) for name in ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch")
    )

    def predict_on_batch(self, x):
        """Predicts as in Keras; under a multi-worker strategy, only this machine predicts, for its own batch."""
        if not replicas.on_several_machines(getattr(self, "_distribute_strategy", None)):
            return super().predict_on_batch(x)
        with replicas.alone(self):
            return super().predict_on_batch(x)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if iterator is not None and self._distribute_strategy is not None:  # Keras' own takes a mean over the replicas
            of_users = [part for part in (self._compile_metrics, self._compile_loss) if part is not None]
            if not all(part.built for part in of_users):
                data_batch = replicas.first_batch(self._distribute_strategy, iterator)
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    # ── what is trained ─────────────────────────────────────────────────────────────────────────────────────────

    def freeze(self, part: str | None = None, *, layers: int | Iterable[int] | None = None) -> None:
        """Freezes weights; a compiled model goes on training the others.

        Args:
            part: name of a part of the model: "embeddings", "encoder", "pooler", "classifier", "vilt", …, one of the
                components of `weight_names()`. A name stands for longer ones too: LXMERT's "encoder" is its
                `language_encoder`, `vision_encoder` and `cross_encoder`. None is the whole model.
            layers: only these of the part's blocks, counted from 0; a number is that many first blocks.

        Raises:
            ValueError: the model has no such part or block; the message names those that it has.
        """
        self._set_trainable(part, layers, False)

    def unfreeze(self, part: str | None = None, *, layers: int | Iterable[int] | None = None) -> None:
        """Undoes `freeze`, whose arguments it takes. Compile the model again, so that its optimizer gets these weights.

        Weights that a class never trains (a pooler that its head does not read) stay frozen.
        """
        self._set_trainable(part, layers, True)

    def _set_trainable(self, part, layers, trainable):
        for variable in chosen_weights({v.path: v for v in self.made_to_be_trained()}, part, layers):
            variable.trainable = trainable
        self.freeze_unread()
        for layer in self._flatten_layers():
            if weights := layer.weights:  # the flags of layers follow, or setting one to what it is would do nothing
                layer._trainable = isinstance(layer, Trainable) or any(variable.trainable for variable in weights)
        self.train_function = None  # an existing graph would train the weights of before

    def __setattr__(self, name, value):
        if name != "trainable":
            super().__setattr__(name, value)
            return
        for layer in self._flatten_layers():  # TensorFlow's own setter does nothing if the flag has this value already
            layer._trainable = bool(value)
        for variable in self.made_to_be_trained():
            variable.trainable = bool(value)
        self.freeze_unread()

    def made_to_be_trained(self) -> list[keras.Variable]:
        """Returns the weights that are trained unless something freezes them; quantized kernels are not among them."""
        return [variable for layer in self._flatten_layers() for variable in layer._trainable_variables]

    trainable_variables, trainable_weights, non_trainable_variables, non_trainable_weights = map(
        with_unread_frozen,
        ("trainable_variables", "trainable_weights", "non_trainable_variables", "non_trainable_weights"),
    )

    def never_train(self, *layers: keras.layers.Layer) -> None:
        """Marks layers that no loss of the class depends on. They get no gradient, and are therefore never trained."""
        self.unread.layers += layers
        self.freeze_unread()

    def freeze_unread(self) -> None:
        """Freezes the layers marked by `never_train`, and the kernels that LoRA adapts."""
        for layer in self._flatten_layers():
            for unread in layer.unread.layers if isinstance(layer, Trainable) else ():
                for variable in unread.weights:
                    variable.trainable = False
            if getattr(layer, "lora_enabled", False):
                lora.weight(layer).trainable = False

    @property
    def frozen_weights(self) -> list[str]:
        """The paths of the weights that are not trained; none with LoRA that files hold as a plain, merged model."""
        if any(not getattr(layer, "keeps_lora", False) for layer in lora.lora_layers(self)):
            return []
        return [variable.path for variable in self.non_trainable_weights]

    def enable_lora(self, rank: int, targets: Sequence[str] = lora.ATTENTION, *, alpha: float | None = None) -> None:
        """Adapts the model by LoRA (Hu et al. 2021): freezes the base model and trains a product of two thin matrices
        beside chosen kernels; the head's own layers are trained as a whole.

        `save_pretrained` and `.keras` files hold the merged weights, those of a plain model. Compile after it.

        Args:
            rank: width of the thin matrices.
            targets: names of dense layers, or of parts that hold them: "qkv" (LXMERT's cross-attention: "query",
                "key_value"), "attention", "intermediate", "output", "encoder", …
            alpha: the product of the thin matrices is scaled by `alpha / rank`; None stands for `rank`.

        Raises:
            ValueError: no dense layer is in such a part, `rank` is not a positive whole number, or the model is adapted
                already.
        """
        base = getattr(self, self.base_model_prefix, self)
        lora.enable_lora(self, base, rank, targets, alpha)
        self.train_function = None


def chosen_weights(weights: Mapping[str, keras.Variable], part, layers) -> list[keras.Variable]:
    """Returns the `weights`, by path, that `freeze(part, layers=…)` selects."""
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

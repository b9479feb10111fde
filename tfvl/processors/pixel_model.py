"""A model of regions with `GridFeatures` in front, so that `fit` trains both from pixels."""

import keras

from tfvl.modeling.optimizer_state import StateBeforeSteps, make_state_at_compile


class PixelModel(StateBeforeSteps, keras.Model):
    """Takes the inputs of a text and `pixel_values`; returns what the model of regions returns.

    It is compiled as the model is: without arguments with the loss, optimizer and metrics of the head's paper.

    Args:
        grid: a `GridFeatures`; `grid.trainable = False` keeps its backbone as it is.
        model: the model of regions, e.g. an `LxmertForQuestionAnswering`.

    Raises:
        ValueError: the model takes features of another size, or no regions.
    """

    def __init__(self, grid, model):
        super().__init__(name="from_pixels")
        inputs = getattr(model.config, "region_inputs", None)
        if not inputs:
            raise ValueError(f"{type(model).__name__} reads images itself; grid features are for VisualBERT and LXMERT")
        size, field = model.config.region_size("features"), inputs["features"].size_field
        if size != grid.feature_size:
            raise ValueError(
                f"the grid's features are of size {grid.feature_size}, but {field} of the model's config is {size}; "
                f"load the model with {field}={grid.feature_size} and ignore_mismatched_sizes=True"
            )
        self.grid, self.model = grid, model

    def call(self, inputs, training=None):
        inputs = dict(inputs)
        features = self.grid(inputs.pop("pixel_values"), training=training)  # (batch, cells, size)
        ones = keras.ops.ones(keras.ops.shape(features)[:2], "int32")
        boxes = keras.ops.broadcast_to(self.grid.cells[None], (keras.ops.shape(features)[0], *self.grid.cells.shape))
        values = {"features": features, "boxes": boxes, "mask": ones, "image": ones}
        regions = {each.name: values[field] for field, each in self.model.config.region_inputs.items()}
        return self.model(inputs | regions, training=training)

    def compile(self, optimizer=None, **options):
        """Compiles the model with these arguments, by its own `compile`, and then this one."""
        self.model.compile(optimizer, **options)
        kept = {name: options[name] for name in ("run_eagerly", "steps_per_execution") if name in options}
        super().compile(self.model.optimizer, jit_compile=options.get("jit_compile", False), **kept)
        make_state_at_compile(self)

    @property
    def metrics(self):
        if not self.compiled:
            return []
        # not the model's own mean of losses: it is never updated, and has the same name
        return [self._loss_tracker, *(each for each in self.model.metrics if each is not self.model._loss_tracker)]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.model.compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.model.compute_metrics(x, y, y_pred, sample_weight)
        return self.get_metrics_result()

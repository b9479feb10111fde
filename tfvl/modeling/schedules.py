"""Learning rates over the steps of a training run."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfvl")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to `peak`, then falls as a polynomial to `end`, where it stays.

    It gives the rates of `get_polynomial_decay_schedule_with_warmup` in transformers, and, with the default power of 1,
    those of BertAdam's `warmup_linear`, with which all three models were trained. The first step has a rate of 0.

    Args:
        peak: the highest rate, reached when the warm-up ends.
        steps: number of batches that `fit` draws in all, also those that are only accumulated (at least 1).
        warmup: share of the steps that the warm-up takes, 0 … 1.
        end: the rate after the last step.
        power: power of the polynomial; 1 is linear.

    Raises:
        ValueError: `steps` is not a positive whole number, or `warmup` is not a share.
    """

    def __init__(self, peak: float, steps: int, warmup: float = 0.1, end: float = 0.0, power: float = 1.0):
        if isinstance(steps, bool) or int(steps) != steps or steps < 1:
            raise ValueError(f"steps is {steps!r}, expected how many batches fit draws in all: batches times epochs.")
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup is {warmup!r}, expected the share of the steps that it takes, 0 to 1.")
        self.peak, self.steps, self.warmup, self.end, self.power = peak, int(steps), warmup, end, power

    def __call__(self, step):
        """Returns the rate at `step`, counted from 0; a float32 scalar."""
        warmup_steps = int(self.steps * self.warmup)
        step = ops.cast(step, "float32")
        rising = self.peak * step / max(warmup_steps, 1)
        left = ops.clip((self.steps - step) / max(self.steps - warmup_steps, 1), 0.0, 1.0)
        falling = self.end + (self.peak - self.end) * left**self.power
        return ops.where(step < warmup_steps, rising, falling)

    def get_config(self):
        names = ("peak", "steps", "warmup", "end", "power")
        return {name: getattr(self, name) for name in names}

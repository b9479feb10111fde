"""The hyperparameters with which a model's paper trained it, which its class has as `recipe`."""

from dataclasses import dataclass, field
from typing import Any

import keras

from tfvl.modeling.optimizers import AdamW
from tfvl.modeling.schedules import WarmupDecay


@dataclass(frozen=True)
class Recipe:
    """The optimizer settings with which `compile()` trains by default.

    BertAdam, which trained VisualBERT and LXMERT, has no bias correction. It is kept here, since without it fine-tuning
    diverges more often (Mosbach et al. 2021, section 5.1).

    Attributes:
        learning_rate: the peak of the schedule.
        warmup: share of the steps in which the rate rises; after it, it falls linearly to 0.
        weight_decay: decay of all variables but biases and norms.
        beta_2, epsilon: arguments of AdamW.
        clip_norm: largest norm of all gradients together, to which larger ones are scaled down; None does not clip.
        rate_multipliers: factor of the learning rate for parts of the model, by name.
    """

    learning_rate: float
    warmup: float = 0.1
    weight_decay: float = 0.01
    beta_2: float = 0.999
    epsilon: float = 1e-6
    clip_norm: float | None = None
    rate_multipliers: dict[str, float] = field(default_factory=dict)

    def optimizer(self, steps: int | None = None, **changes) -> AdamW:
        """Returns the AdamW of the recipe; see `PreTrainedModel.default_optimizer`."""
        rate = changes.pop("learning_rate", self.learning_rate)
        if steps is not None:
            if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
                raise ValueError("Give steps, or a learning_rate that is a schedule; not both.")
            rate = WarmupDecay(rate, steps, self.warmup)
        options: dict[str, Any] = {
            "weight_decay": self.weight_decay,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "rate_multipliers": self.rate_multipliers,
        }
        if not {"clipnorm", "clipvalue", "global_clipnorm"} & changes.keys():
            options["global_clipnorm"] = self.clip_norm
        return AdamW(rate, **options | changes)

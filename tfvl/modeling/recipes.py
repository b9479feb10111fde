"""How each model was trained: the hyperparameters of the papers, one row for each class that has its own."""

from dataclasses import dataclass, field

import keras

from tfvl.modeling.optimizers import AdamW
from tfvl.modeling.schedules import WarmupDecay


@dataclass(frozen=True)
class Recipe:
    """What `compile()` takes where nothing else is given.

    Attributes:
        learning_rate: the peak of the schedule.
        warmup: share of the steps in which the rate rises; after it, it falls linearly to 0.
        weight_decay: of all variables but biases and norms.
        beta_2, epsilon: of AdamW.
        clip_norm: the gradients' norm, over all variables together, is brought down to it; None is not at all.
        rate_multipliers: part of the model to the factor of its rate.
    """

    learning_rate: float
    warmup: float = 0.1
    weight_decay: float = 0.01
    beta_2: float = 0.999
    epsilon: float = 1e-6
    clip_norm: float | None = None
    rate_multipliers: dict[str, float] = field(default_factory=dict)

    def optimizer(self, steps: int | None = None, **changes) -> AdamW:
        """The recipe's AdamW; see `PreTrainedModel.default_optimizer`."""
        rate = changes.pop("learning_rate", self.learning_rate)
        if steps is not None:
            if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
                raise ValueError("Give steps, or a learning_rate that is a schedule; not both.")
            rate = WarmupDecay(rate, steps, self.warmup)
        options = {
            "weight_decay": self.weight_decay,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "rate_multipliers": self.rate_multipliers,
        }
        if not {"clipnorm", "clipvalue", "global_clipnorm"} & changes.keys():
            options["global_clipnorm"] = self.clip_norm
        return AdamW(rate, **options | changes)


# ViLT: paper, section 4.2, and vilt/config.py of the authors, where VQA's head alone has ten times the rate.
# VisualBERT: configs/ of the authors. LXMERT: paper, sections 3.3 and 4, and run/ of the authors.
# BertAdam, which trained these two, has no bias correction. It is kept here, since without it fine-tuning diverges more
# often (Mosbach et al. 2021, section 5.1). LXMERT's authors let biases and norms decay too.
VILT = {"learning_rate": 1e-4, "beta_2": 0.98, "epsilon": 1e-8}
RECIPES = {
    "ViltPreTrainedModel": Recipe(**VILT),
    "ViltForQuestionAnswering": Recipe(**VILT, rate_multipliers={"classifier": 10.0}),
    "VisualBertPreTrainedModel": Recipe(2e-5, clip_norm=1.0),
    "VisualBertForPreTraining": Recipe(5e-5, clip_norm=1.0),
    "LxmertPreTrainedModel": Recipe(5e-5, clip_norm=5.0),
    "LxmertForPreTraining": Recipe(1e-4, warmup=0.05, clip_norm=1.0),
}


def recipe_of(model_class: type) -> Recipe:
    """The row of the class, or of the nearest class that it derives from."""
    return next(RECIPES[each.__name__] for each in model_class.__mro__ if each.__name__ in RECIPES)

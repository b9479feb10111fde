"""PyTorch's AdamW for Keras, with a learning rate of its own for each part of a model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

NO_DECAY = ("bias", "gamma", "beta")  # biases and norms, by the names of their variables


@keras.saving.register_keras_serializable("tfvl")
class AdamW(keras.optimizers.AdamW):
    """AdamW (Loshchilov & Hutter 2019) with the results of `torch.optim.AdamW`, from which `keras.optimizers` differs.

    - PyTorch adds `epsilon` to the root of the bias-corrected second moment (Kingma & Ba, algorithm 1), Keras to that
      of the raw one: at the first step Keras' is 32 times as large (1 / √(1 - beta_2)).
    - The weight decay is scaled by the variable's own rate, as in a parameter group of PyTorch's.
    - If a batch reads a row of a table twice, the row's gradients are summed before gradients are clipped.

    It takes all arguments of `keras.optimizers.AdamW` but `amsgrad`, is restored with its state from a `.keras` file,
    and works inside `LossScaleOptimizer` and with `gradient_accumulation_steps`.

    Args:
        no_decay: names of variables that do not decay.
        rate_multipliers: maps the name of a part of the model (a component of its variables' paths) to the factor of
            its learning rate, for example `{"classifier": 10.0}`.
        skip_nonfinite: whether a step whose gradients are not all finite changes nothing, not even `iterations`.

    Raises:
        ValueError: `amsgrad` is asked for; or a part in `rate_multipliers` is not in the model (raised when the
            optimizer is built).
    """

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay: float = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        no_decay: Sequence[str] = NO_DECAY,
        rate_multipliers: Mapping[str, float] | None = None,
        skip_nonfinite: bool = False,
        **kwargs,
    ):
        super().__init__(learning_rate, weight_decay, beta_1, beta_2, epsilon, **kwargs)
        if self.amsgrad:
            raise ValueError("tfvl's AdamW has no amsgrad; take keras.optimizers.AdamW(amsgrad=True) instead.")
        self.no_decay, self.rate_multipliers = tuple(no_decay), dict(rate_multipliers or {})
        self.skip_nonfinite = skip_nonfinite
        self.exclude_from_weight_decay(var_names=[f"^{name}$" for name in self.no_decay])

    def get_config(self):
        own: dict[str, Any] = {"no_decay": list(self.no_decay), "rate_multipliers": dict(self.rate_multipliers)}
        own |= {"skip_nonfinite": self.skip_nonfinite}
        return super().get_config() | own

    def build(self, variables):
        if self.built:
            return
        paths = list(map(path_of, variables))
        for part in self.rate_multipliers:
            if not any(f"/{part}/" in path for path in paths):
                raise ValueError(f"rate_multipliers names {part!r}, but no variable that is trained is in such a part.")
        super().build(variables)

    def rate_and_decay_of(self, known) -> tuple[float, float]:
        """Returns the learning rate's factor and the weight decay of a variable that the optimizer was built for."""
        path = path_of(known)
        rate = math.prod(factor for part, factor in self.rate_multipliers.items() if f"/{part}/" in path)
        return rate, self.weight_decay if self._use_weight_decay(known) else 0.0

    def apply(self, grads, trainable_variables=None):
        grads = [dense(gradient) for gradient in grads]
        if not self.skip_nonfinite:
            super().apply(grads, trainable_variables)
            return
        there = [gradient for gradient in grads if gradient is not None]
        finite = ops.all(ops.stack([ops.all(ops.isfinite(gradient)) for gradient in there]))
        apply = super().apply
        ops.cond(finite, lambda: apply(grads, trainable_variables), lambda: None)

    def _apply_weight_decay(self, variables):
        """Does nothing, since `update_step` applies the weight decay, where the rate of the variable is known."""

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, variable.dtype)
        # 1 - beta^step, without the loss of digits of that subtraction
        first, second = (-ops.expm1(step * math.log(beta)) for beta in (self.beta_1, self.beta_2))
        factor, decay = self.rate_and_decay_of(self._trainable_variables[index])
        rate = ops.cast(learning_rate, variable.dtype) * factor
        if decay:
            self.assign_sub(variable, variable * (rate * decay))
        step_size, epsilon = rate * ops.sqrt(second) / first, self.epsilon * ops.sqrt(second)
        moments = self._momentums[index], self._velocities[index]
        update = update_fused if keras.backend.backend() == "tensorflow" else self.update_by_parts
        update(self, ops.cast(gradient, variable.dtype), variable, *moments, step_size, epsilon)

    @staticmethod
    def update_by_parts(optimizer, gradient, variable, momentum, velocity, step_size, epsilon):
        """Updates the moments and the variable by Keras operations, which every backend has."""
        optimizer.assign_add(momentum, (gradient - momentum) * (1 - optimizer.beta_1))
        optimizer.assign_add(velocity, (ops.square(gradient) - velocity) * (1 - optimizer.beta_2))
        optimizer.assign_sub(variable, step_size * momentum / (ops.sqrt(velocity) + epsilon))


def path_of(variable) -> str:
    """Returns the path of a variable between slashes."""
    return f"/{getattr(variable, 'path', variable.name)}/"


def update_fused(optimizer, gradient, variable, momentum, velocity, step_size, epsilon):
    """Updates moments and variable by one TensorFlow operation, which reads memory once: a third of the time."""
    import tensorflow as tf

    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.value.handle,
        v=velocity.value.handle,
        beta1_power=ops.zeros_like(step_size),  # `step_size` has the bias correction in it
        beta2_power=ops.zeros_like(step_size),
        lr=step_size,
        beta1=ops.cast(optimizer.beta_1, variable.dtype),
        beta2=ops.cast(optimizer.beta_2, variable.dtype),
        epsilon=epsilon,
        grad=gradient,
    )


def dense(gradient):
    """Returns a gradient as a dense tensor; the gradient of an embedding table lists the rows that were read."""
    if hasattr(gradient, "dense_shape"):
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)
    return gradient

"""Layer normalisation (Ba, Kiros & Hinton 2016)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfvl")
class LayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` over the last axis in fewer operations, always computed in float32.

    Outside a graph, where every operation costs a call, it takes two thirds of the time.
    """

    def call(self, inputs):
        centred = ops.cast(inputs, "float32")
        centred = centred - ops.mean(centred, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        return ops.cast(centred * ops.rsqrt(variance + self.epsilon) * gamma + beta, self.compute_dtype)

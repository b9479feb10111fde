"""Prepares images for a Keras backbone: resizes them, and scales their levels as in the backbone's training."""

import re
from typing import NamedTuple

import keras
import tensorflow as tf

from tfvl.detector.processor import DetectorImageProcessor

MAX_PIXELS = 178_956_970  # of one image, as Pillow's limit


class Scaling(NamedTuple):
    """A scaling of levels 0 … 255, red first, for a backbone: (levels / divisor - mean) / std.

    Attributes:
        divisor: divides all levels.
        mean, std: mean and deviation of the channels, blue first if `blue_first`.
        blue_first: whether the order of the channels is reversed.
    """

    divisor: float
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blue_first: bool = False

    def __call__(self, levels):
        """Scales levels (…, 3) float32, and returns the same shape."""
        levels = keras.ops.flip(levels, axis=-1) if self.blue_first else levels
        return (levels / self.divisor - keras.ops.array(self.mean, "float32")) / keras.ops.array(self.std, "float32")


# "tf", "torch" and "caffe" are the modes of keras.applications.imagenet_utils.preprocess_input.
SCALINGS = {
    "levels": Scaling(1.0),
    "unit": Scaling(255.0),
    "tf": Scaling(127.5, (1.0, 1.0, 1.0)),
    "torch": Scaling(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Scaling(1.0, (103.939, 116.779, 123.68), blue_first=True),
}
# The scalings by the names that keras.applications gives its models; its other models scale levels themselves.
APPLICATIONS = {
    r"vgg\d+|resnet(50|101|152)": "caffe",
    r"densenet\d+": "torch",
    r"resnet\d+v2|mobilenet(v2)?_.*|xception|inception_v3|inception_resnet_v2|nasnet.*": "tf",
}


def scaling_of(keras_model: keras.Model) -> str:
    """Returns the name of the scaling that a backbone needs.

    A model with a `Rescaling` or `Normalization` layer takes levels; another model of `keras.applications` is known by
    its name.

    Raises:
        ValueError: it is neither, so that the scaling must be given.
    """
    if any(isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization) for layer in keras_model.layers):
        return "levels"
    for pattern, name in APPLICATIONS.items():
        if re.fullmatch(pattern, keras_model.name, re.IGNORECASE):
            return name
    raise ValueError(
        f"{keras_model.name} is no model of keras.applications and scales no levels itself; say with preprocess= what "
        f"it was trained with: {', '.join(SCALINGS)}, or a Keras layer that takes levels from 0 to 255"
    )


class Limits(NamedTuple):
    max_pixels: int = MAX_PIXELS


class GridImageProcessor(DetectorImageProcessor):
    """Converts encoded images, paths, PIL images or arrays to levels 0 … 255 of one size, float32, red first.

    Args:
        image_size: (height, width), to which images are resized bilinearly, with antialiasing.
    """

    def __init__(self, image_size: tuple[int, int]):
        super().__init__(Limits())
        self.image_size = image_size

    def prepare(self, levels: tf.Tensor) -> tf.Tensor:
        """Resizes levels (h, w, 3) uint8 to (height, width, 3) float32."""
        resized = tf.image.resize(tf.cast(levels, tf.float32), self.image_size, antialias=True)
        return tf.ensure_shape(resized, [*self.image_size, 3])

"""The signature's input of images, which are encoded files."""

import numpy as np
import tensorflow as tf

from tfvl.export.parts import ModelInput, Part, spec
from tfvl.export.rows import first_problem, once_each

# The size of the warm-up request's image, a common one of photographs, so that all steps of preprocessing run.
_EXAMPLE_HEIGHT, _EXAMPLE_WIDTH = 480, 640


def image(head, config, processor) -> Part:
    """Describes the input `image`: encoded files (N,), or (N, num_images) for a head that takes several with a text."""
    images = (config.num_images,) if head.several else ()

    def encode(raw: dict, encoded: dict) -> tuple[dict, tf.Tensor]:
        decode = processor.image_processor.decode_and_preprocess_rows
        pixel_values, pixel_mask, status = once_each(decode, raw["image"])
        return {"pixel_values": pixel_values, "pixel_mask": pixel_mask}, numbered(status) if images else status

    return Part(
        raw={"image": spec(tf.string, "image", *images)},
        tensors={
            "pixel_values": ModelInput(tf.float32, (*images, "height", "width", config.num_channels)),
            "pixel_mask": ModelInput(tf.int32, (*images, "height", "width")),
        },
        encode=encode,
        example={"image": example_images(*images)},
    )


def example_images(*items: int) -> np.ndarray:
    """Returns one row of encoded images, as an example."""
    ramp = np.linspace(0, 255, _EXAMPLE_WIDTH).astype(np.uint8)
    picture = tf.io.encode_jpeg(np.broadcast_to(ramp[:, None], (_EXAMPLE_HEIGHT, _EXAMPLE_WIDTH, 3))).numpy()
    return np.full([1, *items], picture)


def numbered(status: tf.Tensor) -> tf.Tensor:
    """Joins statuses of images (N, images) to those of rows (N,): `image 2: what is wrong with the second`."""
    statuses = tf.unstack(status, axis=1)
    return first_problem(
        *(tf.strings.regex_replace(one, "^image", f"image {number}") for number, one in enumerate(statuses, start=1))
    )

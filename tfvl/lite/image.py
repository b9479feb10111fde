"""ViLT's image processor in NumPy and Pillow: the pixels of `tfvl.ViltImageProcessor`, without TensorFlow."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from tfvl.preprocessing.image.decode import to_levels, warn_of_shares

LONGEST_TO_SHORTEST = 1333 / 800  # bound of the edges' proportion, from the images of the training set, as upstream
SWITCHES = ("do_resize", "do_rescale", "do_normalize")


class ImageProcessor:
    """Converts images to `pixel_values` as `ViltImageProcessor` does, without TensorFlow.

    Args:
        options: fields of `tfvl.ViltImageProcessor`.
        size: (height, width) of every result; None: each image gets the size that the options give it.
        padded: whether smaller images are padded with zeros to `size` (and marked in a mask); else an image that does
            not have the size after resizing is refused.

    Raises:
        ValueError: an option has an impossible value.
    """

    def __init__(self, options: Mapping[str, Any], size: tuple[int, int] | None, padded: bool):
        self.size, self.padded = size, padded
        try:
            self.shortest_edge, self.divisor = int(options["size"]["shortest_edge"]), int(options["size_divisor"])
            self.mean, self.std = (np.array(options[name], np.float32) for name in ("image_mean", "image_std"))
            self.resample = Image.Resampling(options["resample"])
            self.max_pixels, self.factor = int(options["max_pixels"]), float(options["rescale_factor"])
            self.resize, self.rescale, self.normalize = (options[name] for name in SWITCHES)
            self.on_white = bool(options.get("do_convert_rgb"))  # files of older versions do not have it
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"the image processor's options cannot be used: {error!r}") from None
        if not 1 <= self.divisor <= self.shortest_edge <= 2**14:
            raise ValueError(f"size {self.shortest_edge} and size_divisor {self.divisor} are no sizes of images")
        levels = np.array([*self.mean.flat, *self.std.flat, self.factor])
        shapes = {self.mean.shape, self.std.shape}
        if shapes - {(), (3,)} or not np.isfinite(levels).all() or not self.std.all():
            raise ValueError(
                f"image_mean is {self.mean.tolist()}, image_std {self.std.tolist()}, rescale_factor {self.factor}; "
                "expected one number or one for each of three channels, and an image_std that is not 0"
            )

    def __call__(self, image: Any) -> tuple[np.ndarray, np.ndarray]:
        """Converts one image (bytes, path, PIL image or array) to (height, width, 3) float32 and its mask, int32.

        An image that would be larger than the file's size is resized as if the processor had a smaller `size`.

        Raises:
            ValueError: the image cannot be used.
        """
        found = to_levels(image, self.max_pixels, on_white=self.on_white, any_floats=not self.resize)
        if found.floats is not None and self.rescale:
            warn_of_shares(found.floats)
        height, width = found.size
        if not height or not width:
            raise ValueError(f"{height} x {width} pixels: the image is empty")
        target = self._target(height, width)
        levels = found.levels
        if self.resize:
            levels = np.asarray(Image.fromarray(levels).resize(target[::-1], self.resample))
        pixels = self._normalized(levels, found.floats)
        size = self.size or target
        pixel_values, mask = np.zeros((*size, 3), np.float32), np.zeros(size, np.int32)
        pixel_values[: target[0], : target[1]] = pixels
        mask[: target[0], : target[1]] = 1
        return pixel_values, mask

    def _target(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size to which the image is resized, at most `size`."""
        if not self.resize:
            target = (height, width)
            if self._fits(target):
                return target
            raise ValueError(f"{self._sentence(target)}, and do_resize is off")
        for edge in range(self.shortest_edge, self.divisor - 1, -1):
            target = target_size(height, width, edge, self.divisor)
            if self._fits(target) or (self.size and not self.padded):
                break
        if min(target) < 1:
            raise ValueError(f"{height} x {width} pixels is too long and thin to resize")
        if not self._fits(target):
            raise ValueError(self._sentence(target))
        return target

    def _fits(self, target: tuple[int, int]) -> bool:
        if self.size is None or target == self.size:
            return True
        return self.padded and target[0] <= self.size[0] and target[1] <= self.size[1]

    def _sentence(self, target: tuple[int, int]) -> str:
        height, width = self.size
        return (
            f"{target[0]} x {target[1]} pixels after resizing, but the file takes {'at most ' * self.padded}{height} x "
            f"{width}; export it with --image-size {target[0]}x{target[1]}"
        )

    def _normalized(self, levels: np.ndarray | None, floats: np.ndarray | None) -> np.ndarray:
        """Rescales and normalises the pixels in upstream's order and types."""
        pixels = levels
        if floats is not None:
            pixels = rescaled(levels, 1 / 255) if self.resize else floats
        if self.rescale:
            pixels = rescaled(pixels, self.factor)
        if self.normalize:
            pixels = (pixels.astype(np.float32) - self.mean) / self.std
        return pixels.astype(np.float32)


def rescaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    return (pixels.astype(np.float64) * factor).astype(np.float32)


def target_size(height: int, width: int, shortest_edge: int, divisor: int) -> tuple[int, int]:
    """Computes (height, width) as upstream's `get_resize_output_image_size`, in the same order of operations."""
    longest_edge = int(LONGEST_TO_SHORTEST * shortest_edge)
    scale = shortest_edge / min(height, width)
    size: tuple[float, float] = (shortest_edge, scale * width) if height < width else (scale * height, shortest_edge)
    if max(size) > longest_edge:
        scale = longest_edge / max(size)
        size = (scale * size[0], scale * size[1])
    height, width = (math.floor(side + 0.5) // divisor * divisor for side in size)
    return height, width

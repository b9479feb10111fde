"""ViLT's image processor: converts images to `pixel_values` and `pixel_mask`, bit-identical to transformers."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tfvl.preprocessing.image import formats
from tfvl.preprocessing.image.batch import at_least_one, flatten, mask, nested, padded
from tfvl.preprocessing.image.decode import CHANNELS_FIRST, Levels, to_levels, warn_of_shares
from tfvl.preprocessing.image.options import ImageOptions
from tfvl.preprocessing.image.resize import resize, target_size

PARALLEL_ROWS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class ViltImageProcessor(ImageOptions):
    """Resizes, rescales, normalises and pads images for ViLT (upstream: `ViltImageProcessor`, Pillow backend).

    It works on Python objects, and on tensors eagerly, inside `tf.data` and inside an exported graph. The options can
    be overridden in a call.

    Args:
        do_resize: resize to `size`; without it images keep their size.
        size: length of the shorter edge in pixels, or `{"shortest_edge": length}`. The longer edge is at most
            `int(1333 / 800 * length)`.
        size_divisor: both edges are rounded down to a multiple of it.
        resample: a `PIL.Image.Resampling` value, 3 is bicubic.
        do_rescale, rescale_factor: multiply the levels, 0 to 255, by the factor.
        do_normalize, image_mean, image_std: subtract the mean and divide by `image_std`: one for each channel, or one.
        do_convert_rgb: lay transparent images on white, as upstream; else transparency is dropped, as the authors do
            (`Image.convert("RGB")`; upstream then refuses such images).
        crop_size, do_center_crop, pad_size: not read, as in upstream's ViLT; kept because its files have them.
        do_pad: pad the batch's images with zeros, right and below, to the largest height and width; without it they
            must all have one size.
        max_pixels: an image with more is refused before it is decoded; the default is Pillow's warning limit.

    Raises:
        ValueError: an option is out of its range.
    """

    def __call__(self, images: Any, *, input_data_format: str | None = None, **overrides: Any) -> dict[str, tf.Tensor]:
        """Prepares one image or a batch.

        Args:
            images: one image, a list of N images, or a list of N lists of P images (pairs for NLVR2). An image is
                encoded bytes, a path, a `PIL.Image.Image` or an array (see `decode.to_levels`). As tensors:
                tf.string, scalar, (N,) or (N, P), of encoded JPEG, PNG, GIF or BMP; or uint8 (H, W, C), (N, H, W, C) or
                (N, P, H, W, C).
            input_data_format: "channels_last" or "channels_first" for arrays and uint8 tensors. By default the shape
                decides for arrays, and tensors are channels last.
            **overrides: options of the class, for this call.

        Returns:
            `pixel_values` (N, H, W, 3) float32 and `pixel_mask` (N, H, W) int32, 1 on the image and 0 on the padding;
            with lists of P images (N, P, H, W, 3) and (N, P, H, W).

        Raises:
            ValueError: an image cannot be used; the message names its place in the batch. In a graph the same sentence
                comes as `tf.errors.InvalidArgumentError`.
        """
        if overrides:
            return self.replace(**overrides)(images, input_data_format=input_data_format)
        if isinstance(images, np.ndarray) and images.dtype.kind in "OSU":
            images = images.tolist()
        if not tf.is_tensor(images):
            return self._from_python(images, input_data_format)
        if images.dtype == tf.string:
            return self._from_strings(images)
        if tf.executing_eagerly():
            return self._from_python(images.numpy(), input_data_format)
        return self._from_levels(images, input_data_format)

    preprocess = __call__

    def decode_and_preprocess_rows(self, image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Decodes and prepares encoded images; a bad one never fails the batch.

        Args:
            image_bytes: tf.string (N,), or (N, P) for P images per row; JPEG, PNG, GIF (first frame) or BMP.

        Returns:
            pixel_values (N, H, W, 3) float32, pixel_mask (N, H, W) int32, status (N,) tf.string (each with P after N).
            The status is "" or one sentence on what is wrong with the image, whose pixels are then a blank square.
            Each good row has the pixels it has alone; H and W are the largest of the batch.
        """
        flat = at_least_one(tf.reshape(image_bytes, [-1]))
        with tf.device("/cpu:0"):
            images, sizes, status = tf.map_fn(
                self._row,
                flat,
                fn_output_signature=(tf.string, tf.TensorSpec([2], tf.int32), tf.string),
                parallel_iterations=PARALLEL_ROWS,
            )
            largest = tf.reduce_max(sizes, axis=0)
            pixel_values = tf.map_fn(
                lambda image: self._padded(tf.io.parse_tensor(image, tf.uint8), largest),
                images,
                fn_output_signature=tf.TensorSpec([None, None, 3], tf.float32),
                parallel_iterations=PARALLEL_ROWS,
            )
            leading = tf.shape(image_bytes)
            outputs = [nested(rows, leading) for rows in (pixel_values, mask(sizes, largest), status)]
        batch = image_bytes.shape.as_list()
        shapes = ([*batch, None, None, 3], [*batch, None, None], batch)
        return tuple(tf.ensure_shape(output, shape) for output, shape in zip(outputs, shapes, strict=True))

    # --- in the graph -------------------------------------------------------------------------------------------------

    def _row(self, contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Decodes one file.

        Returns its resized levels (serialised, as rows differ in size), their size (2,) and the status.
        """
        image, size = formats.read(contents, self.max_pixels, bool(self.do_convert_rgb))
        pixels = tf.strings.join([tf.strings.as_string(size[0]), " x ", tf.strings.as_string(size[1]), " pixels"])
        valid_size = tf.reduce_all(size > 0)
        target = self._target(tf.maximum(tf.cast(size, tf.float64), 1.0))
        # The last sentence whose condition holds.
        status = tf.constant("")
        for condition, sentence in (
            (tf.reduce_any(target < 1), tf.strings.join(["image: ", pixels, " is too long and thin to resize"])),
            (
                tf.reduce_prod(size) > self.max_pixels,
                tf.strings.join(["image: ", pixels, f" is more than max_pixels={self.max_pixels}"]),
            ),
            (~valid_size, formats.problem(contents, size)),
        ):
            status = tf.where(condition, sentence, status)
        blank = tf.zeros([self.size_divisor, self.size_divisor, 3], tf.uint8)
        image = tf.cond(tf.equal(status, ""), lambda: self._resized(image), lambda: blank)
        return tf.io.serialize_tensor(image), tf.shape(image)[:2], status

    def _target(self, size: tf.Tensor) -> tf.Tensor:
        if not self.do_resize:
            return tf.cast(size, tf.int32)
        return target_size(size[0], size[1], self.size["shortest_edge"], self.size_divisor)

    def _resized(self, image: tf.Tensor) -> tf.Tensor:
        if not self.do_resize:
            return image
        height, width = tf.unstack(self._target(tf.shape(image)[:2]))
        return resize(image, height, width, self.resample)

    def _padded(self, image: tf.Tensor, largest: tf.Tensor) -> tf.Tensor:
        """Normalises levels (h, w, 3) uint8 and pads them to (H, W, 3) float32."""
        padding = largest - tf.shape(image)[:2]
        return tf.pad(self._normalized(image), [[0, padding[0]], [0, padding[1]], [0, 0]])

    def _normalized(self, pixels: tf.Tensor) -> tf.Tensor:
        """Rescales and normalises (..., 3) to float32, in upstream's order and dtypes."""
        if self.do_rescale:
            pixels = _rescaled(pixels, self.rescale_factor)
        if self.do_normalize:
            pixels = pixels if pixels.dtype.is_floating else tf.cast(pixels, tf.float32)
            # One number for all channels broadcasts much faster than three.
            mean, std = (
                tf.constant(values[:1] if len(set(values)) == 1 else values, pixels.dtype)
                for values in (self.image_mean, self.image_std)
            )
            # As a plain division, the graph optimiser would multiply by the rounded reciprocal.
            pixels = tf.math.divide_no_nan(pixels - mean, std)
        return tf.cast(pixels, tf.float32)

    def _from_strings(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        image_bytes = image_bytes[None] if image_bytes.shape.rank == 0 else image_bytes
        if image_bytes.shape.rank not in (1, 2):
            raise ValueError(f"encoded images have shape {image_bytes.shape}; give a scalar, (N,) or (N, images)")
        if tf.executing_eagerly():
            pixel_values, pixel_mask, status = self._rows(image_bytes)
            for row, sentence in enumerate(tf.reshape(status, [-1]).numpy()):
                if sentence:
                    raise ValueError(f"images[{row}]: {sentence.decode().removeprefix('image: ')}")
            if not self.do_pad and not pixel_mask.numpy().all():
                raise ValueError("do_pad=False needs images of one size")
            return {"pixel_values": pixel_values, "pixel_mask": pixel_mask}
        pixel_values, pixel_mask, status = self.decode_and_preprocess_rows(image_bytes)
        good = tf.debugging.Assert(tf.reduce_all(tf.equal(status, "")), [status])
        if not self.do_pad:
            same = tf.debugging.Assert(tf.reduce_all(pixel_mask > 0), ["do_pad=False needs images of one size"])
            good = tf.group(good, same)
        with tf.control_dependencies([good]):
            return {"pixel_values": tf.identity(pixel_values), "pixel_mask": tf.identity(pixel_mask)}

    @functools.cached_property
    def _rows(self):
        return tf.function(self.decode_and_preprocess_rows, reduce_retracing=True)

    def _from_levels(self, images: tf.Tensor, input_data_format: str | None) -> dict[str, tf.Tensor]:
        rank = images.shape.rank
        if images.dtype != tf.uint8 or rank not in (3, 4, 5):
            raise ValueError(
                f"an image tensor is tf.string or uint8 of rank 3, 4 or 5, not {images.dtype} {images.shape}"
            )
        images = images[None] if rank == 3 else images
        if input_data_format == CHANNELS_FIRST:
            images = tf.einsum("...chw->...hwc", images)
        channels = images.shape[-1]
        if channels not in (1, 2, 3, 4):
            raise ValueError(f"an image tensor has 1, 2, 3 or 4 channels in its last axis; the shape is {images.shape}")
        colors = images[..., :3] if channels > 2 else tf.repeat(images[..., :1], 3, axis=-1)
        transparent = channels in (2, 4) and self.do_convert_rgb
        images = formats.rgba_on_white(tf.concat([colors, images[..., -1:]], axis=-1)) if transparent else colors
        leading = tf.shape(images)[:-3]
        flat = at_least_one(tf.reshape(images, tf.concat([[-1], tf.shape(images)[-3:]], axis=0)))
        with tf.device("/cpu:0"):
            target = self._target(tf.shape(flat)[1:3])
            possible = tf.debugging.Assert(tf.reduce_all(target > 0), ["images too long and thin", tf.shape(images)])
            with tf.control_dependencies([possible]):
                largest = tf.identity(target)
            pixel_values = tf.map_fn(
                lambda image: self._padded(self._resized(image), largest),
                flat,
                fn_output_signature=tf.TensorSpec([None, None, 3], tf.float32),
                parallel_iterations=PARALLEL_ROWS,
            )
            pixel_values = nested(pixel_values, leading)
        return {"pixel_values": pixel_values, "pixel_mask": tf.ones(tf.shape(pixel_values)[:-1], tf.int32)}

    # --- from Python --------------------------------------------------------------------------------------------------

    def _from_python(self, images: Any, input_data_format: str | None) -> dict[str, tf.Tensor]:
        rows, leading = flatten(images)
        pixels = []
        for row, image in enumerate(rows):
            try:
                pixels.append(self._pixels(self.to_levels(image, input_data_format)))
            except ValueError as error:
                raise ValueError(f"images[{row}]: {error}") from error
        sizes = [image.shape[:2] for image in pixels]
        if not self.do_pad and len(set(sizes)) > 1:
            raise ValueError(f"do_pad=False needs images of one size; these have {sizes} (height, width)")
        values, masks = padded(pixels or [np.zeros([self.size_divisor, self.size_divisor, 3], np.float32)])
        outputs = {"pixel_values": values[: len(pixels)], "pixel_mask": masks[: len(pixels)]}
        return {name: tf.constant(value.reshape(leading + value.shape[1:])) for name, value in outputs.items()}

    def to_levels(self, image: Any, input_data_format: str | None = None) -> Levels:
        """Converts one image of any Python kind to levels, as `decode.to_levels` with these options."""
        options = {"on_white": bool(self.do_convert_rgb), "any_floats": not self.do_resize}
        return to_levels(image, self.max_pixels, input_data_format, **options)

    def pad(
        self,
        images: Sequence[Any],
        constant_values: float = 0.0,
        return_pixel_mask: bool = True,
        return_tensors: str | None = None,
    ) -> dict[str, Any]:
        """Pads images that are prepared already to the largest height and width, right and below (upstream's name).

        Args:
            images: a list of N arrays or tensors (height, width, channels), as `pixel_values` of a single image.
            constant_values: the value of the padding.
            return_pixel_mask: whether the mask is returned.
            return_tensors: "tf" (the default) or "np".

        Returns:
            `pixel_values` (N, H, W, channels) float32, and `pixel_mask` (N, H, W) int32.

        Raises:
            ValueError: there are no images, their axes or channels differ, or `return_tensors` is another kind.
        """
        arrays = [np.asarray(image, np.float32) for image in images]
        shapes = [array.shape for array in arrays]
        if not shapes or any(len(shape) != 3 or shape[2] != shapes[0][2] for shape in shapes):
            raise ValueError(f"pad takes images (height, width, channels) of as many channels each, got {shapes}")
        if return_tensors not in (None, "tf", "np"):
            raise ValueError(f"return_tensors is {return_tensors!r}; pad returns 'tf' or 'np'")
        values, masks = padded(arrays, constant_values)
        outputs = {"pixel_values": values, "pixel_mask": masks} if return_pixel_mask else {"pixel_values": values}
        return outputs if return_tensors == "np" else {name: tf.constant(value) for name, value in outputs.items()}

    def _pixels(self, image: Levels) -> np.ndarray:
        """Resizes and normalises one image to (h, w, 3) float32."""
        if image.floats is not None and self.do_rescale:
            warn_of_shares(image.floats)
        height, width = image.size
        if not height or not width:
            raise ValueError(f"{height} x {width} pixels: the image is empty")
        with tf.init_scope(), tf.device("/cpu:0"):  # eagerly, also where a graph is being built
            if not self.do_resize:
                return self._normalized(tf.constant(image.levels if image.floats is None else image.floats)).numpy()
            new_height, new_width = self._target(tf.constant([height, width])).numpy().tolist()
            if not new_height or not new_width:
                raise ValueError(f"{height} x {width} pixels is too long and thin to resize")
            # Pillow itself gives the same bits as the graph, is faster, and needs no trace
            resized = Image.fromarray(image.levels).resize((new_width, new_height), self.resample)
            levels = tf.constant(np.asarray(resized))
            # Upstream turns shares into levels and back to resize them, and then rescales as always.
            return self._normalized(levels if image.floats is None else _rescaled(levels, 1 / 255)).numpy()


def _rescaled(pixels: tf.Tensor, factor: float) -> tf.Tensor:
    return tf.cast(tf.cast(pixels, tf.float64) * factor, tf.float32)


ViltFeatureExtractor = ViltImageProcessor

"""JPEG, PNG, GIF and BMP from bytes to RGB inside a TensorFlow graph, with the pixels that Pillow gives.

Sizes are read from the file's header, so that a caller can refuse a huge image before anything is allocated. Functions
raise `tf.errors.InvalidArgumentError` on a corrupt file; `read` turns that into a size of -1.

One format is not exact: for JPEGs in CMYK with a black channel TensorFlow rounds down where Pillow rounds to nearest,
so levels differ by 1 (and CMYK without Adobe's marker, which Pillow inverts all the same, TensorFlow takes as it is).
"""

import tensorflow as tf

UNKNOWN, JPEG, PNG, GIF, BMP, WEBP = range(6)
SIGNATURES = {JPEG: b"\xff\xd8\xff", PNG: b"\x89PNG\r\n\x1a\n", GIF: b"GIF8", BMP: b"BM", WEBP: b"RIFF"}


def sniff(contents: tf.Tensor) -> tf.Tensor:
    """The format that a file's first bytes announce: int32 scalar, UNKNOWN to WEBP."""
    return sum(
        tf.where(tf.equal(tf.strings.substr(contents, 0, len(signature)), signature), number, 0)
        for number, signature in SIGNATURES.items()
    )


def read(contents: tf.Tensor, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode one file without ever failing.

    Args:
        contents: the file, tf.string scalar.
        max_pixels: a larger image is not decoded.

    Returns:
        image (height, width, 3) uint8, empty if the file was not decoded; size (2,) int64: height and width by the
        header, or -1 if the file is corrupt or of a format that is not supported.
    """

    def attempt(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        number = sniff(contents)
        size = tf.switch_case(number, [lambda function=function: function(contents) for function in SIZES])
        fits = tf.reduce_all(size > 0) & (tf.reduce_prod(size) <= max_pixels)
        image = tf.cond(
            fits,
            lambda: tf.switch_case(number, [lambda function=function: function(contents) for function in DECODERS]),
            lambda: tf.zeros([0, 0, 3], tf.uint8),
        )
        return tf.ensure_shape(image, [None, None, 3]), tf.ensure_shape(size, [2])

    # A dataset is the one core construct that catches another operation's error.
    failure = tf.data.Dataset.from_tensors((tf.zeros([0, 0, 3], tf.uint8), tf.constant([-1, -1], tf.int64)))
    result = tf.data.Dataset.from_tensors(contents).map(attempt).ignore_errors().concatenate(failure)
    return result.take(1).get_single_element()


def _integer(contents: tf.Tensor, position: int | tf.Tensor, dtype: tf.DType, little_endian: bool = True) -> tf.Tensor:
    field = tf.strings.substr(contents, position, dtype.size)
    return tf.cast(tf.io.decode_raw(field, dtype, little_endian=little_endian)[0], tf.int64)


def _unsupported_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.constant([-1, -1], tf.int64)


def _unsupported(contents: tf.Tensor) -> tf.Tensor:
    return tf.zeros([0, 0, 3], tf.uint8)


def _jpeg_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.image.extract_jpeg_shape(contents)[:2], tf.int64)


def _decode_jpeg(contents: tf.Tensor) -> tf.Tensor:
    # The default, "INTEGER_FAST", differs from Pillow by up to 19 levels.
    return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")


def _png_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.stack([_integer(contents, position, tf.int32, little_endian=False) for position in (20, 16)])


def _decode_png(contents: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(contents, channels=3)


# --- GIF -------------------------------------------------------------------------------------------------------------


def _gif_first_frame(contents: tf.Tensor) -> dict[str, tf.Tensor]:
    """Find the first frame: its rectangle, its colours, and a GIF file that holds nothing else.

    TensorFlow decodes every frame and paints transparent pixels black; Pillow keeps their palette colour.
    """
    data = tf.cast(tf.io.decode_raw(contents, tf.uint8), tf.int32)
    length = tf.size(data)

    # Data come as a chain of sub-blocks, each led by its length, 0 at the end. `chain[i]` leads from i to the end of
    # the chain, found for all i at once by doubling the jumps.
    chain = tf.range(length + 1) + tf.pad(tf.where(data > 0, data + 1, 0), [[0, 1]])
    chain = tf.minimum(chain, length)
    (chain,) = tf.while_loop(
        lambda chain: tf.reduce_any(tf.gather(chain, chain) != chain), lambda chain: (tf.gather(chain, chain),), [chain]
    )

    def after_colors(position: tf.Tensor, packed: tf.Tensor) -> tf.Tensor:
        return position + tf.where(packed >= 128, 3 * tf.bitwise.left_shift(2, packed % 8), 0)

    def skip_extension(position: tf.Tensor, transparent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        graphic_control = data[position + 1] == 0xF9
        has_transparency = tf.cond(graphic_control, lambda: data[position + 3] % 2 == 1, lambda: False)
        transparent = tf.cond(has_transparency, lambda: data[position + 6], lambda: transparent)
        return chain[position + 2] + 1, transparent

    descriptor, background = tf.while_loop(
        lambda position, _: data[position] == 0x21, skip_extension, [after_colors(13, data[10]), 0]
    )
    tf.debugging.assert_equal(data[descriptor], 0x2C, "no frame")
    local_colors = data[descriptor + 9] >= 128
    pixels = after_colors(descriptor + 10, data[descriptor + 9])
    end = chain[pixels + 1] + 1
    tf.debugging.assert_less_equal(end, length, "truncated")

    def part(start: tf.Tensor | int, stop: tf.Tensor | int) -> tf.Tensor:
        return tf.strings.substr(contents, start, stop - start)

    canvas = [_integer(contents, position, tf.uint16) for position in (8, 6)]
    left, top, width, height = (_integer(contents, descriptor + 1 + 2 * field, tf.uint16) for field in range(4))
    colors = tf.where(local_colors, descriptor + 10, 13)
    return {
        "size": tf.stack([tf.maximum(canvas[0], top + height), tf.maximum(canvas[1], left + width)]),
        "origin": tf.stack([top, left]),
        "background": tf.io.decode_raw(part(colors + 3 * background, colors + 3 * background + 3), tf.uint8),
        "file": tf.strings.join(
            [
                part(0, 6),
                part(descriptor + 5, descriptor + 9),  # the canvas is the frame
                part(10, after_colors(13, data[10])),
                b",\0\0\0\0",
                part(descriptor + 5, end),
                b";",
            ]
        ),
    }


def _gif_size(contents: tf.Tensor) -> tf.Tensor:
    return _gif_first_frame(contents)["size"]


def _decode_gif(contents: tf.Tensor) -> tf.Tensor:
    frame = _gif_first_frame(contents)
    pixels = tf.io.decode_gif(frame["file"])[0]
    after = frame["size"] - frame["origin"] - tf.shape(pixels, tf.int64)[:2]
    padding = tf.pad(tf.stack([frame["origin"], after], axis=1), [[0, 1], [0, 0]])
    inside = tf.pad(tf.ones_like(pixels), padding) > 0
    return tf.where(inside, tf.pad(pixels, padding), frame["background"])


# --- BMP -------------------------------------------------------------------------------------------------------------


def _bmp_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.abs(_integer(contents, 22, tf.int32)), _integer(contents, 18, tf.int32)])


def _decode_bmp(contents: tf.Tensor) -> tf.Tensor:
    """Uncompressed, with 1, 4, 8 (palette), 24 or 32 bits per pixel; `tf.io.decode_bmp` knows no palettes."""
    offset, header_size = (tf.cast(_integer(contents, position, tf.int32), tf.int32) for position in (10, 14))
    bits, compression = (tf.cast(_integer(contents, position, tf.uint16), tf.int32) for position in (28, 30))
    tf.debugging.assert_greater_equal(header_size, 40, "unsupported BMP header")
    tf.debugging.assert_equal(compression, 0, "compressed BMP")
    tf.debugging.assert_equal(tf.reduce_any(bits == [1, 4, 8, 24, 32]), True, "unsupported BMP depth")
    height, width = tf.unstack(tf.cast(_bmp_size(contents), tf.int32))
    stride = (width * bits + 31) // 32 * 4
    lines = tf.reshape(
        tf.io.decode_raw(tf.strings.substr(contents, offset, stride * height), tf.uint8), [height, stride]
    )

    def true_color() -> tf.Tensor:
        pixels = tf.reshape(lines[:, : width * bits // 8], [height, width, bits // 8])
        return tf.reverse(pixels[:, :, :3], axis=[2])

    def palette() -> tf.Tensor:
        shifts = tf.cast(tf.range(8 - bits, -1, -bits), tf.uint8)
        mask = tf.cast(tf.bitwise.left_shift(1, bits) - 1, tf.uint8)
        indices = tf.bitwise.bitwise_and(tf.bitwise.right_shift(lines[:, :, None], shifts), mask)
        indices = tf.cast(tf.reshape(indices, [height, -1])[:, :width], tf.int32)
        colors = tf.io.decode_raw(tf.strings.substr(contents, 14 + header_size, offset - 14 - header_size), tf.uint8)
        colors = tf.reshape(colors, [-1, 4])[:256, 2::-1]
        return tf.gather(tf.pad(colors, [[0, 256 - tf.shape(colors)[0]], [0, 0]]), indices)

    image = tf.cond(bits > 8, true_color, palette)
    bottom_up = _integer(contents, 22, tf.int32) > 0
    return tf.cond(bottom_up, lambda: tf.reverse(image, axis=[0]), lambda: image)


SIZES = (_unsupported_size, _jpeg_size, _png_size, _gif_size, _bmp_size, _unsupported_size)
DECODERS = (_unsupported, _decode_jpeg, _decode_png, _decode_gif, _decode_bmp, _unsupported)


def problem(contents: tf.Tensor) -> tf.Tensor:
    """One sentence on why `read` gave a size of -1."""
    length = tf.strings.as_string(tf.strings.length(contents))
    name = tf.gather(["image", "JPEG", "PNG", "GIF", "BMP", "WebP"], sniff(contents))
    return tf.switch_case(
        tf.clip_by_value(sniff(contents), 0, 5),
        [
            lambda: tf.strings.join(["image: not a JPEG, PNG, GIF or BMP (", length, " bytes)"]),
            *[lambda: tf.strings.join(["image: a ", name, " of ", length, " bytes that cannot be decoded"])] * 4,
            lambda: tf.constant("image: WebP cannot be decoded here; send a JPEG, PNG, GIF or BMP"),
        ],
    )

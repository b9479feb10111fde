"""JPEG, PNG, GIF and BMP from bytes to RGB inside a TensorFlow graph, with the pixels that Pillow gives.

Sizes are read from the file's header, so that a caller can refuse a huge image before anything is allocated, and what
`limits` bounds is bounded here too. Functions raise `tf.errors.InvalidArgumentError` on a corrupt file; `read` turns
that into a size of -1.

One format is not exact: for JPEGs in CMYK with a black channel TensorFlow rounds down where Pillow rounds to nearest,
so levels differ by 1 (and CMYK without Adobe's marker, which Pillow inverts all the same, TensorFlow takes as it is).
"""

import tensorflow as tf

from tfvl.preprocessing.image.limits import (
    EOI,
    MAX_BLOCKS,
    MAX_FILE_BYTES,
    MAX_METADATA_BYTES,
    MAX_SCANS,
    MAX_SEGMENTS,
    NO_LENGTH,
    SOS,
    TOO_MANY_BLOCKS,
    TOO_MANY_SCANS,
)

UNKNOWN, JPEG, PNG, GIF, BMP, WEBP = range(6)
CORRUPT, BEYOND_LIMITS = -1, -2  # in place of a size
MAX_FRAME_BYTES = 1 << 25  # of a GIF: what follows is of other frames
WINDOW_BYTES = 1 << 16
CHAIN_BYTES = 1 << 14
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
        header, or `CORRUPT` (or of a format that is not supported), or `BEYOND_LIMITS`.
    """

    def attempt(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        number = sniff(contents)
        size = tf.cond(
            tf.strings.length(contents) > MAX_FILE_BYTES,
            lambda: tf.constant([BEYOND_LIMITS] * 2, tf.int64),
            lambda: tf.switch_case(number, [lambda function=function: function(contents) for function in SIZES]),
        )
        fits = tf.reduce_all(size > 0) & (tf.reduce_prod(size) <= max_pixels)
        image = tf.cond(
            fits,
            lambda: tf.switch_case(number, [lambda function=function: function(contents) for function in DECODERS]),
            lambda: tf.zeros([0, 0, 3], tf.uint8),
        )
        return tf.ensure_shape(image, [None, None, 3]), tf.ensure_shape(size, [2])

    # A dataset is the one core construct that catches another operation's error.
    failure = tf.data.Dataset.from_tensors((tf.zeros([0, 0, 3], tf.uint8), tf.constant([CORRUPT] * 2, tf.int64)))
    result = tf.data.Dataset.from_tensors(contents).map(attempt).ignore_errors().concatenate(failure)
    return result.take(1).get_single_element()


def _integer(contents: tf.Tensor, position: int | tf.Tensor, dtype: tf.DType, little_endian: bool = True) -> tf.Tensor:
    field = tf.strings.substr(contents, position, dtype.size)
    return tf.cast(tf.io.decode_raw(field, dtype, little_endian=little_endian)[0], tf.int64)


def _unsupported_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.constant([CORRUPT] * 2, tf.int64)


def _unsupported(contents: tf.Tensor) -> tf.Tensor:
    return tf.zeros([0, 0, 3], tf.uint8)


def _jpeg_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        _has_many_scans(contents),
        lambda: tf.constant([BEYOND_LIMITS] * 2, tf.int64),
        lambda: tf.cast(tf.image.extract_jpeg_shape(contents)[:2], tf.int64),
    )


def _has_many_scans(contents: tf.Tensor) -> tf.Tensor:
    """Whether decoding takes more than `MAX_SCANS` passes over the image.

    A look for the marker of a scan is cheap, but finds it also where it means nothing, as in a film behind a picture.
    Only where it stands there often the segments are followed, as `limits.check_jpeg` does.
    """
    parts = tf.strings.split(contents, bytes([0xFF, SOS]), maxsplit=MAX_SCANS + 1)
    return tf.cond(tf.size(parts) > MAX_SCANS + 1, lambda: _counts_many_scans(contents), lambda: tf.constant(False))


def _counts_many_scans(contents: tf.Tensor) -> tf.Tensor:
    length = tf.strings.length(contents)

    def follow(position: tf.Tensor, scans: tf.Tensor, segments: tf.Tensor) -> tuple[tf.Tensor, ...]:
        window = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, position, WINDOW_BYTES), tf.uint8), tf.int32)
        second = window[1:]
        no_marker = (second == 0) | (second == 0xFF) | ((second >= 0xD0) & (second <= 0xD7))
        at = tf.where((window[:-1] == 0xFF) & ~no_marker)[:1, 0]

        def next_window() -> tuple[tf.Tensor, ...]:
            return position + tf.size(window) - 1, scans, segments

        def segment() -> tuple[tf.Tensor, ...]:
            start = position + tf.cast(at[0], tf.int32)
            marker = second[at[0]]
            stands_alone = tf.reduce_any(marker == NO_LENGTH)
            size = tf.cond(
                stands_alone | (start + 4 > length),
                lambda: tf.constant(0, tf.int64),
                lambda: _integer(contents, start + 2, tf.uint16, little_endian=False),
            )
            end = tf.where(marker == EOI, length, start + 2 + tf.cast(size, tf.int32))
            return end, scans + tf.cast(marker == SOS, tf.int32), segments + tf.cast(~stands_alone, tf.int32)

        return tf.cond(tf.size(at) > 0, segment, next_window)

    _, scans, segments = tf.while_loop(
        lambda position, scans, segments: (position < length - 1) & (scans <= MAX_SCANS) & (segments <= MAX_SEGMENTS),
        follow,
        [0, 0, 0],
    )
    return (scans > MAX_SCANS) | (segments > MAX_SEGMENTS)


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
    contents = tf.strings.substr(contents, 0, MAX_FRAME_BYTES)

    def byte(position: tf.Tensor | int) -> tf.Tensor:
        return tf.cast(_integer(contents, position, tf.uint8), tf.int32)

    def part(start: tf.Tensor | int, stop: tf.Tensor | int) -> tf.Tensor:
        return tf.strings.substr(contents, start, stop - start)

    def after_colors(position: tf.Tensor | int, packed: tf.Tensor) -> tf.Tensor:
        return position + tf.where(packed >= 128, 3 * tf.bitwise.left_shift(2, packed % 8), 0)

    def skip_extension(position: tf.Tensor, transparent: tf.Tensor, blocks: tf.Tensor) -> tuple[tf.Tensor, ...]:
        graphic_control = byte(position + 1) == 0xF9
        has_transparency = tf.cond(graphic_control, lambda: byte(position + 3) % 2 == 1, lambda: False)
        transparent = tf.cond(has_transparency, lambda: byte(position + 6), lambda: transparent)
        return _end_of_chain(contents, position + 2, MAX_METADATA_BYTES) + 1, transparent, blocks + 1

    def is_too_much(position: tf.Tensor, blocks: tf.Tensor) -> tf.Tensor:
        return (blocks > MAX_BLOCKS) | (position > MAX_METADATA_BYTES)

    descriptor, background, blocks = tf.while_loop(
        lambda position, _, blocks: ~is_too_much(position, blocks) & (byte(position) == 0x21),
        skip_extension,
        [after_colors(13, byte(10)), 0, 0],
    )
    too_many = is_too_much(descriptor, blocks)
    descriptor = tf.where(too_many, 0, descriptor)
    tf.debugging.assert_equal((byte(descriptor) == 0x2C) | too_many, True, "no frame")
    local_colors = byte(descriptor + 9) >= 128
    pixels = after_colors(descriptor + 10, byte(descriptor + 9))
    end = tf.cond(too_many, lambda: pixels, lambda: _end_of_chain(contents, pixels + 1, MAX_FRAME_BYTES) + 1)
    tf.debugging.assert_less_equal(end, tf.strings.length(contents), "truncated")
    canvas = [_integer(contents, position, tf.uint16) for position in (8, 6)]
    left, top, width, height = (_integer(contents, descriptor + 1 + 2 * field, tf.uint16) for field in range(4))
    colors = tf.where(local_colors, descriptor + 10, 13)
    size = tf.stack([tf.maximum(canvas[0], top + height), tf.maximum(canvas[1], left + width)])
    return {
        "size": tf.where(too_many, tf.constant(BEYOND_LIMITS, tf.int64), size),
        "origin": tf.stack([top, left]),
        "background": tf.io.decode_raw(part(colors + 3 * background, colors + 3 * background + 3), tf.uint8),
        "file": tf.strings.join(
            [
                part(0, 6),
                part(descriptor + 5, descriptor + 9),  # the canvas is the frame
                part(10, after_colors(13, byte(10))),
                b",\0\0\0\0",
                part(descriptor + 5, end),
                b";",
            ]
        ),
    }


def _end_of_chain(contents: tf.Tensor, position: tf.Tensor, stop: int) -> tf.Tensor:
    """Where a chain of sub-blocks that begins at `position` ends: each is led by its length, 0 at the end.

    A chain that reaches `stop`, or the end of the file, is not followed further.
    """
    stop = tf.minimum(stop, tf.strings.length(contents) - 1)

    def follow(position: tf.Tensor, _) -> tuple[tf.Tensor, tf.Tensor]:
        window = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, position, CHAIN_BYTES), tf.uint8), tf.int32)
        # `chain[i]` leads from i to the end of the chain or out of the window, found for all i at once by doubling
        # the jumps; a place outside leads to itself.
        chain = tf.range(tf.size(window) + 256) + tf.pad(tf.where(window > 0, window + 1, 0), [[0, 256]])

        def double(chain: tf.Tensor, _) -> tuple[tf.Tensor, tf.Tensor]:
            further = tf.gather(chain, chain)
            return further, tf.reduce_any(further != chain)

        chain, _ = tf.while_loop(lambda _, goes_on: goes_on, double, [chain, True])
        return position + chain[0], chain[0] < tf.size(window)

    return tf.while_loop(lambda position, is_end: ~is_end & (position <= stop), follow, [position, False])[0]


def _gif_size(contents: tf.Tensor) -> tf.Tensor:
    return _gif_first_frame(contents)["size"]


def _decode_gif(contents: tf.Tensor) -> tf.Tensor:
    frame = _gif_first_frame(contents)
    pixels = tf.io.decode_gif(frame["file"])[0]
    size = tf.shape(pixels, tf.int64)[:2]

    def on_canvas() -> tf.Tensor:
        padding = tf.stack([frame["origin"], frame["size"] - frame["origin"] - size], axis=1)
        rows, columns = (tf.pad(tf.ones([size[axis]], tf.bool), padding[axis : axis + 1]) for axis in range(2))
        inside = rows[:, None, None] & columns[None, :, None]
        return tf.where(inside, tf.pad(pixels, tf.pad(padding, [[0, 1], [0, 0]])), frame["background"])

    return tf.cond(tf.reduce_all(size == frame["size"]), lambda: pixels, on_canvas)


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


def problem(contents: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """One sentence on why `read` gave that size."""
    length = tf.strings.as_string(tf.strings.length(contents))
    name = tf.gather(["image", "JPEG", "PNG", "GIF", "BMP", "WebP"], sniff(contents))
    limit = tf.gather(["", TOO_MANY_SCANS, "", TOO_MANY_BLOCKS, "", ""], sniff(contents))
    too_large = tf.strings.join(["image: ", length, f" bytes, at most {MAX_FILE_BYTES} are decoded"])
    beyond = tf.strings.join(["image: a ", name, " of ", length, " bytes with ", limit])
    beyond = tf.where(tf.strings.length(contents) > MAX_FILE_BYTES, too_large, beyond)
    corrupt = tf.switch_case(
        tf.clip_by_value(sniff(contents), 0, 5),
        [
            lambda: tf.strings.join(["image: not a JPEG, PNG, GIF or BMP (", length, " bytes)"]),
            *[lambda: tf.strings.join(["image: a ", name, " of ", length, " bytes that cannot be decoded"])] * 4,
            lambda: tf.constant("image: WebP cannot be decoded here; send a JPEG, PNG, GIF or BMP"),
        ],
    )
    return tf.where(size[0] == BEYOND_LIMITS, beyond, corrupt)

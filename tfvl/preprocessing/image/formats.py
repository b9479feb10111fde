"""Decodes JPEG, PNG, GIF and BMP files to RGB inside a TensorFlow graph, with the pixels that Pillow gives.

Sizes are read from the file's header, so that a caller can refuse a huge image before anything is allocated, and the
limits of `limits` hold here too. Functions raise `tf.errors.InvalidArgumentError` on a corrupt file; `read` turns
that into a size of -1.

One format is not exact: for JPEGs in CMYK with a black channel TensorFlow rounds down where Pillow rounds to nearest,
so levels differ by 1 (and CMYK without Adobe's marker, which Pillow inverts all the same, TensorFlow takes as it is).
"""

import functools

import tensorflow as tf

from tfvl.preprocessing.image import gif
from tfvl.preprocessing.image.gif import BEYOND_LIMITS, integer
from tfvl.preprocessing.image.limits import (
    BASE64_HINT,
    BASE64_IMAGE,
    EOI,
    MAX_FILE_BYTES,
    MAX_SCANS,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENTS,
    MAX_TEXTS,
    NO_LENGTH,
    PNG_TEXTS,
    SOS,
    TOO_MANY_BLOCKS,
    TOO_MANY_SEGMENTS,
    TOO_MANY_TEXTS,
)
from tfvl.preprocessing.image.pillow import laid_on_white

PNG_KIND = 25  # the byte of a PNG that says whether there is colour, a palette, an alpha channel
UNKNOWN, JPEG, PNG, GIF, BMP, WEBP = range(6)
CORRUPT = -1  # returned in place of a size
WINDOW_BYTES = 1 << 16
SIGNATURES = {JPEG: b"\xff\xd8\xff", PNG: b"\x89PNG\r\n\x1a\n", GIF: b"GIF8", BMP: b"BM", WEBP: b"RIFF"}


def sniff(contents: tf.Tensor) -> tf.Tensor:
    """Returns the format that a file's first bytes announce: int32 scalar, UNKNOWN to WEBP."""
    return sum(
        tf.where(tf.equal(tf.strings.substr(contents, 0, len(signature)), signature), number, 0)
        for number, signature in SIGNATURES.items()
    )


def read(contents: tf.Tensor, max_pixels: int, on_white: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode one file without ever failing.

    Args:
        contents: the file, tf.string scalar.
        max_pixels: a larger image is not decoded.
        on_white: lay transparent images on white; else their transparency is dropped.

    Returns:
        image (height, width, 3) uint8, empty if the file was not decoded; size (2,) int64: height and width by the
        header, or twice `CORRUPT` (also for a format that is not supported), or twice `BEYOND_LIMITS`.
    """
    return _reader(max_pixels, on_white)(contents)


@functools.cache
def _reader(max_pixels: int, on_white: bool):
    """Makes the function behind `read`, which is traced once: half of what tracing an export takes is decoders."""
    decoders = [ON_WHITE.get(decoder, decoder) if on_white else decoder for decoder in DECODERS]

    @tf.autograph.experimental.do_not_convert
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
            lambda: tf.switch_case(number, [lambda function=function: function(contents) for function in decoders]),
            lambda: tf.zeros([0, 0, 3], tf.uint8),
        )
        return tf.ensure_shape(image, [None, None, 3]), tf.ensure_shape(size, [2])

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def reader(contents):
        # A dataset is the one core construct that catches another operation's error.
        failure = tf.data.Dataset.from_tensors((tf.zeros([0, 0, 3], tf.uint8), tf.constant([CORRUPT] * 2, tf.int64)))
        result = tf.data.Dataset.from_tensors(contents).map(attempt).ignore_errors().concatenate(failure)
        return result.take(1).get_single_element()

    return reader


def _unsupported_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.constant([CORRUPT] * 2, tf.int64)


def _unsupported(contents: tf.Tensor) -> tf.Tensor:
    return tf.zeros([0, 0, 3], tf.uint8)


def _jpeg_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        _has_many_segments(contents),
        lambda: tf.constant([BEYOND_LIMITS] * 2, tf.int64),
        lambda: tf.cast(tf.image.extract_jpeg_shape(contents)[:2], tf.int64),
    )


def _has_many_segments(contents: tf.Tensor) -> tf.Tensor:
    """Returns whether a JPEG has more than `MAX_SCANS`, `MAX_SEGMENTS` or `MAX_SEGMENT_BYTES`.

    Searching for the marker of a scan is cheap, but also finds it in other data, such as a film behind a picture. Only
    if it occurs too often, or if there are so many bytes, are the segments followed, as in `limits.check_jpeg`.
    """
    parts = tf.strings.split(contents, bytes([0xFF, SOS]), maxsplit=MAX_SCANS + 1)
    return tf.cond(
        (tf.size(parts) > MAX_SCANS + 1) | (tf.strings.length(contents) > MAX_SEGMENT_BYTES),
        lambda: _counts_many_segments(contents),
        lambda: tf.constant(False),
    )


def _counts_many_segments(contents: tf.Tensor) -> tf.Tensor:
    length = tf.strings.length(contents)

    def within(scans: tf.Tensor, segments: tf.Tensor, nbytes: tf.Tensor) -> tf.Tensor:
        return (scans <= MAX_SCANS) & (segments <= MAX_SEGMENTS) & (nbytes <= MAX_SEGMENT_BYTES)

    def follow(position: tf.Tensor, scans: tf.Tensor, segments: tf.Tensor, nbytes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        window = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, position, WINDOW_BYTES), tf.uint8), tf.int32)
        second = window[1:]
        no_marker = (second == 0) | (second == 0xFF) | ((second >= 0xD0) & (second <= 0xD7))
        at = tf.where((window[:-1] == 0xFF) & ~no_marker)[:1, 0]

        def next_window() -> tuple[tf.Tensor, ...]:
            return position + tf.size(window) - 1, scans, segments, nbytes

        def segment() -> tuple[tf.Tensor, ...]:
            start = position + tf.cast(at[0], tf.int32)
            marker = second[at[0]]
            stands_alone = tf.reduce_any(marker == (EOI, *NO_LENGTH))
            size = tf.cond(
                stands_alone | (start + 4 > length),
                lambda: tf.constant(0, tf.int64),
                lambda: integer(contents, start + 2, tf.uint16, little_endian=False),
            )
            size = tf.cast(size, tf.int32)
            end = tf.where(marker == EOI, length, start + 2 + size)
            counted = tf.cast(~stands_alone, tf.int32)
            return end, scans + tf.cast(marker == SOS, tf.int32), segments + counted, nbytes + size

        return tf.cond(tf.size(at) > 0, segment, next_window)

    found = tf.while_loop(lambda position, *counts: (position < length - 1) & within(*counts), follow, [0, 0, 0, 0])
    return ~within(*found[1:])


def _decode_jpeg(contents: tf.Tensor) -> tf.Tensor:
    # The default, "INTEGER_FAST", differs from Pillow by up to 19 levels.
    return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")


def _png_size(contents: tf.Tensor) -> tf.Tensor:
    # The names of chunks are searched for, as following all chunks would take longer; pixels do not look so 17 times.
    parts = [tf.size(tf.strings.split(contents, name, maxsplit=MAX_TEXTS + 1)) - 1 for name in PNG_TEXTS]
    size = tf.stack([integer(contents, position, tf.int32, little_endian=False) for position in (20, 16)])
    return tf.where(tf.add_n(parts) > MAX_TEXTS, tf.cast(BEYOND_LIMITS, size.dtype), size)


def _decode_png(contents: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(contents, channels=3)


def _decode_png_on_white(contents: tf.Tensor) -> tf.Tensor:
    """Decodes alpha only if the file has transparency: TensorFlow adds a wrong alpha to levels of less than 8 bits."""
    kind = integer(contents, PNG_KIND, tf.uint8)
    transparent = (kind == 4) | (kind == 6) | tf.strings.regex_full_match(contents, r"\C*tRNS\C*")
    return tf.cond(
        transparent, lambda: rgba_on_white(tf.io.decode_png(contents, channels=4)), lambda: _decode_png(contents)
    )


def rgba_on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Blends RGBA levels (…, 4) uint8 with white, as Pillow does; returns RGB (…, 3) uint8."""
    levels = tf.cast(pixels, tf.int32)
    return tf.cast(laid_on_white(levels[..., :3], levels[..., 3:]), tf.uint8)


# --- BMP -------------------------------------------------------------------------------------------------------------


def _bmp_size(contents: tf.Tensor) -> tf.Tensor:
    return tf.stack([tf.abs(integer(contents, 22, tf.int32)), integer(contents, 18, tf.int32)])


def _decode_bmp(contents: tf.Tensor) -> tf.Tensor:
    """Decodes a BMP without compression, of 1, 4, 8 (palette), 24 or 32 bits; `tf.io.decode_bmp` reads no palettes."""
    offset, header_size = (tf.cast(integer(contents, position, tf.int32), tf.int32) for position in (10, 14))
    bits, compression = (tf.cast(integer(contents, position, tf.uint16), tf.int32) for position in (28, 30))
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
    bottom_up = integer(contents, 22, tf.int32) > 0
    return tf.cond(bottom_up, lambda: tf.reverse(image, axis=[0]), lambda: image)


SIZES = (_unsupported_size, _jpeg_size, _png_size, gif.size, _bmp_size, _unsupported_size)
DECODERS = (_unsupported, _decode_jpeg, _decode_png, gif.decode, _decode_bmp, _unsupported)
ON_WHITE = {_decode_png: _decode_png_on_white, gif.decode: gif.decode_on_white}  # the formats with transparency


@tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int64)], autograph=False)
def problem(contents: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns a sentence, a tf.string scalar, that says why `read` returned `CORRUPT` or `BEYOND_LIMITS` for a file."""
    length = tf.strings.as_string(tf.strings.length(contents))
    name = tf.gather(["image", "JPEG", "PNG", "GIF", "BMP", "WebP"], sniff(contents))
    limit = tf.gather(["", TOO_MANY_SEGMENTS, TOO_MANY_TEXTS, TOO_MANY_BLOCKS, "", ""], sniff(contents))
    too_large = tf.strings.join(["image: ", length, f" bytes, at most {MAX_FILE_BYTES} are decoded"])
    beyond = tf.strings.join(["image: a ", name, " of ", length, " bytes with ", limit])
    beyond = tf.where(tf.strings.length(contents) > MAX_FILE_BYTES, too_large, beyond)
    corrupt = tf.switch_case(
        tf.clip_by_value(sniff(contents), 0, 5),
        [
            lambda: tf.strings.join(["image: not a JPEG, PNG, GIF or BMP (", length, " bytes)", _hint(contents)]),
            *[lambda: tf.strings.join(["image: a ", name, " of ", length, " bytes that cannot be decoded"])] * 4,
            lambda: tf.constant("image: WebP cannot be decoded here; send a JPEG, PNG, GIF or BMP"),
        ],
    )
    return tf.where(size[0] == BEYOND_LIMITS, beyond, corrupt)


def _hint(contents: tf.Tensor) -> tf.Tensor:
    beginning = tf.strings.substr(contents, 0, 16)
    return tf.where(tf.strings.regex_full_match(beginning, f"(?:{BASE64_IMAGE}).*"), BASE64_HINT, "")

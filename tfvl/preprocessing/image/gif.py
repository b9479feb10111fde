"""Decodes the first frame of a GIF to RGB inside a TensorFlow graph, with the pixels that Pillow gives."""

import tensorflow as tf

from tfvl.preprocessing.image.limits import MAX_BLOCKS, MAX_METADATA_BYTES

BEYOND_LIMITS = -2  # returned in place of a size
OPAQUE = -1  # no colour is transparent
MAX_FRAME_BYTES = 1 << 25  # of the file that are read; the first frame has to end within them
FIRST_CHAIN_BYTES, CHAIN_BYTES = 1 << 8, 1 << 14  # of a chain that are looked at once: few first, since most are short


def integer(contents: tf.Tensor, position: int | tf.Tensor, dtype: tf.DType, little_endian: bool = True) -> tf.Tensor:
    """Reads the number of type `dtype` at a position of a file, as int64."""
    field = tf.strings.substr(contents, position, dtype.size)
    return tf.cast(tf.io.decode_raw(field, dtype, little_endian=little_endian)[0], tf.int64)


def _first_frame(contents: tf.Tensor) -> dict[str, tf.Tensor]:
    """Finds the first frame: its rectangle, its colours, and a GIF file that holds nothing else.

    TensorFlow decodes every frame and paints transparent pixels black; Pillow keeps their palette colour.
    """
    contents = tf.strings.substr(contents, 0, MAX_FRAME_BYTES)

    def byte(position: tf.Tensor | int) -> tf.Tensor:
        return tf.cast(integer(contents, position, tf.uint8), tf.int32)

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

    descriptor, transparent, blocks = tf.while_loop(
        lambda position, _, blocks: ~is_too_much(position, blocks) & (byte(position) == 0x21),
        skip_extension,
        [after_colors(13, byte(10)), OPAQUE, 0],
    )
    background = tf.maximum(transparent, 0)
    too_many = is_too_much(descriptor, blocks)
    descriptor = tf.where(too_many, 0, descriptor)
    tf.debugging.assert_equal((byte(descriptor) == 0x2C) | too_many, True, "no frame")
    local_colors = byte(descriptor + 9) >= 128
    pixels = after_colors(descriptor + 10, byte(descriptor + 9))
    end = tf.cond(too_many, lambda: pixels, lambda: _end_of_chain(contents, pixels + 1, MAX_FRAME_BYTES) + 1)
    tf.debugging.assert_less_equal(end, tf.strings.length(contents), "truncated")
    canvas = [integer(contents, position, tf.uint16) for position in (8, 6)]
    left, top, width, height = (integer(contents, descriptor + 1 + 2 * field, tf.uint16) for field in range(4))
    colors = tf.where(local_colors, descriptor + 10, 13)
    colors_end = tf.where(local_colors, pixels, after_colors(13, byte(10)))
    size = tf.stack([tf.maximum(canvas[0], top + height), tf.maximum(canvas[1], left + width)])
    return {
        "size": tf.where(too_many, tf.constant(BEYOND_LIMITS, tf.int64), size),
        "origin": tf.stack([top, left]),
        "background": tf.io.decode_raw(part(colors + 3 * background, colors + 3 * background + 3), tf.uint8),
        "file": tf.strings.join(
            [
                part(0, 6),
                part(descriptor + 5, descriptor + 9),  # the canvas gets the frame's size
                part(10, after_colors(13, byte(10))),
                b",\0\0\0\0",
                part(descriptor + 5, end),
                b";",
            ]
        ),
        "colors": tf.stack([colors, colors_end, tf.strings.length(contents)]),
        "transparent": transparent,
    }


def _end_of_chain(contents: tf.Tensor, position: tf.Tensor, stop: int) -> tf.Tensor:
    """Returns where the chain of sub-blocks at `position` ends; each begins with its length, and a length of 0 ends it.

    A chain that reaches `stop`, or the end of the file, is not followed further.
    """
    stop = tf.minimum(stop, tf.strings.length(contents) - 1)

    def follow(position: tf.Tensor, _, width: tf.Tensor) -> tuple[tf.Tensor, ...]:
        window = tf.cast(tf.io.decode_raw(tf.strings.substr(contents, position, width), tf.uint8), tf.int32)
        # `chain[i]` leads from i to the end of the chain or out of the window, found for all i at once by doubling
        # the jumps; a place outside leads to itself.
        chain = tf.range(tf.size(window) + 256) + tf.pad(tf.where(window > 0, window + 1, 0), [[0, 256]])

        def double(chain: tf.Tensor, _) -> tuple[tf.Tensor, tf.Tensor]:
            further = tf.gather(chain, chain)
            return further, tf.reduce_any(further != chain)

        chain, _ = tf.while_loop(lambda _, changed: changed, double, [chain, True])
        return position + chain[0], chain[0] < tf.size(window), tf.minimum(4 * width, CHAIN_BYTES)

    def goes_on(position: tf.Tensor, is_end: tf.Tensor, _) -> tf.Tensor:
        return ~is_end & (position <= stop)

    return tf.while_loop(goes_on, follow, [position, False, FIRST_CHAIN_BYTES])[0]


def size(contents: tf.Tensor) -> tf.Tensor:
    return _first_frame(contents)["size"]


def decode(contents: tf.Tensor) -> tf.Tensor:
    frame = _first_frame(contents)
    return _on_canvas(frame, tf.io.decode_gif(frame["file"])[0], frame["background"])


def decode_on_white(contents: tf.Tensor) -> tf.Tensor:
    """Decodes on white; a second decoding, of white for the transparent colour and black for others, is the mask."""
    frame = _first_frame(contents)
    start, end, length = tf.unstack(frame["colors"])
    marks = tf.where(tf.range((end - start) // 3) == frame["transparent"], b"\xff\xff\xff", b"\0\0\0")
    before, after = tf.strings.substr(contents, 0, start), tf.strings.substr(contents, end, length - end)
    marked = tf.strings.join([before, tf.strings.reduce_join(marks), after])
    mask = tf.io.decode_gif(_first_frame(marked)["file"])[0]
    pixels = tf.maximum(tf.io.decode_gif(frame["file"])[0], mask)
    outside = tf.where(frame["transparent"] == OPAQUE, frame["background"], tf.constant(255, tf.uint8))
    return _on_canvas(frame, pixels, outside)


def _on_canvas(frame: dict[str, tf.Tensor], pixels: tf.Tensor, outside: tf.Tensor) -> tf.Tensor:
    """Puts a frame's pixels in their place on the canvas; the colour `outside` fills the rest."""
    size = tf.shape(pixels, tf.int64)[:2]

    def on_canvas() -> tf.Tensor:
        padding = tf.stack([frame["origin"], frame["size"] - frame["origin"] - size], axis=1)
        rows, columns = (tf.pad(tf.ones([size[axis]], tf.bool), padding[axis : axis + 1]) for axis in range(2))
        inside = rows[:, None, None] & columns[None, :, None]
        return tf.where(inside, tf.pad(pixels, tf.pad(padding, [[0, 1], [0, 0]])), outside)

    return tf.cond(tf.reduce_all(size == frame["size"]), lambda: pixels, on_canvas)

"""The image processor inside tf.data and exported graphs: Pillow's pixels, and bad rows that harm nobody."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.images import DATA, encode, noise, photo, transparent

from tfvl.preprocessing.image import formats
from tfvl.preprocessing.image.processor import ViltImageProcessor


def gif(canvas, box, *, local=False, transparent=None, background=1, interlace=False, extensions=b"", frames=1):
    """Makes a GIF whose frame covers only a part of the canvas, which Pillow never writes."""
    frame = photo(*box[2:]).quantize(16)
    file = encode(frame, "GIF", interlace=interlace)
    colors = file[13 : 13 + 3 * 2 ** ((file[10] & 7) + 1)]
    other = bytes(reversed(colors))
    body = file[file.index(b",", 13 + len(colors)) + 10 : -1]  # minimum code size and data
    table = colors if local else b""
    flags = (0x80 | file[10] & 7 if local else 0) | (0x40 if interlace else 0)
    control = b"" if transparent is None else b"!\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    frame = control + extensions + b"," + struct.pack("<4HB", *box, flags) + table + body
    head = b"GIF89a" + struct.pack("<2HBBB", *canvas, 0x80 | file[10] & 7, background, 0)
    return head + (other if local else colors) + frame * frames + b";"


def bmp(bits, *, colors=None, top_down=False, size=(13, 7), compression=0):
    """Makes a BMP of random bits; Pillow does not write all of these forms."""
    width, height = size
    palette = noise(colors or 2**bits, 4).tobytes() if bits <= 8 else b""
    rows = noise((width * bits + 31) // 32 * 4 * height, seed=bits).tobytes()
    if colors:
        rows = bytes(value % colors for value in rows)
    header = struct.pack(
        "<IiiHHIIiiII", 40, width, -height if top_down else height, 1, bits, compression, 0, 0, 0, colors or 0, 0
    )
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + palette + rows


def png16(channels):
    return tf.io.encode_png(noise(23, 31, channels, dtype=np.uint16)).numpy()


COMMENT = b"!\xfe\x05hello\0"
FILES = {
    **{path.name: path.read_bytes() for path in sorted(DATA.glob("*.jpg"))},
    "JPEG 4:1:1": encode(photo(101, 77), "JPEG", subsampling="4:1:1"),
    "JPEG of one pixel": encode(photo(1, 1), "JPEG"),
    "JPEG with bytes after its end": encode(photo(50, 40), "JPEG") + b"more",
    "PNG": encode(photo(101, 77), "PNG"),
    "PNG RGBA": encode(transparent(101, 77), "PNG"),
    "PNG grey": encode(photo(101, 77).convert("L"), "PNG"),
    "PNG grey and alpha": encode(transparent(101, 77).convert("LA"), "PNG"),
    "PNG bilevel": encode(photo(101, 77).convert("1"), "PNG"),
    "PNG palette": encode(photo(101, 77).quantize(200), "PNG"),
    "PNG palette of 4 bits": encode(photo(101, 77).quantize(16), "PNG", bits=4),
    "PNG palette and transparency": encode(photo(101, 77).quantize(200), "PNG", transparency=3),
    "PNG and transparent colour": encode(photo(101, 77), "PNG", transparency=(1, 2, 3)),
    "PNG of 16 bits, RGB": png16(3),
    "PNG of 16 bits, RGBA": png16(4),
    "PNG of 16 bits, grey": png16(1),
    "PNG of 16 bits, grey and alpha": png16(2),
    "GIF": encode(photo(101, 77), "GIF"),
    "GIF grey": encode(photo(101, 77).convert("L"), "GIF"),
    "GIF transparent": encode(photo(101, 77).quantize(64), "GIF", transparency=5),
    "GIF interlaced": encode(photo(101, 77).quantize(64), "GIF", interlace=True),
    "GIF animated": encode(photo(101, 77), "GIF", save_all=True, append_images=[photo(101, 77).rotate(90)] * 5),
    "GIF with comments": gif((40, 30), (0, 0, 40, 30), extensions=COMMENT * 30),
    "GIF part": gif((60, 50), (7, 9, 40, 30)),
    "GIF part and transparency": gif((60, 50), (7, 9, 40, 30), transparent=6),
    "GIF part, own colours": gif((60, 50), (7, 9, 40, 30), local=True, transparent=3),
    "GIF frame beyond its canvas": gif((20, 50), (7, 9, 40, 30), interlace=True),
    "GIF of many frames": gif((40, 30), (0, 0, 40, 30), frames=200),
    "BMP": encode(photo(101, 77), "BMP"),
    "BMP RGBA": encode(transparent(101, 77), "BMP"),
    "BMP grey": encode(photo(101, 77).convert("L"), "BMP"),
    "BMP bilevel": encode(photo(101, 77).convert("1"), "BMP"),
    "BMP of 1 bit": bmp(1),
    "BMP of 4 bits": bmp(4),
    "BMP of 8 bits": bmp(8),
    "BMP of few colours": bmp(8, colors=17),
    "BMP of 24 bits": bmp(24),
    "BMP of 32 bits": bmp(32),
    "BMP top down": bmp(24, top_down=True),
}


def pillow(contents):
    image = Image.open(io.BytesIO(contents))
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def read():
    return tf.function(lambda contents: formats.read(contents, 10**8), input_signature=[tf.TensorSpec([], tf.string)])


@pytest.mark.parametrize("name", FILES)
def test_decoding_gives_pillows_pixels(read, name):
    image, size = read(FILES[name])
    expected = pillow(FILES[name])
    assert tuple(size.numpy()) == expected.shape[:2]
    np.testing.assert_array_equal(image, expected)


CMYK_LEVELS = 1  # TensorFlow's decoder turns CMYK into RGB rounding down, Pillow rounding to nearest


def test_cmyk_with_black_is_within_one_level(read):
    inks = Image.fromarray(noise(9, 12, 4), "CMYK").resize((120, 90))
    contents = encode(inks, "JPEG")
    image, _ = read(contents)
    np.testing.assert_allclose(image.numpy().astype(int), pillow(contents), rtol=0, atol=CMYK_LEVELS)


def bomb(name):
    side = 50_000
    png, jpeg = bytearray(FILES["PNG"]), bytearray(FILES["cat_444.jpg"])
    png[16:24] = struct.pack(">2I", side, side)
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">2H", side, side)
    return {
        "PNG": bytes(png),
        "JPEG": bytes(jpeg),
        "GIF": FILES["GIF"][:6] + struct.pack("<2H", side, side) + FILES["GIF"][10:],
        "BMP": FILES["BMP"][:18] + struct.pack("<2i", side, side) + FILES["BMP"][26:],
    }[name]


JPEG, PNG, GIF, BMP = FILES["cat_420.jpg"], FILES["PNG"], FILES["GIF"], FILES["BMP"]
CANNOT = "image: a {} of {} bytes that cannot be decoded"
BAD = {
    "empty": (b"", "image: not a JPEG, PNG, GIF or BMP (0 bytes)"),
    "one byte": (b"\xff", "image: not a JPEG, PNG, GIF or BMP (1 bytes)"),
    "text": (b"not an image", "image: not a JPEG, PNG, GIF or BMP (12 bytes)"),
    "signature only": (JPEG[:3], CANNOT.format("JPEG", 3)),
    "half a JPEG": (JPEG[: len(JPEG) // 2], CANNOT.format("JPEG", len(JPEG) // 2)),
    "JPEG but its last bytes": (JPEG[:-2], CANNOT.format("JPEG", len(JPEG) - 2)),
    "half a PNG": (PNG[: len(PNG) // 2], CANNOT.format("PNG", len(PNG) // 2)),
    "20 bytes of PNG": (PNG[:20], CANNOT.format("PNG", 20)),
    "damaged PNG": (PNG[:-60] + b"x" * 30 + PNG[-30:], CANNOT.format("PNG", len(PNG))),
    "half a GIF": (GIF[: len(GIF) // 2], CANNOT.format("GIF", len(GIF) // 2)),
    "GIF header": (GIF[:13], CANNOT.format("GIF", 13)),
    "GIF without frames": (GIF[:13] + b";", CANNOT.format("GIF", 14)),
    "half a BMP": (BMP[: len(BMP) // 2], CANNOT.format("BMP", len(BMP) // 2)),
    "BMP header": (BMP[:10], CANNOT.format("BMP", 10)),
    "run-length BMP": (bmp(8, compression=1), CANNOT.format("BMP", len(bmp(8)))),
    "16-bit BMP": (bmp(16), CANNOT.format("BMP", len(bmp(16)))),
    "WebP": ((DATA / "cat.webp").read_bytes(), "image: WebP cannot be decoded here; send a JPEG, PNG, GIF or BMP"),
    "too thin": (encode(Image.new("RGB", (2000, 1)), "PNG"), "image: 1 x 2000 pixels is too long and thin to resize"),
    **{
        f"{name} bomb": (bomb(name), "image: 50000 x 50000 pixels is more than max_pixels=89478485")
        for name in ("JPEG", "PNG", "GIF", "BMP")
    },
}
GOOD = [FILES[name] for name in ("cat_420.jpg", "PNG RGBA", "GIF animated", "BMP")]


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    """Exports the processor as a SavedModel, and loads it again."""
    processor = ViltImageProcessor(size=96)
    module = tf.Module()
    strings = tf.TensorSpec([None], tf.string)
    module.strict = tf.function(lambda image: processor(image), input_signature=[strings])
    module.rows = tf.function(processor.decode_and_preprocess_rows, input_signature=[strings])
    module.pairs = tf.function(
        processor.decode_and_preprocess_rows, input_signature=[tf.TensorSpec([None, 2], tf.string)]
    )
    module.arrays = tf.function(
        lambda images: processor(images), input_signature=[tf.TensorSpec([None, None, None, 4], tf.uint8)]
    )
    directory = str(tmp_path_factory.mktemp("artefact"))
    tf.saved_model.save(module, directory)
    return tf.saved_model.load(directory)


@pytest.fixture(scope="module")
def processor():
    return ViltImageProcessor(size=96)


def same(left, right):
    for key in ("pixel_values", "pixel_mask"):
        np.testing.assert_array_equal(left[key], right[key])


def test_exported_graph_gives_the_eager_answer(artefact, processor):
    images = list(FILES.values())
    same(artefact.strict(tf.constant(images)), processor(images))
    for image in GOOD:
        same(artefact.strict(tf.constant([image])), processor([image]))


def test_tf_data_gives_the_eager_answer(processor):
    dataset = tf.data.Dataset.from_tensor_slices(GOOD).map(processor)
    for image, outputs in zip(GOOD, dataset, strict=True):
        same(outputs, processor(image))
    for outputs in tf.data.Dataset.from_tensor_slices(GOOD).batch(4).map(processor):
        same(outputs, processor(GOOD))
    arrays = noise(2, 40, 50, 3)
    for outputs in tf.data.Dataset.from_tensors(arrays).map(processor):
        same(outputs, processor(arrays))
    for index, outputs in enumerate(tf.data.Dataset.from_tensor_slices(arrays).map(processor)):
        same(outputs, processor(arrays[index]))


def test_arrays_in_an_exported_graph(artefact, processor):
    images = noise(3, 40, 50, 4)
    same(artefact.arrays(images), processor(images))
    assert artefact.arrays(images[:0])["pixel_values"].shape[0] == 0


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_and_harms_no_other(artefact, processor, name):
    contents, sentence = BAD[name]
    pixel_values, pixel_mask, status = artefact.rows(tf.constant([GOOD[0], contents, GOOD[1]]))
    assert [row.decode() for row in status.numpy()] == ["", sentence, ""]
    good = processor([GOOD[0], GOOD[1]])
    same({"pixel_values": pixel_values[::2], "pixel_mask": pixel_mask[::2]}, good)
    assert pixel_mask.numpy()[1].sum() == 32 * 32  # one blank patch, so that the model still has something to see


@pytest.mark.parametrize("name", sorted(BAD.keys() - {"WebP", "run-length BMP", "16-bit BMP"}))
def test_python_refuses_what_the_graph_refuses_except_formats_that_only_pillow_reads(processor, name):
    with pytest.raises(ValueError, match=r"^images\[0\]: "):
        processor(BAD[name][0])


def test_statistics_per_channel_are_divided_by_not_multiplied(processor):
    options = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    arrays = noise(2, 40, 50, 3)  # pixels: the graph of a file's decoder would say no more of it
    (outputs,) = tf.data.Dataset.from_tensors(arrays).map(lambda images: processor(images, **options))
    pixels = processor(arrays, do_normalize=False, **options)["pixel_values"].numpy()
    expected = (pixels - np.float32(options["image_mean"])) / np.float32(options["image_std"])
    np.testing.assert_array_equal(outputs["pixel_values"], expected)


def test_only_bad_rows(artefact):
    pixel_values, pixel_mask, status = artefact.rows(tf.constant([b"", b"x"]))
    assert pixel_values.shape == (2, 32, 32, 3)
    assert pixel_mask.numpy().all()
    assert all(status.numpy())


def test_no_rows(artefact):
    pixel_values, pixel_mask, status = artefact.rows(tf.constant([], tf.string))
    assert (pixel_values.shape, pixel_mask.shape, status.shape) == ((0, 32, 32, 3), (0, 32, 32), (0,))
    assert artefact.pairs(tf.zeros([0, 2], tf.string))[0].shape == (0, 2, 32, 32, 3)


def test_pairs(artefact, processor):
    pixel_values, pixel_mask, status = artefact.pairs(tf.constant([GOOD[:2], [GOOD[2], b""]]))
    assert [bool(sentence) for sentence in status.numpy().ravel()] == [False, False, False, True]
    same(
        {"pixel_values": pixel_values[:1], "pixel_mask": pixel_mask[:1]},
        artefact_crop(processor([GOOD[:2]]), pixel_mask),
    )


def artefact_crop(outputs, pixel_mask):
    """Pads one row's outputs to the batch's height and width."""
    padding = np.array(pixel_mask.shape[2:]) - outputs["pixel_mask"].shape[2:]
    padding = [[0, 0], [0, 0], [0, padding[0]], [0, padding[1]]]
    return {
        "pixel_values": np.pad(outputs["pixel_values"], [*padding, [0, 0]]),
        "pixel_mask": np.pad(outputs["pixel_mask"], padding),
    }


def test_a_bad_row_fails_the_strict_graph_with_its_sentence(artefact):
    with pytest.raises(tf.errors.InvalidArgumentError, match="a PNG of 20 bytes that cannot be decoded"):
        artefact.strict(tf.constant([GOOD[0], PNG[:20]]))


def test_only_core_operations(artefact):
    graph = artefact.rows.concrete_functions[0].graph.as_graph_def()
    used = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
    assert not {op for op in used if "PyFunc" in op or op.startswith(("TFText", "TFIO"))}

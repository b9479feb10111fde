"""Images: files that once ended, hung or swelled the process that read them; each is refused within limits."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.images import encode, photo
from support.limited import refused

EVERYWHERE = ("image", "graph image", "lite image")


def image_file(path, content: bytes):
    path.write_bytes(content)
    return path


def gif_with(more: bytes) -> bytes:
    """Makes a GIF with these bytes before its first frame."""
    content = encode(photo(12, 10).quantize(16), "GIF")
    start = 13 + 3 * (2 << (content[10] & 7))
    return content[:start] + more + content[start:]


@pytest.mark.parametrize("reader", EVERYWHERE)
def test_the_scans_of_a_jpeg_are_counted(worker, tmp_path, reader):
    content = encode(Image.new("RGB", (9400, 9400)), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    comment = b"\xff\xfe\x00\x04\xff\xd9"  # which only looks like an end
    path = image_file(tmp_path / "scans.jpg", content[:-2] + (comment + last) * 4000 + b"\xff\xd9")
    refused(worker, reader, path, "with more than 100 scans")


@pytest.mark.parametrize("more", [b"\xff\xda" * 5000, b"\xff\xfe\xff\xff" + b"\xff\xda" * 32766 + b"x"])
def test_what_only_looks_like_scans_is_decoded(worker, tmp_path, more):
    """A film behind a picture, or anything in a comment."""
    content = encode(photo(60, 40), "JPEG", restart_marker_blocks=1)
    expected = worker.read("image", image_file(tmp_path / "plain.jpg", content)).value
    changed = content + more if more[1] == 0xDA else content[:2] + more + content[2:]
    for reader in ("image", "graph image"):
        assert worker.read(reader, image_file(tmp_path / "photo.jpg", changed)).value == expected


@pytest.mark.parametrize("reader", EVERYWHERE)
@pytest.mark.parametrize(
    "more",
    [b"!\xfe\0" * 7_000_000, b"!\xfe" + b"\x01a" * 15_000_000 + b"\0", b"\0" * 15_000_000],
    ids=["comments", "one comment", "nothing"],
)
def test_what_stands_before_the_first_frame_of_a_gif_is_bounded(worker, tmp_path, reader, more):
    path = image_file(tmp_path / "blocks.gif", gif_with(more))
    nothing_in_the_graph = more[0] == 0 and reader == "graph image"
    refused(worker, reader, path, "cannot be decoded" if nothing_in_the_graph else "before its first frame")


def test_a_gif_with_many_comments_is_decoded(worker, tmp_path):
    for name, more in (("plain.gif", b""), ("comments.gif", b"!\xfe\x05hello\0" * 900)):
        image_file(tmp_path / name, gif_with(more))
    expected = worker.read("image", tmp_path / "plain.gif").value
    assert [worker.read(reader, tmp_path / "comments.gif").value for reader in EVERYWHERE[:2]] == [expected] * 2


@pytest.mark.parametrize("reader", ["image", "lite image"])
@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "ICO", "JPEG2000"])
def test_formats_that_only_pillow_reads_are_bounded(worker, tmp_path, reader, kind):
    if kind == "ICO":  # whose directory says 256 x 256
        png = encode(Image.new("RGB", (9500, 9500)), "PNG")
        content = struct.pack("<3H4B2H2I", 0, 1, 1, 0, 0, 0, 0, 1, 24, len(png), 22) + png
    else:
        content = encode(Image.new("RGB", (9400, 9400)), kind)
    refused(
        worker, reader, image_file(tmp_path / "image", content), "pixels is more than" if kind == "ICO" else "768 MB"
    )


@pytest.mark.parametrize("reader", ["image", "lite image"])
def test_an_image_file_is_not_read_before_its_size_is_known(worker, tmp_path, reader):
    path = tmp_path / "hole.jpg"
    with open(path, "wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(5 << 30)
    refused(worker, reader, path, "has 5368709120 bytes; at most 335544320 are read")
    (tmp_path / "pipe.jpg").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe.jpg")
    refused(worker, reader, tmp_path / "pipe.jpg", "is no regular file")


def after_the_start(content: bytes, *segments: bytes) -> bytes:
    return content[:2] + b"".join(segments) + content[2:]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">2BH", 0xFF, marker, len(content) + 2) + content


@pytest.mark.parametrize("reader", EVERYWHERE)
@pytest.mark.parametrize(
    "segments",
    [(b"\xff\xfe\0\x02",) * 7_500_000, (segment(0xE1, b"Exif\0\0" + bytes(65_000)),) * 1500],
    ids=["empty comments", "100 MB of EXIF"],
)
def test_the_segments_of_a_jpeg_are_bounded(worker, tmp_path, reader, segments):
    path = image_file(tmp_path / "segments.jpg", after_the_start(encode(photo(10, 10), "JPEG"), *segments))
    refused(worker, reader, path, "with more than 100 scans, 4096 segments or 16777216 bytes of segments")


def test_a_large_jpeg_with_metadata_is_decoded(worker, tmp_path):
    """It has more bytes than segments may have, most of them behind the picture."""
    content = encode(photo(60, 40), "JPEG")
    expected = worker.read("image", image_file(tmp_path / "plain.jpg", content)).value
    metadata = [segment(0xE1, b"Exif\0\0" + bytes(65_000))] * 100
    path = image_file(tmp_path / "large.jpg", after_the_start(content, *metadata) + bytes(20_000_000))
    assert [worker.read(reader, path).value for reader in EVERYWHERE[:2]] == [expected] * 2


@pytest.mark.parametrize("reader", EVERYWHERE)
def test_a_jpeg_has_one_frame(worker, tmp_path, reader):
    """Pillow keeps what it reads of every component: twenty thousand of each header here."""
    frame = segment(0xC0, struct.pack(">BHHB", 8, 10, 10, 3) + bytes(65_000))
    path = image_file(tmp_path / "frames.jpg", after_the_start(encode(photo(10, 10), "JPEG"), *[frame] * 200))
    refused(worker, reader, path, "cannot be decoded")


def with_texts(content: bytes, kind: bytes, count: int, nbytes: int) -> bytes:
    """Puts compressed texts into a PNG behind its header."""
    text = zlib.compress(b"a" * nbytes, 9)
    text = kind + (b"key\0\0" + text if kind == b"zTXt" else b"key\0\1\0\0\0" + text)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return content[:33] + chunk * count + content[33:]


@pytest.mark.parametrize("reader", EVERYWHERE)
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_the_texts_of_a_png_are_counted(worker, tmp_path, reader, kind):
    content = with_texts(encode(photo(64, 64), "PNG"), kind, 400, 7_900_000)
    refused(worker, reader, image_file(tmp_path / "texts.png", content), "with more than 16 compressed texts")


def test_a_png_with_texts_is_decoded(worker, tmp_path):
    content = encode(photo(60, 40), "PNG")
    expected = worker.read("image", image_file(tmp_path / "plain.png", content)).value
    path = image_file(tmp_path / "texts.png", with_texts(with_texts(content, b"zTXt", 8, 900), b"iTXt", 8, 900))
    assert [worker.read(reader, path).value for reader in EVERYWHERE[:2]] == [expected] * 2


def test_a_bmp_of_runs_is_decoded_in_bounds(worker, tmp_path):
    header = struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 8, 1, 0, 0, 0, 0, 0)
    content = b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + header + bytes(1024) + b"\0\0" * 10_000_000
    outcome = worker.read("image", image_file(tmp_path / "runs.bmp", content))
    assert not outcome.wrong("runs.bmp"), outcome


def test_a_damaged_png_gives_no_pixels_where_the_graph_refuses(worker, tmp_path):
    """And where both decode it, the same."""
    whole = encode(photo(80, 60), "PNG", compress_level=6)
    random = np.random.default_rng(11)
    both = 0
    for _ in range(250):
        content = bytearray(whole)
        for place in random.integers(8, len(content), int(random.integers(1, 4))):
            content[place] = int(random.integers(256))
        path = image_file(tmp_path / "damaged.png", bytes(content))
        python, graph = worker.read("image", path), worker.read("graph image", path)
        assert not python.wrong(str(path)), python
        assert not graph.wrong(str(path)), graph
        if python.kind == "value":
            assert graph.value == python.value
            both += 1
    assert both < 100

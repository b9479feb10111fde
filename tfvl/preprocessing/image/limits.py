"""Limits that are checked before an image file is decoded: its bytes, the scans of a JPEG, the blocks of a GIF.

A progressive JPEG of 1 MB with its last scan repeated 4,000 times keeps a processor busy for minutes, and so does a GIF
of empty comments; and Pillow does not verify the checksums of a PNG's pixels. `formats` applies the limits inside a
graph.
"""

import re
import zlib

MAX_FILE_BYTES = 320 << 20  # more than an uncompressed RGB image of max_pixels has
MAX_SCANS = 100  # encoders write about 10
MAX_SEGMENTS = 4096  # of a JPEG before and between its scans
MAX_SEGMENT_BYTES = 1 << 24  # of all of them; what Pillow does with those of metadata takes the square of their size
MAX_BLOCKS = 1000  # of a GIF before its first frame
MAX_METADATA_BYTES = 1 << 22  # of a GIF before its first frame
MAX_CHUNKS = 1 << 17  # of a PNG; libpng writes one for every 8 kB
MAX_TEXTS = 16  # compressed ones of a PNG; libpng unpacks up to 8 MB of each
TOO_MANY_SEGMENTS = f"more than {MAX_SCANS} scans, {MAX_SEGMENTS} segments or {MAX_SEGMENT_BYTES} bytes of segments"
TOO_MANY_TEXTS = f"more than {MAX_TEXTS} compressed texts"
TOO_MANY_BLOCKS = f"more than {MAX_BLOCKS} blocks or {MAX_METADATA_BYTES} bytes before its first frame"

# The first characters of a JPEG, PNG, GIF, WebP or BMP in base64, which a request in JSON has to mark as such.
BASE64_IMAGE = "data:image/|/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk[0-9A-Za-z+/]{8}"
BASE64_HINT = '; it is base64, which has to be written {"b64": "…"} in JSON'

SOS, EOI, NO_LENGTH = 0xDA, 0xD9, (0x01, 0xD8)
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the three between them are tables
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # neither an escaped byte 0xff of the pixels nor a restart
PNG_TEXTS = b"zTXt", b"iTXt"
_PNG_SIGNATURE_BYTES, _CHUNK_FRAME_BYTES = 8, 12  # a chunk's length, name and checksum


def check_size(nbytes: int) -> None:
    """Raises ValueError for a file of more than `MAX_FILE_BYTES`."""
    if nbytes > MAX_FILE_BYTES:
        raise ValueError(f"{nbytes} bytes, at most {MAX_FILE_BYTES} are decoded")


def check_jpeg(contents: bytes) -> None:
    """Walks over the segments of a JPEG.

    Raises:
        ValueError: it has more than `MAX_SCANS`, `MAX_SEGMENTS` or `MAX_SEGMENT_BYTES`, or two frame headers, of which
            Pillow would keep every component.
    """
    position = scans = segments = nbytes = frames = 0
    while (found := _MARKER.search(contents, position)) and found[1][0] != EOI:
        position, marker = found.end(), found[1][0]
        if marker in NO_LENGTH:
            continue
        length = int.from_bytes(contents[position : position + 2])
        position, nbytes = position + length, nbytes + length
        scans, segments = scans + (marker == SOS), segments + 1
        if scans > MAX_SCANS or segments > MAX_SEGMENTS or nbytes > MAX_SEGMENT_BYTES:
            raise ValueError(f"a JPEG of {len(contents)} bytes with {TOO_MANY_SEGMENTS}")
        frames += marker in FRAMES and not scans
        if frames > 1:
            raise ValueError(f"{len(contents)} bytes that cannot be decoded: a JPEG with two frame headers")


def check_gif(contents: bytes) -> None:
    """Walks to the first frame of a GIF. Raises ValueError beyond `MAX_BLOCKS` or `MAX_METADATA_BYTES`."""
    packed = contents[10] if len(contents) > 10 else 0
    position, blocks = 13 + (packed >= 128) * 3 * (2 << packed % 8), 0
    while position + 2 < len(contents) and contents[position] not in b",;":
        if contents[position] == ord("!"):
            blocks, position = blocks + 1, position + 2
            while position < min(len(contents), MAX_METADATA_BYTES) and contents[position]:
                position += 1 + contents[position]
        position += 1  # past the end of the chain, or past a byte that begins no block, as Pillow does
        if blocks > MAX_BLOCKS or position > MAX_METADATA_BYTES:
            raise ValueError(f"a GIF of {len(contents)} bytes with {TOO_MANY_BLOCKS}")


def check_png(contents: bytes) -> None:
    """Verifies the checksums of a PNG.

    Raises:
        ValueError: one is wrong, a chunk is cut off, or there are more than `MAX_CHUNKS` or `MAX_TEXTS`.
    """
    view, position, pixels_seen, texts = memoryview(contents), _PNG_SIGNATURE_BYTES, False, 0
    for _ in range(MAX_CHUNKS):
        length, name = int.from_bytes(view[position : position + 4]), bytes(view[position + 4 : position + 8])
        end = position + _CHUNK_FRAME_BYTES + length
        if end > len(contents):
            raise ValueError(f"{len(contents)} bytes that cannot be decoded: a PNG that ends within a chunk")
        # Damage in an optional chunk behind the pixels cannot change them.
        matters = name[0] < ord("a") or not pixels_seen
        if matters and zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise ValueError(f"{len(contents)} bytes that cannot be decoded: a PNG whose checksums do not fit")
        if name == b"IEND":
            return
        texts += name in PNG_TEXTS
        if texts > MAX_TEXTS:
            raise ValueError(f"a PNG of {len(contents)} bytes with {TOO_MANY_TEXTS}")
        position, pixels_seen = end, pixels_seen or name == b"IDAT"
    raise ValueError(f"a PNG of {len(contents)} bytes with more than {MAX_CHUNKS} chunks")


CHECKS = {b"\xff\xd8\xff": check_jpeg, b"\x89PNG\r\n\x1a\n": check_png, b"GIF8": check_gif}

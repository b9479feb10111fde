"""Where training images come from: a folder of files, or TFRecord files with an index."""

import io
import json
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from tfvl.preprocessing.regions.tfrecord import CRC, HEADER, index_path, masked_crc

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp"})  # what TensorFlow decodes
PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP")
MAX_IMAGE_BYTES = 1 << 28
HEADER_BYTES = 1 << 14  # hold the size of almost every image; some have a long profile before it


class ImageFolder:
    """The image files under a directory, by their names without suffix.

    A name is a path below the directory ("train/12/train-10171-0-img0") or, where no other file is called so, its last
    part. Only files that were there when the folder was opened can be read, so no name leads out of it.

    Args:
        directory: searched with everything below it; links to directories are not followed.

    Raises:
        ValueError: there is no such directory, or no image in it.
    """

    def __init__(self, directory: str | os.PathLike):
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise ValueError(f"{self.directory} is no directory; give the one that holds the images.")
        self._exact: dict[str, str | None] = {}  # None: more than one file is called so
        self._by_last_part: dict[str, str | None] = {}
        for parent, _, files in os.walk(self.directory):
            below = os.path.relpath(parent, self.directory)
            for file in files:
                path, suffix = os.path.splitext(os.path.normpath(os.path.join(below, file)))
                if suffix.lower() in SUFFIXES:
                    for names, name in ((self._exact, path), (self._by_last_part, os.path.basename(path))):
                        names[name] = None if name in names else path + suffix
        if not self._exact:
            raise ValueError(f"{self.directory} holds no image ({', '.join(sorted(SUFFIXES))}).")

    def __contains__(self, name: str) -> bool:
        return self._path(name) is not None

    def read(self, name: str, limit: int = -1) -> bytes:
        """The file's bytes, or the first `limit`.

        Raises:
            ValueError: there is no such image, or its file cannot be read.
        """
        path = self._path(name)
        if path is None:
            raise ValueError(f"{self.directory}: there is no image {name!r}, or more than one.")
        try:
            with open(self.directory / path, "rb") as file:
                return file.read(limit)
        except OSError as error:
            raise ValueError(f"{self.directory / path} cannot be read: {error.strerror}.") from None

    def _path(self, name: str) -> str | None:
        return self._exact.get(name) or self._by_last_part.get(name.rpartition("/")[2])


class ImageRecords:
    """Images in TFRecord files written by `write_image_records`, by their names.

    Args:
        paths: the files; each has its index, `<file>.index`, beside it.

    Attributes:
        sizes: (height, width) of the images, by name, as far as the indices hold them.

    Raises:
        ValueError: a file or its index is missing or damaged, or two images have one name.
    """

    def __init__(self, paths: Iterable[str | os.PathLike]):
        self._places: dict[str, tuple[int, int]] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self._paths = [Path(path) for path in paths]
        for number, path in enumerate(self._paths):
            offsets, sizes = _read_index(path)
            self.sizes |= sizes
            for name, offset in offsets.items():
                if self._places.setdefault(name, (number, offset)) != (number, offset):
                    raise ValueError(f"{path}: image {name!r} stands in {self._paths[self._places[name][0]]} as well.")
        self._descriptors = [os.open(path, os.O_RDONLY) for path in self._paths]

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def read(self, name: str, limit: int = -1) -> bytes:
        """The image's bytes, or the first `limit`.

        Raises:
            ValueError: there is no such image, or its record is damaged.
        """
        if name not in self._places:
            raise ValueError(f"there is no image {name!r} among the {len(self._places)} of {len(self._paths)} files.")
        number, offset = self._places[name]
        descriptor, where = self._descriptors[number], f"{self._paths[number]}, image {name!r}"
        header = os.pread(descriptor, HEADER.size, offset)
        if len(header) < HEADER.size or HEADER.unpack(header)[1] != masked_crc(header[:8]):
            raise ValueError(f"{where}: the record's length is damaged, or the file ends before it.")
        length = HEADER.unpack(header)[0]
        if length > MAX_IMAGE_BYTES:
            raise ValueError(f"{where}: the record claims {length} bytes; an image has at most {MAX_IMAGE_BYTES}.")
        content = os.pread(descriptor, length + CRC.size, offset + HEADER.size)
        payload = content[:length]
        if len(content) < length + CRC.size or CRC.unpack(content[length:])[0] != masked_crc(payload):
            raise ValueError(f"{where}: the record is damaged (its checksum does not fit).")
        return _image_of(payload, where)[: None if limit < 0 else limit]

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []


def write_image_records(path: str | os.PathLike, images: Iterable[tuple[str, bytes]]) -> int:
    """Write encoded images into a TFRecord file, and its index; each appears under its name only when it is whole.

    A record is a `tf.train.Example` with `image_id` and `image`.

    Returns:
        The number of images.

    Raises:
        ValueError: two images have one name, or there are none.
    """
    import tensorflow as tf

    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    offsets: dict[str, int] = {}
    sizes: list[tuple[int, int] | None] = []
    try:
        with open(temporary, "wb") as file:
            for name, content in images:
                if name in offsets:
                    raise ValueError(f"image {name!r} comes twice; every image needs a name of its own.")
                offsets[name] = file.tell()
                sizes.append(_header_size(content))
                values = {"image_id": name.encode(), "image": content}
                lists = {key: tf.train.BytesList(value=[value]) for key, value in values.items()}
                features = {key: tf.train.Feature(bytes_list=value) for key, value in lists.items()}
                payload = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
                    deterministic=True
                )
                length = struct.pack("<Q", len(payload))
                file.write(length + CRC.pack(masked_crc(length)) + payload + CRC.pack(masked_crc(payload)))
            size = file.tell()
        if not offsets:
            raise ValueError(f"{path}: there are no images to write.")
        index = index_path(temporary)
        columns = {"ids": list(offsets), "offsets": list(offsets.values()), "sizes": sizes}
        index.write_text(json.dumps({"size": size, **columns}))
        os.replace(temporary, path)
        os.replace(index, index_path(path))
    finally:
        temporary.unlink(missing_ok=True)
    return len(offsets)


def image_sizes(source: ImageFolder | ImageRecords, names: Iterable[str]) -> dict[str, tuple[int, int] | None]:
    """(height, width) of images from their headers, without decoding them; None where a header cannot be read."""
    known = getattr(source, "sizes", {})
    return {name: known.get(name) or _size(source, name) for name in names}


def _size(source: ImageFolder | ImageRecords, name: str) -> tuple[int, int] | None:
    for limit in (HEADER_BYTES, -1):
        try:
            size = _header_size(source.read(name, limit))
        except ValueError:
            return None
        if size is not None:
            return size
    return None


def _header_size(content: bytes) -> tuple[int, int] | None:
    try:
        with Image.open(io.BytesIO(content), formats=PILLOW_FORMATS) as image:
            return image.height, image.width
    except Exception:  # Pillow's readers raise whatever a corrupt file provokes
        return None


def _read_index(path: Path) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Offsets of records and sizes of images, by name."""
    index = index_path(path)
    if not path.is_file() or not index.is_file():
        raise ValueError(f"{path} or its index {index.name} is missing; write_image_records makes both.")
    try:
        content = json.loads(index.read_bytes())
        size, ids, offsets = content["size"], content["ids"], content["offsets"]
        sound = all(isinstance(name, str) for name in ids)
        sound = sound and all(type(offset) is int and 0 <= offset < size for offset in offsets)
        found = dict(zip(ids, offsets, strict=True))
        listed = zip(ids, content.get("sizes", [None] * len(ids)), strict=True)
        sizes = {name: (int(height), int(width)) for name, (height, width) in (pair for pair in listed if pair[1])}
        sound = sound and all(min(pair) > 0 for pair in sizes.values())
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(f"{index}: damaged, or not an index of images; write the file again.") from None
    if size != path.stat().st_size or not sound or len(found) != len(ids):
        raise ValueError(f"{path}: it is not the file that its index was written for: truncated or replaced.")
    return found, sizes


def _image_of(payload: bytes, where: str) -> bytes:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(payload).features.feature["image"].bytes_list.value[0]
    except (DecodeError, IndexError):
        raise ValueError(f"{where}: the record is no Example of an image.") from None

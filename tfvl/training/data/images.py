"""Reads training images from a folder of files, or from TFRecord files with an index."""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from tfvl.files.reading import open_regular, read_file
from tfvl.files.tfrecord import index_path, read_index, read_record, write_indexed
from tfvl.files.whole import written_files
from tfvl.preprocessing.image.limits import MAX_FILE_BYTES

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp"})  # what TensorFlow decodes
PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP")
HEADER_BYTES = 1 << 14  # enough to find the size of almost every image; some have a long colour profile before it


class ImageFolder:
    """The image files under a directory, by their names without suffix.

    A name is a path below the directory ("train/12/train-10171-0-img0") or the last part of one, if only one file has
    that. Only files that were there when the folder was opened can be read, so no name leads out of it.

    Args:
        directory: the folder, which is searched with its subfolders; links to folders are not followed.

    Raises:
        ValueError: there is no such directory, or no image in it.
    """

    def __init__(self, directory: str | os.PathLike):
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise ValueError(f"{self.directory} is no directory; give the one that holds the images.")
        self._exact: dict[str, str | None] = {}  # None: more than one file has the name
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
        """Returns the file's bytes, or the first `limit`.

        Raises:
            ValueError: there is no such image, or its file cannot be read.
        """
        path = self._path(name)
        if path is None:
            raise ValueError(f"{self.directory}: there is no image {name!r}, or more than one.")
        return _read_file(self.directory / path, limit)

    def _path(self, name: str) -> str | None:
        return self._exact.get(name) or self._by_last_part.get(name.rpartition("/")[2])


class ImageFiles:
    """Image files by their paths, which rows of your own contain.

    Args:
        directory: the folder that paths are relative to; its subfolder `images` is searched, too. A path without a
            suffix finds the file with that name and one of the suffixes of images.

    Raises:
        ValueError: there is no such directory.
    """

    def __init__(self, directory: str | os.PathLike):
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise ValueError(f"{self.directory} is no directory; give the one that holds the images.")

    def __contains__(self, name: str) -> bool:
        return self._path(name) is not None

    def read(self, name: str, limit: int = -1) -> bytes:
        """Returns the file's bytes, or the first `limit`; errors as in `ImageFolder.read`."""
        path = self._path(name)
        if path is None:
            raise ValueError(f"there is no image {name!r}, neither in {self.directory} nor in its folder images.")
        return _read_file(path, limit)

    def _path(self, name: str) -> str | None:
        for directory in (self.directory, self.directory / "images"):
            path = os.path.join(directory, name)
            endings = ("",) if os.path.splitext(path)[1] else ("", *sorted(SUFFIXES))
            for ending in endings:
                try:
                    if os.path.isfile(path + ending):
                        return path + ending
                except ValueError:  # the name holds a NUL
                    return None
        return None


class ImageRecords:
    """Images in TFRecord files written by `write_image_records`, by their names.

    Args:
        paths: the files; beside each lies its index, `<file>.index`.

    Attributes:
        sizes: (height, width) of each image whose size is in the index, by name.

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
        """Returns the image's bytes, or the first `limit`.

        Raises:
            ValueError: there is no such image, or its record is damaged.
        """
        if name not in self._places:
            raise ValueError(f"there is no image {name!r} among the {len(self._places)} of {len(self._paths)} files.")
        number, offset = self._places[name]
        try:
            image = _image_of(read_record(self._descriptors[number], offset))
        except ValueError as error:
            raise ValueError(f"{self._paths[number]}, image {name!r}: {error}.") from None
        return image[: None if limit < 0 else limit]

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []


def write_image_records(path: str | os.PathLike, images: Iterable[tuple[str, bytes]]) -> int:
    """Writes encoded images into a TFRecord file, and its index; both files appear only when they are whole.

    A record is a `tf.train.Example` with `image_id` and `image`.

    Args:
        path: the file to write.
        images: pairs of name and encoded bytes.

    Returns:
        The number of images.

    Raises:
        ValueError: two images have one name, or there are none.
    """
    import tensorflow as tf

    path, names, sizes = Path(path), set(), []

    def records() -> Iterator[tuple[str, bytes]]:
        for name, content in images:
            if name in names:
                raise ValueError(f"image {name!r} comes twice; every image needs a name of its own.")
            names.add(name)
            sizes.append(_header_size(content))
            values = {"image_id": name.encode(), "image": content}
            lists = {key: tf.train.BytesList(value=[value]) for key, value in values.items()}
            feature = {key: tf.train.Feature(bytes_list=value) for key, value in lists.items()}
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            yield name, example.SerializeToString(deterministic=True)

    with written_files(path, index_path(path)) as (file, index):
        count = write_indexed(file, index, records(), sizes=sizes)
        if not count:
            raise ValueError(f"{path}: there are no images to write.")
    return count


def image_sizes(source: ImageFolder | ImageRecords, names: Iterable[str]) -> dict[str, tuple[int, int] | None]:
    """Reads (height, width) of images from their headers, without decoding them; None if a header cannot be read."""
    known = getattr(source, "sizes", {})
    return {name: known.get(name) or _size(source, name) for name in names}


def _read_file(path: str | os.PathLike, limit: int) -> bytes:
    try:
        if limit < 0:
            return read_file(path, MAX_FILE_BYTES)
        with open_regular(path) as file:
            return file.read(limit)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None


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
    except Exception:  # Pillow's readers raise errors of any kind for a corrupt file
        return None


def _read_index(path: Path) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Reads the offsets of records and the sizes of images from an index, by name."""
    content = read_index(path)
    ids, offsets = content["ids"], content["offsets"]
    try:
        listed = zip(ids, content.get("sizes", [None] * len(ids)), strict=True)
        sizes = {name: (int(height), int(width)) for name, (height, width) in (pair for pair in listed if pair[1])}
        sound = all(min(pair) > 0 for pair in sizes.values())
    except (ValueError, TypeError):
        sound = False
    if not sound or len(set(ids)) != len(ids):
        raise ValueError(f"{index_path(path)}: damaged, or not an index of images; write the file again.")
    return dict(zip(ids, offsets, strict=True)), sizes


def _image_of(payload: bytes) -> bytes:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(payload).features.feature["image"].bytes_list.value[0]
    except (DecodeError, IndexError):
        raise ValueError("the record is no Example of an image") from None

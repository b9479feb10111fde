"""Reads and writes region features in a TFRecord file, one `tf.train.Example` per image, with an index beside it.

Keys of an Example: `image_id` (bytes), `num_boxes`, `feature_size`, `width`, `height` (int64), `dtype` and `features`
(bytes: "float32" or "float16", and the values, little-endian: `tf.io.decode_raw` reads them many times faster than a
list of floats), `boxes`, `objects_conf`, `attrs_conf` (float lists), `objects_id`, `attrs_id` (int64 lists). There is
no key for values that an image lacks.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from tfvl.files.tfrecord import read_index, read_record, write_indexed
from tfvl.preprocessing.regions.regions import CORNERS, PER_REGION, Regions
from tfvl.preprocessing.regions.rows import RegionRows

DTYPES = ("float32", "float16")
MAX_RECORD_BYTES = 1 << 26  # 8,000 regions of 2048 features


class TFRecordRegions(RegionRows):
    """The images of a TFRecord file that tfvl wrote. Only the index is read when it is opened; images are read later.

    It is safe in several processes and threads and after a fork, since reads do not share a position in the file.

    Raises:
        ValueError: the index is missing, damaged, or belongs to another file.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        index = read_index(path)
        self.ids, self._offsets = index["ids"], index["offsets"]
        self._descriptor = os.open(path, os.O_RDONLY)

    def _read(self, row: int) -> Regions:
        regions = decode(read_record(self._descriptor, self._offsets[row], MAX_RECORD_BYTES))
        if regions.image_id != self.ids[row]:
            raise ValueError(f"the record is of image {regions.image_id!r}: the index is of another file")
        return regions


def read_tfrecord(
    path: Path, on_error: Callable[[str], None], on_progress: Callable[[float], None] | None = None
) -> Iterator[Regions]:
    """Yields the images of a TFRecord file in order; `on_error` is called with a sentence for each unusable one."""
    from tfvl.preprocessing.regions.h5 import read_rows

    return read_rows(TFRecordRegions(path), on_error, on_progress)


def write_tfrecord(path: Path, index: Path, rows: Iterable[Regions], dtype: str) -> int:
    """Writes images with distinct ids into a new file and its index; returns their number."""
    return write_indexed(path, index, ((regions.image_id, encode(regions, dtype)) for regions in rows))


def encode(regions: Regions, dtype: str) -> bytes:
    """Serialises an image as an Example."""
    import tensorflow as tf

    def ints(values: Iterable[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def floats(values: np.ndarray) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values.ravel().tolist()))

    def text(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    feature = {
        "image_id": text(regions.image_id.encode()),
        "num_boxes": ints([len(regions)]),
        "feature_size": ints([regions.features.shape[1]]),
        "dtype": text(dtype.encode()),
        "features": text(regions.features.astype(np.dtype(dtype).newbyteorder("<"), copy=False).tobytes()),
    }
    for name in ("width", "height"):
        if getattr(regions, name):
            feature[name] = ints([getattr(regions, name)])
    for name in ("boxes", *PER_REGION):
        if (values := getattr(regions, name)) is not None:
            feature[name] = ints(values.tolist()) if values.dtype.kind == "i" else floats(values)
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def decode(payload: bytes) -> Regions:
    """Parses a serialised Example into an image.

    Raises:
        ValueError: it is not an Example, or its parts do not match each other.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        feature = tf.train.Example.FromString(payload).features.feature
        image_id, dtype, content = (feature[name].bytes_list.value[0] for name in ("image_id", "dtype", "features"))
        count, size = (feature[name].int64_list.value[0] for name in ("num_boxes", "feature_size"))
    except (DecodeError, IndexError):
        raise ValueError("the record is no Example of regions") from None
    if dtype.decode(errors="replace") not in DTYPES:
        raise ValueError(f"its features are {dtype!r}, expected {' or '.join(DTYPES)}")
    stored = np.dtype(dtype.decode()).newbyteorder("<")
    if count < 0 or size < 0 or len(content) != count * size * stored.itemsize:
        raise ValueError(f"its features have {len(content)} bytes, expected {count} × {size} {stored.name}")
    values = {name: feature[name].int64_list.value[0] for name in ("width", "height") if name in feature}
    for name in ("boxes", *PER_REGION):
        if name in feature:
            listed = feature[name].int64_list if PER_REGION.get(name) is np.int32 else feature[name].float_list
            expected = count * (CORNERS if name == "boxes" else 1)
            if len(listed.value) != expected:
                raise ValueError(f"its {name} are {len(listed.value)} numbers, expected {expected} for {count} regions")
            values[name] = np.array(listed.value)
    if "boxes" in values:
        values["boxes"] = values["boxes"].reshape(-1, CORNERS)
    return Regions(np.frombuffer(content, stored).reshape(count, size), image_id=image_id.decode(), **values)

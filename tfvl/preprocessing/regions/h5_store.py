"""The region stores that tfvl writes: an HDF5 file that every HDF5 reader understands, followed by an index for tfvl.

HDF5's checksums miss some damage, and other damage crashes its library. So tfvl reads its stores without that library:
the file ends with a ZIP archive, which HDF5 ignores, and which says where in the file each image's numbers lie, with a
checksum of them. The members of the archive, each with a checksum of its own:

    fields.json     for each field its type, the shape of a region's values, and the number of regions in a block
    ids.txt         the image ids, one on each line
    ends.npy        (images,) where the regions of each image end in the sequence of all regions
    sizes.npy       (images, 2) width and height, 0 if they are not known
    checksums.npy   (images,) CRC-32C of an image's numbers, field by field
    <field>.npy     (blocks,) the offset in the file at which each block of the field begins
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import google_crc32c
import numpy as np

from tfvl.files.archive import ERRORS, open_archive, read_member
from tfvl.files.arrays import read_npy
from tfvl.files.reading import open_regular, parse_json
from tfvl.preprocessing.regions.regions import MAX_IMAGE_BYTES, PER_REGION, Regions
from tfvl.preprocessing.regions.rows import RegionRows

MAX_CHUNK_REGIONS = 128
POSITIONS = "pos_boxes"
INDEXED = "tfvl_index"  # attribute of a file that was written with an index, and is damaged if it has none
FIELDS = ("features", "boxes", *PER_REGION)
TYPES = ("<f4", "<f2", "<i4")
DESCRIPTION, IDS, ENDS, SIZES, CHECKSUMS = "fields.json", "ids.txt", "ends.npy", "sizes.npy", "checksums.npy"
_ARCHIVE_END, _ARCHIVE_END_BYTES = b"PK\x05\x06", 22
_POSITION_BYTES = 16  # of an image in the dataset of positions


def is_store(path: Path) -> bool:
    """Returns whether the file ends with an archive, the index. Raises ValueError if it is not a regular file."""
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _ARCHIVE_END_BYTES))
        return file.read(len(_ARCHIVE_END)) == _ARCHIVE_END


class StoredRegions(RegionRows):
    """A store that tfvl wrote, read through its index. Processes and threads may share it, as `TFRecordRegions`.

    Raises:
        ValueError: the index is damaged.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            with open_archive(path) as archive:
                self._open(archive)
        except (OSError, KeyError, TypeError, AttributeError, ValueError, zlib.error, *ERRORS) as error:
            raise ValueError(f"{path}: its index is damaged ({str(error)[:200]}); write the store again.") from None
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _open(self, archive: zipfile.ZipFile) -> None:
        # Each part of a sound index is smaller than the HDF5 file before it, whose size is therefore the limit.
        self._size = min((info.header_offset for info in archive.infolist()), default=0)
        text = read_member(archive, IDS, self._size)
        count = text.count(b"\n")
        if count * _POSITION_BYTES > self._size:
            raise ValueError(f"{count} ids for a file of {self._size} bytes")
        self.ids = text.decode("utf-8").split("\n")[:-1]

        def array(name: str, dtype: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
            found = read_npy(archive, name, name, self._size + (1 << 10))
            if found.dtype != np.dtype(dtype) or found.shape != (found.shape if shape is None else shape):
                raise ValueError(f"{name} is {found.dtype} {found.shape}")
            return found

        ends = array(ENDS, "<i8", (count,))
        self._begins, self._ends = np.concatenate([[0], ends[:-1]]).astype(np.int64), ends
        self._sizes = array(SIZES, "<i4", (count, 2))
        self._checksums = array(CHECKSUMS, "<u4", (count,))
        self._fields = {}
        for name, (dtype, shape, rows) in parse_json(read_member(archive, DESCRIPTION, 1 << 16)).items():
            sizes_are_sound = all(type(size) is int and 0 <= size < 1 << 31 for size in [*shape, rows])
            if name not in FIELDS or dtype not in TYPES or len(shape) > 1 or not rows or not sizes_are_sound:
                raise ValueError(f"{name[:20]} is {dtype!s:.10}, {shape!s:.20}")
            self._fields[name] = _Field(np.dtype(dtype), tuple(shape), rows, array(f"{name}.npy", "<i8"))

    def _read(self, row: int) -> Regions:
        begin, end = int(self._begins[row]), int(self._ends[row])
        stored = {name: field.read(self._descriptor, begin, end) for name, field in self._fields.items()}
        if checksum(stored) != self._checksums[row]:
            raise ValueError("damaged (its checksum does not fit)")
        width, height = (int(size) or None for size in self._sizes[row])
        features = stored.pop("features", np.zeros((0, 0), np.float32))  # missing if no image has regions
        return Regions(features, image_id=self.ids[row], width=width, height=height, **stored)


class _Field:
    """One dataset: the values of all regions, in blocks of `rows` regions that begin at `offsets` in the file."""

    def __init__(self, dtype: np.dtype, shape: tuple[int, ...], rows: int, offsets: np.ndarray):
        self.dtype, self.shape, self.rows, self.offsets = dtype, shape, rows, offsets
        self.bytes_per_region = dtype.itemsize * int(np.prod(shape, dtype=np.int64))

    def read(self, descriptor: int, begin: int, end: int) -> np.ndarray:
        """Reads the values of the regions from `begin` to `end`."""
        size = self.bytes_per_region
        if not 0 <= begin <= end <= len(self.offsets) * self.rows or (end - begin) * size > MAX_IMAGE_BYTES:
            raise ValueError(f"its index is damaged: it has the regions {begin} to {end}")
        parts = []
        while begin < end:
            block, first = divmod(begin, self.rows)
            last = min(self.rows, first + end - begin)
            place = int(self.offsets[block]) + first * size
            if place < 0:
                raise ValueError("its index is damaged: a block lies before the file")
            parts.append(os.pread(descriptor, (last - first) * size, place))
            begin += last - first
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        return np.frombuffer(content, self.dtype).reshape(-1, *self.shape)


def checksum(arrays: dict[str, np.ndarray]) -> int:
    """Returns the CRC-32C of an image's numbers, field by field in the order of `FIELDS`."""
    crc = 0
    for name in FIELDS:
        if name in arrays:
            crc = google_crc32c.extend(crc, np.ascontiguousarray(arrays[name]).tobytes())
    return crc


def write_h5(path: Path, rows: Iterable[Regions], dtype: str) -> int:
    """Writes images with distinct ids into a new file with its index, and returns their number.

    Raises:
        ValueError: some images have boxes, classes or confidences and others have not.
    """
    from tfvl.files.hdf5_writing import created

    ids, sizes, positions, checksums, filled = [], [], [0], [], False
    with created(path) as (file, check_disk):
        file.attrs[INDEXED] = 1
        for regions in rows:
            arrays = {"features": regions.features.astype(dtype, copy=False)}
            arrays |= {name: getattr(regions, name) for name in ("boxes", *PER_REGION)}
            arrays = {name: array for name, array in arrays.items() if array is not None} if len(regions) else {}
            if arrays:
                if not filled:
                    _create(file, arrays)
                    filled = True
                if set(arrays) != set(file):
                    different = ", ".join(sorted(set(arrays) ^ set(file)))
                    raise ValueError(f"image {regions.image_id!r} and those before it do not both have {different}.")
                for name, array in arrays.items():
                    file[name].resize(positions[-1] + len(array), axis=0)
                    file[name][positions[-1] :] = array
            ids.append(regions.image_id)
            sizes.append((regions.width or 0, regions.height or 0))  # 0: not known
            positions.append(positions[-1] + len(regions))
            checksums.append(checksum(arrays))
            check_disk()
        if not ids:
            return 0
        file.flush()
        index = {name: _blocks(file[name]) for name in file}
        described = {name: [file[name].dtype.str, file[name].shape[1:], file[name].chunks[0]] for name in file}
        if not filled:
            file["features"] = np.zeros((0, 0), dtype)
        sizes = np.array(sizes, np.int32).reshape(-1, 2)
        per_image = {"image_ids": np.array([name.encode() for name in ids], "S"), "image_w": sizes[:, 0]}
        per_image |= {"image_h": sizes[:, 1], POSITIONS: np.stack([positions[:-1], positions[1:]], axis=1)}
        for name, array in per_image.items():
            chunks = (min(len(ids), 1024), *array.shape[1:])
            file.create_dataset(name, data=array, chunks=chunks, fletcher32=True)
    arrays = {ENDS: np.array(positions[1:], "<i8"), SIZES: sizes, CHECKSUMS: np.array(checksums, "<u4")}
    arrays |= {f"{name}.npy": offsets for name, offsets in index.items()}
    _write_index(path, described, ids, arrays)
    return len(ids)


def _create(file, arrays: dict[str, np.ndarray]) -> None:
    # A block has as many regions as the first image, so that if all images have that many, each is one block.
    rows = min(len(arrays["features"]), MAX_CHUNK_REGIONS)
    for name, array in arrays.items():
        rest = array.shape[1:]
        file.create_dataset(
            name, (0, *rest), array.dtype, maxshape=(None, *rest), chunks=(rows, *rest), fletcher32=True
        )


def _blocks(dataset) -> np.ndarray:
    """Returns the offset in the file at which each block of a dataset begins."""
    offsets = np.full(dataset.id.get_num_chunks(), -1, "<i8")

    def note(info) -> None:
        offsets[info.chunk_offset[0] // dataset.chunks[0]] = info.byte_offset

    dataset.id.chunk_iter(note)
    return offsets


def _write_index(path: Path, described: dict, ids: list[str], arrays: dict[str, np.ndarray]) -> None:
    members = {DESCRIPTION: json.dumps(described).encode(), IDS: "".join(f"{name}\n" for name in ids).encode()}
    for name, array in arrays.items():
        file = io.BytesIO()
        np.save(file, array)
        members[name] = file.getvalue()
    with zipfile.ZipFile(path, "a") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # ZipInfo has a constant date

"""Reads region features in HDF5, in the two layouts that are common for them.

*One dataset per field*, a row per image: `features` (images, regions, feature_size), `boxes` (images, regions, 4),
`image_ids`, `image_w`, `image_h`, `num_boxes` … (`regions.NAMES`). If there is also `pos_boxes` (images, 2), as in the
files of bottom-up-attention-vqa, the regions of all images lie one after the other in `features` (regions,
feature_size), and `pos_boxes` says where those of each image begin and end. tfvl writes this form: it needs no padding.

*One group per image*, named by the image's id, with the same fields as datasets or attributes.

The HDF5 library never reads a file in this process: files that tfvl wrote are read through an index (`h5_store`), and
files of other programs in a child process under limits (`h5_file`).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from tfvl.files.isolated import Isolated, seconds_for
from tfvl.preprocessing.regions.h5_store import StoredRegions, is_store
from tfvl.preprocessing.regions.regions import MAX_IMAGE_BYTES, Regions, from_fields
from tfvl.preprocessing.regions.rows import RegionRows

__all__ = ["MAX_IMAGE_BYTES", "H5Regions", "open_h5", "read_h5", "read_rows"]
READ_SECONDS = 2  # of processor time for one image


def open_h5(path: Path) -> "StoredRegions | H5Regions":
    """Opens an HDF5 file of regions for reading by row. Raises ValueError as the two classes do."""
    return StoredRegions(path) if is_store(path) else H5Regions(path, READ_SECONDS)


class H5Regions(RegionRows):
    """An HDF5 file of regions that other programs wrote, or tfvl before its stores had an index.

    The ids of a file that stores none are "0", "1", …

    Args:
        path: the file.
        seconds: the processor time that reading an image may take; None: `seconds_for(path)` for all images together.

    Raises:
        ValueError: the file is damaged, has neither layout, or refers to data outside itself.
    """

    def __init__(self, path: Path, seconds: float | None):
        super().__init__(path)
        self._seconds = seconds
        from tfvl.preprocessing.regions.h5_file import H5File

        try:
            self._file = Isolated(H5File, str(path), seconds=seconds_for(path))
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}: {str(error).rstrip('.')}.") from None
        self.ids = self._file.opening[0]

    def _read(self, row: int) -> Regions:
        _, stored = self._file.call("read", row, seconds=self._seconds)
        return from_fields(stored, self.ids[row])

    def close(self) -> None:
        self._file.close()


def read_h5(
    path: Path, on_error: Callable[[str], None], on_progress: Callable[[float], None] | None = None
) -> Iterator[Regions]:
    """Yields the images of an HDF5 file in order; calls `on_error` with a sentence for each that cannot be used."""
    return read_rows(StoredRegions(path) if is_store(path) else H5Regions(path, None), on_error, on_progress)


def read_rows(file, on_error: Callable[[str], None], on_progress: Callable[[float], None] | None) -> Iterator[Regions]:
    """Yields the regions of each row of an opened file that can be read, and closes the file at the end.

    Args:
        file: an object with `__len__`, `read(row)` and `close()`.
    """
    try:
        for row in range(len(file)):
            regions = None
            try:
                regions = file.read(row)
            except ValueError as error:
                on_error(str(error))
            if regions is not None:
                yield regions
            if on_progress:
                on_progress((row + 1) / len(file))
    finally:
        file.close()

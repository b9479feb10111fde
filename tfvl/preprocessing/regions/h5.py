"""Region features in HDF5, in the two layouts that are common for them.

*One dataset per field*, a row per image: `features` (images, regions, feature_size), `boxes` (images, regions, 4),
`image_ids`, `image_w`, `image_h`, `num_boxes` … (`regions.NAMES`). Where `pos_boxes` (images, 2) is stored, as in the
files of bottom-up-attention-vqa, the regions of all images lie one after the other, `features` (regions, feature_size),
and it says where those of each image begin and end. tfvl writes this form, for it wastes nothing on padding.

*One group per image*, called by the image's id, with the same fields as datasets or attributes.

The HDF5 library never reads a file in this process: stores of tfvl's own have an index of their own (`h5_store`), and
files of others are read in a child process under limits (`h5_file`).
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
    """An HDF5 file of regions, opened for reading by row or by id. Raises ValueError as the two classes do."""
    return StoredRegions(path) if is_store(path) else H5Regions(path, READ_SECONDS)


class H5Regions(RegionRows):
    """An HDF5 file of regions that others wrote, or that tfvl wrote before its stores had an index.

    The ids of a file that stores none are "0", "1", …

    Args:
        path: the file.
        seconds: of processor time that reading an image may take; None: all of them may take what `seconds_for` says.

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
    """Every row of an opened file, which is then closed.

    Args:
        file: has `__len__`, `read(row)` and `close()`.
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

"""The base of opened files of regions: it reads images by row, and its errors name the file and the image."""

import os
from pathlib import Path

from tfvl.preprocessing.regions.regions import Regions


class RegionRows:
    """A file of regions, opened for reading by row. A subclass implements `_read`, which reads a row.

    Attributes:
        path: the file.
        ids: the image ids in the file's order.
    """

    ids: list[str]
    _descriptor: int | None = None  # of the open file, in subclasses that read through it

    def __init__(self, path: Path):
        self.path = path

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int) -> Regions:
        """Reads the regions of the image `ids[row]`.

        Raises:
            ValueError: the stored data are damaged, do not fit together, or belong to another image.
        """
        try:
            return self._read(row)
        except ValueError as error:
            raise ValueError(f"{self.path}, image {self.ids[row]!r}: {str(error).rstrip('.')}.") from None

    def _read(self, row: int) -> Regions:
        raise NotImplementedError

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

"""What the files of regions have in common once they are open: images by row, and errors that name file and image."""

import os
from pathlib import Path

from tfvl.preprocessing.regions.regions import Regions


class RegionRows:
    """A file of regions, opened for reading by row. A subclass reads a row, in `_read`.

    Attributes:
        path: the file.
        ids: the image ids in the file's order.
    """

    ids: list[str]
    _descriptor: int | None = None  # of the file, where a subclass reads by it

    def __init__(self, path: Path):
        self.path = path

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, row: int) -> Regions:
        """Reads the regions of the image `ids[row]`.

        Raises:
            ValueError: what is stored for it is damaged, does not fit together, or is of another image.
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

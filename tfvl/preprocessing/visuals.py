"""Image files, and files of region features, as the visuals of a request."""

from collections.abc import Sequence
from pathlib import Path

from tfvl.files.address import is_address
from tfvl.preprocessing.image.decode import as_png, read_image
from tfvl.preprocessing.regions.reading import ONE_IMAGE, READERS, open_regions, read_one
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.regions.store import FORMATS as STORES
from tfvl.preprocessing.regions.store import RegionStore

GRAPH_FORMATS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")  # the first bytes of files that a graph decodes
MAX_PIXELS = 89_478_485  # the limit of ViltImageProcessor, for images that are rewritten as PNG here


def read_all(
    files: Sequence[str | Path], image_ids: Sequence[str] = ()
) -> tuple[list[str | Path], list[bytes | Regions]]:
    """Reads files of images or regions; returns their contents and the file of each, since a file may hold several.

    Args:
        files: image files or their `http(s)` addresses, or files of region features.
        image_ids: which images, where the files hold the regions of many; several may be of one file.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file cannot be used, or not every file has its image id.
    """
    files = [*files] * (len(image_ids) if len(files) == 1 and image_ids else 1)
    if image_ids and len(image_ids) != len(files):
        raise ValueError(f"got {len(image_ids)} image ids for {len(files)} files; give one for each")
    return files, [read(path, one) for path, one in zip(files, image_ids or [None] * len(files), strict=True)]


def read(source: str | Path, image_id: str | None = None) -> bytes | Regions:
    """Reads an image in a format that the graph decodes, or the regions of one image from a file of features."""
    if is_address(source):
        return servable(source)
    path = Path(source)
    if path.suffix.lower() in READERS:
        return read_regions(path, image_id)
    if image_id is not None:
        raise ValueError(f"{path} is no file of region features, in which {image_id!r} could be; leave --image-id out")
    return servable(path)


def servable(source: Path | str) -> bytes:
    """Returns an image in a format that the graph decodes; what only Pillow decodes (WebP, …) becomes a PNG."""
    contents = read_image(source)
    if contents.startswith(GRAPH_FORMATS):
        return contents
    try:
        return as_png(contents, MAX_PIXELS)
    except ValueError as error:
        raise ValueError(f"{source}: {error}; region features come in {', '.join(READERS)} files") from error


def read_regions(path: Path, image_id: str | None) -> Regions:
    """Reads the regions of one image from a file; `image_id` selects it where the file holds several.

    Raises:
        ValueError: the file cannot be used, has no such image, or has several and `image_id` is None.
    """
    if path.suffix.lower() in ONE_IMAGE:
        if image_id is not None:
            raise ValueError(f"{path} holds the regions of one image only; leave --image-id out")
        return read_one(path)
    if path.suffix.lower() in STORES:
        with RegionStore(path) as store:
            ids = list(store)
            if image_id is not None or len(ids) == 1:
                return store[ids[0] if image_id is None else image_id]
            raise several(path, ids[0])
    found, damaged = None, []
    for regions in open_regions(path, on_error=damaged.append):
        if image_id == regions.image_id:
            return regions
        if image_id is None and found is not None:
            raise several(path, found.image_id)
        found = regions
    if image_id is None:
        return found
    torn = f" ({len(damaged)} lines could not be read, the first: {damaged[0]})" if damaged else ""
    raise ValueError(f"{path}: there is no image {image_id!r}{torn}")


def several(path: Path, example: str) -> ValueError:
    return ValueError(f"{path} holds the regions of several images; name one, e.g. --image-id {example}")

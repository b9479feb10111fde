"""Region features: what a detector found in one image, as VisualBERT and LXMERT take it.

The fields are called as in the files that bottom-up-attention and LXMERT distribute. Readers of those files:
`tsv`, `h5`, `reading`; a file with random access: `store`.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_ID_LENGTH = 256  # characters; longer ones are the sign of a damaged file
MAX_IMAGE_BYTES = 1 << 28  # of an array of one image in a file; 100 regions of 2048 features have 0.8 MB
CORNERS = 4  # numbers of a box
BOX_TOLERANCE = 1e-5  # how far outside 0 … 1 LXMERT lets a box reach, for boxes that were rounded

# How each field is called in the files of the common exporters (bottom-up-attention, its PyTorch port, OpenVQA, LXMERT,
# UNITER and VILLA, and the HDF5 files made for bottom-up-attention-vqa); the first name is tfvl's own.
# `spatial_features` and `norm_bb` are the normalised corners, width and height.
NAMES = {
    "features": ("features", "x", "image_features"),
    "boxes": ("boxes", "bbox", "spatial_features", "norm_bb", "image_bb", "bboxes", "normalized_boxes"),
    "image_id": ("image_id", "image_ids", "img_id", "img_ids", "ids"),
    "width": ("image_w", "img_w", "width", "widths"),
    "height": ("image_h", "img_h", "height", "heights"),
    "num_boxes": ("num_boxes", "num_bbox"),
    "objects_id": ("objects_id",),
    "objects_conf": ("objects_conf",),
    "attrs_id": ("attrs_id",),
    "attrs_conf": ("attrs_conf",),
}
PER_REGION = {"objects_id": np.int32, "objects_conf": np.float32, "attrs_id": np.int32, "attrs_conf": np.float32}


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of one image. Arrays may be read-only.

    Attributes:
        features: (regions, feature_size) float32; no regions at all are allowed. Whether the values are finite is not
            checked here.
        boxes: (regions, 4) float32, the corners x1, y1, x2, y2 from 0 to 1 (see `normalize_boxes`), or None.
        image_id: the image's name, 1 to `MAX_ID_LENGTH` printable characters.
        width, height: the image's size, in pixels.
        objects_id, attrs_id: (regions,) int32, classes of the detector's vocabularies (LXMERT's pre-training targets).
        objects_conf, attrs_conf: (regions,) float32, the detector's confidence in them, 0 to 1.

    Raises:
        ValueError: an array has another shape or no numbers, boxes lie outside 0 … 1, or the id is not such a text.
    """

    features: np.ndarray
    boxes: np.ndarray | None = None
    image_id: str | None = None
    width: int | None = None
    height: int | None = None
    objects_id: np.ndarray | None = None
    objects_conf: np.ndarray | None = None
    attrs_id: np.ndarray | None = None
    attrs_conf: np.ndarray | None = None

    def __post_init__(self):
        name = self.image_id
        if name is not None and not (isinstance(name, str) and 0 < len(name) <= MAX_ID_LENGTH and name.isprintable()):
            expected = f"a text of 1 to {MAX_ID_LENGTH} printable characters"
            raise ValueError(f"image_id is {ascii(name)[:60]}, expected {expected}.")
        features = numbers("features", self.features, np.float32)
        if features.ndim != 2:
            raise ValueError(f"features have shape {features.shape}, expected (regions, feature_size).")
        object.__setattr__(self, "features", features)
        if self.boxes is not None:
            boxes = numbers("boxes", self.boxes, np.float32)
            _check_rows("boxes", boxes, (len(features), 4))
            _check_inside(boxes, "pass pixels through normalize_boxes(boxes, width, height)")
            object.__setattr__(self, "boxes", boxes)
        for name, dtype in PER_REGION.items():
            if (value := getattr(self, name)) is not None:
                value = numbers(name, value, dtype)
                _check_rows(name, value, (len(features),))
                object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """The number of regions."""
        return len(self.features)


def normalize_boxes(boxes: Any, width: int, height: int) -> np.ndarray:
    """Divides corners in pixels by the width and height of the image, which gives corners from 0 to 1, as LXMERT takes.

    Args:
        boxes: (regions, 4), x1, y1, x2, y2 in pixels.
        width, height: the image's size, in pixels.

    Returns:
        (regions, 4) float32; a box may pass the image's edge by `BOX_TOLERANCE`, as in LXMERT's code.

    Raises:
        ValueError: a box lies outside the image, or a size is not positive.
    """
    boxes = numbers("boxes", boxes, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes have shape {boxes.shape}, expected (regions, 4).")
    for name, size in (("width", width), ("height", height)):
        if not size > 0:
            raise ValueError(f"the image's {name} is {size}, expected a positive number of pixels.")
    normalized = boxes / np.array([width, height, width, height], np.float32)
    _check_inside(normalized, f"expected x1, y1, x2, y2 in pixels of an image of {width}×{height}", boxes)
    return normalized


def with_corners(regions: Regions) -> Regions:
    """Appends each region's box, x1, y1, x2, y2 from 0 to 1, to its features, for models that have no input of boxes.

    Raises:
        ValueError: there are no boxes.
    """
    if regions.boxes is None:
        raise ValueError("there are no boxes to put behind the features; take regions that have them.")
    features = np.concatenate([regions.features, np.clip(regions.boxes, 0, 1)], axis=1)
    return dataclasses.replace(regions, features=features)


def widened(regions: Regions, size: int | None) -> Regions:
    """Appends the boxes to the features if these then have the size that a model takes; else changes nothing."""
    narrow = regions.boxes is not None and regions.features.shape[1] + CORNERS == size
    return with_corners(regions) if narrow else regions


def pad_regions(
    rows: Iterable[Regions | np.ndarray], feature_size: int | None = None, max_regions: int | None = None
) -> dict[str, np.ndarray]:
    """Stacks images with different numbers of regions; rows with fewer regions than the longest are padded with zeros.

    Args:
        rows: one `Regions`, or features (regions, feature_size), per image; a row may have no regions.
        feature_size: what the model's config expects; None: that of the first row that has regions.
        max_regions: only the first `max_regions` of a row are taken (detectors list the most confident first).

    Returns:
        features (batch, most, feature_size) float32; mask (batch, most) int32, 1 for a region; and boxes
        (batch, most, 4) float32, unless no row has boxes.

    Raises:
        ValueError: there are no rows, feature sizes differ, or some rows have boxes and others have not.
    """
    images = [row if isinstance(row, Regions) else Regions(row) for row in rows]
    if not images:
        raise ValueError("there are no rows to pad; expected the regions of at least one image.")
    if max_regions is not None and max_regions < 1:
        raise ValueError(f"max_regions is {max_regions}, expected at least 1.")
    filled = [row for row in images if len(row)]
    if feature_size is None:
        feature_size = (filled or images)[0].features.shape[1]
    for number, row in enumerate(images):
        if len(row) and row.features.shape[1] != feature_size:
            raise ValueError(
                f"row {number}{_named(row)} has features of size {row.features.shape[1]}, expected {feature_size}."
            )
    with_boxes = [row.boxes is not None for row in filled]
    if any(with_boxes) and not all(with_boxes):
        missing = next(number for number, row in enumerate(images) if len(row) and row.boxes is None)
        raise ValueError(f"row {missing}{_named(images[missing])} has no boxes, but others have: give all or none.")
    most = max(len(row) for row in images)
    most = most if max_regions is None else min(most, max_regions)
    padded: dict[str, np.ndarray] = {"features": np.zeros((len(images), most, feature_size), np.float32)}
    if all(with_boxes) and any(row.boxes is not None for row in images):
        padded["boxes"] = np.zeros((len(images), most, 4), np.float32)
    padded["mask"] = np.zeros((len(images), most), np.int32)
    for number, row in enumerate(images):
        count = min(len(row), most)
        if count:
            padded["features"][number, :count] = row.features[:count]
            padded["mask"][number, :count] = 1
        if count and "boxes" in padded:
            padded["boxes"][number, :count] = row.boxes[:count]
    return padded


def field_names(present: Iterable[str]) -> dict[str, str]:
    """Returns, for each field of `NAMES`, the name under which a file holds it."""
    present = set(present)
    found = {field: next((name for name in names if name in present), None) for field, names in NAMES.items()}
    return {field: name for field, name in found.items() if name}


def from_fields(fields: Mapping[str, Any], image_id: str) -> Regions:
    """Builds the regions of one image from what an exporter stored under the names in `NAMES`.

    Features that lie the other way round (feature_size, regions), as OpenVQA stores them, are turned; rows past
    `num_boxes` are padding and are cut off; boxes that go beyond 1 are in pixels and are normalised by the width and
    height stored with them.

    Raises:
        ValueError: the arrays do not fit each other, or boxes in pixels come without the image's size.
    """
    features = numbers("features", fields["features"], np.float32)
    boxes = None if "boxes" not in fields else numbers("boxes", fields["boxes"], np.float32)
    if features.ndim != 2 or (boxes is not None and (boxes.ndim != 2 or boxes.shape[1] < 4)):
        shapes = f"features {features.shape}" + ("" if boxes is None else f" and boxes {boxes.shape}")
        raise ValueError(f"the arrays are {shapes}, expected (regions, feature_size) and (regions, 4).")
    count = _whole("num_boxes", fields.get("num_boxes"))
    rows = count if boxes is None else len(boxes)
    if len(features) != rows == features.shape[1]:
        features = features.T
    if boxes is not None and len(boxes) != len(features):
        raise ValueError(f"there are features of {len(features)} regions, but {len(boxes)} boxes.")
    count = len(features) if count is None else count
    if not 0 <= count <= len(features):
        raise ValueError(f"num_boxes is {count}, but there are {len(features)} regions.")
    width, height = (_whole(name, fields.get(name)) or None for name in ("width", "height"))  # 0: not known
    if boxes is not None:
        boxes = boxes[:count, :4]
        if boxes.size and boxes.max() > 1 + BOX_TOLERANCE:
            if not width or not height:
                raise ValueError("the boxes are in pixels, and the image's width and height are not stored with them.")
            boxes = normalize_boxes(boxes, width, height)
    per_region = {name: np.atleast_1d(fields[name])[:count] for name in PER_REGION if name in fields}
    return Regions(features[:count], boxes, image_id, width, height, **per_region)


def warn(sentence: str) -> None:
    """Warns of a damaged row or file; readers call this by default, and go on."""
    warnings.warn(sentence, stacklevel=3)


def numbers(name: str, value: Any, dtype: type) -> np.ndarray:
    """Returns `value` as an array of `dtype`; an array that has this type already is not copied.

    Raises:
        ValueError: `value` is not numbers, or has whole numbers that `dtype` cannot hold.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" and array.size:
        raise ValueError(f"{name} are of type {array.dtype}, expected numbers.")
    if array.dtype == dtype:
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        converted = array.astype(dtype)
    if np.dtype(dtype).kind == "i" and not np.array_equal(converted, array):
        raise ValueError(f"{name} hold {array[converted != array][0]}, expected whole numbers of 32 bits.")
    return converted


def _whole(name: str, value: Any) -> int | None:
    if value is None:
        return None
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu" or array.item() != array.item() // 1:
        raise ValueError(f"{name} is {str(value)[:40]}, expected one whole number.")
    return int(array.item())


def _check_rows(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} have shape {array.shape}, expected {shape} for {shape[0]} regions.")


def _check_inside(boxes: np.ndarray, expected: str, given: np.ndarray | None = None) -> None:
    """Raises ValueError for boxes outside 0 … 1 or with NaN.

    The message shows them as the caller gave them, `given`.
    """
    inside = (boxes > -BOX_TOLERANCE) & (boxes < 1 + BOX_TOLERANCE)
    if not inside.all():
        row = int(np.argmin(inside.all(axis=1)))
        where = "outside 0 … 1" if given is None else "outside the image"
        values = ", ".join(f"{value:g}" for value in (boxes if given is None else given)[row])
        raise ValueError(f"box {row} ({values}) lies {where}: {expected}.")


def _named(row: Regions) -> str:
    return "" if row.image_id is None else f" (image {row.image_id!r})"

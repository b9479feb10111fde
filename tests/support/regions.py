"""Makes region features and writes them as the papers' tools do, independently of tfvl's own code."""

import base64
import contextlib
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tfvl.preprocessing.regions.regions import Regions, normalize_boxes

LXMERT = "img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features".split()
BOTTOM_UP = "image_id image_w image_h num_boxes boxes features".split()
WIDTH, HEIGHT, SIZE = 640, 480, 12


def image(number: int, count: int = 5, size: int = SIZE) -> dict:
    """Makes what a detector finds in one image, with boxes in pixels; all its numbers differ."""
    generator = np.random.default_rng(number)
    corners = np.sort(generator.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4)
    return {
        "image_id": f"COCO_val2014_{number:012d}",
        "image_w": WIDTH + number,
        "image_h": HEIGHT + number,
        "num_boxes": count,
        "boxes": (corners * np.tile([WIDTH, HEIGHT], 2)).astype(np.float32),
        "features": generator.normal(size=(count, size)).astype(np.float32),
        "objects_id": generator.integers(0, 1600, count),
        "objects_conf": generator.uniform(size=count).astype(np.float32),
        "attrs_id": generator.integers(0, 400, count),
        "attrs_conf": generator.uniform(size=count).astype(np.float32),
    }


def as_regions(number: int, count: int = 5) -> Regions:
    """Makes the `Regions` as which tfvl must read the same image."""
    found = image(number, count)
    boxes = normalize_boxes(found["boxes"], found["image_w"], found["image_h"])
    labels = {name: found[name] for name in ("objects_id", "objects_conf", "attrs_id", "attrs_conf")}
    return Regions(found["features"], boxes, found["image_id"], found["image_w"], found["image_h"], **labels)


def images(count: int, regions=lambda number: 5, size: int = SIZE) -> list[dict]:
    return [image(number, regions(number), size) for number in range(count)]


def tsv_line(found: dict, columns: list[str] = LXMERT) -> bytes:
    synonyms = {"img_id": "image_id", "img_w": "image_w", "img_h": "image_h"}
    cells = [found[synonyms.get(column, column)] for column in columns]
    return b"\t".join(
        base64.b64encode(cell.tobytes()) if isinstance(cell, np.ndarray) else str(cell).encode() for cell in cells
    )


def write_tsv(path: Path, found: list[dict], columns: list[str] = LXMERT) -> Path:
    path.write_bytes(b"".join(tsv_line(row, columns) + b"\n" for row in found))
    return path


def write_val(directory: Path) -> Path:
    """Writes nine images with 1 to 4 regions, as the papers' tools write them."""
    return write_tsv(directory / "val.tsv", images(9, lambda number: number % 4 + 1))


@contextlib.contextmanager
def traced():
    """A context that yields a function, which returns the peak of traced memory so far, in bytes."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def fails(sentence: str):
    """A context that asserts a ValueError of one sentence that contains `sentence`."""
    return pytest.raises(ValueError, match=rf"^[^\n]*{re.escape(sentence)}[^\n]*\.$")


def assert_is(regions, found: dict, pixels: bool = True, labels: bool = True) -> None:
    """Asserts that the regions are exactly what was found."""
    assert regions.image_id == found["image_id"]
    assert regions.features.dtype == regions.boxes.dtype == np.float32
    np.testing.assert_array_equal(regions.features, found["features"])
    scale = np.float32([found["image_w"], found["image_h"]] * 2) if pixels else np.float32(1)
    np.testing.assert_array_equal(regions.boxes, found["boxes"] / scale)
    if pixels:
        assert (regions.width, regions.height) == (found["image_w"], found["image_h"])
    for name in ("objects_id", "objects_conf", "attrs_id", "attrs_conf") if labels else ():
        np.testing.assert_array_equal(getattr(regions, name), found[name])


def assert_same(one, other) -> None:
    """Asserts that two `Regions` are equal in every field."""
    for name in one.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)

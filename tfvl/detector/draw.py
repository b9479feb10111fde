"""Draws the boxes, objects and attributes that a detector found on the picture."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfvl.preprocessing.regions.regions import Regions

LEAST_SIDE = 640  # pixels; a smaller picture is enlarged, so that labels are small in comparison to their objects
MOST = 20  # boxes; more would hide the picture
SURE = 0.3  # a region is left out if its confidence is below this share of the highest one
SURE_ATTRIBUTE = 0.3  # an attribute that is less probable is not named
COLORS = ("#e6194b", "#0b7d3b", "#2f4fd0", "#b35900", "#7a1fa2", "#00706b", "#c2188b", "#5d4037")
Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels


def draw_regions(
    picture: Image.Image, regions: Regions, object_names: Sequence[str], attribute_names: Sequence[str]
) -> Image.Image:
    """Returns the picture with its surest regions outlined and labelled ("red circle 98 %"); labels are kept apart.

    Args:
        picture: the image in which the regions were found.
        regions: the regions, with boxes, objects and attributes, as `RegionDetector.regions` makes them.
        object_names, attribute_names: the names in the detector's configuration.

    Raises:
        ValueError: the regions hold no boxes or no objects.
    """
    if regions.boxes is None or regions.objects_id is None or regions.objects_conf is None:
        raise ValueError(f"the regions of {regions.image_id or 'the image'} have no boxes or no objects to draw.")
    scale = max(1.0, LEAST_SIDE / min(picture.size))
    sheet = picture.convert("RGB").resize([max(1, round(side * scale)) for side in picture.size])
    pen, width = ImageDraw.Draw(sheet), max(2, round(min(sheet.size) / 300))
    font = ImageFont.load_default(max(14, min(sheet.size) // 40))
    order = shown(regions.objects_conf)
    boxes = {row: tuple(regions.boxes[row] * [*sheet.size, *sheet.size]) for row in order}
    colors = {row: COLORS[place % len(COLORS)] for place, row in enumerate(order)}
    for row in reversed(order):  # the surest on top
        pen.rectangle(boxes[row], outline=colors[row], width=width)
    placed: list[Box] = []
    for row in order:
        text = label(regions, row, object_names, attribute_names)
        left, top, right, bottom = pen.textbbox((0, 0), text, font)
        size = (right - left + 2 * width + 2, bottom - top + 2 * width + 2)
        spot = free_spot(boxes[row], size, sheet.size, placed)
        placed.append(spot)
        pen.rectangle(spot, fill=colors[row])
        pen.text((spot[0] - left + width + 1, spot[1] - top + width + 1), text, fill="white", font=font)
    return sheet


def shown(confidence: np.ndarray) -> list[int]:
    """Returns the indices of the regions to draw, the surest first."""
    order = np.argsort(-confidence, kind="stable")[:MOST]
    return [int(row) for row in order if confidence[row] >= SURE * confidence.max()]


def label(regions: Regions, row: int, object_names: Sequence[str], attribute_names: Sequence[str]) -> str:
    words = [object_names[regions.objects_id[row]].split(",")[0], f"{regions.objects_conf[row]:.0%}"]
    if regions.attrs_id is not None and regions.attrs_conf[row] >= SURE_ATTRIBUTE:
        words.insert(0, attribute_names[regions.attrs_id[row]].split(",")[0])
    return " ".join(words)


def free_spot(box: Box, size: tuple[float, float], limits: tuple[int, int], taken: Iterable[Box]) -> Box:
    """Finds a place for a label of `size` at an edge of its box, inside the picture, where it overlaps others least."""
    (left, top, right, bottom), (width, height) = box, size
    columns = (left, right - width)
    rows = (top - height, top, bottom, bottom - height)
    corners = [(x, y) for y in rows for x in columns] + [(left, y) for y in np.arange(top, bottom, height)]
    spots = []
    for x, y in corners:
        x, y = max(0, min(x, limits[0] - 1 - width)), max(0, min(y, limits[1] - 1 - height))
        spots.append((x, y, x + width, y + height))
    return min(spots, key=lambda spot: sum(shared(spot, other) for other in taken))


def shared(first: Box, second: Box) -> float:
    """Returns the area of the intersection of two boxes."""
    width, height = (min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1))
    return max(0.0, width) * max(0.0, height)

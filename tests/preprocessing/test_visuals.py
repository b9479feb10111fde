"""Files as the visuals of a request: what a graph cannot decode is written anew."""

import numpy as np
from PIL import Image

from tfvl import ViltImageProcessor
from tfvl.preprocessing import visuals
from tfvl.preprocessing.image import formats


def test_files_are_sent_as_a_graph_can_read_them(tmp_path):
    assert ViltImageProcessor.max_pixels == visuals.MAX_PIXELS
    graph = (formats.JPEG, formats.PNG, formats.GIF, formats.BMP)
    assert tuple(formats.SIGNATURES[one] for one in graph) == visuals.GRAPH_FORMATS
    levels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    for suffix in ("png", "webp"):
        Image.fromarray(levels).save(tmp_path / f"image.{suffix}", lossless=True)
    _, (png, webp) = visuals.read_all([tmp_path / "image.png", tmp_path / "image.webp"])
    assert png == (tmp_path / "image.png").read_bytes()
    assert (formats.read(webp, 100)[0].numpy() == levels).all()

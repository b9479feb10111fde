"""`Explanation`, the result of `tfvl.explain`."""

import base64
import html
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tfvl.preprocessing.regions.regions import Regions


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of an answer: a score for each word, and for each patch or region. Scores are not rescaled.

    In a notebook it shows its picture.

    Attributes:
        text: the text that was asked.
        method: the method that made the scores.
        answer: the explained answer: a label, a word, a choice, or the index of a region.
        score: the answer's score, the same that an export gives.
        tokens: word pieces, special ones included.
        token_scores: float32 (tokens,).
        patch_scores: for ViLT, float32 (rows, columns) of the image's own patches; for a pair of images a tuple of two.
        image_class_score: for ViLT, the score of the image's class token; for a pair a tuple of two.
        region_scores: for VisualBERT and LXMERT, float32 (regions,); for a pair, the second image's after the first's.
        answers: the best answers and their scores, which the picture shows.
        images: the images as they were given, uint8 (height, width, 3); empty if regions were given.
        regions: the regions of each image.
        seen: for each image, the height and width to which the model resized it, and those of a patch, in pixels.
    """

    text: str
    method: str
    answer: Any
    score: float
    tokens: list[str]
    token_scores: np.ndarray
    patch_scores: np.ndarray | tuple[np.ndarray, ...] | None = None
    image_class_score: float | tuple[float, ...] | None = None
    region_scores: np.ndarray | None = None
    answers: list[tuple[str, float]] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list, repr=False)
    regions: list[Regions] = field(default_factory=list, repr=False)
    seen: list[tuple[int, int, int, int]] = field(default_factory=list, repr=False)

    @cached_property
    def heatmap(self) -> np.ndarray | tuple[np.ndarray, ...] | None:
        """The scores of an image's pixels, float32 (height, width); for a pair a tuple of two; None without an image.

        A pixel has the score of its patch, or the highest score of the regions that it lies in; 0 outside of all.
        """
        if not self.images:
            return None
        if self.patch_scores is not None:
            grids = self.patch_scores if isinstance(self.patch_scores, tuple) else (self.patch_scores,)
            maps = [of_grid(*each) for each in zip(grids, self.seen, self.images, strict=True)]
        else:
            counts = [len(each) for each in self.regions]
            parts = np.split(self.region_scores, np.cumsum(counts)[:-1])
            maps = [of_boxes(*each) for each in zip(parts, self.regions, self.images, strict=True)]
        return maps[0] if len(maps) == 1 else tuple(maps)

    def save(self, file: str | Path, **options) -> Path:
        """Saves a picture of image, heat map, words tinted by their scores, and answers; needs the extra `plots`.

        Args:
            file: the picture's file; its ending gives the format: .png, .pdf, .svg.
            **options: options of matplotlib's `Figure.savefig`.

        Raises:
            ValueError: matplotlib is missing, or does not know the format.
        """
        from tfvl.explanations.drawing import figure, saved

        return saved(figure(self), Path(file), **options)

    def _repr_png_(self) -> bytes | None:
        from tfvl.explanations.drawing import as_png, figure

        try:
            return as_png(figure(self))
        except ValueError:  # matplotlib is missing
            return None

    def _repr_html_(self) -> str:
        png = self._repr_png_()
        if png is not None:
            return f'<img style="max-width: 600px" src="data:image/png;base64,{base64.b64encode(png).decode()}"/>'
        pairs = zip(self.tokens, self.token_scores.tolist(), strict=True)
        words = "".join(f"<tr><td>{html.escape(token)}</td><td>{score:.4f}</td></tr>" for token, score in pairs)
        return (
            f"<p>{html.escape(self.text)} {html.escape(str(self.answer))} ({self.score:.4f})</p><table>{words}</table>"
        )

    def __repr__(self) -> str:
        strongest = ", ".join(self.tokens[place] for place in np.argsort(-self.token_scores, kind="stable")[:3])
        return f"<{self.text!r}: {self.answer} ({self.score:.4f}) by {self.method}; strongest words: {strongest}>"


def of_grid(scores: np.ndarray, seen: tuple[int, int, int, int], image: np.ndarray) -> np.ndarray:
    """Resizes scores of patches to the size of the given image, which the model has read in another size."""
    height, width, patch_height, patch_width = seen
    places = [
        ((np.arange(size) + 0.5) * resized / size // patch).astype(int)
        for size, resized, patch in zip(image.shape[:2], (height, width), (patch_height, patch_width), strict=True)
    ]
    rows, columns = (np.minimum(place, count) for place, count in zip(places, scores.shape, strict=True))
    return np.pad(scores, (0, 1))[np.ix_(rows, columns)]  # the rest beyond the last whole patch scores 0


def of_boxes(scores: np.ndarray, regions: Regions, image: np.ndarray) -> np.ndarray | None:
    """Spreads scores of regions over the pixels of the image; the highest one counts where regions overlap."""
    height, width = image.shape[:2]
    heat = np.full((height, width), -np.inf, np.float32)
    for score, (x1, y1, x2, y2) in zip(scores, regions.boxes, strict=True):
        part = heat[int(y1 * height) : int(np.ceil(y2 * height)), int(x1 * width) : int(np.ceil(x2 * width))]
        np.maximum(part, score, out=part)
    return np.where(np.isneginf(heat), np.float32(0), heat)

"""Draws explanations and attention maps. Needs matplotlib, which the extra `plots` installs.

The colour maps are viridis and Blues, whose lightness changes steadily with the score, so that colour-blind people and
grey prints can tell scores apart. Scores are divided by the largest of a picture; those in an explanation are not.
"""

import io
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfvl.explanations.maps import ALL, REGIONS, WORDS, Recorder, passes_of
from tfvl.files.extras import require
from tfvl.layers.attention import observed_attention

WIDTH = 6.0  # inches; at 100 dots each, 600 pixels
DPI = 200
FONT = 11  # points; 15 pixels if the picture is 600 pixels wide
LABELLED = 3  # the best regions, which are numbered
MOST_PIXELS = 1200  # the longest edge of an image in a picture
MARGIN = 1.4  # inches; the space left of the grid of maps
LINE = 0.32  # inches; the height of a line of words
PICTURE_HEIGHTS = (1.0, 6.0)  # inches; the smallest and largest height
STREAMS = {ALL: "", WORDS: "words", REGIONS: "regions"}


def new_figure(width: float, height: float):
    """Returns an empty matplotlib figure of a size in inches. Raises MissingExtraError without matplotlib."""
    require("matplotlib", extra="plots", purpose="a picture is drawn with it")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(made)
    return made


def saved(figure, file: Path, **options) -> Path:
    """Saves a figure, so that the file appears only when it is whole. Raises ValueError for an unknown format."""
    from tfvl.files.whole import written_files

    formats = figure.canvas.get_supported_filetypes()
    kind = file.suffix.lstrip(".").lower()
    if kind not in formats:
        raise ValueError(f"{file}: pictures end in {', '.join('.' + each for each in sorted(formats))}")
    with written_files(file) as (new,):
        figure.savefig(new, format=kind, **options)
    return file


def as_png(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI // 2)
    return file.getvalue()


def figure(explanation):
    """Draws an explanation: its images with their heat maps, its words, and its answers."""
    images, heat = explanation.images, explanation.heatmap
    heats = heat if isinstance(heat, tuple) else (heat,) * len(images)
    images, heats = (list(map(thinned, each)) for each in (images, heats))
    panel = WIDTH / 2  # two panels: the image and its heat map
    heights = [float(np.clip(image.shape[0] / image.shape[1] * panel, *PICTURE_HEIGHTS)) for image in images]
    lines = wrapped(explanation.tokens)
    bars = 0.0 if images or explanation.region_scores is None else 1.8
    below = LINE * len(lines) + LINE * max(len(explanation.answers), 1) + 0.3
    total = sum(heights) + bars + below
    made = new_figure(WIDTH, total)
    largest = max((float(np.max(each)) for each in heats), default=0.0) or 1.0
    for number, (image, each) in enumerate(zip(images, heats, strict=True)):
        bottom = (total - sum(heights[: number + 1]) + 0.04) / total
        sides = [(left, bottom, 0.49, (heights[number] - 0.08) / total) for left in (0.005, 0.505)]
        plain, axes = (made.add_axes(side) for side in sides)
        plain.imshow(image, interpolation="nearest", aspect="equal")
        plain.axis("off")
        draw_heat(axes, image, each, largest)
        if explanation.region_scores is not None:
            start = sum(map(len, explanation.regions[:number]))
            draw_boxes(axes, image, explanation.regions[number], explanation.region_scores[start:], start)
    if bars:
        draw_bars(made.add_axes((0.1, (below + 0.45) / total, 0.87, (bars - 0.55) / total)), explanation.region_scores)
    axes = made.add_axes((0, 0, 1, below / total))
    axes.set(xlim=(0, WIDTH), ylim=(below, 0))
    axes.axis("off")
    draw_words(axes, lines, explanation.tokens, explanation.token_scores)
    draw_answers(axes, explanation, LINE * len(lines) + 0.3)
    return made


def thinned(pixels: np.ndarray) -> np.ndarray:
    """Takes only every second, third, … pixel of a large image, which still has more than a picture can show."""
    step = max(1, max(pixels.shape[:2]) // MOST_PIXELS)
    return pixels[::step, ::step]


def draw_heat(axes, image: np.ndarray, heat: np.ndarray, largest: float) -> None:
    """Draws the image in grey, and the scores in viridis over it."""
    from matplotlib import colormaps

    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2) / 255
    strength = np.clip(heat / largest, 0, 1)[..., None]
    color = colormaps["viridis"](strength[..., 0])[..., :3]
    alpha = 0.25 + 0.5 * strength
    axes.imshow(grey * (1 - alpha) + color * alpha, interpolation="nearest", aspect="equal")
    axes.axis("off")


def draw_boxes(axes, image: np.ndarray, regions, scores: np.ndarray, start: int) -> None:
    """Draws the boxes of regions, with thicker lines for higher scores, and numbers the best ones."""
    height, width = image.shape[:2]
    scores = scores[: len(regions)]
    largest = max(float(scores.max(initial=0)), 1e-30)
    order = np.argsort(-scores, kind="stable")
    for rank, index in reversed(list(enumerate(order))):
        x1, y1, x2, y2 = regions.boxes[index] * (width, height, width, height)
        share = max(float(scores[index]) / largest, 0)
        line = {"linewidth": 0.6 + 2.4 * share, "color": (1, 1, 1, 0.35 + 0.65 * share)}
        axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], **line)
        if rank < LABELLED:  # above the box if there is room, and within the picture's right edge
            above, left = y1 > height / 8, x1 < width / 2
            place = {"va": "bottom" if above else "top", "ha": "left" if left else "right"}
            box = {"facecolor": "black", "edgecolor": "none", "pad": 1.5}
            options = {"color": "white", "fontsize": FONT - 1, "bbox": box, **place}
            axes.text(x1 if left else x2, y1 if above else y2, f"{start + index}: {scores[index]:.2g}", **options)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def draw_bars(axes, scores: np.ndarray) -> None:
    """Draws the scores of regions as bars, if there is no image."""
    axes.bar(np.arange(len(scores)), scores, color="#31688e")
    axes.set_xlabel("region", fontsize=FONT)
    axes.tick_params(labelsize=FONT - 1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def wrapped(tokens: list[str]) -> list[list[int]]:
    """Breaks tokens into lines that fit into the width; returns the tokens' indices, line by line."""
    lines, used = [[]], 0.0
    for place, token in enumerate(tokens):
        if lines[-1] and used + width_of(token) > WIDTH - 0.2:
            lines.append([])
            used = 0.0
        lines[-1].append(place)
        used += width_of(token)
    return lines


def width_of(token: str) -> float:
    """Returns the width of a token in inches, in a font of fixed width."""
    return 0.095 * len(token) + 0.16


def draw_words(axes, lines: list[list[int]], tokens: list[str], scores: np.ndarray) -> None:
    """Draws words on a blue ground, which is darker for higher scores."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    largest = max(float(scores.max(initial=0)), 1e-30)
    for number, line in enumerate(lines):
        x, y = 0.1, 0.12 + LINE * number
        for place in line:
            share = float(np.clip(scores[place] / largest, 0, 1))
            width = width_of(tokens[place])
            axes.add_patch(Rectangle((x, y), width - 0.04, 0.27, color=colormaps["Blues"](0.85 * share)))
            color = "white" if share > 0.6 else "black"
            options = {"color": color, "fontsize": FONT, "family": "monospace", "ha": "center", "va": "center"}
            axes.text(x + (width - 0.04) / 2, y + 0.14, tokens[place], **options)
            x += width


def draw_answers(axes, explanation, y: float) -> None:
    """Writes the best answers with their scores, the explained one in bold, and the method."""
    explained = str(explanation.answer), explanation.score
    answers = explanation.answers or [explained]
    if explained[0] not in [name for name, _ in answers]:
        answers = [explained, *answers[:-1]]
    for number, (name, score) in enumerate(answers):
        weight = "bold" if name == explained[0] else "normal"
        place = {"va": "center", "fontsize": FONT}
        axes.text(0.12, y + LINE * number, shortened(name, 34), weight=weight, **place)
        axes.text(4.1, y + LINE * number, f"{score:.4f}", ha="right", weight=weight, **place)
    axes.text(WIDTH - 0.12, y, explanation.method, ha="right", va="center", fontsize=FONT, color="#555555")


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def attention_grid(model, inputs, row: int = 0):
    """Draws every attention map of a call: layers from top to bottom, heads from left to right.

        tfvl.explanations.attention_grid(model, processor(images=[image], text=["how many?"])).savefig("maps.png")

    LXMERT's layers are drawn in the order in which they run: the language encoder, the object relationship encoder, and
    for each cross-modality layer words over regions, regions over words, and each among themselves.

    Args:
        model: a model of tfvl.
        inputs: the inputs of a call.
        row: index of the row of the batch that is drawn.

    Returns: matplotlib's figure. Rows of a map are queries, columns keys; each map is scaled to its largest value.

    Raises:
        ValueError: matplotlib is missing, or there is no such row.
    """
    recorder = Recorder()
    with observed_attention(recorder):
        model({name: tf.convert_to_tensor(value) for name, value in inputs.items()}, output_attentions=True)
    steps = [step for steps in passes_of(model, recorder.of) for step in steps]
    named = [(streams, maps) for step in steps for streams, maps in step.items()]
    count = int(named[0][1].shape[0]) if named else 0
    if not 0 <= row < count:
        raise ValueError(f"row is {row}, but there are {count}")
    heads = max(int(maps.shape[1]) for _, maps in named)
    made = new_figure(0.9 * heads + MARGIN + 0.1, 0.95 * len(named) + 0.4)
    axes = made.subplots(len(named), heads, squeeze=False)
    for line, (number, ((queries, keys), maps)) in zip(axes, enumerate(named), strict=True):
        label = STREAMS[queries] + (f" → {STREAMS[keys]}" if keys != queries else "")
        line[0].set_ylabel(f"{number}\n{label}".strip(), fontsize=8, rotation=0, ha="right", va="center")
        for head, each in enumerate(line):
            each.imshow(np.asarray(maps[row, head], np.float32), cmap="viridis", vmin=0, aspect="auto")
            each.set(xticks=[], yticks=[])
            if number == 0:
                each.set_title(f"head {head}", fontsize=8)
    made.subplots_adjust(left=MARGIN / made.get_size_inches()[0], right=0.99, top=0.96, bottom=0.01)
    return made

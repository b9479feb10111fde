"""Scenes of coloured shapes, drawn by Pillow, with questions whose answers are known.

The bundled models are trained and tested on these scenes, and `tfvl demo` asks about a fresh one. Seed and split
determine everything about a scene. The two splits never share a random stream, so that training has not seen the scene
of a test or a demonstration.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tfvl.preprocessing.regions.regions import Regions, normalize_boxes

SIDE = 256  # pixels; the side of the square picture
BOARD = 4  # objects stand in different cells of a BOARD x BOARD board, so that they never touch
CELL = SIDE // BOARD
SIZES = (38, 58)  # pixels, smallest and largest object; all fit into a cell
MOST_OBJECTS = 5
CROP = 6  # pixels; the side to which a region's picture is shrunk for its features
FEATURE_SIZE = 3 * CROP**2 + 4

SHAPES = ("circle", "square", "triangle", "star")
COLORS = {
    "red": (214, 39, 40),
    "green": (34, 150, 60),
    "blue": (31, 90, 210),
    "yellow": (245, 208, 20),
    "purple": (140, 60, 190),
    "orange": (255, 127, 14),
}
RELATIONS = {"left of": "left", "right of": "right", "above": "above", "below": "below"}  # each with its answer
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
CHOICES = dict.fromkeys(("left of", "right of"), "left or right of")
CHOICES |= dict.fromkeys(("above", "below"), "above or below")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
KINDS = ("color", "shape", "count", "existence", "position")
SPLITS = ("test", "train")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Thing:
    """One object, with its shape, colour and box (left, top, right, bottom) in pixels, the last two exclusive."""

    shape: str
    color: str
    box: tuple[int, int, int, int]

    @property
    def cell(self) -> tuple[int, int]:
        """The object's (column, row) on the board."""
        return self.box[0] // CELL, self.box[1] // CELL

    @property
    def corner(self) -> str:
        """The quarter of the picture in which it stands."""
        column, row = self.cell
        return CORNERS[2 * (row >= BOARD / 2) + (column >= BOARD / 2)]

    def is_(self, relation: str, other: "Thing") -> bool:
        """Returns whether this object is, say, "left of" the other one, which means in a column further left."""
        axis = 0 if relation.endswith("of") else 1
        mine, others = self.cell[axis], other.cell[axis]
        return mine < others if relation in ("left of", "above") else mine > others


@dataclass(frozen=True)
class Question:
    """A question about a scene, its answer (one of `answers()`) and its kind (one of `KINDS`)."""

    text: str
    answer: str
    kind: str


@dataclass(frozen=True)
class Scene:
    """The objects of one picture, in no particular order, and its background colour."""

    seed: int
    split: str
    background: tuple[int, int, int]
    things: tuple[Thing, ...]

    def image(self) -> Image.Image:
        """Draws the picture, RGB, `SIDE` x `SIDE` pixels."""
        smooth = 2  # the picture is drawn so many times larger and then reduced, for smooth edges
        picture = Image.new("RGB", (SIDE * smooth, SIDE * smooth), self.background)
        pen = ImageDraw.Draw(picture)
        for thing in self.things:
            # Pillow's right and bottom edges are inclusive.
            left, top, right, bottom = (edge * smooth - (i > 1) for i, edge in enumerate(thing.box))
            OUTLINES[thing.shape](pen, (left, top, right, bottom), COLORS[thing.color])
        return picture.reduce(smooth)

    def png(self) -> bytes:
        """Encodes the picture as a small PNG."""
        file = io.BytesIO()
        self.image().save(file, "PNG", optimize=True)
        return file.getvalue()

    def questions(self, per_kind: int | Mapping[str, int] = 1) -> list[Question]:
        """Returns up to `per_kind` different questions of each kind, a number or one for each; the same on every call.

        There are fewer if the scene does not allow more, for example if no object can be described uniquely.
        """
        rng = np.random.default_rng([SPLITS.index(self.split), self.seed, 1])
        counts = per_kind if isinstance(per_kind, Mapping) else dict.fromkeys(KINDS, per_kind)
        asked = {}
        for kind, count in counts.items():
            for _ in range(count):
                if question := ASK[kind](self, rng):
                    asked[question[0]] = Question(*question, kind)
        return list(asked.values())

    @cached_property
    def names(self) -> list[tuple[str, Thing]]:
        """The descriptions that fit only one object ("circle", "red circle", "red object"), each with its object."""
        every = [(name, thing) for thing in self.things for name in _descriptions(thing.shape, thing.color)]
        described = [name for name, _ in every]
        return [(name, thing) for name, thing in every if described.count(name) == 1]


def draw_scene(seed: int, split: str = "test") -> Scene:
    """Draws the scene of this seed, with 2 to 5 objects. Half of the scenes repeat a colour or shape, to be counted."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative.")
    rng = np.random.default_rng([SPLITS.index(split), seed, 0])
    count = int(rng.integers(2, MOST_OBJECTS + 1))
    shapes = [_pick(rng, SHAPES) for _ in range(count)]
    colors = [_pick(rng, tuple(COLORS)) for _ in range(count)]
    repeated = _pick(rng, (shapes, colors, None, None))
    if repeated:
        repeated[:] = [repeated[0] if i < rng.integers(2, count + 1) else value for i, value in enumerate(repeated)]
    cells = rng.permutation(BOARD * BOARD)[:count]
    things = (_place(rng, *each) for each in zip(shapes, colors, cells, strict=True))
    red, green, blue = rng.integers(228, 253, size=3).tolist()
    return Scene(seed, split, (red, green, blue), tuple(things))


def regions(scene: Scene) -> Regions:
    """Returns the regions that a perfect detector would find, one per object, for VisualBERT and LXMERT.

    Returns:
        `boxes`: (objects, 4), the objects' boxes, from 0 to 1. `features`: (objects, `FEATURE_SIZE`): the picture
        inside the box, shrunk to `CROP` x `CROP` pixels, as red, green and blue from -0.5 to 0.5, row by row; then the
        corners of the box from -2 to 2, since VisualBERT has no other input that tells where a region is. Corners have
        larger values than pixels, because there are fewer of them.
    """
    picture = scene.image()
    crops = [picture.crop(thing.box).resize((CROP, CROP), Image.Resampling.BOX) for thing in scene.things]
    pixels = np.stack([np.asarray(crop, np.float32).ravel() for crop in crops]) / 255 - 0.5
    boxes = normalize_boxes([thing.box for thing in scene.things], SIDE, SIDE)
    features = np.concatenate([pixels, 4 * boxes - 2], axis=1)
    return Regions(features, boxes, image_id=f"{scene.split}-{scene.seed}", width=SIDE, height=SIDE)


def held_out_questions(count: int, per_kind: int = 1) -> Iterator[tuple[Scene, Question]]:
    """Yields the first `count` questions on the scenes of the test split, with their scenes."""
    seed = 0
    while count > 0:
        scene = draw_scene(seed, "test")
        for question in scene.questions(per_kind)[:count]:
            yield scene, question
            count -= 1
        seed += 1


def answers() -> tuple[str, ...]:
    """Returns every answer, in the order of the model's labels."""
    return (*COLORS, *SHAPES, *map(str, range(MOST_OBJECTS + 1)), "yes", "no", *RELATIONS.values(), *CORNERS)


def vocabulary() -> tuple[str, ...]:
    """Returns every token that questions and answers need, special tokens first, as in the lines of `vocab.txt`."""
    words = "what color colour shape how many is are there where the a an of or top bottom ? object objects"
    single = (answer for answer in answers() if answer not in CORNERS)
    return (*SPECIAL_TOKENS, *words.split(), *(shape + "s" for shape in SHAPES), *single)


def _pick(rng: np.random.Generator, choices: Sequence):
    return choices[int(rng.integers(len(choices)))]


def _place(rng: np.random.Generator, shape: str, color: str, cell: int) -> Thing:
    size = int(rng.integers(SIZES[0], SIZES[1] + 1))
    row, column = divmod(int(cell), BOARD)
    left = column * CELL + int(rng.integers(1, CELL - size))
    top = row * CELL + int(rng.integers(1, CELL - size))
    return Thing(shape, color, (left, top, left + size, top + size))


def _descriptions(shape: str, color: str) -> tuple[str, str, str]:
    return shape, f"{color} object", f"{color} {shape}"


SHAPE, COLOR, BOTH = range(3)  # what a description names


# --- questions: each function draws (text, answer), or None if the scene has no such question ---


def _ask_color(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    unique = [(name, thing) for name, thing in scene.names if name == thing.shape]
    if not unique:
        return None
    name, thing = _pick(rng, unique)
    return f"what {_pick(rng, ('color', 'color', 'colour'))} is the {name}?", thing.color


def _ask_shape(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    unique = [thing for name, thing in scene.names if name.endswith("object")]
    if not unique:
        return None
    thing = _pick(rng, unique)
    return _pick(rng, (f"what shape is the {thing.color} object?", f"what shape is {thing.color}?")), thing.shape


def _ask_count(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    subjects = {f"{shape}s": [thing.shape for thing in scene.things].count(shape) for shape in SHAPES}
    subjects |= {f"{color} objects": [thing.color for thing in scene.things].count(color) for color in COLORS}
    subjects["objects"] = len(scene.things)
    # The count is drawn first and the subject second: otherwise most answers would be 0 or 1.
    count = _pick(rng, sorted(set(subjects.values())))
    return f"how many {_pick(rng, [s for s in subjects if subjects[s] == count])} are there?", str(count)


def _ask_existence(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    form, answer = _pick(rng, (SHAPE, COLOR, BOTH, BOTH)), _pick(rng, ("yes", "no"))
    names = {_descriptions(thing.shape, thing.color)[form] for thing in scene.things}
    if answer == "no":
        pairs = list(product(SHAPES, COLORS))
        if form == BOTH:  # the colour or the shape occurs in the picture, so that neither alone tells the answer
            shown = {each for thing in scene.things for each in (thing.shape, thing.color)}
            pairs = [pair for pair in pairs if shown.intersection(pair)]
        names = {_descriptions(*pair)[form] for pair in pairs} - names
    if not names:
        return None
    name = _pick(rng, sorted(names))
    return f"is there {'an' if name[0] in 'aeiou' else 'a'} {name}?", answer


def _ask_position(scene: Scene, rng: np.random.Generator) -> tuple[str, str] | None:
    # Mostly with the shape or the colour alone ("the circle", "the red object"), sometimes with both.
    short = [(name, thing) for name, thing in scene.names if name != f"{thing.color} {thing.shape}"]
    names = _pick(rng, (short, short, short, scene.names))
    if names and _pick(rng, (True, False, False)):
        name, thing = _pick(rng, names)
        return f"where is the {name}?", thing.corner
    pairs = [
        (name, relation, other_name)
        for (name, thing), (other_name, other), relation in product(names, names, RELATIONS)
        if thing.is_(relation, other)
    ]
    if not pairs:
        return None
    name, relation, other_name = _pick(rng, pairs)
    answer = _pick(rng, ("yes", "no", RELATIONS[relation], RELATIONS[relation]))
    asked = {"yes": relation, "no": OPPOSITES[relation]}.get(answer, CHOICES[relation])
    return f"is the {name} {asked} the {other_name}?", answer


ASK = {
    "color": _ask_color,
    "shape": _ask_shape,
    "count": _ask_count,
    "existence": _ask_existence,
    "position": _ask_position,
}

# --- drawing ---


def _polygon(corners: Sequence[tuple[float, float]]):
    """Returns a function that draws a polygon, whose corners are given as fractions of the box."""

    def draw(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], color: tuple[int, int, int]) -> None:
        left, top, right, bottom = box
        pen.polygon([(left + x * (right - left), top + y * (bottom - top)) for x, y in corners], fill=color)

    return draw


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    """Returns the corners of a star that fills the unit square."""
    turns = [(pi * i / points, inner if i % 2 else 1) for i in range(2 * points)]
    corners = np.array([(radius * sin(angle), -radius * cos(angle)) for angle, radius in turns])
    return ((corners - corners.min(0)) / np.ptp(corners, axis=0)).tolist()


OUTLINES = {
    "circle": lambda pen, box, color: pen.ellipse(box, fill=color),
    "square": lambda pen, box, color: pen.rectangle(box, fill=color),
    "triangle": _polygon([(0.5, 0), (1, 1), (0, 1)]),
    "star": _polygon(_star(5, 0.4)),
}


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Puts pictures of one height side by side on white, with gaps between them; returns a single one as it is."""
    gap = 8
    width = sum(picture.width + gap for picture in pictures) - gap
    sheet = Image.new("RGB", (width, pictures[0].height), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet


def draw_answers(
    picture: Image.Image,
    rows: Sequence[tuple[str, str, float, str | None]],
    boxes: Iterable[Sequence[float]] = (),
) -> Image.Image:
    """Draws a picture with its questions and answers beside it, for people to look at.

    Args:
        picture: any RGB image; it is enlarged or reduced to the height of the list.
        rows: (question, answer, score from 0 to 1, true answer or None if it is not known).
        boxes: the boxes of the regions that the model has read, x1, y1, x2, y2 from 0 to 1, which are outlined.
    """
    margin, line = 24, 26
    height = max(512, 2 * margin + 3 * line * len(rows))
    shown = picture.resize((round(picture.width * height / picture.height), height))
    sheet = Image.new("RGB", (shown.width + 460, height), "white")
    sheet.paste(shown)
    pen = ImageDraw.Draw(sheet)
    for x1, y1, x2, y2 in boxes:
        corners = [x1 * shown.width, y1 * shown.height, x2 * shown.width, y2 * shown.height]
        pen.rectangle(corners, outline=(60, 60, 60), width=2)
    small, large = ImageFont.load_default(18), ImageFont.load_default(22)
    for i, (question, answer, score, truth) in enumerate(rows):
        x, y = shown.width + margin, margin + 3 * line * i
        right = truth is None or answer == truth
        note = f"{score:.0%}" if right else f"{score:.0%}   (it is: {truth})"
        pen.text((x, y), question, fill=(90, 90, 90), font=small)
        pen.text((x, y + line - 2), answer, fill=(20, 120, 50) if right else (190, 30, 30), font=large)
        pen.text((x + pen.textlength(answer, large) + 14, y + line + 2), note, fill=(140, 140, 140), font=small)
    return sheet

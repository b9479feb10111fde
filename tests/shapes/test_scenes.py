"""The drawn scenes: the same for a seed, right in their answers, balanced, and inside the vocabulary."""

import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from tfvl import shapes

SCENES = 1500
# A balanced yes/no pair over this many questions strays from one half by at most about 3 standard deviations.
COIN_SLACK = 3 * 0.5 / np.sqrt(SCENES)
# Shares of a box that each outline covers: pi/4, 1, 1/2, and a star well below the triangle.
COVERAGE = {"circle": (0.74, 0.82), "square": (0.97, 1.0), "triangle": (0.46, 0.54), "star": (0.28, 0.4)}
REGION_SUMS = [16.22353, 16.14118, -19.55294, 1.05882, 19.81961]  # of the crops of scene 0
EDGE = 24  # levels by which an edge pixel may differ from the colour and still count as covered


@pytest.fixture(scope="module")
def scenes() -> list[shapes.Scene]:
    return [shapes.draw_scene(seed) for seed in range(SCENES)]


@pytest.fixture(scope="module")
def asked(scenes) -> list[tuple[shapes.Scene, shapes.Question]]:
    return [(scene, question) for scene in scenes for question in scene.questions()]


def test_a_seed_gives_one_scene():
    for seed in (0, 7, 123_456_789_012):
        one, same = shapes.draw_scene(seed), shapes.draw_scene(seed)
        assert one == same
        assert one.questions(3) == same.questions(3)
        assert one.image().tobytes() == same.image().tobytes()


def test_the_numbers_of_a_seed_are_frozen():
    """The shipped models and the README speak of seeds; another NumPy must not change what they mean."""
    assert shapes.draw_scene(0).things == (
        shapes.Thing("triangle", "red", (7, 71, 55, 119)),
        shapes.Thing("triangle", "red", (65, 132, 103, 170)),
        shapes.Thing("square", "green", (145, 78, 183, 116)),
        shapes.Thing("square", "purple", (132, 8, 183, 59)),
        shapes.Thing("circle", "yellow", (68, 197, 122, 251)),
    )
    assert [(question.text, question.answer) for question in shapes.draw_scene(0).questions()] == [
        ("what colour is the circle?", "yellow"),
        ("what shape is the purple object?", "square"),
        ("how many purple objects are there?", "1"),
        ("is there a green triangle?", "no"),
        ("where is the green square?", "top right"),
    ]


def test_splits_share_no_scene():
    held_out = {shapes.draw_scene(seed, "test").things for seed in range(SCENES)}
    assert held_out.isdisjoint(shapes.draw_scene(seed, "train").things for seed in range(SCENES))


def test_objects_are_inside_apart_and_of_the_promised_size(scenes):
    for scene in scenes:
        assert 2 <= len(scene.things) <= shapes.MOST_OBJECTS
        for thing in scene.things:
            left, top, right, bottom = thing.box
            assert 0 < left < right < shapes.SIDE
            assert 0 < top < bottom < shapes.SIDE
            assert shapes.SIZES[0] <= right - left == bottom - top <= shapes.SIZES[1]
        for one, other in combinations(scene.things, 2):
            apart = (one.box[2] < other.box[0], other.box[2] < one.box[0])
            apart += (one.box[3] < other.box[1], other.box[3] < one.box[1])
            assert any(apart), f"{one} touches {other} in scene {scene.seed}"


def test_pixels_show_what_the_boxes_say(scenes):
    for scene in scenes[:60]:
        pixels = np.asarray(scene.image()).astype(int)
        assert pixels.shape == (shapes.SIDE, shapes.SIDE, 3)
        outside = np.ones(pixels.shape[:2], bool)
        for thing in scene.things:
            left, top, right, bottom = thing.box
            outside[top:bottom, left:right] = False
            inside = np.abs(pixels[top:bottom, left:right] - shapes.COLORS[thing.color]).max(-1) <= EDGE
            low, high = COVERAGE[thing.shape]
            assert low <= inside.mean() <= high, f"{thing} covers {inside.mean():.2f} of its box in scene {scene.seed}"
        assert (pixels[outside] == scene.background).all()


def test_regions_are_the_objects_in_their_order(scenes):
    assert shapes.FEATURE_SIZE == 6 * 6 * 3 + 4
    for scene in scenes[:100]:
        found = shapes.regions(scene)
        boxes = np.array([thing.box for thing in scene.things]) / shapes.SIDE
        np.testing.assert_array_equal(found.boxes, boxes.astype("float32"))
        assert (found.width, found.height) == (shapes.SIDE, shapes.SIDE)
        assert found.features.shape == (len(scene.things), shapes.FEATURE_SIZE)
        assert found.features.dtype == np.float32
        np.testing.assert_array_equal(found.features[:, -4:], 4 * found.boxes - 2)
        pixels = found.features[:, :-4].reshape(-1, shapes.CROP, shapes.CROP, 3)
        for thing, crop in zip(scene.things, pixels, strict=True):
            middle = crop[shapes.CROP // 2, shapes.CROP // 2]  # inside every outline
            np.testing.assert_allclose((middle + 0.5) * 255, shapes.COLORS[thing.color], atol=EDGE)
            if thing.shape in ("square", "circle"):
                corner_is_filled = np.abs((crop[0, 0] + 0.5) * 255 - shapes.COLORS[thing.color]).max() <= EDGE
                assert corner_is_filled == (thing.shape == "square")


def test_regions_of_a_seed_are_frozen():
    """The shipped models were trained on these numbers; another Pillow must not change them."""
    found, same = (shapes.regions(shapes.draw_scene(0)) for _ in range(2))
    np.testing.assert_array_equal(found.features, same.features)
    assert found.image_id == "test-0"
    green_square = found.features[2]
    expected = np.array([34, 150, 60], "float32") / 255 - 0.5
    np.testing.assert_array_equal(green_square[:-4].reshape(-1, 3), np.tile(expected, (36, 1)))
    np.testing.assert_array_equal(green_square[-4:], np.array([145, 78, 183, 116]) / 64 - 2)
    assert found.features[:, :-4].sum(axis=1).tolist() == pytest.approx(REGION_SUMS, abs=1e-4)


def center(thing: shapes.Thing) -> tuple[float, float]:
    left, top, right, bottom = thing.box
    return (left + right) / 2, (top + bottom) / 2


def answer_from_boxes(scene: shapes.Scene, text: str) -> str:
    """Works the answer out a second time, from the words of the question and the list of objects alone."""

    def matching(name: str) -> list[shapes.Thing]:
        words = {word.removesuffix("s") for word in name.split()} - {"object"}
        return [thing for thing in scene.things if words <= {thing.color, thing.shape}]

    def only(name: str) -> shapes.Thing:
        (thing,) = matching(name)
        return thing

    if found := re.fullmatch(r"what colou?r is the (\w+)\?", text):
        return only(found[1]).color
    if found := re.fullmatch(r"what shape is (?:the )?(\w+)(?: object)?\?", text):
        return only(found[1]).shape
    if found := re.fullmatch(r"how many (.+) are there\?", text):
        return str(len(matching(found[1])))
    if found := re.fullmatch(r"is there (an?) (.+)\?", text):
        assert (found[1] == "an") == (found[2][0] in "aeiou")
        return "yes" if matching(found[2]) else "no"
    if found := re.fullmatch(r"where is the (.+)\?", text):
        x, y = center(only(found[1]))
        return f"{'top' if y < shapes.SIDE / 2 else 'bottom'} {'left' if x < shapes.SIDE / 2 else 'right'}"
    found = re.fullmatch(
        r"is the (.+?) (left of|right of|left or right of|above|below|above or below) the (.+)\?", text
    )
    assert found, f"no known question: {text}"
    axis = 0 if found[2].endswith("of") else 1
    distance = center(only(found[3]))[axis] - center(only(found[1]))[axis]
    # Far enough apart that a person sees it: the smallest distance between neighbouring cells.
    assert abs(distance) > shapes.SIZES[0] / 2
    side = (("left", "right"), ("above", "below"))[axis][distance < 0]
    if " or " in found[2]:
        return side
    return "yes" if found[2].startswith(side) else "no"


def test_every_answer_follows_from_the_objects(scenes):
    for scene in scenes[:600]:
        for question in scene.questions(3):
            assert answer_from_boxes(scene, question.text) == question.answer, f"scene {scene.seed}: {question}"


def test_answers_are_balanced(asked):
    given = {kind: Counter(q.answer for _, q in asked if q.kind == kind) for kind in shapes.KINDS}
    share = {kind: {a: n / c.total() for a, n in c.items()} for kind, c in given.items()}
    assert min(c.total() for c in given.values()) > SCENES / 2
    assert set(share["color"]) == set(shapes.COLORS)
    assert set(share["shape"]) == set(shapes.SHAPES)
    assert set(share["count"]) == {str(n) for n in range(shapes.MOST_OBJECTS + 1)}
    assert max(share["color"].values()) < 0.22
    assert max(share["shape"].values()) < 0.31
    assert max(share["count"].values()) < 0.35
    assert abs(share["existence"]["yes"] - 0.5) < COIN_SLACK
    assert set(share["position"]) == {"yes", "no", "left", "right", "above", "below", *shapes.CORNERS}
    for one, other in (("yes", "no"), ("left", "right"), ("above", "below")):
        # Position questions are fewer than scenes and split into three pairs, hence twice the margin.
        assert abs(share["position"][one] - share["position"][other]) < 2 * COIN_SLACK


def test_the_question_alone_tells_little():
    """Always giving a question's most frequent answer must not come near the models' accuracy."""
    seen: dict[str, Counter] = {}
    for seed in range(2 * SCENES):
        for question in shapes.draw_scene(seed, "train").questions(2):
            seen.setdefault(question.text, Counter())[question.answer] += 1
    usual = {text: counter.most_common(1)[0][0] for text, counter in seen.items()}
    questions = [question for _, question in shapes.held_out_questions(2000) if question.text in usual]
    for kind in shapes.KINDS:
        guesses = [usual[question.text] == question.answer for question in questions if question.kind == kind]
        assert len(guesses) > 100
        assert np.mean(guesses) < 0.6, kind


def test_vocabulary_covers_every_word_and_answer(asked):
    vocabulary = shapes.vocabulary()
    assert len(set(vocabulary)) == len(vocabulary) <= 100
    assert vocabulary[:5] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = {word for _, q in asked for word in re.findall(r"\w+|[^\w\s]", q.text)}
    assert words <= set(vocabulary)
    assert {q.answer for _, q in asked} <= set(shapes.answers())
    assert {word for answer in shapes.answers() for word in answer.split()} <= set(vocabulary)
    assert len(set(shapes.answers())) == len(shapes.answers())


def test_held_out_questions_come_in_the_number_asked_for():
    pairs = list(shapes.held_out_questions(103))
    assert len(pairs) == 103
    assert {scene.split for scene, _ in pairs} == {"test"}
    assert {q.kind for _, q in pairs} == set(shapes.KINDS)


def test_questions_of_one_kind_differ():
    questions = shapes.draw_scene(3).questions(4)
    assert len({q.text for q in questions}) == len(questions) > len(shapes.KINDS)


def test_bad_arguments():
    with pytest.raises(ValueError, match="split is 'dev'; it must be one of test, train"):
        shapes.draw_scene(0, "dev")
    with pytest.raises(ValueError, match="seed is -1"):
        shapes.draw_scene(-1)


def test_answers_are_painted_beside_the_picture():
    scene = shapes.draw_scene(5)
    rows = [(q.text, q.answer, 0.98, q.answer) for q in scene.questions()]
    sheet = shapes.draw_answers(scene.image(), rows)
    assert sheet.mode == "RGB"
    assert sheet.width > sheet.height >= shapes.SIDE
    panel = np.asarray(sheet)[:, sheet.height :]
    wrong = shapes.draw_answers(scene.image(), [(*rows[0][:1], "a wrong answer", *rows[0][2:]), *rows[1:]])
    assert (np.asarray(wrong)[:, sheet.height :] != panel).any()
    assert isinstance(shapes.draw_answers(scene.image(), []), Image.Image)


def test_boxes_are_outlined_in_the_picture():
    scene = shapes.draw_scene(5)
    plain, outlined = (
        np.asarray(shapes.draw_answers(scene.image(), [], boxes)) for boxes in ((), shapes.regions(scene).boxes)
    )
    changed = (plain != outlined).any(axis=-1)
    scale = 512 / shapes.SIDE
    for thing in scene.things:
        left, top, right, bottom = (round(edge * scale) for edge in thing.box)
        assert changed[top, left:right].all()
        assert changed[top:bottom, right].all()
        changed[top : bottom + 1, left : right + 1] = False
    assert not changed.any()

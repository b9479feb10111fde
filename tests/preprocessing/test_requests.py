"""Requests as the arrays of a signature, with and without knowing it; and the rows of a call."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.region_models import some_regions

from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.requests import Request, Takes, arrays, for_each, listed, padded, requests_of


def signature(**shapes) -> dict:
    return {name: SimpleNamespace(shape=shape) for name, shape in ({"text": (None,)} | shapes).items()}


IMAGE = signature(image=(None,))
PAIR = signature(image=(None, 2))
REGIONS = signature(regions=(None, None, None))
BOXES = signature(regions=(None, None, None), boxes=(None, None, 4))
REGION_PAIR = signature(regions=(None, 2, None, None))
CHOICES = signature(regions=(None, None, None), choices=(None, None))


@pytest.mark.parametrize(
    ("specs", "reads", "images", "visual"),
    [
        (IMAGE, ("image",), None, "images"),
        (PAIR, ("image",), 2, "images"),
        (REGIONS, ("regions",), None, "regions"),
        (BOXES, ("regions", "boxes"), None, "regions"),
        (REGION_PAIR, ("regions",), 2, "regions"),
        (CHOICES, ("regions", "choices"), None, "regions"),
    ],
)
def test_what_a_signature_takes(specs, reads, images, visual):
    takes = Takes.of_signature(specs)
    assert (takes.reads, takes.images, takes.visual) == (reads, images, visual)


@pytest.mark.parametrize("specs", [signature(audio=(None,)), {"image": SimpleNamespace(shape=(None,))}])
def test_another_signature_is_refused(specs):
    with pytest.raises(ValueError, match=f"the model takes {', '.join(specs)}, expected text and of image, regions"):
        Takes.of_signature(specs)


def test_images():
    requests = [Request("a", [b"one"]), Request(b"b\xff", [b"two"])]
    made = arrays(requests, Takes.of_signature(IMAGE))
    assert {name: value.tolist() for name, value in made.items()} == {
        "text": ["a", b"b\xff"],
        "image": [b"one", b"two"],
    }
    assert {value.dtype for value in made.values()} == {np.dtype(object)}
    pairs = arrays([Request("a", [b"one", b"two"]), Request("b", [b"x", b"y"])], Takes.of_signature(PAIR))
    assert pairs["image"].tolist() == [[b"one", b"two"], [b"x", b"y"]]


def test_regions_are_padded_and_have_boxes_where_the_model_reads_them():
    short, long = some_regions(2), some_regions(3)
    requests = [Request("a", [short]), Request("b", [long])]
    for specs in (REGIONS, BOXES):
        made = arrays(requests, Takes.of_signature(specs))
        assert list(made) == list(specs)
        assert made["regions"].shape == (2, 3, short.features.shape[1])
        np.testing.assert_array_equal(made["regions"][0, :2], short.features)
        assert not made["regions"][0, 2:].any()
    np.testing.assert_array_equal(made["boxes"][1], long.boxes)
    assert not made["boxes"][0, 2:].any()
    assert {value.dtype for name, value in made.items() if name != "text"} == {np.dtype(np.float32)}


def test_pairs_of_regions_keep_their_order():
    found = [some_regions(count) for count in (1, 4, 2, 3)]
    requests = [Request("a", found[:2]), Request("b", found[2:])]
    made = arrays(requests, Takes.of_signature(REGION_PAIR))["regions"]
    assert made.shape == (2, 2, 4, found[0].features.shape[1])
    for place, regions in enumerate(found):
        np.testing.assert_array_equal(made[divmod(place, 2)][: len(regions)], regions.features)


def test_lists_of_texts_are_padded():
    requests = [Request("a", [some_regions(1)], choices=["x", "y"]), Request("b", [some_regions(1)], choices=["z"])]
    made = arrays(requests, Takes.of_signature(CHOICES))
    assert made["choices"].tolist() == [["x", "y"], ["z", ""]]
    assert padded([]) == []
    assert padded([[], [b"a"]]) == [[""], [b"a"]]


def test_what_does_not_fit_is_one_sentence():
    bare = Regions(some_regions(2).features)
    for requests, specs, complaint in (
        ([Request("a", [b"one"]), Request("b", [b"x", b"y"])], IMAGE, "row 1 has 2 images, expected 1 with a text"),
        ([Request("a", [b"one"])], PAIR, "row 0 has 1 images, expected 2 with a text"),
        ([Request("a", [bare])], BOXES, "there are no boxes, and the model needs the box of each region"),
        ([Request("a", [some_regions(2)]), Request("b", [bare])], BOXES, "row 1 has no boxes, but others have"),
        ([Request("a", [some_regions(2)]), Request("b", [some_regions(2, size=5)])], REGIONS, "features of size 5"),
    ):
        with pytest.raises(ValueError, match=complaint):
            arrays(requests, Takes.of_signature(specs))


@pytest.mark.parametrize(
    ("requests", "names"),
    [
        ([Request("a")], {"text"}),
        ([Request("a", [b"one"])], {"text", "image"}),
        ([Request("a", [some_regions(2)], phrases=["p"])], {"text", "regions", "boxes", "phrases"}),
        ([Request("a", [Regions(np.ones((2, 3)))]), Request("b", [Regions(np.ones((1, 3)))])], {"text", "regions"}),
    ],
)
def test_without_a_signature_all_is_sent(requests, names):
    made = arrays(requests, Takes.all_of(requests))
    assert made.keys() == names
    assert {len(value) for value in made.values()} == {len(requests)}


def test_visuals_have_names():
    assert Request("a", [b"one", b"two"]).names == ["image 1", "image 2"]
    assert Request("a", [b"one"], names=["cat.png"]).names == ["cat.png"]


def test_one_for_each_or_one_for_all():
    read = []
    assert for_each("x", True, 3, "images", lambda value: read.append(value) or value * 2) == ["xx"] * 3
    assert read == ["x"]
    assert for_each(["x", "y"], False, 2, "images") == ["x", "y"]
    with pytest.raises(ValueError, match="got 1 images for 2 texts; give one for each text, or one for all"):
        for_each(["x"], False, 2, "images")


# --- the rows of a call ----------------------------------------------------------------------------------------------


def rows(specs, **asked) -> list[Request]:
    return requests_of(asked, Takes.of_signature(specs), "the model")


def test_one_text_goes_with_every_image_and_one_image_with_every_text():
    assert [(row.text, row.visuals) for row in rows(IMAGE, text="a", images=["x", "y"])] == [("a", ["x"]), ("a", ["y"])]
    assert [(row.text, row.visuals) for row in rows(IMAGE, text=["a", b"b"], images="x")] == [
        ("a", ["x"]),
        ("b", ["x"]),
    ]
    (row,) = rows(PAIR, text="a", images=["x", "y"])
    assert row.visuals == ["x", "y"]


def test_regions_come_in_many_forms(tmp_path):
    features, boxes = some_regions(2).features, some_regions(2).boxes
    np.savez(tmp_path / "x.npz", features=features, boxes=boxes)
    for one in (some_regions(2), tmp_path / "x.npz", str(tmp_path / "x.npz")):
        ((found,),) = (row.visuals for row in rows(BOXES, text="a", regions=[one]))
        np.testing.assert_array_equal(found.features, features)
        np.testing.assert_array_equal(found.boxes, boxes)
    for more in ({"boxes": boxes}, {"boxes": [boxes]}, {}):
        ((found,),) = (row.visuals for row in rows(BOXES, text="a", regions=features, **more))
        np.testing.assert_array_equal(found.features, features)
        assert (found.boxes is None) == (not more)


def test_choices_are_for_each_text_or_for_all():
    given = {"text": ["a", "b"], "regions": [some_regions(1)] * 2}
    for choices in (["x", "y"], [["x", "y"]], [["x", "y"], ["x", "y"]]):
        assert [row.choices for row in rows(CHOICES, **given, choices=choices)] == [["x", "y"]] * 2


def test_arrays_are_one_item_or_several():
    image, regions = np.zeros((8, 9, 3)), np.zeros((5, 4))
    for item, rank in ((image, 3), (regions, 2)):
        pair = np.stack([item, item])
        assert len(listed(item, 1, rank)) == len(listed([item], 1, rank)) == 1
        assert len(listed(pair, 1, rank)) == 2
        for one_row in ([item, item], [[item, item]], pair, pair[None]):
            ((first, second),) = listed(one_row, 2, rank)
            assert first.shape == second.shape == item.shape
        assert [len(row) for row in listed(item, 2, rank)] == [1]
        assert [len(row) for row in listed([[item, item], item, None, pair, b"xyz"], 2, rank)] == [2, 1, 1, 2, 1]
        assert [len(row) for row in listed([[item, item], item, None, pair], 1, rank)] == [2, 1, 1, 1]


def test_rows_with_another_number_of_images_are_refused():
    with pytest.raises(ValueError, match="row 0 has 1 images, but the model takes 2 with a text"):
        rows(PAIR, text="a", images="x")
    with pytest.raises(ValueError, match="row 1 has 2 images, but the model takes 1 with a text"):
        rows(IMAGE, text="a", images=["x", ["x", "y"]])


@pytest.mark.parametrize(
    ("specs", "asked", "complaint"),
    [
        (IMAGE, {"text": "a"}, "the model takes images and text; images is missing"),
        (IMAGE, {"text": "a", "regions": []}, "the model takes images and text, not regions"),
        (BOXES, {"text": "a", "images": "x"}, "the model takes boxes and regions and text, not images"),
        (IMAGE, {"text": ["a"] * 3, "images": ["x"] * 2}, "got 3 texts and 2 images; give as many of one"),
        (IMAGE, {"text": [], "images": ["x"]}, "got 0 texts and 1 images"),
        (IMAGE, {"text": 5, "images": "x"}, "text is 5, expected a text, or a list of them"),
        (IMAGE, {"text": ["a", " "], "images": "x"}, r"text\[1\] is ' ', expected a text that is not empty"),
        (BOXES, {"text": "a", "regions": [np.ones((2, 3))], "boxes": [1, 2]}, "got 2 arrays of boxes for 1 regions"),
        (REGIONS, {"text": "a", "regions": [np.ones((2, 3)), np.ones(3)]}, r"regions\[1\]: features have shape"),
        (CHOICES, {"text": "a", "regions": [np.ones((2, 3))], "choices": [["x", ""]]}, "choices need one list of"),
        (CHOICES, {"text": "a", "regions": [np.ones((2, 3))], "choices": [[]]}, r"choices\[0\]: there are none"),
    ],
)
def test_calls_that_are_refused(specs, asked, complaint):
    with pytest.raises(ValueError, match=complaint):
        rows(specs, **asked)


def test_requests_need_no_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None;"
        "from tfvl.preprocessing.requests import Request, Takes, arrays;"
        "print(arrays([Request('a', [b'x'])], Takes(('image',)))['image'].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[b'x']\n"

"""What a pipeline is called with: images and texts in every form, lists, streams, and what is refused."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.paths import DATA
from support.region_models import some_regions

import tfvl
from tfvl import shapes
from tfvl.pipelines import Answers
from tfvl.pipelines.calls import as_image
from tfvl.preprocessing.image.decode import encode_png

QUESTION, ANSWER = "what color is the triangle?", "red"
# Rows of a batch are padded to each other's sizes: other orders of summation.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return shapes.draw_scene(23).image()


@pytest.fixture(scope="module")
def vqa():
    with tfvl.pipeline("shapes-vilt") as pipeline:
        yield pipeline


def forms(picture: Image.Image, directory) -> dict:
    """Returns the picture in every form that an image may have."""
    files = {}
    for name in ("PNG", "BMP", "TIFF"):
        file = io.BytesIO()
        picture.save(file, name)
        files[name] = file.getvalue()
    path = directory / "scene.tiff"
    path.write_bytes(files["TIFF"])
    array = np.asarray(picture)
    return files | {
        "path": path,
        "text": str(path),
        "PIL": picture,
        "array": array,
        "planes": np.moveaxis(array, -1, 0),
        "tensor": tf.constant(array),
        "string": tf.constant(files["PNG"]),
    }


def test_every_form_of_an_image_gives_the_same(vqa, picture, tmp_path):
    alone = vqa(image=picture, question=QUESTION)
    assert alone[0]["answer"] == ANSWER
    given = forms(picture, tmp_path)
    rows = vqa(images=list(given.values()), question=QUESTION)
    for name, row in zip(given, rows, strict=True):
        assert row[0]["answer"] == ANSWER, name
        assert row[0]["score"] == pytest.approx(alone[0]["score"], abs=TOLERANCE)
        assert vqa(image=given[name], question=QUESTION)[0]["answer"] == ANSWER, name


def test_one_image_or_text_goes_with_all(vqa, picture):
    texts = [QUESTION, "how many triangles are there?"]
    assert [row[0]["answer"] for row in vqa(image=picture, question=texts)] == [ANSWER, "1"]
    assert [row[0]["answer"] for row in vqa(image=[picture] * 2, text=texts)] == [ANSWER, "1"]
    assert len(vqa(images=[picture], questions=[QUESTION])) == 1
    assert vqa(images=[], questions=[]) == []


def test_results_are_typed_lists_of_dicts(vqa, picture):
    answers = vqa(image=picture, question=QUESTION, top_k=2)
    assert isinstance(answers, Answers)
    assert isinstance(answers, list)
    assert [set(each) for each in answers] == [{"answer", "score"}] * 2
    assert all(isinstance(each["score"], float) for each in answers)
    assert answers == [dict(each) for each in answers]
    assert repr(answers).startswith("<'what color is the triangle?': red (0.9")
    shown = answers._repr_html_()
    assert "<td>red</td>" in shown
    assert "data:image/png;base64," in shown
    assert len(vqa(image=picture, question=QUESTION)) == 5
    assert len(vqa(image=picture, question=QUESTION, top_k=7)) == 7


def test_texts_are_escaped_in_notebooks(vqa, picture):
    assert "<b>" not in vqa(image=picture, question="is <b> there?")._repr_html_()


BAD = {
    "not an image": b"nothing",
    "torn": encode_png(np.zeros((9, 9, 3), np.uint8))[:-30],
    "missing": "no-such-file.png",
    "address": "http://127.0.0.1:9/cat.png",
    "number": 3,
    "shape": np.zeros((9, 9, 9), np.uint8),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_an_entry_of_its_row(vqa, picture, name):
    good, bad, other = vqa(images=[picture, BAD[name], picture], question=QUESTION)
    assert good[0]["answer"] == other[0]["answer"] == ANSWER
    ((key, sentence),) = bad[0].items()
    assert key == "error"
    assert len(bad) == 1
    assert sentence
    assert "\n" not in sentence
    with pytest.raises(ValueError, match=r"\w"):
        vqa(image=BAD[name], question=QUESTION)


def test_a_bad_text_is_an_entry_of_its_row(vqa, picture):
    good, bad = vqa(image=picture, question=[QUESTION, " "])
    assert good[0]["answer"] == ANSWER
    assert "not empty" in bad[0]["error"]


def test_generators_and_datasets_stream(vqa, picture):
    contents = encode_png(np.asarray(picture))
    asked = {"image": contents, "question": QUESTION}
    drawn = []

    def endless():
        while True:
            drawn.append(1)
            yield asked | ({"image": b"torn"} if len(drawn) == 2 else {})

    stream = vqa(endless(), batch_size=2)
    first, second, third = (next(stream) for _ in range(3))
    assert first[0]["answer"] == third[0]["answer"] == ANSWER
    assert "error" in second[0]
    assert len(drawn) == 4
    data = tf.data.Dataset.from_tensor_slices({name: [value] * 3 for name, value in asked.items()})
    assert [row[0]["answer"] for row in vqa(data)] == [ANSWER] * 3
    assert [[row[0]["answer"] for row in batch] for batch in vqa(data.batch(2))] == [[ANSWER] * 2, [ANSWER]]
    assert [row[0]["answer"] for row in vqa(image=iter([picture] * 3), question=QUESTION)] == [ANSWER] * 3
    assert [row[0]["answer"] for row in vqa([asked, asked])] == [ANSWER] * 2
    assert vqa(asked)[0]["answer"] == ANSWER


def in_streams(picture: Image.Image) -> dict:
    """Returns calls of three rows, of which the second cannot be used, by what is wrong with it."""
    good = {"image": picture, "question": QUESTION}
    return {
        "no image in a stream": {"image": iter([picture, None, picture]), "question": QUESTION},
        "no text in a stream": {"image": picture, "question": iter([QUESTION, None, QUESTION])},
        "no text in a stream of dicts": {"image": iter([good, good | {"question": None}, good])},
        "nothing in a stream of dicts": {"image": iter([good, None, good])},
        "other numbers in a stream": {"image": iter([good, {"image": [picture] * 2, "text": ["x"] * 3}, good])},
        "no text in a list of dicts": {"image": [good, {"image": picture}, good]},
        "given twice in a list of dicts": {"image": [good, good | {"text": "x"}, good]},
        "nothing in a list of dicts": {"image": [good, None, good]},
    }


@pytest.mark.parametrize("name", in_streams(None))
@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_bad_element_is_the_entry_of_its_row(vqa, picture, name, batch_size):
    first, bad, last = vqa(**in_streams(picture)[name], batch_size=batch_size)
    assert first[0]["answer"] == last[0]["answer"] == ANSWER
    ((key, sentence),) = bad[0].items()
    assert key == "error"
    assert "give" in sentence or "text is" in sentence


def test_the_first_of_a_list_of_dicts_may_be_bad(vqa, picture):
    bad, good = vqa([None, {"image": picture, "question": QUESTION}])
    assert "give image= or regions=" in bad[0]["error"]
    assert good[0]["answer"] == ANSWER


def test_an_unknown_name_ends_a_stream(vqa, picture):
    row = {"image": picture, "question": QUESTION, "prompt": "y"}
    for rows in ([row], iter([row])):
        with pytest.raises(ValueError, match="'prompt' is no input"):
            list(vqa(rows))


def test_pairs_of_images(tmp_path, picture):
    from support.checkpoint import save_tiny

    save_tiny(tmp_path, "ViltForImagesAndTextClassification", num_images=2, modality_type_vocab_size=3)
    pipe = tfvl.pipeline(tmp_path)
    cat = DATA / "cat_420.jpg"
    assert pipe.task == "visual-reasoning"
    alone = pipe(image=[cat, picture], text="the circle is red")
    assert isinstance(alone, Answers)
    first, second = pipe(images=[[cat, picture], [picture, picture]], text="the circle is red")
    assert first[0]["score"] == pytest.approx(alone[0]["score"], abs=TOLERANCE)
    assert second.text == "the circle is red"
    with pytest.raises(ValueError, match="row 0 has 1 images"):
        pipe(image=cat, text="the circle is red")


def test_pairs_that_are_not_two_images_are_entries_of_their_rows(picture):
    pair = [picture, picture]
    with tfvl.pipeline("shapes-vilt-nlvr2") as pipe:
        rows = pipe(images=[pair, [picture, b"x"], [picture], picture, None, pair], text="both circles are red")
        for number in (2, 3, 4):
            assert rows[number][0]["error"] == f"row {number} has 1 images, but shapes-vilt-nlvr2 takes 2 with a text"
        assert "error" in rows[1][0]
        assert rows[0][0]["answer"] == rows[5][0]["answer"]
        with pytest.raises(ValueError, match="row 0 has 1 images, but shapes-vilt-nlvr2 takes 2 with a text"):
            pipe(image=picture, text="both circles are red")


def test_regions_in_every_form():
    lxmert = tfvl.pipeline("shapes-lxmert")
    picture = shapes.draw_scene(23).image()
    (regions,) = tfvl.RegionDetector.from_pretrained("shapes-detector").regions([picture])
    alone = lxmert(regions=regions, question=QUESTION)
    assert alone[0]["answer"] == ANSWER
    given = {"features": regions.features, "boxes": regions.boxes}
    for row in (
        lxmert(image=picture, question=QUESTION),
        lxmert(regions=given, question=QUESTION),
        lxmert(regions=regions.features, boxes=regions.boxes, question=QUESTION),
        *lxmert(regions=[regions, given], question=QUESTION),
    ):
        assert row[0]["score"] == pytest.approx(alone[0]["score"], abs=TOLERANCE)
    wrong, right = lxmert(regions=[some_regions(3), regions], question=QUESTION)
    assert right[0]["answer"] == ANSWER
    assert "size 19" in wrong[0]["error"]
    assert "<img" not in alone._repr_html_()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"question": "x"}, "give image= or regions="),
        ({"image": b""}, "give question= or text="),
        ({"image": b"", "images": b"", "question": "x"}, "images is given twice"),
        ({"image": b"", "regions": np.ones((1, 2)), "question": "x"}, "give one of both"),
        ({"images": [b""] * 2, "questions": ["x"] * 3}, "got 3 texts and 2 images"),
        ({"image": b"", "question": "x", "prompt": "y"}, "'prompt' is no input"),
        ({"image": b"", "question": "x", "top_k": 0}, "top_k is 0"),
        ({"image": b"", "question": "x", "batch_size": 1.5}, "batch_size is 1.5"),
        ({"image": b"", "question": "x", "top_k": True}, "top_k is True, expected a whole number from 1 on"),
        ({"image": b"", "question": "x", "batch_size": True}, "batch_size is True, expected a whole number from 1 on"),
        ({"image": b"", "question": "x", "batch_size": np.int64(0)}, "batch_size is .*0.*, expected a whole number"),
        ({"image": b"GIF8", "question": "x", "choices": ["a"]}, "takes no choices"),
        ({"image": 7, "question": "x"}, "int is not an image"),
        ({"image": b"", "question": 3}, "text is 3"),
    ],
)
def test_calls_that_are_refused(vqa, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        vqa(**given)


def test_numbers_of_numpy_are_whole_numbers(vqa, picture):
    one, two = np.int64(1), np.int32(2)
    assert len(vqa(image=picture, question=QUESTION, top_k=two)) == 2
    assert len(vqa(image=[picture] * 3, question=QUESTION, batch_size=two)) == 3
    with tfvl.pipeline("shapes-vilt", top_k=two, batch_size=one) as pipe:
        assert (pipe.top_k, pipe.batch_size) == (2, 1)
        assert len(pipe(image=picture, question=QUESTION)) == 2
    for name in ("top_k", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} is True, expected a whole number from 1 on"):
            tfvl.pipeline("shapes-vilt", **{name: True})


def test_streams_of_unequal_lengths(vqa, picture):
    for images, texts, sentence in (
        (2, 1, "question ended after 1 elements, but image goes on; give streams of the same length"),
        (1, 2, "image ended after 1 elements, but question goes on; give streams of the same length"),
    ):
        stream = vqa(image=iter([picture] * images), question=iter([QUESTION] * texts), batch_size=1)
        assert next(stream)[0]["answer"] == ANSWER
        with pytest.raises(ValueError, match=f"^{sentence}$"):
            next(stream)


def test_visuals_are_what_a_graph_decodes(picture):
    assert as_image(np.asarray(picture)).startswith(b"\x89PNG")
    assert as_image(DATA / "cat_420.jpg") == (DATA / "cat_420.jpg").read_bytes()

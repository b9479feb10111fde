"""The shipped models: what they know, what they weigh, and `tfvl demo`, which shows the first of them."""

import contextlib
import io
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  # registers the ops of the reloaded tokenizer
from helpers_bundled import SHAPES_VILT, held_out, predictions
from PIL import Image

import tfvl
from tfvl import shapes
from tfvl.demo import run_demo

QUESTIONS = 2000
ACCURACY = 0.95  # what the README promises, on all questions and on each kind
MAX_BYTES = 4_000_000
DEMO_SEED = 4


@pytest.fixture(scope="module")
def model() -> tfvl.ViltForQuestionAnswering:
    return tfvl.ViltForQuestionAnswering.from_pretrained("shapes-vilt")


@pytest.fixture(scope="module")
def processor() -> tfvl.ViltProcessor:
    return tfvl.ViltProcessor.from_pretrained("shapes-vilt")


def test_shapes_vilt_answers_held_out_questions(model, processor):
    pictures, places, questions = held_out(QUESTIONS)
    given = predictions(model, processor, pictures, places, questions)
    asked = Counter(question.kind for question in questions)
    right = Counter(each.kind for each, answer in zip(questions, given, strict=True) if answer == each.answer)
    assert right.total() / QUESTIONS >= ACCURACY
    for kind in shapes.KINDS:
        assert right[kind] / asked[kind] >= ACCURACY, f"{kind}: {right[kind]} of {asked[kind]} right"


def test_directory_is_complete_and_small():
    sizes = {path.name: path.stat().st_size for path in SHAPES_VILT.iterdir()}
    assert sizes.keys() >= {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert sizes.keys() >= {"vocab.txt", "tokenizer_config.json"}
    assert sum(sizes.values()) <= MAX_BYTES


def test_files_agree_with_the_scenes(model, processor):
    assert tuple(model.config.id2label.values()) == shapes.answers()
    assert tuple(processor.tokenizer.get_vocab()) == shapes.vocabulary()
    assert processor.image_processor.size == {"shortest_edge": model.config.image_size}
    assert processor.tokenizer.model_max_length == model.config.max_position_embeddings


def test_case_and_spacing_do_not_matter(model, processor):
    scene = shapes.draw_scene(0)
    texts = [question.text for question in scene.questions()]
    loud = [text.upper().replace("?", " ?") for text in texts]
    pictures = [scene.image()] * len(texts)
    quiet_logits, loud_logits = (model(processor(images=pictures, text=each))["logits"] for each in (texts, loud))
    np.testing.assert_array_equal(quiet_logits, loud_logits)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What `tfvl demo` returned, what it printed, and where it wrote."""
    out = tmp_path_factory.mktemp("demo")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        rows = run_demo(seed=DEMO_SEED, out=out)
    return rows, printed.getvalue(), out


def test_demo_answers_from_the_artefact(demo):
    rows, printed, out = demo
    scene = shapes.draw_scene(DEMO_SEED)
    assert [(row.question, row.truth) for row in rows] == [(each.text, each.answer) for each in scene.questions(2)]
    assert all(row.answer == row.truth and 0.5 < row.score <= 1 for row in rows)
    assert rows[0].question in printed
    assert f"{len(rows)} of {len(rows)} right" in printed
    assert "tfvl ask photo.jpg" in printed
    assert (out / "scene.png").read_bytes() == png(scene.image())
    with Image.open(out / "answers.png") as painted:
        assert painted.width > painted.height


def test_saved_model_gives_the_same_answers(model, processor, demo):
    pictures, places, questions = held_out(200)
    serve = tf.saved_model.load(str(demo[-1] / "shapes-vilt" / "1")).signatures["serving_default"]
    images = tf.constant([png(pictures[place]) for place in places])
    results = serve(image=images, text=tf.constant([question.text for question in questions]))
    given = [row[0].decode() for row in results["answers"].numpy()]
    assert given == predictions(model, processor, pictures, places, questions)
    assert not any(results["status"].numpy())


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()

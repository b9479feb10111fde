"""The shipped models: what they know, what they weigh, and `tfvl demo`, which shows each of them."""

import contextlib
import io
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  # registers the ops of the reloaded tokenizer
from PIL import Image
from support.bundled import DETECTOR, DIRECTORY, NAMES, held_out, load, predictions, scores, shown

import tfvl
from tfvl import auto, shapes
from tfvl.cli import demo
from tfvl.cli.demo_tasks import TASKS

QUESTIONS = 2000
ACCURACY = 0.95  # what the README promises, on all questions and on each kind
MAX_BYTES = 4_000_000
DEMO_SEED = 5
# Of logits of about ten; the order of the regions changes the order of sums of some hundred float32 terms.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-4}


@pytest.fixture(scope="module", params=tuple(demo.MODELS))
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def name(family) -> str:
    return demo.MODELS[family].bundled


@pytest.fixture(scope="module")
def model_and_processor(name):
    return load(name)


@pytest.fixture(scope="module")
def model(model_and_processor):
    return model_and_processor[0]


@pytest.fixture(scope="module")
def processor(model_and_processor):
    return model_and_processor[1]


def test_every_bundled_model_is_tested():
    bundled = {path.name for path in DIRECTORY.glob("shapes-*")}
    tasks = {task.model for task in TASKS.values() if task.model}
    assert bundled == {*NAMES, DETECTOR, *tasks, "shapes-visual-bert-nlvr2"}
    assert set(NAMES) == {model.bundled for model in demo.MODELS.values()}


def test_held_out_questions_are_answered(model, processor):
    scenes, places, questions = held_out(QUESTIONS)
    given = predictions(model, processor, scenes, places, questions)
    asked = Counter(question.kind for question in questions)
    right = Counter(each.kind for each, answer in zip(questions, given, strict=True) if answer == each.answer)
    assert right.total() / QUESTIONS >= ACCURACY
    for kind in shapes.KINDS:
        assert right[kind] / asked[kind] >= ACCURACY, f"{kind}: {right[kind]} of {asked[kind]} right"


def test_directory_is_complete_and_small(name):
    sizes = {path.name: path.stat().st_size for path in (DIRECTORY / name).iterdir()}
    assert sizes.keys() >= {"README.md", "config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"}
    assert ("preprocessor_config.json" in sizes) == (name == "shapes-vilt")
    assert sum(sizes.values()) <= MAX_BYTES


def test_model_card_says_how_to_make_the_model(family, name):
    card = (DIRECTORY / name / "README.md").read_text()
    assert f"--model {family} " in card
    assert ("tools/train/shapes_from_pixels.py" in card) == (family != "vilt")
    assert name in card
    assert all(f"| {kind} |" in card for kind in (*shapes.KINDS, "all"))


def test_files_agree_with_the_scenes(family, model, processor):
    config = model.config
    assert config.model_type == family
    assert tuple(config.id2label.values()) == shapes.answers()
    assert tuple(processor.tokenizer.get_vocab()) == shapes.vocabulary()
    assert processor.tokenizer.model_max_length == config.max_position_embeddings
    if family == "vilt":
        assert processor.image_processor.size == {"shortest_edge": config.image_size}
    else:
        assert processor.feature_size == {"lxmert": 128, "visual_bert": 132}[family]  # 4 for the box, see the card
        assert getattr(config, "num_qa_labels", len(shapes.answers())) == len(shapes.answers())


def test_case_and_spacing_do_not_matter(model, processor):
    scene = shapes.draw_scene(0)
    texts = [question.text for question in scene.questions()]
    loud = [text.upper().replace("?", " ?") for text in texts]
    visual = {name: values[[0] * len(texts)] for name, values in shown(processor, [scene]).items()}
    quiet_scores, loud_scores = (scores(model(processor.tokenizer(each) | visual)) for each in (texts, loud))
    np.testing.assert_array_equal(quiet_scores, loud_scores)


@pytest.mark.parametrize("name", ["shapes-visual-bert", "shapes-lxmert"])
def test_the_order_and_the_padding_of_regions_do_not_matter(name):
    """So a model cannot have learnt the order in which the scenes list their objects."""
    model, processor = load(name)
    scene = shapes.draw_scene(1)
    (regions,) = processor.detector.regions(scene.image())
    texts = [question.text for question in scene.questions()]
    arranged = {
        "as they come": (regions.features, regions.boxes),
        "backwards": (regions.features[::-1], regions.boxes[::-1]),
    }
    logits = {}
    for order, (features, boxes) in arranged.items():
        once = tfvl.Regions(features, boxes)
        logits[order] = scores(model(processor(text=texts, regions=[once] * len(texts))))
    np.testing.assert_allclose(logits["backwards"], logits["as they come"], **TOLERANCE)
    crowd = tfvl.Regions(*(np.concatenate([value] * 2) for value in (regions.features, regions.boxes)))
    padded = processor(text=[*texts, texts[0]], regions=[*[regions] * len(texts), crowd])
    np.testing.assert_allclose(scores(model(padded))[:-1], logits["as they come"], **TOLERANCE)


@pytest.fixture(scope="module")
def shown_demo(family, tmp_path_factory):
    """Runs `tfvl demo`; returns its result, what it printed, and the directory that it wrote."""
    out = tmp_path_factory.mktemp("demo")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        rows = demo.run_demo(family, seed=DEMO_SEED, out=out)
    return rows, printed.getvalue(), out


def test_demo_answers_from_the_artefact(family, shown_demo):
    rows, printed, out = shown_demo
    scene = shapes.draw_scene(DEMO_SEED)
    assert [(row.question, row.truth) for row in rows] == [(each.text, each.answer) for each in scene.questions(2)]
    assert all(row.answer == row.truth and 0.5 < row.score <= 1 for row in rows)
    assert rows[0].question in printed
    assert f"{len(rows)} of {len(rows)} right" in printed
    assert f"tfvl export {demo.MODELS[family].hub_id}" in printed
    assert (out / "scene.png").read_bytes() == png(scene.image())
    with Image.open(out / "answers.png") as painted:
        assert painted.width > painted.height


def test_saved_model_gives_the_same_answers(name, model, processor, shown_demo):
    scenes, places, questions = held_out(200)
    serve = tf.saved_model.load(str(shown_demo[-1] / name / "1")).signatures["serving_default"]
    seen = np.array([png(scene.image()) for scene in scenes], object)[places]
    results = serve(image=tf.constant(seen), text=tf.constant([question.text for question in questions]))
    given = [row[0].decode() for row in results["answers"].numpy()]
    assert given == predictions(model, processor, scenes, places, questions)
    assert not any(results["status"].numpy())


def test_demo_refuses_a_model_that_it_cannot_ask(tmp_path):
    config = tfvl.VisualBertConfig.from_pretrained("shapes-visual-bert", overrides={"visual_embedding_dim": 9})
    tfvl.VisualBertForQuestionAnswering(config).save_pretrained(tmp_path)
    auto.load("shapes-visual-bert")[1].tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="of size 128, but visual_embedding_dim of the model's config is 9; take the det"
    ):
        demo.run_demo(str(tmp_path), out=tmp_path / "out")
    config = config.replace(visual_embedding_dim=132)
    tfvl.VisualBertForVisualReasoning(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a VisualBertForVisualReasoning; the demo needs"):
        demo.run_demo(str(tmp_path), out=tmp_path / "out")


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()

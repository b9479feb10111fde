"""The bundled models of other tasks than questions: right on held-out scenes, from pixels, in every form they have."""

import contextlib
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from support.bundled import DETECTOR, DIRECTORY

import tfvl
from tfvl import auto, shapes
from tfvl.cli import demo, demo_tasks
from tfvl.cli.app import main
from tfvl.pipelines import open_pipeline
from tfvl.preprocessing.requests import Request

# Each bundled model, and the key of its task.
MODELS = {task.model: name for name, task in demo_tasks.TASKS.items() if task.model} | {
    "shapes-visual-bert-nlvr2": "nlvr2"
}
COUNT, SHARE = 120, 0.95  # cases on held-out scenes, and how many must be answered rightly
COMPARED = 12  # of them, in the exported forms
RANKED, RECALL = 40, 0.9  # scenes with a caption each, and how many must find each other
SEED = 0
MAX_BYTES = 1_500_000


class Case(NamedTuple):
    """Requests about a drawn scene, and the right answers; of several requests, the text that scores best is taken."""

    scene: shapes.Scene
    requests: list[Request]
    truth: list[str]


def masked_words(count: int) -> list[Case]:
    cases = []
    for scene, caption in shapes.held_out(shapes.captions, count):
        for place in shapes.hidden_words(scene, caption)[:1]:
            text = shapes.with_word(caption, place, "[MASK]")
            cases.append(Case(scene, [Request(text, [scene.png()])], [caption.split()[place]]))
    return cases


def fitting_captions(count: int) -> list[Case]:
    """Makes cases of a true caption among some that differ from it by a word."""
    pairs = shapes.held_out(shapes.captions, count)
    texts = [[*shapes.false_captions(scene, caption)[::4], caption] for scene, caption in pairs]
    return [
        Case(scene, [Request(text, [scene.png()]) for text in row], [caption])
        for (scene, caption), row in zip(pairs, texts, strict=True)
    ]


def compared_scenes(count: int) -> list[Case]:
    return [
        Case(each.scenes[0], [Request(each.text, [scene.png() for scene in each.scenes])], [str(each.label)])
        for each in shapes.pair_sentences(count // shapes.PAIRS)
    ]


def chosen_texts(count: int) -> list[Case]:
    return [
        Case(scene, [Request(each.prompt, [scene.png()], choices=each.choices)], [each.choices[each.right]])
        for scene, each in shapes.held_out(shapes.choices, count)
    ]


def placed_phrases(count: int) -> list[Case]:
    return [
        Case(
            scene,
            [Request(each.text, [scene.png()], phrases=each.phrases)],
            [f"{thing.color} {thing.shape}" for thing in each.things],
        )
        for scene, each in shapes.held_out(shapes.phrases, count)
    ]


CASES: dict[str, Callable[[int], list[Case]]] = {
    "mlm": masked_words,
    "retrieval": fitting_captions,
    "nlvr2": compared_scenes,
    "choice": chosen_texts,
    "phrases": placed_phrases,
}


@pytest.fixture(scope="module", params=MODELS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def task(name) -> str:
    return MODELS[name]


@pytest.fixture(scope="module")
def cases(task) -> list[Case]:
    return CASES[task](COUNT)


@pytest.fixture(scope="module")
def answered(name, task, cases) -> list[list[str]]:
    """Returns the checkpoint's answers."""
    with open_pipeline(name) as pipeline:
        return answers(pipeline, task, cases)


@pytest.fixture(scope="module")
def shown(name, task, tmp_path_factory):
    """Runs `tfvl demo --task`; returns its result, and the directory that it wrote."""
    out = tmp_path_factory.mktemp("demo")
    with contextlib.redirect_stdout(io.StringIO()):
        return demo.run_demo(model=name, task=task, seed=SEED, out=out), out


def answers(pipeline, task: str, cases: list[Case]) -> list[list[str]]:
    given = iter(pipeline.ask([request for case in cases for request in case.requests]))
    rows = [[next(given).scored for _ in case.requests] for case in cases]
    if task == "mlm":
        return [[told(case, row[0][0][0])] for case, row in zip(cases, rows, strict=True)]
    if task == "phrases":
        boxes = tfvl.RegionDetector.from_pretrained(DETECTOR).detect([case.scene.image() for case in cases])
        found = zip(cases, boxes["normalized_boxes"], rows, strict=True)
        return [objects(case.scene, of_scene, scored) for case, of_scene, (scored,) in found]
    return [[max((scored[0] for scored in row), key=lambda it: it[1])[0]] for row in rows]


def told(case: Case, word: str) -> str:
    """Returns the hidden word if the given one makes a true caption too ("object" for "circle"), else the given one."""
    (true,) = case.truth
    try:
        return true if shapes.fits(case.requests[0].text.replace("[MASK]", word), case.scene) else word
    except ValueError:  # no caption
        return word


def objects(scene: shapes.Scene, boxes, scored) -> list[str]:
    """Returns the object that each phrase's best region covers."""
    return [demo_tasks.covered(scene, boxes[int(text.rpartition(" ")[2])]) for text, _ in scored]


def test_every_task_has_its_cases():
    assert CASES.keys() == set(MODELS.values())


def test_held_out_cases_are_answered(cases, answered):
    pairs = [pair for case, row in zip(cases, answered, strict=True) for pair in zip(row, case.truth, strict=True)]
    assert len(pairs) >= COUNT * 0.9
    assert np.mean([answer == truth for answer, truth in pairs]) >= SHARE


def test_captions_and_scenes_find_each_other():
    rows = [(scene, *shapes.captions(scene)) for scene, _ in shapes.held_out(shapes.captions, RANKED)]
    scenes, texts = zip(*rows, strict=True)
    with tfvl.pipeline("shapes-vilt-retrieval") as pipe:
        scores = pipe.rank([scene.image() for scene in scenes], list(texts))  # (scenes, texts)
    true = np.array([[shapes.fits(text, scene) for text in texts] for scene in scenes])
    places = np.arange(RANKED)
    assert true[places, scores.argmax(axis=1)].mean() >= RECALL
    assert true[scores.argmax(axis=0), places].mean() >= RECALL


def test_changed_captions_do_not_match():
    model, processor = auto.load("shapes-vilt-mlm")
    scenes, texts, true = [], [], []
    for scene, caption in shapes.held_out(shapes.captions, COUNT):
        scenes += [scene.image()] * 2
        texts += [caption, shapes.false_captions(scene, caption)[0]]
        true += [1, 0]
    scores = model.predict(processor(images=scenes, text=texts), verbose=0)["cross_relationship_score"]
    assert np.mean(scores.argmax(axis=-1) == true) >= SHARE


def test_the_text_alone_does_not_tell_regions_apart():
    """So the card's figure without the picture needs no training: the first region is taken."""
    model, processor = auto.load("shapes-visual-bert-phrases", detector=DETECTOR)
    inputs = processor(text="the circle is above the red square", images=shapes.draw_scene(0, "test").image())
    inputs["visual_embeds"] = np.zeros_like(inputs["visual_embeds"])
    logits = model(inputs, region_to_phrase_position=[[2, 4]])["logits"].numpy()
    assert np.ptp(logits, axis=-1).max() < 1e-4


def test_demo_answers_from_the_artefact(task, shown):
    rows, _ = shown
    assert len(rows) >= 2
    assert all(0 < row.score <= 1 for row in rows)
    wrong = [row for row in rows if row.answer != row.truth]
    assert len(wrong) <= (task == "mlm")  # where another word may be true as well


def test_exported_forms_give_the_same_answers(name, task, cases, answered, shown, tmp_path):
    cases, expected = cases[:COMPARED], answered[:COMPARED]
    with open_pipeline(str(shown[1] / name / "1")) as pipeline:
        assert answers(pipeline, task, cases) == expected
    model, processor = auto.load(name)
    path = tmp_path / "model.tflite"
    tfvl.export.lite(model, processor, path)
    detector = DETECTOR if "visual-bert" in name else None
    with open_pipeline(str(path), detector=detector) as pipeline:
        assert answers(pipeline, task, cases) == expected


def test_directory_and_card(name):
    sizes = {path.name: path.stat().st_size for path in (DIRECTORY / name).iterdir()}
    assert sizes.keys() >= {"README.md", "config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"}
    assert sum(sizes.values()) <= MAX_BYTES
    card = (DIRECTORY / name / "README.md").read_text()
    assert f"tools/train/shapes_tasks.py {name} " in card
    assert all(f"| {column} " in card for column in ("held out", "chance", "text only"))


def test_a_task_that_there_is_not(capsys):
    assert main(["demo", "--task", "dance"]) == 2
    assert "there is no task 'dance' to show; there are vqa, " in capsys.readouterr().err

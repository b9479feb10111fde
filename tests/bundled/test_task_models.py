"""The bundled models of other tasks than questions: right on held-out scenes, from pixels, in every form they have."""

import contextlib
import io

import numpy as np
import pytest
from support.bundled import DETECTOR, DIRECTORY

import tfvl
from tfvl import auto, shapes
from tfvl.cli import demo, demo_tasks
from tfvl.cli.app import main
from tfvl.pipelines import open_pipeline
from tfvl.preprocessing.requests import Request

TASKS = {name: task for name, task in demo_tasks.TASKS.items() if task.model}
COUNT, SHARE = 120, 0.95  # requests on held-out scenes, and how many must be answered rightly
COMPARED = 12  # of them, in the exported forms
SEED = 0
MAX_BYTES = 1_500_000


@pytest.fixture(scope="module", params=TASKS)
def task(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def asked(task):
    """Held-out scenes, a request about each, and the objects that its phrases speak of."""
    pairs = shapes.held_out(getattr(shapes, task), COUNT)
    scenes = [scene for scene, _ in pairs]
    files = [png(scene) for scene in scenes]
    requests = [Request(each.text, [file], phrases=each.phrases) for (_, each), file in zip(pairs, files, strict=True)]
    return scenes, requests, [[f"{thing.color} {thing.shape}" for thing in each.things] for _, each in pairs]


@pytest.fixture(scope="module")
def answered(task, asked) -> list[list[str]]:
    """What the checkpoint answers to each request: the region of each phrase."""
    with open_pipeline(TASKS[task].model) as pipeline:
        return answers(pipeline, asked[1])


@pytest.fixture(scope="module")
def shown(task, tmp_path_factory):
    """What `tfvl demo --task` returned, and where it wrote."""
    out = tmp_path_factory.mktemp("demo")
    with contextlib.redirect_stdout(io.StringIO()):
        return demo.run_demo(task=task, seed=SEED, out=out), out


def png(scene: shapes.Scene) -> bytes:
    file = io.BytesIO()
    scene.image().save(file, "png")
    return file.getvalue()


def answers(pipeline, requests) -> list[list[str]]:
    return [[text for text, _ in each.scored] for each in pipeline.ask(requests)]


def test_held_out_requests_are_answered(asked, answered):
    scenes, _, truths = asked
    detector = tfvl.RegionDetector.from_pretrained(DETECTOR)
    boxes = detector.detect([scene.image() for scene in scenes])["normalized_boxes"]
    places = [[int(text.rpartition(" ")[2]) for text in row] for row in answered]
    said = [
        [demo_tasks.covered(scene, of_scene[place]) for place in row]
        for scene, of_scene, row in zip(scenes, boxes, places, strict=True)
    ]
    right = [
        one == other for row, truth in zip(said, truths, strict=True) for one, other in zip(row, truth, strict=True)
    ]
    assert np.mean(right) >= SHARE


def test_the_text_alone_does_not_tell_regions_apart(asked):
    """So the card's figure without the picture needs no training: the first region is taken."""
    model, processor = auto.load("shapes-visual-bert-phrases", detector=DETECTOR)
    scenes, requests, _ = asked
    inputs = processor(text=[requests[0].text], images=[scenes[0].image()])
    inputs["visual_embeds"] = np.zeros_like(inputs["visual_embeds"])
    logits = model(inputs, region_to_phrase_position=[[2, 4]])["logits"].numpy()
    assert np.ptp(logits, axis=-1).max() < 1e-4


def test_demo_answers_from_the_artefact(shown):
    rows, _ = shown
    assert len(rows) >= 2
    assert all(row.answer == row.truth and 0 < row.score <= 1 for row in rows)


def test_exported_forms_give_the_same_answers(task, asked, answered, shown, tmp_path):
    requests, expected = asked[1][:COMPARED], answered[:COMPARED]
    with open_pipeline(str(shown[1] / TASKS[task].model / "1")) as pipeline:
        assert answers(pipeline, requests) == expected
    model, processor = auto.load(TASKS[task].model)
    path = tmp_path / "model.tflite"
    tfvl.export.lite(model, processor, path)
    with open_pipeline(str(path), detector=DETECTOR) as pipeline:
        assert answers(pipeline, requests) == expected


def test_directory_and_card(task):
    name = TASKS[task].model
    sizes = {path.name: path.stat().st_size for path in (DIRECTORY / name).iterdir()}
    assert sizes.keys() >= {"README.md", "config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"}
    assert sum(sizes.values()) <= MAX_BYTES
    card = (DIRECTORY / name / "README.md").read_text()
    assert f"tools/train/shapes_tasks.py {name} " in card
    assert all(f"| {column} " in card for column in ("held out", "chance", "text only"))


def test_a_task_that_there_is_not(capsys):
    assert main(["demo", "--task", "dance"]) == 2
    assert "there is no task 'dance' to show; there are vqa, " in capsys.readouterr().err

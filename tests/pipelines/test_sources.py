"""One object for the four sources: the same answers from each, and the same sentences for what none can answer."""

import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support import server
from support.checkpoint import save_tiny
from support.lite_files import bundled_file
from support.once import once
from support.region_models import save_tiny_region_model, some_regions

import tfvl
from tfvl import shapes
from tfvl.pipelines import (
    Answers,
    CheckpointPipeline,
    LitePipeline,
    Pipeline,
    SavedModelPipeline,
    ServerPipeline,
    open_pipeline,
)
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.requests import Request

NEEDED = ("tensorflow_serving", "starlette", "grpc_health", "ai_edge_litert")
pytestmark = pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason="needs tfvl[serving,lite]")

# A few small blocks in float32 with trained weights: the graph, XNNPACK and eager kernels sum in other orders.
TOLERANCE = 1e-5
KINDS = {
    "checkpoint": CheckpointPipeline,
    "SavedModel": SavedModelPipeline,
    "tflite": LitePipeline,
    "server": ServerPipeline,
}
PNG = server.encoded(np.full((40, 50, 3), 200, np.uint8))


@cache
def lxmert() -> tuple[Path, Path]:
    """Exports the bundled LXMERT as a SavedModel and as a `.tflite` file; both take regions."""
    name = "shapes-lxmert"
    directory = once(f"{name}/1", lambda path: tfvl.export.saved_model(*tfvl.auto.load(name), path))
    return directory, bundled_file(name)


@pytest.fixture(scope="module")
def sources():
    """Yields a source of each kind, by the model's name."""
    files = {"shapes-vilt": (server.exported() / "1", bundled_file("shapes-vilt")), "shapes-lxmert": lxmert()}
    found = {}
    with ExitStack() as stack:
        for name, (directory, lite) in files.items():
            served = stack.enter_context(server.serving(directory, "shapes"))
            url = f"http://127.0.0.1:{served.rest_port}/v1/models/shapes"
            found[name] = dict(zip(KINDS, (name, str(directory), str(lite), url), strict=True))
        yield found


@pytest.fixture(scope="module")
def pipelines(sources):
    """Yields a function from a model's name to its pipelines by their kind."""
    with ExitStack() as stack:
        yield cache(lambda name: {kind: stack.enter_context(open_pipeline(src)) for kind, src in sources[name].items()})


@pytest.fixture(scope="module")
def said(pipelines):
    """Returns a function from a model's name to the answers of each of its pipelines to `asked`."""
    return cache(lambda name: {kind: each.ask(asked(name)[0]) for kind, each in pipelines(name).items()})


@cache
def asked(name: str) -> tuple[list[Request], list[str]]:
    """Makes three requests about drawn scenes, and the right answers."""
    pairs = list(shapes.held_out_questions(15))[::5]
    pictures = [server.encoded(scene.image()) for scene, _ in pairs]
    if name == "shapes-lxmert":
        pictures = tfvl.RegionDetector.from_pretrained("shapes-detector").regions(pictures)
    requests = [Request(question.text, [picture]) for picture, (_, question) in zip(pictures, pairs, strict=True)]
    return requests, [question.answer for _, question in pairs]


def assert_same(answers: Answers, expected: Answers) -> None:
    scores, wanted = dict(answers.scored), dict(expected.scored)
    assert next(iter(scores)) == next(iter(wanted))
    np.testing.assert_allclose(list(scores.values()), list(wanted.values()), rtol=0, atol=TOLERANCE)
    for answer in scores.keys() & wanted.keys():  # of two that score alike, another may be the last
        assert scores[answer] == pytest.approx(wanted[answer], abs=TOLERANCE)


@pytest.mark.parametrize("name", ["shapes-vilt", "shapes-lxmert"])
def test_the_four_sources_give_the_same_answers(pipelines, said, name):
    assert {kind: type(pipeline) for kind, pipeline in pipelines(name).items()} == KINDS
    for rows in said(name).values():
        assert [row.scored[0][0] for row in rows] == asked(name)[1]
        assert {len(row.scored) for row in rows} == {5}
        for row, expected in zip(rows, said(name)["checkpoint"], strict=True):
            assert_same(row, expected)


@pytest.mark.parametrize("name", ["shapes-vilt", "shapes-lxmert"])
def test_a_request_alone_is_answered_as_among_others(pipelines, said, name):
    for kind, pipeline in pipelines(name).items():
        (alone,) = pipeline.ask(asked(name)[0][1:2])
        assert_same(alone, said(name)[kind][1])


def complaints(pipelines: dict[str, Pipeline], request: Request) -> dict[str, str]:
    """Returns each pipeline's error for a request that cannot be answered, with MODEL in place of the model's name."""
    found = {}
    for kind, pipeline in pipelines.items():
        with pytest.raises(ValueError, match=r"image|takes|text") as caught:
            pipeline.ask([request])
        found[kind] = str(caught.value).replace(pipeline.name, "MODEL")
    return found


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("shapes-vilt", {"visuals": [Regions(np.ones((2, 8)))]}, "MODEL takes images, but image 1 holds region"),
        ("shapes-vilt", {"visuals": [b"", b""]}, "MODEL takes 1 image with a text, got 2"),
        ("shapes-vilt", {"choices": ["red"]}, "MODEL takes no choices; leave --choice out"),
        ("shapes-lxmert", {"phrases": ["red"]}, "MODEL takes no phrases; leave --phrase out"),
        ("shapes-lxmert", {"visuals": [Regions(np.ones((2, 8)))]}, "image 1: there are no boxes, and MODEL needs"),
    ],
)
def test_what_no_source_takes(pipelines, name, changes, sentence):
    request = asked(name)[0][0]
    said = complaints(pipelines(name), Request(**{"text": request.text, "visuals": request.visuals} | changes))
    assert len(set(said.values())) == 1
    assert said["checkpoint"].startswith(sentence)


def test_images_for_a_model_of_regions_need_a_detector(pipelines):
    """A bundled checkpoint has one; who asks the others is told to name one."""
    (request, *_), (truth, *_) = asked("shapes-vilt")[0], asked("shapes-vilt")[1]
    others = dict(pipelines("shapes-lxmert"))
    (answers,) = others.pop("checkpoint").ask([request])
    assert answers.scored[0][0] == truth
    for sentence in complaints(others, request).values():
        assert sentence.startswith("MODEL takes region features (.npz, ")
        assert "but image 1 is an image; name the detector that its features came from, e.g. --detector" in sentence


@pytest.mark.parametrize(
    ("changes", "words"), [({"visuals": [b"GIF89a torn"]}, "image"), ({"text": " "}, "empty")], ids=["image", "text"]
)
def test_what_a_source_finds_wrong_names_the_request(pipelines, changes, words):
    request = asked("shapes-vilt")[0][0]
    request = Request(**{"text": request.text, "visuals": request.visuals, "names": ["scene.gif"]} | changes)
    for sentence in complaints(pipelines("shapes-vilt"), request).values():
        beginning, _, problem = sentence.partition(": ")
        assert beginning == f"scene.gif with {request.text!r}"
        assert words in problem


@pytest.mark.parametrize(
    ("head", "requests"),
    [
        (
            "VisualBertForRegionToPhraseAlignment",
            [
                Request("a red circle left of a square", [some_regions(3)], phrases=["red circle", "square"]),
                Request("a square", [some_regions(5)], phrases=["square"]),
            ],
        ),
        (
            "VisualBertForMultipleChoice",
            [
                Request("what is red ?", [some_regions(3)], choices=["the circle", "a square", "blue"]),
                Request("what is blue ?", [some_regions(5)], choices=["a circle"]),
            ],
        ),
        ("ViltForTokenClassification", [Request("a red circle left of a square", [PNG]), Request("red", [PNG])]),
    ],
)
def test_rows_of_other_lengths_keep_their_answers(tmp_path, head, requests):
    (save_tiny_region_model if "VisualBert" in head else save_tiny)(tmp_path, head)
    pipeline = open_pipeline(str(tmp_path))
    for request, among in zip(requests, pipeline.ask(requests), strict=True):
        (alone,) = pipeline.ask([request])
        assert [answer for answer, _ in among.scored] == [answer for answer, _ in alone.scored]
        np.testing.assert_allclose(
            [score for _, score in among.scored], [score for _, score in alone.scored], rtol=0, atol=TOLERANCE
        )
        assert len(among.scored) == len(request.phrases or request.choices or [*request.text.split(), "[CLS]", "[SEP]"])


def test_a_model_without_answers(tmp_path):
    save_tiny(tmp_path, "ViltModel")
    with pytest.raises(ValueError, match="has no head that answers; its outputs are pooler_output, status"):
        open_pipeline(str(tmp_path)).ask(asked("shapes-vilt")[0][:1])


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("checkpoint", {"detector": "shapes-detector"}, "reads images itself; leave the detector out"),
        ("SavedModel", {"detector": "shapes-detector"}, "is exported, with its detector or without"),
        ("tflite", {"detector": "shapes-detector"}, "reads images itself; leave the detector out"),
        ("server", {"detector": "shapes-detector"}, "is a server"),
        ("server", {"revision": "main"}, "is a server"),
    ],
)
def test_options_that_a_source_does_not_take(sources, kind, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_pipeline(sources["shapes-vilt"][kind], **options)


@pytest.mark.parametrize("kind", ["tflite", "server"])
def test_files_and_servers_are_asked_without_tensorflow(sources, tmp_path, kind):
    (request, *_), (truth, *_) = asked("shapes-vilt")
    (tmp_path / "scene.png").write_bytes(request.visuals[0])
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from tfvl.pipelines import open_pipeline; from tfvl.preprocessing.requests import Request\n"
        "with open_pipeline(sys.argv[1]) as pipeline:\n"
        "    (answers,) = pipeline.ask([Request(sys.argv[2], [open(sys.argv[3], 'rb').read()])])\n"
        "print(answers.scored[0][0])"
    )
    command = [sys.executable, "-c", code, sources["shapes-vilt"][kind], request.text, tmp_path / "scene.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == truth

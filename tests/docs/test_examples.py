"""Every script in examples/ runs, on the bundled model or on tiny checkpoints, and prints what the library says."""

import ast
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from support.checkpoint import LABELS, save_tiny, tiny_model, tiny_processor
from support.explained import ASKED, saved
from support.paths import DATA, ROOT, TESTS
from support.region_models import save_tiny_region_model, some_regions, tiny_region_model, tiny_region_processor

import tfvl
from tfvl import auto, shapes
from tfvl.cli import demo_tasks

EXAMPLES = ROOT / "examples"
PHOTOGRAPH = DATA / "cat_420.jpg"
OTHER = DATA / "rocket.jpg"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script as `python examples/NAME …` would, and returns the lines it printed."""
    used = set()

    def script(name: str, *arguments) -> list[str]:
        used.add(name)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return script


def test_ask_about_an_image(run, tmp_path):
    save_tiny(tmp_path)
    lines = run(
        "ask_about_an_image.py", "--model", tmp_path, "--image", PHOTOGRAPH, "--text", "what color is the circle?"
    )
    assert lines[0].removeprefix("Predicted answer: ") in LABELS.values()
    scores = [float(line.split()[0]) for line in lines[1:]]
    assert scores == sorted(scores, reverse=True)
    assert {line.split()[1] for line in lines[1:]} == set(LABELS.values())


def test_ask_the_bundled_model(run):
    lines = run("ask_about_an_image.py")
    scene = shapes.draw_scene(7)
    assert lines[0] == f"Predicted answer: {len(scene.things)}"


def test_fill_masks_step_by_step(run, tmp_path):
    save_tiny(tmp_path, "ViltForMaskedLM")
    text = "a [MASK] is left of the [MASK] ?"
    lines = run("fill_masks_step_by_step.py", "--model", tmp_path, "--image", PHOTOGRAPH, "--text", text)
    assert len(lines) == 2
    assert "[MASK]" not in lines[1]


def test_the_surest_mask_is_filled_first():
    script = runpy.run_path(str(EXAMPLES / "fill_masks_step_by_step.py"))
    processor = tiny_processor()
    red, blue = processor.tokenizer.convert_tokens_to_ids(["red", "blue"])

    def model(input_ids, **_):
        logits = np.zeros((1, input_ids.shape[1], processor.tokenizer.vocab_size), "float32")
        logits[0, 2, red], logits[0, 4, blue] = 3.0, 9.0
        return {"logits": logits}

    steps = script["fill_masks"](model, processor, PHOTOGRAPH.read_bytes(), "the [MASK] the [MASK]")
    assert steps == ["the the blue", "the red the blue"]


def test_compare_two_images(run, tmp_path):
    save_tiny(tmp_path, "ViltForImagesAndTextClassification", num_images=2, modality_type_vocab_size=3)
    lines = run(
        "compare_two_images.py", "--model", tmp_path, "--images", PHOTOGRAPH, OTHER, "--text", "the circle is red"
    )
    assert len(lines) == 1
    assert lines[0].removeprefix("Predicted answer: ") in LABELS.values()


def test_rank_texts(run, tmp_path):
    save_tiny(tmp_path, "ViltForImageAndTextRetrieval")
    texts = ["a red circle", "the blue square is left of what"]
    lines = run("rank_texts.py", "--model", tmp_path, "--image", PHOTOGRAPH, "--texts", *texts)
    model, processor = tiny_model("ViltForImageAndTextRetrieval"), tiny_processor()
    for line in lines:
        score, text = line.split(maxsplit=1)
        alone = model(processor(images=PHOTOGRAPH.read_bytes(), text=text))["logits"]
        assert float(score) == pytest.approx(float(alone[0, 0]), abs=1e-3)  # three digits are printed
    assert {line.split(maxsplit=1)[1] for line in lines} == set(texts)


@pytest.fixture
def regions_files(tmp_path) -> list[Path]:
    """Writes the regions of two images; returns the files."""
    for name, count in (("left", 3), ("right", 4)):
        regions = some_regions(count)
        np.savez(tmp_path / f"{name}.npz", features=regions.features, boxes=regions.boxes)
    return [tmp_path / "left.npz", tmp_path / "right.npz"]


@pytest.mark.parametrize("model", ["shapes-lxmert", "shapes-visual-bert"])
def test_ask_about_regions_of_a_scene(run, model):
    lines = run("ask_about_regions.py", "--model", model)
    assert lines[0] == f"Predicted answer: {len(shapes.draw_scene(7).things)}"
    scores = [float(line.split()[0]) for line in lines[1:]]
    assert scores == sorted(scores, reverse=True)


def test_ask_about_regions_of_a_file(run, tmp_path, regions_files):
    save_tiny_region_model(tmp_path, "LxmertForQuestionAnswering")
    lines = run("ask_about_regions.py", "--model", tmp_path, "--regions", regions_files[0], "--text", "what?")
    model, processor = tiny_region_model("LxmertForQuestionAnswering"), tiny_region_processor("Lxmert")
    best = model(processor("what?", regions=some_regions(3)))["question_answering_score"].numpy().argmax()
    assert lines[0] == f"Predicted answer: {LABELS[best]}"


def test_choose_a_text(run, tmp_path, regions_files):
    save_tiny_region_model(tmp_path, "VisualBertForMultipleChoice")
    choices = ["a red circle", "the blue square"]
    arguments = ("--model", tmp_path, "--regions", regions_files[0], "--prompt", "what is it ?")
    lines = run("choose_a_text.py", *arguments, "--choices", *choices)
    assert sum(float(line.split()[0]) for line in lines) == pytest.approx(1, abs=1e-3)  # three digits are printed
    model, processor = tiny_region_model("VisualBertForMultipleChoice"), tiny_region_processor("VisualBert")
    best = model(processor("what is it ?", [choices], some_regions(3)))["logits"].numpy().argmax()
    assert lines[0].split(maxsplit=1)[1] == choices[best]


def test_compare_two_images_by_regions(run, tmp_path, regions_files):
    save_tiny_region_model(tmp_path, "VisualBertForVisualReasoning")
    text = "the circle is red"
    lines = run("compare_two_images_by_regions.py", "--model", tmp_path, "--regions", *regions_files, "--text", text)
    model, processor = tiny_region_model("VisualBertForVisualReasoning"), tiny_region_processor("VisualBert")
    best = model(processor(text, regions=[(some_regions(3), some_regions(4))]))["logits"].numpy().argmax()
    assert lines == [f"Predicted answer: {LABELS[best]}"]


def test_find_phrases_by_the_bundled_model(run):
    lines = run("find_phrases.py")
    boxes = tfvl.RegionDetector.from_pretrained("shapes-detector").detect(shapes.draw_scene(0).image())
    objects = {"the yellow circle": "yellow circle", "the purple square": "purple square"}
    for line in lines:
        phrase, _, region = line.partition(": region ")
        found = boxes["normalized_boxes"][0][int(region)]
        assert demo_tasks.covered(shapes.draw_scene(0), found) == objects.pop(phrase)
    assert not objects


def test_find_phrases(run, tmp_path, regions_files):
    save_tiny_region_model(tmp_path, "VisualBertForRegionToPhraseAlignment")
    text, phrases = "a red circle left of the square", ["red circle", "the square"]
    arguments = ("--model", tmp_path, "--regions", regions_files[0], "--text", text)
    lines = run("find_phrases.py", *arguments, "--phrases", *phrases)
    model, processor = tiny_region_model("VisualBertForRegionToPhraseAlignment"), tiny_region_processor("VisualBert")
    inputs = processor(text, regions=some_regions(3))  # [CLS] a red circle left of the square [SEP]
    best = model(inputs, region_to_phrase_position=[[3, 7]])["logits"][0].numpy().argmax(-1)
    assert lines == [f"{phrase}: region {region}" for phrase, region in zip(phrases, best, strict=True)]
    with pytest.raises(ValueError, match="'blue' is not in the text"):
        run("find_phrases.py", *arguments, "--phrases", "blue")


def test_the_guide_from_data_to_pushed_model(run, tmp_path, monkeypatch):
    pushed = {}
    monkeypatch.setattr("huggingface_hub.create_repo", lambda repo, **_: pushed.update(repo=repo))
    monkeypatch.setattr("huggingface_hub.upload_folder", lambda **given: pushed.update(given))
    data = tmp_path / "data.jsonl"
    rows = [{"image": str(PHOTOGRAPH), "question": "is it red?", "answers": {"yes": 1.0, "no": 0.3}}] * 3
    data.write_text("\n".join(map(json.dumps, rows)))
    for arguments in (("--scenes", 3), ("--data", data)):
        lines = run("visual_question_answering.py", *arguments, "--out", tmp_path / "vilt", "--push-to", "me/vilt")
        assert lines[0].startswith("epoch 1: loss ")
        assert lines[-1].split("is '")[1].rstrip("'.")
    assert pushed == {"repo": "me/vilt", "repo_id": "me/vilt", "folder_path": tmp_path / "vilt"}
    assert set(tfvl.ViltConfig.from_pretrained(tmp_path / "vilt").id2label.values()) == {"yes", "no"}


@pytest.mark.parametrize("model", ["shapes-vilt", "shapes-lxmert"])
def test_explain_an_answer(run, tmp_path, model):
    pytest.importorskip("matplotlib", reason="needs tfvl[plots]")
    lines = run("explain_an_answer.py", "--model", model, "--out", tmp_path / "why.png")
    assert lines[0].startswith("red (")
    assert [line.split()[1] for line in lines[1:4]] == ["[CLS]", "what", "color"]
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


# One head of each task and of each kind of inputs; `tests/pipelines/test_tasks.py` asks every head.
TASKS = (
    "LxmertForQuestionAnswering",
    "ViltForMaskedLM",
    "ViltForImageAndTextRetrieval",
    "ViltForImagesAndTextClassification",
    "ViltForTokenClassification",
    "VisualBertForMultipleChoice",
    "VisualBertForVisualReasoning",
    "VisualBertForRegionToPhraseAlignment",
)


@pytest.mark.parametrize("head", TASKS)
def test_run_a_task(run, head, tmp_path):
    task, asked = ASKED[head]
    arguments = ["--model", saved(head), "--text", asked["text"]]
    if "image" in asked:
        images = asked["image"] if isinstance(asked["image"], list) else [asked["image"]]
        arguments += ["--image", *images]
    else:
        regions = asked["regions"] if isinstance(asked["regions"], list) else [asked["regions"]]
        files = [tmp_path / f"{number}.npz" for number in range(len(regions))]
        for file, each in zip(files, regions, strict=True):
            np.savez(file, features=each.features, boxes=each.boxes)
        arguments += ["--regions", *files]
    for name in ("choices", "phrases"):
        arguments += [f"--{name}", *asked[name]] if name in asked else []
    lines = run("run_a_task.py", task, *arguments)
    assert all({"answer", "score"} <= ast.literal_eval(line).keys() for line in lines)
    assert lines


def test_run_a_task_that_needs_no_text(run):
    assert all("attribute" in ast.literal_eval(line) for line in run("run_a_task.py", "region-detection"))


def test_fill_masks_of_a_scene(run):
    lines = run("fill_masks_step_by_step.py")
    assert len(lines) == 2
    assert shapes.fits(lines[-1], shapes.draw_scene(7))


def test_rank_texts_of_a_scene(run):
    texts = [line.split(maxsplit=1)[1] for line in run("rank_texts.py")]
    assert [shapes.fits(text, shapes.draw_scene(7)) for text in texts] == [True, True, False, False]


@pytest.mark.parametrize("script", ["compare_two_images.py", "compare_two_images_by_regions.py"])
def test_compare_two_scenes(run, script):
    for text, truth in (
        ("there is a yellow circle in the left image", "True"),
        ("there are 2 stars in the right image", "False"),
    ):
        assert run(script, "--text", text) == [f"Predicted answer: {truth}"]


def test_choose_a_text_on_a_scene(run):
    assert run("choose_a_text.py")[0].split(maxsplit=1)[1] == "an orange triangle"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["vilt", "visual_bert", "lxmert"])
def test_train_shapes_vqa(run, tmp_path, family, eager_functions):
    options = ("--scenes", 4, "--epochs", 1, "--batch-size", 16, "--test", 20)
    lines = run("train_shapes_vqa.py", "--model", family, "--out", tmp_path, *options)
    assert any("all" in line and "20" in line for line in lines)
    model, processor = auto.load(tmp_path)
    assert type(model).__name__.endswith("ForQuestionAnswering")
    assert model.config.model_type == family
    assert tuple(model.config.id2label.values()) == shapes.answers()
    assert tuple(processor.tokenizer.get_vocab()) == shapes.vocabulary()


@pytest.mark.slow
def test_train_on_grid_features(run, tmp_path, eager_functions):
    lines = run("train_on_grid_features.py", "--out", tmp_path, "--scenes", 3, "--epochs", 1)
    assert "loss" in lines[-1]
    model, processor = auto.load(tmp_path)
    assert isinstance(processor.detector, tfvl.GridFeatures)
    assert model.config.visual_feat_dim == processor.detector.feature_size == processor.feature_size
    inputs = processor(text=["what color is the circle?"], images=[tmp_path / "pictures" / "0.png"])
    assert model(inputs)["question_answering_score"].shape == (1, len(model.config.id2label))


def test_no_example_is_left_out():
    source = Path(__file__).read_text() + (TESTS / "training/test_distributed.py").read_text()
    assert all(path.name in source for path in EXAMPLES.glob("*.py"))


def test_first_steps_of_the_documentation():
    """Upstream's examples of ViltConfig and ViltModel: "hello world" and a picture become hidden states."""
    configuration = tfvl.ViltConfig()
    assert (configuration.hidden_size, configuration.num_hidden_layers, configuration.image_size) == (768, 12, 384)
    model, processor = tiny_model("ViltModel"), tiny_processor()
    assert model.config.hidden_size == 12
    inputs = processor(PHOTOGRAPH.read_bytes(), "hello world")
    last_hidden_states = model(inputs)["last_hidden_state"]
    words, patches = (
        inputs["input_ids"].shape[1],
        (inputs["pixel_values"].shape[1] // 8) * (inputs["pixel_values"].shape[2] // 8),
    )
    assert last_hidden_states.shape == (1, words + 1 + patches, 12)

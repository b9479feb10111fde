"""Which classes a checkpoint is of; and that every command looks for each source once."""

import json
from collections import Counter

import huggingface_hub
import pytest
from support.checkpoint import save_tiny

import tfvl
from tfvl import auto, shapes
from tfvl.answers.rows import HEADS
from tfvl.cli import app as cli
from tfvl.errors import CheckpointError
from tfvl.modeling.base import PreTrainedModel
from tfvl.porting import hub

VILT, LXMERT, SHAPES, DETECTOR = "somebody/vilt", "somebody/lxmert", "somebody/shapes", "somebody/detector"


def test_every_public_model_is_of_one_family():
    public = {name for name in tfvl.__all__ if isinstance(getattr(tfvl, name), type)}
    public = {name for name in public if issubclass(getattr(tfvl, name), PreTrainedModel)}
    found = [name for family in auto.FAMILIES.values() for name in family.models]
    assert sorted(found) == sorted(public) == sorted(HEADS)
    for model_type, family in auto.FAMILIES.items():
        assert {model.config_class.model_type for model in family.models.values()} == {model_type}
        assert family.processor.config_class.model_type == model_type


@pytest.mark.parametrize("name", ["shapes-vilt", "shapes-visual-bert", "shapes-lxmert"])
def test_a_bundled_model(name, tmp_path):
    source = auto.find(name)
    assert (source.name, source.path) == (name, hub.BUNDLED_DIRECTORY / name)
    assert source.model_class.__name__ == source.config["architectures"][0]
    assert source.reads_regions == (name != "shapes-vilt")
    assert source.default_detector == ("shapes-detector" if source.reads_regions else None)
    for file in source.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert auto.find(tmp_path).default_detector is None


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        (
            {"model_type": "bert"},
            {},
            "model_type in .*config.json is 'bert', expected one of vilt, visual",
        ),
        (
            {"architectures": None},
            {},
            "architectures in .*config.json is None, expected one of ViltModel, ",
        ),
        ({}, {"architecture": "LxmertModel"}, "the model class is 'LxmertModel', expected one of ViltModel"),
    ],
)
def test_classes_that_there_are_not(tmp_path, changes, options, sentence):
    save_tiny(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=sentence):
        auto.load(tmp_path, **options)


def test_names_of_old_and_a_class_that_is_asked_for(tmp_path):
    save_tiny(tmp_path)
    old = auto.find(tmp_path, architecture="ViltForVisualQuestionAnswering")
    assert old.model_class is tfvl.ViltForQuestionAnswering
    assert auto.find(tmp_path, architecture="ViltForMaskedLM").model_class is tfvl.ViltForMaskedLM


# --- a source is found once ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """Returns directories by name: models of one layer, and under other names bundled ones."""
    vilt = save_tiny(tmp_path_factory.mktemp("vilt"), num_hidden_layers=1)
    lxmert, layers = tmp_path_factory.mktemp("lxmert"), dict.fromkeys(("l_layers", "x_layers", "r_layers"), 1)
    config = tfvl.LxmertConfig.from_pretrained("shapes-lxmert", overrides=layers)
    tfvl.LxmertForQuestionAnswering(config).save_pretrained(lxmert)
    auto.load("shapes-lxmert", detector=None)[1].save_pretrained(lxmert)
    bundled = {SHAPES: "shapes-vilt", DETECTOR: "shapes-detector"}
    return {VILT: vilt, LXMERT: lxmert} | {name: hub.BUNDLED_DIRECTORY / path for name, path in bundled.items()}


@pytest.fixture
def looked_for(monkeypatch, repositories):
    """Replaces the hub by one with the `repositories`; returns how often each is asked for."""
    counts = Counter()

    def snapshot_download(repo, **_):
        counts[repo] += 1
        return str(repositories[repo])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return counts


@pytest.fixture
def picture(tmp_path):
    shapes.draw_scene(23).image().save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


@pytest.mark.parametrize("sources", [(VILT,), (LXMERT, DETECTOR)])
def test_ask_and_export_look_once(looked_for, picture, tmp_path, sources):
    options = [word for option, src in zip(("--model", "--detector"), sources, strict=False) for word in (option, src)]
    assert cli.main(["ask", str(picture), "what color is the triangle?", *options]) == 0
    assert looked_for == dict.fromkeys(sources, 1)
    looked_for.clear()
    assert cli.main(["export", sources[0], str(tmp_path / "1"), *options[2:]]) == 0
    assert looked_for == dict.fromkeys(sources, 1)


def test_regions_looks_once(looked_for, picture, tmp_path):
    assert cli.main(["regions", str(picture), "--detector", DETECTOR, "--draw", str(tmp_path / "drawn")]) == 0
    assert looked_for == {DETECTOR: 1}
    assert (tmp_path / "drawn" / "scene.png").exists()


def test_port_and_an_export_for_tflite_look_once(looked_for, tmp_path):
    assert cli.main(["port", VILT, str(tmp_path / "ported")]) == 0
    assert looked_for == {VILT: 1}
    assert cli.main(["export", LXMERT, str(tmp_path / "x.tflite"), "--format", "tflite"]) == 0
    assert looked_for == {VILT: 1, LXMERT: 1}


@pytest.mark.parametrize("from_scratch", ["true", "false"])
@pytest.mark.usefixtures("eager_functions")
def test_train_looks_once(looked_for, tmp_path, from_scratch):
    (tmp_path / "run.yaml").write_text(f"from_scratch: {from_scratch}\nscenes: 3\nvalidation_limit: 4\n")
    options = ["--config", tmp_path / "run.yaml", "--task", "shapes", "--model", SHAPES, "--out", tmp_path / "out"]
    assert cli.main(["train", *map(str, options), "--steps", "1", "--batch-size", "4"]) == 0
    assert looked_for == {SHAPES: 1}


def test_eval_looks_once(looked_for):
    assert cli.main(["eval", "--task", "shapes", "--model", SHAPES, "--limit", "4"]) == 0
    assert looked_for == {SHAPES: 1}

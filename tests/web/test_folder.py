"""The folder that `tfvl export --format web` writes: what is in it, and what is refused."""

import json

import pytest
from support.checkpoint import tiny_processor
from support.export import random_model
from support.web import web_folder

import tfvl
from tfvl.answers.rows import HEADS
from tfvl.cli import app as cli
from tfvl.lite import file
from tfvl.web.examples import COUNT, drawn
from tfvl.web.folder import DESCRIPTION, MODEL, page_files

MOST_BYTES = 100_000  # of the page: all but the model and its description
VERSION = "2.5.3"


def test_the_folder_holds_the_page_and_one_file_that_the_runner_reads():
    folder = web_folder("shapes-vilt")
    assert [path.name for path in folder.rglob("*.tflite")] == [MODEL]
    assert json.loads((folder / "package.json").read_text())["dependencies"] == {"@litertjs/core": VERSION}
    described = json.loads((folder / DESCRIPTION).read_text())
    assert described["engine"] == "device"
    assert described["title"] == "shapes-vilt"
    assert described["model"] == MODEL
    assert file.read(folder / MODEL).description["quantize"] == "dynamic"
    pictures = {name for example in described["examples"] for name in example["images"]}
    others = {"README.md", DESCRIPTION, MODEL}
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names - {name for name in names if name.startswith("node_modules")} == {*page_files(), *pictures, *others}
    page = [folder / name for name in {*page_files(), *pictures, "README.md"}]
    assert sum(path.stat().st_size for path in page) <= MOST_BYTES


def test_options_mean_what_they_mean_with_tflite(tmp_path, capsys):
    options = ["--quantize", "none", "--image-size", "32x64", "--text-length", "12", "--top-k", "3", "--explain"]
    assert cli.main(["export", "shapes-vilt", str(tmp_path / "site"), "--format", "web", *options]) == 0
    assert "npm install" in capsys.readouterr().out
    described = file.read(tmp_path / "site" / MODEL).description
    assert described["quantize"] is None
    assert described["inputs"]["pixel_values"]["shape"] == [1, 32, 64, 3]
    assert described["inputs"]["input_ids"]["shape"] == [1, 12]
    assert described["top_k"] == json.loads((tmp_path / "site" / DESCRIPTION).read_text())["top_k"] == 3
    assert any(name.startswith("attention_") for name in described["outputs"])
    assert cli.main(["export", "shapes-vilt", str(tmp_path / "site"), "--format", "web"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "arguments", "complaint"),
    [
        ("shapes-lxmert", [], "LxmertForQuestionAnswering reads regions, and a browser has no detector"),
        ("shapes-visual-bert", [], "`tfvl serve DIR --page` serves a page"),
        ("shapes-vilt", ["--class", "ViltModel"], "ViltModel has no head whose answers a page could show"),
        ("shapes-vilt", ["--batch", "2"], "--batch is an option of --format tflite"),
        ("shapes-vilt", ["--resizable"], "--resizable is an option of --format tflite"),
        ("shapes-vilt", ["--detector", "shapes-detector"], "--detector becomes part of a SavedModel"),
        ("shapes-vilt", ["--quantize", "int4"], "quantize is 'int4'"),
        ("shapes-vilt", ["--text-length", "2"], "text_length is 2"),
        ("shapes-vilt", ["--image-size", "7"], "image_size is 7x7"),
    ],
)
def test_what_a_page_cannot_have_is_refused_and_nothing_is_written(tmp_path, capsys, source, arguments, complaint):
    assert cli.main(["export", source, str(tmp_path / "site"), "--format", "web", *arguments]) == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_filter_that_the_page_does_not_know_is_refused(tmp_path):
    processor = tiny_processor()
    processor.image_processor = processor.image_processor.replace(resample=1)
    with pytest.raises(ValueError, match="resample is 1, which the page does not know"):
        tfvl.export.web(random_model("ViltForQuestionAnswering"), processor, tmp_path / "site")


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_examples(head):
    row = HEADS[head]
    described, pictures = drawn(row.kind, 2 if row.several else 1, "[MASK]")
    assert len(described) == COUNT
    assert {name for each in described for name in each["images"]} == pictures.keys()
    assert all(each["text"] for each in described)
    assert all(name in described[0] for name in ("choices", "phrases") if name in row.reads)

"""What is refused, in one sentence: `.tflite` files that are not what they say, impossible inputs and options."""

import dataclasses
import errno
import math
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support.lite_files import bundled_file

import tfvl
from tfvl import shapes
from tfvl.cli import app as cli
from tfvl.lite import Runner, file

needs_runtime = pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert (tfvl[lite])")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "shapes.tflite"
    return Path(shutil.copy(bundled_file(quantize="dynamic"), path))


def truncated(path, contents):
    path.write_bytes(contents[: len(contents) // 2])


def without_metadata(path, contents):
    path.write_bytes(contents[: contents.index(b"PK\x03\x04")])


def not_a_model(path, contents):
    path.write_bytes(b"<html>" + contents[6:])


def other_head(path, contents):
    path.write_bytes(contents)
    described = file.read(path)
    file.write(
        dataclasses.replace(described, description=described.description | {"head": "BertModel"}),
        contents[: described.description["model_bytes"]],
    )


def described_as(**changes):
    """Returns a damage: `changes` replace parts of the description; those of `image_processor` are merged into it."""

    def damage(path, contents):
        path.write_bytes(contents)
        described = file.read(path)
        options = described.description["image_processor"] | changes.pop("image_processor", {})
        description = described.description | {"image_processor": options} | changes
        file.write(
            dataclasses.replace(described, description=description), contents[: described.description["model_bytes"]]
        )

    return damage


def of_sizes(changed):
    inputs = {"input_ids": [1, 40], "token_type_ids": [1, 40], "attention_mask": [1, 40]}
    inputs |= {"pixel_values": [1, 64, 64, 3], "pixel_mask": [1, 64, 64]} | changed
    return {
        name: {"shape": shape, "dtype": "float32" if "values" in name else "int32"} for name, shape in inputs.items()
    }


def damaged_model(path, contents):
    path.write_bytes(contents)
    described = file.read(path)
    model = contents[: described.description["model_bytes"]]
    file.write(described, model[: len(model) // 2] + bytes(len(model) - len(model) // 2))


def damaged_archive(path, contents):
    path.write_bytes(contents.replace(b"PK\x03\x04", b"PK\x03\x05", 1))


@needs_runtime
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (truncated, "cut short"),
        (without_metadata, "no description of tfvl"),
        (not_a_model, "no .tflite file"),
        (other_head, "holds a BertModel"),
        (described_as(head="LxmertForQuestionAnswering"), "the model's inputs are not those of a LxmertForQuestion"),
        (damaged_archive, "Bad magic number"),
        (damaged_model, "cannot be loaded"),
        (described_as(inputs=of_sizes({"input_ids": [-1, -1]})), "the model's inputs are others"),
        (described_as(inputs=of_sizes({"input_ids": [1, 2**23]})), "the model's inputs are others"),
        (described_as(inputs={"input_ids": {"shape": [1, 40], "dtype": []}}), r"is of \[\], expected int32"),
        (described_as(image_processor={"size": {"shortest_edge": math.inf}}), "cannot be used: OverflowError"),
        (described_as(image_processor={"image_std": [0, 0, 0]}), "an image_std that is not 0"),
        (described_as(image_processor={"rescale_factor": math.nan}), "rescale_factor nan"),
        (described_as(image_processor={"image_mean": [0.5, 0.5]}), "one for each of three channels"),
    ],
)
def test_files_that_are_refused(capsys, exported, tmp_path, damage, complaint):
    path, picture = tmp_path / "bad.tflite", tmp_path / "scene.png"
    damage(path, exported.read_bytes())
    with pytest.raises(ValueError, match=complaint):
        Runner(path)
    shapes.draw_scene(1).image().save(picture)
    capsys.readouterr()
    assert cli.main(["ask", str(picture), "what?", "--model", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tfvl: ")


@needs_runtime
def test_check_names_a_file_whose_model_is_damaged(capsys, exported, tmp_path):
    path = tmp_path / "bad.tflite"
    damaged_model(path, exported.read_bytes())
    capsys.readouterr()
    assert cli.main(["check", str(path)]) == 2
    assert f"tfvl: {path}: the model cannot be loaded" in capsys.readouterr().err


@needs_runtime
def test_wrong_inputs_name_the_expected_ones(exported):
    runner = Runner(exported)
    inputs = {name: np.zeros(shape, runner.dtype(name)) for name, shape in runner.inputs.items()}
    with pytest.raises(ValueError, match=r"input_ids is int32 \(1, 7\), but the file takes int32 \(1, 40\)"):
        runner.run(inputs | {"input_ids": np.zeros((1, 7), np.int32)})
    with pytest.raises(ValueError, match=r"takes attention_mask, input_ids, .*got input_ids"):
        runner.run({"input_ids": inputs["input_ids"]})
    image = shapes.draw_scene(1).image()
    for asked, complaint in (
        ({"images": [image], "text": ""}, "expected a text that is not empty"),
        ({"images": [image], "text": 5}, "text is 5, expected a text, or a list of them"),
        ({"images": [image] * 2, "text": ["a"] * 3}, "3 texts and 2 images"),
        ({"images": [[image] * 2], "text": "a"}, r"row 0 has 2 images, but .*\.tflite takes 1 with a text"),
        ({"text": "a"}, "images is missing"),
        ({"regions": [np.zeros((2, 3))], "text": "a"}, "takes images and text, not regions"),
        ({"images": [b"no image"], "text": "a"}, r"images\[0\]: "),
    ):
        with pytest.raises(ValueError, match=complaint):
            runner(**asked)
    for options, complaint in (({"threads": 0}, "threads is 0"), ({"top_k": 0}, "top_k is 0, expected .* from 1 on")):
        with pytest.raises(ValueError, match=complaint):
            Runner(exported, **options)


@needs_runtime
@pytest.mark.parametrize("cached", [False, True])
def test_an_id_beyond_the_words_is_refused_and_harms_no_later_call(exported, tmp_path, cached):
    runner = Runner(exported, weight_cache=tmp_path if cached else None)
    scene, question = next(shapes.held_out_questions(1))
    inputs = {name: np.zeros(shape, runner.dtype(name)) for name, shape in runner.inputs.items()}
    with pytest.raises(ValueError, match="the model cannot run on these inputs"):
        runner.run(inputs | {"input_ids": inputs["input_ids"] + 10**9})
    assert runner(scene.image(), question.text)[0]["answers"][0] == question.answer


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"quantize": "int4"}, "quantize is 'int4'"),
        ({"image_size": 70}, "multiples of the patch"),
        ({"text_length": 400}, "text_length is 400, expected 3 to 40"),
        ({"batch": 0}, "batch is 0"),
        ({"calibration": []}, "calibration is for"),
        ({"top_k": 0}, "top_k is 0"),
        ({"image_size": 2**15}, "multiples of the patch's 16 pixels up to 16384"),
        ({"image_size": 2**14}, "pixel_values would have 1 × 16384 × 16384 × 3 numbers"),
    ],
)
def test_exports_that_are_refused(tmp_path, options, complaint):
    model, processor = tfvl.auto.load("shapes-vilt")
    with pytest.raises(ValueError, match=complaint):
        tfvl.export.lite(model, processor, tmp_path / "x.tflite", **options)
    assert not list(tmp_path.iterdir())


def test_an_operation_that_tflite_lacks_is_named_before_the_conversion(tmp_path, monkeypatch):
    from importlib import import_module

    module = import_module("tfvl.export.tflite.convert")
    monkeypatch.setattr(module, "convert", lambda *_: pytest.fail("converted"))
    model, processor = tfvl.auto.load("shapes-vilt")
    model = tfvl.ViltForQuestionAnswering(model.config.replace(hidden_act="selu"))
    with pytest.raises(ValueError, match="4 × Selu in its graph: TFLite has no SELU"):
        module.lite(model, processor, tmp_path / "x.tflite")


def test_export_does_not_overwrite_unless_asked(exported):
    before = exported.read_bytes()
    arguments = ["export", "shapes-vilt", str(exported), "--format", "tflite"]
    assert cli.main(arguments) == 2
    assert exported.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "x.tflite would become a directory; add --format tflite"),
        (["--quantize", "dynamic"], "x.tflite would become a directory; add --format tflite"),
        (["--format", "tflite", "--resizable", "--batch", "4"], "--batch fixes a size and --resizable none"),
        (["--format", "tflite", "--detector", "shapes-detector"], "--detector becomes part of a SavedModel"),
        (["--format", "tflite", "--regions", "5"], "--regions is for VisualBERT and LXMERT, but shapes-vilt takes"),
    ],
)
def test_options_that_do_not_go_together(capsys, tmp_path, arguments, complaint):
    assert cli.main(["export", "shapes-vilt", str(tmp_path / "x.tflite"), *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--target", "2.20"], "--target is for a SavedModel"),
        (["--png", "drift.png"], "--png draws a comparison; name the model to compare with, --against SRC"),
    ],
)
def test_options_of_check_that_would_do_nothing(capsys, exported, arguments, complaint):
    assert cli.main(["check", str(exported), *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_known_before_the_conversion(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model, processor = tfvl.auto.load("shapes-vilt")
    monkeypatch.setattr("tfvl.export.tflite.sizes.tempfile.TemporaryFile", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*x\.tflite'"):
        tfvl.export.lite(model, processor, tmp_path / "x.tflite")


def test_a_full_disk_leaves_the_file_before_it(exported, monkeypatch):
    described, before = file.read(exported), exported.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tfvl.lite.file.zipfile.ZipFile.writestr", full)
    with pytest.raises(OSError, match=r"No space left on device: more than \d+ bytes are needed: '.*shapes\.tflite'"):
        file.write(described, b"new")
    assert exported.read_bytes() == before
    assert list(exported.parent.iterdir()) == [exported]


@needs_runtime
def test_a_damaged_model_does_not_end_the_process_with_a_cache_either(exported, tmp_path):
    path = tmp_path / "bad.tflite"
    damaged_model(path, exported.read_bytes())
    with pytest.raises(ValueError, match=r"bad\.tflite: the model cannot be loaded"):
        Runner(path, weight_cache=tmp_path / "caches")

"""The command line with region features: `tfvl ask` of VisualBERT and LXMERT, `tfvl regions`, and their mistakes."""

import json
import sys
import types

import keras
import numpy as np
import pytest
from PIL import Image
from support.checkpoint import LABELS, save_tiny
from support.cli import fails, scores, sources_opened_once
from support.region_models import save_tiny_region_model, some_regions
from support.regions import images, write_tsv

import tfvl
from tfvl.cli import app as cli

QUESTION = "what color is the circle?"
IDS = ("left", "right")

opened_once = pytest.fixture(scope="module", autouse=True)(sources_opened_once)


@pytest.fixture(scope="module")
def lxmert(tmp_path_factory):
    return save_tiny_region_model(tmp_path_factory.mktemp("lxmert"), "LxmertForQuestionAnswering")


@pytest.fixture(scope="module")
def visual_bert(tmp_path_factory):
    return save_tiny_region_model(tmp_path_factory.mktemp("visual_bert"), "VisualBertForQuestionAnswering")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns a directory with an image's regions as .npz files, and a store of these and of another image's."""
    directory = tmp_path_factory.mktemp("regions")
    found = [some_regions(3), some_regions(5)]
    np.savez(directory / "one.npz", features=found[0].features, boxes=found[0].boxes)
    np.savez(directory / "bare.npz", features=found[0].features)
    np.savez(directory / "wide.npz", features=np.ones((2, 20), "float32"), boxes=found[0].boxes[:2])
    named = [tfvl.Regions(one.features, one.boxes, image_id=name) for one, name in zip(found, IDS, strict=True)]
    tfvl.RegionStore.write(directory / "two.h5", named)
    Image.new("RGB", (50, 40), "red").save(directory / "red.png")
    return directory


def asked(capsys, *arguments) -> dict[str, float]:
    assert cli.main(["ask", *map(str, arguments)]) == 0
    return scores(capsys.readouterr().out)


def softmax(checkpoint, *inputs, **regions) -> list[float]:
    """Returns the model's scores for inputs that the processor prepares, for comparison."""
    model, processor = tfvl.auto.load(checkpoint)
    return keras.ops.softmax(model(processor(*inputs, **regions))["logits"][0]).numpy().tolist()


@pytest.mark.parametrize("family", ["lxmert", "visual_bert"])
def test_ask_a_checkpoint_and_its_export(capsys, request, files, tmp_path, family):
    checkpoint = request.getfixturevalue(family)
    answers = asked(capsys, files / "one.npz", QUESTION, "--model", checkpoint)
    assert set(answers) == set(LABELS.values())
    assert sum(answers.values()) == pytest.approx(1, abs=2e-4)  # a softmax; four decimals each
    model, processor = tfvl.auto.load(checkpoint)
    outputs = model(processor(QUESTION, regions=files / "one.npz"))
    logits = outputs["logits" if family == "visual_bert" else "question_answering_score"].numpy()[0]
    assert next(iter(answers)) == LABELS[int(logits.argmax())]

    artefact = tmp_path / "1"
    assert cli.main(["export", str(checkpoint), str(artefact)]) == 0
    assert "tfvl ask REGIONS" in capsys.readouterr().out
    assert asked(capsys, files / "one.npz", QUESTION, "--model", artefact) == answers
    assert cli.main(["check", str(artefact)]) == 0
    assert "regions" in capsys.readouterr().out


def test_ask_about_an_image_of_many(capsys, lxmert, files, tmp_path):
    expected = asked(capsys, files / "one.npz", QUESTION, "--model", lxmert)
    assert asked(capsys, files / "two.h5", QUESTION, "--model", lxmert, "--image-id", "left") == expected
    assert asked(capsys, files / "two.h5", QUESTION, "--model", lxmert, "--image-id", "right") != expected
    rows = write_tsv(tmp_path / "rows.tsv", images(3, size=19))
    last = "COCO_val2014_000000000002"
    answers = asked(capsys, rows, QUESTION, "--model", lxmert, "--image-id", last)
    store = tmp_path / "rows.tfrecord"
    assert cli.main(["regions", str(rows), str(store)]) == 0
    capsys.readouterr()
    assert asked(capsys, store, QUESTION, "--model", lxmert, "--image-id", last) == answers
    alone = write_tsv(tmp_path / "alone.tsv", images(3, size=19)[2:])
    assert asked(capsys, alone, QUESTION, "--model", lxmert) == answers


def test_ask_compares_two_images(capsys, files, tmp_path):
    save_tiny_region_model(tmp_path, "VisualBertForVisualReasoning")
    model = ("the circle is red", "--model", tmp_path)
    pair = asked(capsys, files / "two.h5", *model, "--image-id", "left", "--image-id", "right")
    turned = asked(capsys, files / "two.h5", *model, "--image-id", "right", "--image-id", "left")
    assert pair != turned
    np.savez(tmp_path / "right.npz", features=some_regions(5).features)
    assert asked(capsys, files / "one.npz", *model, "--image", tmp_path / "right.npz") == pair
    expected = softmax(tmp_path, "the circle is red", regions=[(some_regions(3), some_regions(5))])
    assert pair == pytest.approx({LABELS[label]: score for label, score in enumerate(expected)}, abs=1e-4)
    assert fails(capsys, "ask", files / "one.npz", *model).endswith("takes 2 images with a text, got 1")


def test_ask_among_choices(capsys, files, tmp_path):
    save_tiny_region_model(tmp_path, "VisualBertForMultipleChoice")
    arguments = (files / "one.npz", "what is red ?", "--model", tmp_path)
    answers = asked(capsys, *arguments, "--choice", "the circle", "--choice", "a square")
    expected = softmax(tmp_path, "what is red ?", [["the circle", "a square"]], some_regions(3))
    assert answers == pytest.approx(dict(zip(["the circle", "a square"], expected, strict=True)), abs=1e-4)
    assert "give each with --choice" in fails(capsys, "ask", *arguments)


def test_ask_for_the_regions_of_phrases(capsys, files, tmp_path):
    save_tiny_region_model(tmp_path, "VisualBertForRegionToPhraseAlignment")
    arguments = (files / "one.npz", "a red circle left of a square", "--model", tmp_path)
    answers = asked(capsys, *arguments, "--phrase", "red circle", "--phrase", "square")
    assert [answer.rsplit(" ", 1)[0] for answer in answers] == ["red circle: region", "square: region"]
    assert {answer.rsplit(" ", 1)[1] for answer in answers} <= {"0", "1", "2"}
    assert "give each with --phrase" in fails(capsys, "ask", *arguments)


@pytest.mark.parametrize("class_name", ["VisualBertForPreTraining", "LxmertForPreTraining"])
def test_ask_a_pretraining_model(capsys, files, tmp_path, class_name):
    save_tiny_region_model(tmp_path, class_name)
    assert cli.main(["ask", str(files / "one.npz"), "the [MASK] is red", "--model", str(tmp_path)]) == 0
    filled, match, *_ = (output := capsys.readouterr().out).splitlines()
    assert filled == f"the {next(iter(scores(output))).removeprefix('##')} is red"
    assert 0 < float(match.removeprefix("text and image belong together: ")) < 1
    if class_name == "LxmertForPreTraining":  # without a [MASK] it answers
        assert set(asked(capsys, files / "one.npz", QUESTION, "--model", tmp_path)) == set(LABELS.values())


def test_what_the_model_does_not_take(capsys, files, lxmert, visual_bert, tmp_path):
    vilt = save_tiny(tmp_path / "vilt")
    mistakes = {
        (
            files / "red.png",
            lxmert,
        ): f"takes region features (.npz, .npy, .h5, .hdf5, .tsv, .tfrecord, .tfrecords files), but "
        f"{files / 'red.png'} is an image",
        (files / "one.npz", vilt): f"takes images, but {files / 'one.npz'} holds region features",
        (files / "bare.npz", lxmert): "bare.npz: there are no boxes, and",
        (files / "wide.npz", lxmert): "features of size 20, but the model takes 19",
        (files / "two.h5", lxmert): "holds the regions of several images; name one, e.g. --image-id left",
        (files / "two.h5", lxmert, "--image-id", "middle"): "there is no image 'middle' among 2",
        (files / "one.npz", lxmert, "--image-id", "left"): "holds the regions of one image only",
        (files / "red.png", vilt, "--image-id", "left"): "leave --image-id out",
        (files / "one.npz", lxmert, "--choice", "red"): "takes no choices; leave --choice out",
        (files / "one.npz", lxmert, "--image", files / "one.npz", "--image-id", "a"): "got 1 image ids for 2 files",
    }
    for (file, model, *more), sentence in mistakes.items():
        assert sentence in fails(capsys, "ask", file, QUESTION, "--model", model, *more)
    assert set(asked(capsys, files / "bare.npz", QUESTION, "--model", visual_bert)) == set(LABELS.values())


def test_port(capsys, lxmert, visual_bert, tmp_path):
    for checkpoint in (lxmert, visual_bert):
        ported = tmp_path / checkpoint.name
        assert cli.main(["port", str(checkpoint), str(ported)]) == 0
        for name in ("model.safetensors", "vocab.txt"):
            assert (ported / name).read_bytes() == (checkpoint / name).read_bytes()
        assert json.loads((ported / "config.json").read_text())["architectures"] == [
            json.loads((checkpoint / "config.json").read_text())["architectures"][0]
        ]
    capsys.readouterr()
    line = fails(capsys, "port", lxmert, tmp_path / "out", "--class", "ViltForMaskedLM")
    assert "'ViltForMaskedLM', expected one of Lxmert" in line


# --- tfvl regions ----------------------------------------------------------------------------------------------------


def test_regions_of_a_torn_file(capsys, tmp_path):
    rows = write_tsv(tmp_path / "rows.tsv", images(4))
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(lines[0] + lines[1][:500] + b"\n" + b"".join(lines[2:]))
    assert cli.main(["regions", str(rows), str(tmp_path / "rows.h5")]) == 0
    captured = capsys.readouterr()
    (warning,) = [line for line in captured.err.splitlines() if line.startswith("tfvl: warning: ")]
    assert f"{rows}, line 2: " in warning
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in captured.out.splitlines() if "│" in line]
    assert dict(cells)["images"] == "3"
    assert dict(cells)["could not be used"] == "1"
    with tfvl.RegionStore(tmp_path / "rows.h5") as store:
        assert list(store) == [f"COCO_val2014_{number:012d}" for number in (0, 2, 3)]


def test_regions_of_a_directory_in_half_the_size(capsys, files, tmp_path):
    for number in range(3):
        np.savez(tmp_path / f"{number}.npz", features=some_regions(30, number).features)
    sizes = {}
    for dtype in ("float32", "float16"):
        store = tmp_path / f"{dtype}.tfrecord"
        assert cli.main(["regions", str(tmp_path), str(store), "--dtype", dtype]) == 0
        assert list(tfvl.RegionStore(store)) == ["0", "1", "2"]
        sizes[dtype] = store.stat().st_size
        store.rename(tmp_path / dtype)  # out of the way of the next run
    assert sizes["float16"] < 0.6 * sizes["float32"]


def test_regions_mistakes(capsys, files, tmp_path):
    store = tmp_path / "store.h5"
    assert "gone.tsv" in fails(capsys, "regions", tmp_path / "gone.tsv", store)
    assert "not '.zip'" in fails(capsys, "regions", files / "one.npz", tmp_path / "store.zip")
    assert "name the detector" in fails(capsys, "regions", files / "red.png", store)
    assert "expected float32 or float16" in fails(capsys, "regions", files / "one.npz", store, "--dtype", "int8")
    (tmp_path / "torn.npz").write_bytes(b"PK")
    assert "torn.npz: damaged" in fails(capsys, "regions", tmp_path / "torn.npz", store)
    assert not store.exists()
    store.write_text("precious")
    assert "--overwrite" in fails(capsys, "regions", files / "one.npz", store)
    assert store.read_text() == "precious"
    assert cli.main(["regions", str(files / "one.npz"), str(store), "--overwrite"]) == 0
    assert list(tfvl.RegionStore(store)) == ["one"]


def test_the_shards_of_a_file_are_no_directory_of_the_users(capsys, tmp_path, files, monkeypatch):
    """Those of `--runner` replace what a run that was cut off has left."""
    given = []

    def extract(settings, out, flags, overwrite):
        given.append((out, overwrite))
        raise ValueError("that was enough")

    stub = types.ModuleType("extract")  # without Beam, which has an environment of its own
    stub.ExtractionSettings = lambda *settings: settings
    stub.extract = extract
    monkeypatch.setitem(sys.modules, "tfvl.training.beam.extract", stub)
    monkeypatch.setattr("tfvl.cli.regions.beam_flags", lambda runner, flags: flags)
    words = ["regions", str(files / "red.png"), "--detector", "shapes-detector", "--out", str(tmp_path / "r.h5")]
    assert cli.main([*words, "--runner", "DirectRunner"]) == 2
    assert "that was enough" in capsys.readouterr().err
    assert given == [(str(tmp_path / ".r.h5.shards"), True)]

"""`tfvl ask` and `tfvl export` of VisualBERT and LXMERT with a detector: from a picture file to answers."""

import pytest
from support.cli import fails, scores, sources_opened_once
from support.pixels import LABELS, answered, arrays, detector, pixel_model, pixel_processor, png

import tfvl
from tfvl.cli import app as cli

QUESTION = "what color is the circle ?"
FAMILIES = ["LxmertForQuestionAnswering", "VisualBertForQuestionAnswering"]

opened_once = pytest.fixture(scope="module", autouse=True)(sources_opened_once)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Returns a directory with a detector, both models, a picture, and a store of its regions."""
    directory = tmp_path_factory.mktemp("models")
    detector().save_pretrained(directory / "detector")
    for name in FAMILIES:
        pixel_model(name).save_pretrained(directory / name)
        pixel_processor(name).save_pretrained(directory / name)
    (directory / "picture.png").write_bytes(png(arrays()[0]))
    tfvl.RegionStore.write(directory / "regions.h5", detector().regions(arrays()[0], ["picture"]))
    return directory


def asked(capsys, *arguments) -> dict[str, float]:
    assert cli.main(["ask", *map(str, arguments)]) == 0
    return scores(capsys.readouterr().out)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_picture_is_asked_about_and_so_are_its_regions(capsys, directory, name):
    model = ("--model", directory / name)
    answers = asked(capsys, directory / "picture.png", QUESTION, *model, "--detector", directory / "detector")
    logits = answered(pixel_model(name)(pixel_processor(name)(QUESTION, images=arrays()[0])))[0]
    assert next(iter(answers)) == LABELS[int(logits.argmax())]
    assert asked(capsys, directory / "regions.h5", QUESTION, *model) == pytest.approx(answers, abs=2e-4)


def test_an_export_with_a_detector_takes_pictures(capsys, directory, tmp_path):
    model, artefact = directory / FAMILIES[0], tmp_path / "1"
    with_detector = ("--detector", str(directory / "detector"))
    assert cli.main(["export", str(model), str(artefact), *with_detector]) == 0
    assert "tfvl ask IMAGE" in capsys.readouterr().out
    answers = asked(capsys, directory / "picture.png", QUESTION, "--model", artefact)
    expected = asked(capsys, directory / "picture.png", QUESTION, "--model", model, *with_detector)
    assert answers == pytest.approx(expected, abs=2e-4)
    message = fails(capsys, "ask", directory / "picture.png", QUESTION, "--model", artefact, *with_detector)
    assert "leave --detector out" in message
    assert "holds region features" in fails(capsys, "ask", directory / "regions.h5", QUESTION, "--model", artefact)


def test_without_a_detector_one_sentence_says_what_to_pass(capsys, directory):
    message = fails(capsys, "ask", directory / "picture.png", QUESTION, "--model", directory / FAMILIES[0])
    assert "name the detector that its features came from, e.g. --detector unc-nlp/frcnn-vg-finetuned" in message
    wrong = ("--model", "shapes-vilt", "--detector", directory / "detector")
    assert "leave the detector out" in fails(capsys, "ask", directory / "picture.png", QUESTION, *wrong)
    other = ("--model", directory / FAMILIES[0], "--detector", "shapes-detector")
    assert "features are of size 128, but visual_feat_dim" in fails(
        capsys, "ask", directory / "picture.png", QUESTION, *other
    )

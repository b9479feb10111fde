"""`tfvl check --published` against a stand-in of the hub, with tiny checkpoints of the published layouts and keys."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from huggingface_hub import constants
from support.hub_server import hub_server
from support.originals import write_torch
from support.published import state_of, write_repository

import tfvl
from tfvl.cli import published
from tfvl.cli.app import main
from tfvl.cli.published_facts import CHECKPOINTS

RIGHT, CHANGED, TORN, GONE = "visualbert-nlvr2", "visualbert-vcr", "visualbert-vqa-pre", "lxmert-vqa-uncased"
NAMES = (RIGHT, CHANGED, TORN, GONE)
ROWS = {row.name.partition("/")[2]: row for row in CHECKPOINTS}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Writes the hub's repositories: a right one, one that is changed later, one cut off half-way; one is missing."""
    root = tmp_path_factory.mktemp("hub")
    for short in (RIGHT, CHANGED, TORN):
        (root / ROWS[short].name).mkdir(parents=True)
        write_repository(root / ROWS[short].name, ROWS[short].name)
    torn = root / ROWS[TORN].name / "pytorch_model.bin"
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    return root


@pytest.fixture(scope="module")
def facts(root):
    """Returns the rows with the tiny checkpoints' outputs, computed before a weight of one of them is changed."""
    rows = []
    for short in NAMES:
        row = ROWS[short]
        if row.expected:
            model = getattr(tfvl, row.architecture).from_pretrained(root / row.name)
            logits = model(dict(row.inputs))["logits"]
            row = dataclasses.replace(row, expected={"logits": ((), np.round(logits, 4).tolist())})
        rows.append(row)
    state = state_of(ROWS[CHANGED].name)
    state["cls.bias"] = state["cls.bias"] + 0.001
    write_torch(root / ROWS[CHANGED].name / "pytorch_model.bin", state)
    return tuple(rows)


@pytest.fixture
def hub(root, facts, monkeypatch, tmp_path):
    """Runs the stand-in with an empty cache and these facts; yields the list of the files that are fetched."""
    monkeypatch.setattr(published, "CHECKPOINTS", facts)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if hasattr(constants, name):
            monkeypatch.setattr(constants, name, str(tmp_path / "cache"))
    with hub_server(root, monkeypatch) as fetched:
        yield fetched


def table(results) -> dict[str, dict]:
    return {name.partition("/")[2]: row for name, row in json.loads(results.read_text()).items()}


def test_what_is_right_passes_and_what_is_not_is_a_row(hub, tmp_path, capsys):
    results = tmp_path / "results.json"
    assert main(["check", "--published", "--results", str(results)]) == 1
    rows = table(results)
    assert {name: row["result"] for name, row in rows.items()} == dict(
        zip(NAMES, ("pass", "differs", "fails", "fails"), strict=True)
    )
    assert rows[RIGHT]["difference"] < 1e-4 < 5e-4 < rows[CHANGED]["difference"]
    assert rows[RIGHT]["megabytes"] > 1
    assert "test_inference_vcr" in rows[CHANGED]["note"]
    assert "no such repository on the hub" in rows[GONE]["note"]
    assert "pytorch_model.bin" in rows[TORN]["note"]
    assert "1 of 4 are as published" in capsys.readouterr().out

    fetched = len(hub)
    assert main(["check", "--published", RIGHT, "--results", str(results)]) == 0
    assert len(hub) == fetched  # what passed is neither fetched nor loaded again


def test_a_directory_takes_the_place_of_the_hub(hub, root, tmp_path):
    assert main(["check", "--published", f"uclanlp/{RIGHT}", "--from", str(root)]) == 0
    assert main(["check", "--published", RIGHT, "--from", str(root / "uclanlp")]) == 0
    results = tmp_path / "results.json"
    assert main(["check", "--published", GONE, "--from", str(root), "--results", str(results)]) == 1
    assert table(results)[GONE]["note"] == f"{root} holds no unc-nlp/lxmert-vqa-uncased"
    assert not hub


def test_what_passed_is_checked_again_when_its_files_are_others(root, facts, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(published, "CHECKPOINTS", facts)
    results, copy = tmp_path / "results.json", tmp_path / "copy"
    shutil.copytree(root / ROWS[RIGHT].name, copy / ROWS[RIGHT].name)
    given = ["check", "--published", RIGHT, "--results", str(results)]
    assert main([*given, "--from", str(copy)]) == 0
    (tmp_path / "empty").mkdir()
    assert main([*given, "--from", str(tmp_path / "empty")]) == 1
    assert "holds no" in table(results)[RIGHT]["note"]
    assert main([*given, "--from", str(copy)]) == 0
    weights = copy / ROWS[RIGHT].name / "pytorch_model.bin"
    state = state_of(ROWS[RIGHT].name)
    write_torch(weights, state | {"cls.bias": state["cls.bias"] + 0.001})
    assert main([*given, "--from", str(copy)]) == 1
    assert table(results)[RIGHT]["result"] == "differs"


@pytest.mark.parametrize("kept", ['{"result": "pass"}', '"pass"', "[]", "{}", "7"])
def test_a_file_of_something_else_is_no_file_of_outcomes(root, facts, monkeypatch, tmp_path, capsys, kept):
    monkeypatch.setattr(published, "CHECKPOINTS", facts)
    results = tmp_path / "results.json"
    results.write_text(f'{{"{ROWS[RIGHT].name}": {kept}}}')
    assert main(["check", "--published", RIGHT, "--from", str(root), "--results", str(results)]) == 2
    assert f"{results} holds no outcome for {ROWS[RIGHT].name}" in capsys.readouterr().err
    assert kept in results.read_text()


def test_offline_is_one_sentence(facts, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(published, "CHECKPOINTS", facts)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert main(["check", "--published", RIGHT, GONE]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfvl: the hub cannot be reached")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--published", "no/such"], "no/such: no checkpoint of the table"),
        (["--published", RIGHT, "--from", "/no/such"], "--from is /no/such, but there is no such directory"),
        (["--published", "--target", "2.20"], "leave them out with --published"),
        (["--tasks", "somewhere"], "--tasks, --from and --results go with --published"),
        ([], "give one directory or .tflite file, got 0"),
    ],
)
def test_mistakes(arguments, sentence, capsys):
    assert main(["check", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_every_published_class_has_its_checkpoint():
    """Those of the hub that `tfvl.list_pretrained` knows, but the detector; each number with its source."""
    listed = [row["name"] for row in tfvl.list_pretrained() if not row["bundled"]]
    assert sorted(row.name for row in CHECKPOINTS) == sorted(name for name in listed if "frcnn" not in name)
    assert len(CHECKPOINTS) == 18
    for row in CHECKPOINTS:
        assert hasattr(tfvl, row.architecture)
        assert bool(row.expected) == bool(row.source)
        assert (row.inputs is None) == bool(row.text)
        assert all(question.source for question in row.questions)

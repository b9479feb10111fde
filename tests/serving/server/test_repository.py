"""Versions of a model: when they are loaded, which one answers, and that none goes before its last request."""

import gc
import shutil
import weakref
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tensorflow_serving", reason="tensorflow-serving-api is not installed")

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from tfvl.cli import app as cli
from tfvl.serving.client.errors import RequestError
from tfvl.serving.server import directories, launch, memory
from tfvl.serving.server.repository import Repository
from tfvl.serving.server.saved_model import missing
from tfvl.serving.server.servable import Servable


@pytest.fixture
def repository(tmp_path):
    """Makes repositories whose versions are directories with a file `model`, which holds a number to add to `x`."""

    def load(directory):
        value = float((directory / "model").read_text())
        return Servable(
            {"serving_default": SignatureDef()}, lambda _, inputs, outputs: {"y": inputs["x"] + value}, lambda: None
        )

    def missing_file(directory):
        return "" if (directory / "model").is_file() else "model is missing"

    loader = SimpleNamespace(missing=missing_file, load=load)
    made = []

    def make(**options):
        batching = {"max_rows": 4, "wait": 0.0, "threads": 1}
        made.append(Repository("adder", partial(directories.numbered, tmp_path), loader, batching=batching, **options))
        return made[-1]

    yield make
    for repository in made:
        repository.close()


def write(directory, number, content="") -> None:
    (directory / str(number)).mkdir(exist_ok=True)
    (directory / str(number) / "model").write_text(content or str(number))


def ask(repository, **which) -> float:
    with repository.lease(**which) as version:
        return version.predict("serving_default", {"x": np.zeros(1)}, ("y",))["y"].item()


def states(repository) -> dict:
    return {version.number: version.state for version in repository.versions()}


def settle(repository):
    repository.scan()
    repository.scan()


def test_a_replaced_version_is_freed_and_its_memory_returned(tmp_path, repository, monkeypatch):
    """Nothing refers to its servable any more when freed memory goes back to the system."""
    alive = []
    monkeypatch.setattr(memory, "release", lambda: alive.append((gc.collect() and None) or first()))
    write(tmp_path, 1)
    adder = repository()
    adder.scan(settled=True)
    first = weakref.ref(adder.versions()[0].servable)
    assert ask(adder) == 1
    write(tmp_path, 2)
    settle(adder)
    assert ask(adder) == 2
    assert alive == [None]


def test_the_highest_version_is_served_and_replaced(tmp_path, repository):
    write(tmp_path, 9)
    write(tmp_path, 10)
    (tmp_path / "backup").mkdir()
    adder = repository()
    adder.scan(settled=True)
    assert (ask(adder), states(adder)) == (10, {10: "AVAILABLE", 9: "START"})
    write(tmp_path, 11)
    adder.scan()  # its files have been seen once; they may still be growing
    assert ask(adder) == 10
    adder.scan()
    assert ask(adder) == 11
    assert states(adder) == {11: "AVAILABLE", 10: "END", 9: "START"}


def test_a_version_that_is_still_copied_waits(tmp_path, repository):
    write(tmp_path, 1)
    adder = repository()
    adder.scan(settled=True)
    (tmp_path / "2").mkdir()
    settle(adder)
    assert states(adder) == {2: "START", 1: "AVAILABLE"}
    assert adder.versions()[0].problem == "model is missing"
    write(tmp_path, 2, "2")
    adder.scan()
    assert adder.versions()[0].problem == "its files are still changing"
    (tmp_path / "2" / "model").write_text("2.25")
    adder.scan()
    assert ask(adder) == 1
    adder.scan()
    assert ask(adder) == 2.25


def test_a_broken_version_is_reported_and_the_old_one_stays(tmp_path, repository):
    write(tmp_path, 1)
    adder = repository()
    adder.scan(settled=True)
    write(tmp_path, 2, "broken")
    settle(adder)
    assert ask(adder) == 1
    newest = adder.versions()[0]
    assert (newest.state, newest.failed) == ("END", True)
    assert newest.problem == "ValueError: could not convert string to float: 'broken'"
    settle(adder)  # not tried again as long as nothing changes
    assert states(adder) == {2: "END", 1: "AVAILABLE"}
    write(tmp_path, 2, "2.5")
    settle(adder)
    settle(adder)
    assert ask(adder) == 2.5
    assert states(adder) == {2: "AVAILABLE", 1: "END"}


def test_removing_the_newest_version_goes_back(tmp_path, repository):
    write(tmp_path, 1)
    adder = repository()
    adder.scan(settled=True)
    write(tmp_path, 2)
    settle(adder)
    assert ask(adder) == 2
    shutil.rmtree(tmp_path / "2")
    settle(adder)
    assert (ask(adder), states(adder)) == (1, {2: "END", 1: "AVAILABLE"})
    shutil.rmtree(tmp_path / "1")
    settle(adder)
    assert ask(adder) == 1  # better the last one than none


def test_a_version_goes_after_its_last_request(tmp_path, repository):
    write(tmp_path, 1)
    adder = repository()
    adder.scan(settled=True)
    with adder.lease() as old, adder.lease(number=1):
        write(tmp_path, 2)
        settle(adder)
        assert states(adder) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert ask(adder) == 2
        with pytest.raises(RequestError, match=r"Specific\(adder, 1\)"):
            ask(adder, number=1)
        assert old.predict("serving_default", {"x": np.zeros(1)}, ("y",))["y"] == 1
    assert states(adder) == {2: "AVAILABLE", 1: "END"}
    assert old.servable is None


def test_several_versions_and_labels(tmp_path, repository):
    for number in (1, 2, 3):
        write(tmp_path, number)
    adder = repository(keep=2, labels={"stable": 2, "gone": 1})
    adder.scan(settled=True)
    assert (ask(adder), ask(adder, number=2), ask(adder, label="stable")) == (3, 2, 2)
    with pytest.raises(RequestError, match="Unrecognized servable version label: canary"):
        ask(adder, label="canary")
    with pytest.raises(RequestError, match=r"Specific\(adder, 1\)"):
        ask(adder, label="gone")


def test_no_version_at_all(tmp_path, repository):
    adder = repository()
    adder.scan(settled=True)
    with pytest.raises(RequestError, match=r"Servable not found for request: Latest\(adder\)"):
        ask(adder)


def test_what_a_saved_model_consists_of(tmp_path):
    assert missing(tmp_path) == "saved_model.pb is missing"
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    assert missing(tmp_path) == "variables/variables.index is missing"
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables/variables.index").write_bytes(b"")
    assert missing(tmp_path) == "variables/variables.index is missing"
    (tmp_path / "variables/variables.index").write_bytes(b"x")
    assert missing(tmp_path) == "0 of 1 files variables/variables.data-* are there"
    (tmp_path / "variables/variables.data-00000-of-00002").write_bytes(b"x")
    assert missing(tmp_path) == "1 of 2 files variables/variables.data-* are there"
    (tmp_path / "variables/variables.data-00001-of-00002").write_bytes(b"x")
    assert missing(tmp_path) == ""


# --- what `tfvl serve` makes of its arguments -------------------------------------------------------------------------


def test_directories(tmp_path):
    for number in (1, 2):
        (tmp_path / "vqa" / str(number)).mkdir(parents=True)
        (tmp_path / "vqa" / str(number) / "saved_model.pb").write_bytes(b"x")
    assert directories.finder(tmp_path / "vqa")().keys() == {1, 2}
    assert directories.finder(tmp_path / "vqa" / "1")() == {1: tmp_path / "vqa" / "1"}
    assert directories.default_name(tmp_path / "vqa") == directories.default_name(tmp_path / "vqa" / "2") == "vqa"
    with pytest.raises(ValueError, match="is no directory"):
        directories.finder(tmp_path / "other")
    with pytest.raises(ValueError, match=r"neither a SavedModel nor numbered versions; export to .*/1"):
        directories.finder(tmp_path)
    assert launch.parse_labels(["stable=1", "new=2"]) == {"stable": 1, "new": 2}
    with pytest.raises(ValueError, match="'stable' is not LABEL=VERSION"):
        launch.parse_labels(["stable"])


def test_tflite_files(tmp_path):
    alone, numbered = tmp_path / "vqa" / "vilt.tflite", tmp_path / "vqa" / "12" / "model.tflite"
    alone.parent.mkdir()
    alone.write_bytes(b"x")
    assert directories.finder(alone)() == {1: alone}
    assert directories.default_name(alone) == "vilt"
    assert directories.finder(tmp_path / "vqa")() == {1: tmp_path / "vqa"}
    numbered.parent.mkdir()
    numbered.write_bytes(b"x")
    assert directories.finder(numbered)() == {12: numbered}
    assert directories.finder(numbered.parent)() == {12: numbered.parent}
    assert directories.finder(tmp_path / "vqa")() == {12: numbered.parent}
    assert directories.default_name(numbered) == directories.default_name(numbered.parent) == "vqa"
    (tmp_path / "model.pb").write_bytes(b"x")
    for path in ("model.pb", "gone.tflite"):
        with pytest.raises(ValueError, match=r"is no directory; .* or a file that ends in \.tflite"):
            directories.finder(tmp_path / path)


def test_a_tflite_file_is_never_for_the_model_server(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "model_server", lambda: "tensorflow_model_server")
    monkeypatch.setattr(launch, "run_model_server", lambda serving: pytest.fail("started"))
    started = []
    monkeypatch.setattr(launch, "run_embedded", lambda serving, **options: started.append((serving, options)))
    (tmp_path / "vilt.tflite").write_bytes(b"x")
    assert cli.main(["serve", str(tmp_path / "vilt.tflite"), "--threads", "3"]) == 0
    ((serving, options),) = started
    assert (serving.name, serving.find(), options["threads"]) == ("vilt", {1: tmp_path / "vilt.tflite"}, 3)


def test_the_model_server_gets_the_generated_configs(tmp_path, monkeypatch, capsys):
    program = tmp_path / launch.MODEL_SERVER
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(launch.tempfile, "tempdir", str(tmp_path))
    started = []
    monkeypatch.setattr(launch.os, "execv", lambda *arguments: started.append(arguments))
    for number in (1, 2):
        (tmp_path / "vqa" / str(number)).mkdir(parents=True)
    options = {"name": "vqa", "host": "0.0.0.0", "rest_port": 8501, "grpc_port": 0, "keep": 1, "labels": {"stable": 1}}
    batching = {"max_batch_size": 8, "timeout_ms": 2.0, "threads": 1}
    for find in (partial(directories.numbered, tmp_path / "vqa"), lambda: {1: tmp_path / "vqa" / "1"}):
        launch.run_model_server(launch.Serving(find=find, batching=batching, **options))
    (path, whole), (_, one) = started
    assert path == str(program)
    flags = dict(argument.removeprefix("--").split("=") for argument in whole[1:])
    assert flags["rest_api_port"] == "8501"
    assert int(flags["port"]) > 0
    config = (tmp_path / flags["model_config_file"]).read_text()
    assert f'base_path: "{tmp_path / "vqa"}"' in config
    assert 'key: "stable" value: 1' in config
    assert "max_batch_size { value: 8 }" in (tmp_path / flags["batching_parameters_file"]).read_text()
    assert "enable: true" in (tmp_path / flags["monitoring_config_file"]).read_text()
    config = (tmp_path / dict(argument.split("=") for argument in one[1:])["--model_config_file"]).read_text()
    (base,) = [line.split('"')[1] for line in config.splitlines() if "base_path" in line]
    assert directories.numbered(tmp_path / base).keys() == {1}  # of one version, only that one
    assert launch.MODEL_SERVER in capsys.readouterr().out

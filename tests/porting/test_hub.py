"""Where a checkpoint is looked for: bundled names, paths, the hub's cache, the hub; every failure one sentence."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants, errors
from support.paths import ROOT

from tfvl.errors import CheckpointError
from tfvl.porting import hub

REPO, COMMIT = "someone/some-vilt", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline(monkeypatch):
    """Keeps all tests here from the network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def make_cache(directory: Path, files: dict[str, bytes], repo: str = REPO) -> Path:
    """Makes a cache in huggingface_hub's layout, with one commit on main; returns the snapshot."""
    root = directory / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    for number, (name, content) in enumerate(files.items()):
        (root / "blobs" / str(number)).write_bytes(content)
        (snapshot / name).symlink_to(root / "blobs" / str(number))
    return snapshot


def failing(error: Exception):
    def snapshot_download(*_, **__):
        raise error

    return snapshot_download


def response_error(kind: type[Exception]) -> Exception:
    """Makes an error of the hub without the response that its constructor requires."""
    error = kind.__new__(kind)
    Exception.__init__(error, "401 Client\nError.")
    return error


def test_bundled_names_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "BUNDLED_DIRECTORY", tmp_path / "bundled")
    (tmp_path / "bundled" / "shapes-vilt").mkdir(parents=True)
    (tmp_path / "shapes-vilt").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub.resolve("shapes-vilt") == tmp_path / "bundled" / "shapes-vilt"
    assert hub.resolve("./shapes-vilt") == Path("shapes-vilt")
    with pytest.raises(CheckpointError, match=r"shapes-lxmert: there is no such .* are shapes-vilt\."):
        hub.resolve("shapes-lxmert")


def test_local_directories_and_files(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "weights.bin").touch()
    assert hub.resolve(tmp_path) == tmp_path
    assert hub.resolve(str(tmp_path / "weights.bin")) == tmp_path / "weights.bin"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub.resolve("~/weights.bin") == tmp_path / "weights.bin"
    monkeypatch.chdir(tmp_path)
    assert hub.resolve("owner/name") == Path("owner/name")


@pytest.mark.parametrize(
    "src", ["/no/such/place", "./gone", "../gone", "a/b/c", "what is this?", "", Path("owner/name")]
)
def test_neither_path_nor_hub_id(src, offline):
    with pytest.raises(
        CheckpointError, match=r"there is no such directory or file, and a hub id looks like `owner/name`"
    ):
        hub.resolve(src)


def test_the_cache_is_enough_offline(tmp_path, offline):
    snapshot = make_cache(tmp_path, {"config.json": b"{}", "model.safetensors": b"x"})
    for options in ({}, {"revision": "main"}, {"revision": COMMIT}, {"local_files_only": True}):
        assert hub.resolve(REPO, cache_dir=tmp_path, **options) == snapshot


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "pytorch_model.bin.index.json"])
def test_other_formats_in_the_cache(tmp_path, offline, name):
    snapshot = make_cache(tmp_path, {"config.json": b"{}", name: b"x"})
    assert hub.resolve(REPO, cache_dir=tmp_path) == snapshot


def test_a_cache_without_weights(tmp_path, offline):
    snapshot = make_cache(tmp_path, {"config.json": b"{}"})
    assert hub.resolve(REPO, cache_dir=tmp_path, weights=False) == snapshot
    with pytest.raises(
        CheckpointError, match=r"someone/some-vilt: .*(has any of model.safetensors|not in the hub's cache)"
    ):
        hub.resolve(REPO, cache_dir=tmp_path)


def test_offline_and_not_in_the_cache(tmp_path, offline):
    with pytest.raises(CheckpointError, match=r"someone/some-vilt: .*not in the hub's cache.*HF_HUB_OFFLINE") as caught:
        hub.resolve(REPO, cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_the_environment_switches_the_hub_off(tmp_path):
    """The variable is read when huggingface_hub is imported, so a process of its own is needed."""
    code = f"from tfvl.porting.hub import resolve; resolve({REPO!r})"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"tfvl.errors.OutOfReachError: {REPO}: ")
    assert "not in the hub's cache" in last
    assert "During handling" not in done.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (response_error(errors.GatedRepoError), "the repository is gated; accept its terms"),
        (
            response_error(errors.RepositoryNotFoundError),
            "no such repository on the hub; if it is private, pass token=",
        ),
        (response_error(errors.RevisionNotFoundError), "the repository has no revision 'v9'"),
        (response_error(errors.HfHubHTTPError), "the hub refused it: 401 Client Error"),
        (errors.LocalEntryNotFoundError("gone"), "not in the hub's cache"),
        (errors.OfflineModeIsEnabled("off"), "not in the hub's cache"),
        (ConnectionError("unreachable"), "not in the hub's cache"),
        (errors.HFValidationError("bad\nname."), r"not a valid hub id \(bad name\)"),
    ],
)
def test_what_the_hub_answers(monkeypatch, error, message):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing(error))
    with pytest.raises(CheckpointError, match=message) as caught:
        hub.resolve(REPO, revision="v9")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(REPO)


def test_options_reach_the_hub_and_only_wanted_files_are_fetched(tmp_path, monkeypatch):
    fetched = []

    def snapshot_download(repo, allow_patterns, **options):
        fetched.append((repo, allow_patterns, options))
        if "pytorch_model.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    options = {"revision": "v1", "token": "secret", "cache_dir": tmp_path, "local_files_only": False}
    assert hub.resolve(REPO, **options) == tmp_path
    assert [call[0] for call in fetched] == [REPO, REPO]
    assert all(call[2] == options for call in fetched)
    assert "model.safetensors" in fetched[0][1]
    assert "pytorch_model.bin" not in fetched[0][1]
    assert "tf_model.h5" not in fetched[1][1]
    fetched.clear()
    hub.resolve(REPO, weights=False)
    assert [call[1] for call in fetched] == [list(hub.SMALL_FILES)]


@pytest.mark.parametrize("name", hub.VOCABULARY_NAMES)
def test_berts_vocabulary_needs_no_download(name, offline, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert hub.resolve(name, weights=False) == hub.BUNDLED_DIRECTORY / "bert-base-uncased"
    with pytest.raises(CheckpointError):  # there are no weights
        hub.resolve(name)
    Path(name).mkdir(parents=True)
    assert hub.resolve(name, weights=False) == Path(name)  # a directory of that name is meant


def test_where_a_tokenizer_lies(tmp_path):
    bundled = hub.BUNDLED_DIRECTORY / "bert-base-uncased"
    (tmp_path / "weights.bin").touch()
    assert hub.tokenizer_directory(tmp_path) == tmp_path  # not even a config.json
    (tmp_path / "config.json").write_text('{"vocab_size": 30522}')
    assert hub.tokenizer_directory(tmp_path) == hub.tokenizer_directory(tmp_path / "weights.bin") == bundled
    (tmp_path / "config.json").write_text("{}")  # the default of all three families
    assert hub.tokenizer_directory(tmp_path) == bundled
    (tmp_path / "config.json").write_text('{"vocab_size": 30523}')
    assert hub.tokenizer_directory(tmp_path) == tmp_path
    (tmp_path / "config.json").write_text('{"vocab_size": 30522}')
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    assert hub.tokenizer_directory(tmp_path) == tmp_path


def test_the_bundled_vocabulary_is_the_hubs():
    content = (hub.BUNDLED_DIRECTORY / "bert-base-uncased" / "vocab.txt").read_bytes()
    assert content.count(b"\n") == hub.VOCABULARY_SIZE
    assert hashlib.sha256(content).hexdigest() == "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

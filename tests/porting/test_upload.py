"""Uploads to a stand-in of the hub: what arrives, its card, and what is refused."""

import pytest
import yaml
from huggingface_hub import constants
from support import own_rows
from support.checkpoint import save_tiny
from support.hub import COMMIT, hub

import tfvl
from tfvl.cli.app import main
from tfvl.errors import CheckpointError

REPO = "someone/tiny"


@pytest.fixture
def endpoint(monkeypatch):
    with hub() as state:
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield state


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "vqa")


def front_matter(card: bytes | str) -> dict:
    text = card.decode() if isinstance(card, bytes) else card
    return yaml.safe_load(text.split("---\n")[1])


def test_model_and_processor_arrive_as_they_are_saved(endpoint, checkpoint, tmp_path):
    model, processor = tfvl.auto.load(checkpoint)
    address = model.push_to_hub(REPO, commit_message="First", token="hf_mine")
    assert address == f"{endpoint.url}/{REPO}/commit/{COMMIT}"
    processor.push_to_hub(REPO, token="hf_mine")
    assert endpoint.messages == ["First", "Upload by tfvl"]
    assert set(endpoint.tokens) == {"Bearer hf_mine"}
    for name, content in endpoint.repositories[REPO].items():
        (tmp_path / name).write_bytes(content)
    again, _ = tfvl.auto.load(tmp_path)
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        assert (ours.numpy() == theirs.numpy()).all()
    front = front_matter(endpoint.repositories[REPO]["README.md"])
    assert front["library_name"] == "tfvl"
    assert front["pipeline_tag"] == "visual-question-answering"
    assert "vilt" in front["tags"]


def test_a_card_that_is_there_stays(checkpoint, tmp_path):
    model, _ = tfvl.auto.load(checkpoint)
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize(("status", "sentence"), [(401, "the hub refused it"), (403, "the hub refused it")])
def test_refusals_are_a_sentence(endpoint, checkpoint, status, sentence):
    model, _ = tfvl.auto.load(checkpoint)
    endpoint.refusal = status
    with pytest.raises(CheckpointError, match=sentence):
        model.push_to_hub(REPO)
    with pytest.raises(CheckpointError, match="is no name of a repository"):
        model.push_to_hub("no/such/name")


def test_a_hub_out_of_reach(endpoint, checkpoint, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    model, _ = tfvl.auto.load(checkpoint)
    with pytest.raises(CheckpointError, match="the hub cannot be reached"):
        model.push_to_hub(REPO)


@pytest.mark.filterwarnings("ignore:.*newly initialised")
def test_a_run_goes_to_the_hub_when_it_ends(endpoint, checkpoint, tmp_path, capsys):
    path, out, config = own_rows.write_own(tmp_path / "data"), tmp_path / "out", tmp_path / "run.yaml"
    config.write_text("license: cc-by-4.0\ndatasets: [someone/photos]\n")
    options = ("--task", "vqa", "--data", path, "--model", checkpoint, "--out", out, "--steps", 1, "--batch-size", 5)
    arguments = list(map(str, ("train", *options, "--config", config, "--push-to-hub", REPO)))
    endpoint.refusal = 403
    assert main(arguments) == 2  # before the work
    assert not out.exists()
    endpoint.refusal = None
    assert main(arguments) == 0
    files = endpoint.repositories[REPO]
    assert files["model.safetensors"] == (out / "best" / "model.safetensors").read_bytes()
    front = front_matter(files["README.md"])
    assert (front["license"], front["datasets"], front["metrics"]) == ("cc-by-4.0", ["someone/photos"], ["accuracy"])
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["split"] == "val"
    assert result["metrics"][0]["type"] == "accuracy"

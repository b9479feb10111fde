"""The table of known checkpoints: what is bundled, what the heads do, and what the documents say."""

import re

import pytest
from support.paths import ROOT

import tfvl
from tfvl.answers.checkpoints import ARCHITECTURES
from tfvl.answers.rows import HEADS
from tfvl.pipelines.results import TASKS, tasks_of
from tfvl.porting.hub import BUNDLED_DIRECTORY

ROWS = tfvl.list_pretrained()
BUNDLED = [row for row in ROWS if row["bundled"]]
ROW = {"accuracy": "all|accuracy"}  # of a bundled model's README, where a figure is not called as it is there


def line(row: dict) -> str:
    """Returns a row of the table in tfvl/README.md, as it is written there."""
    figures = ", ".join(f"{name} {100 * share:.1f} %" for name, share in row["figures"].items())
    size = f"{row['parameters'] / 1e6:.2f} | {row['megabytes']}"
    return f"| `{row['name']}` | `{row['architecture']}` | {row['task']} | {size} | {figures} |".replace("|  |", "| |")


def test_every_row():
    assert len({row["name"] for row in ROWS}) == len(ROWS) == 29
    for row in ROWS:
        if row["architecture"] != "RegionDetector":
            head = HEADS[row["architecture"]]
            assert row["task"] == tasks_of(head.kind, head.several)[0]
        assert row["task"] in TASKS
        assert row["parameters"] > 10**5
        assert row["megabytes"] == round(row["parameters"] * 4e-6, 1)


@pytest.mark.parametrize("row", BUNDLED, ids=lambda row: row["name"])
def test_what_is_bundled(row):
    directory = BUNDLED_DIRECTORY / row["name"]
    if row["architecture"] == "RegionDetector":
        model = tfvl.RegionDetector.from_pretrained(row["name"])
        assert sum(weight.numpy().size for weight in model.weights) == row["parameters"]
    else:
        model, _ = tfvl.auto.load(row["name"])
        assert type(model).__name__ == row["architecture"]
        assert model.num_parameters() == row["parameters"]
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert row["figures"]
    for name, share in row["figures"].items():
        found = re.search(rf"^\| (?:{ROW.get(name, name)}) \|.*?([\d.]+)%", card, re.M)
        found = found or re.search(r"([\d.]+) % of the objects are covered", card)
        assert float(found[1]) == pytest.approx(100 * share)


def test_nothing_that_is_bundled_is_missing():
    assert {row["name"] for row in BUNDLED} == {path.name for path in BUNDLED_DIRECTORY.glob("shapes-*")}


def test_one_task():
    (detector, of_the_hub) = tfvl.list_pretrained("region-detection")
    assert detector["name"] == "shapes-detector"
    assert of_the_hub["name"] == "unc-nlp/frcnn-vg-finetuned"
    with pytest.raises(ValueError, match=r"task is 'vqa', expected one of visual-question-answering, .*detection"):
        tfvl.list_pretrained("vqa")


def test_the_list_is_the_callers_own():
    tfvl.list_pretrained()[0]["figures"]["accuracy"] = 1.0
    assert tfvl.list_pretrained()[0]["figures"]["accuracy"] < 1.0


def test_documents_have_the_table():
    """Each row in tfvl/README.md, and each model of the hub behind its class in the table of README.md."""
    document = (ROOT / "tfvl" / "README.md").read_text(encoding="utf-8")
    written = [each for each in document.splitlines() if re.match(r"\| `[\w/-]+` \| `\w+` \| [a-z-]+ \|", each)]
    assert written == [line(row) for row in ROWS]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    cells = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", readme, re.M))
    for row in ROWS:
        if not row["bundled"] and row["architecture"] in HEADS:
            ends = re.findall(r"`(?:…-|[\w-]+/)([\w-]+)`", cells[row["architecture"]])
            assert any(row["name"].endswith(end) for end in ends), row
    for architecture, cell in cells.items():
        named = re.findall(r"`([\w-]+/[\w-]+)`", cell)
        assert all(ARCHITECTURES[name] == architecture for name in named)

"""GQA: its files and its accuracy by type."""

from support import datasets

from tfvl.training.data.examples import Example, Report
from tfvl.training.tasks.gqa import Gqa


def test_gqa(tmp_path):
    datasets.write_gqa(tmp_path)
    examples = list(Gqa().read(tmp_path, "train_balanced", Report()))
    assert len(examples) == 6
    assert examples[1] == Example(id="01", images=("2000",), text="Is item 1 red?", answers=("red",), group="query")


def test_gqa_by_type():
    answers = [("yes", "verify"), ("red", "query"), ("red", "query"), ("yes", "logical")]
    examples = [Example(str(n), ("a",), "q", answers=(true,), group=kind) for n, (true, kind) in enumerate(answers)]
    assert Gqa().metric(["yes", "red", "Red", "no"], examples) == {"accuracy": 0.5, "binary": 0.5, "open": 0.5}

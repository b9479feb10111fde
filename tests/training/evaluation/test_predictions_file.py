"""Files of predictions in the form that the evaluation servers take, and VCR's two halves joined."""

import json

import numpy as np
import pytest

from tfvl.training.data.examples import Example
from tfvl.training.evaluation.evaluate import Evaluation
from tfvl.training.evaluation.predictions_file import joint_vcr, write_predictions


def test_files_for_the_evaluation_servers(tmp_path):
    def written(task, examples, predictions):
        write_predictions(tmp_path / "out", task, Evaluation({}, predictions, examples))
        return (tmp_path / "out").read_text()

    asked = [Example("262148000", ("a",), "q"), Example("x1", ("b",), "é?")]
    assert json.loads(written("vqa", asked, ["yes", "né"])) == [
        {"question_id": 262148000, "answer": "yes"},
        {"question_id": "x1", "answer": "né"},
    ]
    assert json.loads(written("gqa", asked, ["yes", ""]))[0] == {"questionId": "262148000", "prediction": "yes"}
    assert written("nlvr2", asked, [1, -1]) == "262148000,True\nx1,\n"
    choice = Example("val-3", ("a",), "q", choices=("x", "y"), label=1)
    assert written("vcr-rationale", [choice], [0]) == '{"annot_id": "val-3", "rationale": 0, "label": 1}\n'
    scores = np.float32([[0.1, 0.3, 0.2], [3, 2, 1]])
    assert json.loads(written("entities", asked[:1], [(scores, None)]))["regions"] == [[1, 2, 0], [0, 1, 2]]
    rows = [json.loads(line) for line in written("retrieval", asked, np.float32([[1, 2], [3, 0]])).splitlines()]
    assert rows == [
        {"id": "262148000", "images": ["b", "a"]},
        {"id": "x1", "images": ["a", "b"]},
        {"image": "a", "ids": ["x1", "262148000"]},
        {"image": "b", "ids": ["262148000", "x1"]},
    ]
    with pytest.raises(ValueError, match="zip"):
        written("vqa", asked, ["yes"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert json.loads((tmp_path / "out").read_text().splitlines()[0])["id"] == "262148000"  # as it was


def test_answers_and_rationales_are_joined(tmp_path):
    examples = [Example(f"val-{number}", ("a",), "q", choices=("x", "y"), label=number % 2) for number in range(4)]
    write_predictions(tmp_path / "answers.jsonl", "vcr-answer", Evaluation({}, [0, 1, 1, 0], examples))
    rationales = Evaluation({}, [0, 0, 0, 1], list(reversed(examples)))  # the same questions in another order
    found = joint_vcr(tmp_path / "answers.jsonl", rationales)
    justified = [
        said == example.label for said, example in zip(rationales.predictions, rationales.examples, strict=True)
    ]
    assert justified == [False, True, False, False]  # of val-3, val-2, val-1, val-0
    assert found == {"Q->A": 0.5, "QA->R": 0.25, "Q->AR": 0.0}
    rationales = Evaluation({}, [0, 1, 0, 0], examples)
    assert joint_vcr(tmp_path / "answers.jsonl", rationales) == {"Q->A": 0.5, "QA->R": 0.75, "Q->AR": 0.5}
    more = Evaluation({}, [0], [Example("val-9", ("a",), "q", label=0)])
    with pytest.raises(ValueError, match="has no answer to question val-9"):
        joint_vcr(tmp_path / "answers.jsonl", more)
    write_predictions(tmp_path / "other.jsonl", "vcr-rationale", rationales)
    with pytest.raises(ValueError, match="line 1, is no answer; write it by eval --task vcr-answer"):
        joint_vcr(tmp_path / "other.jsonl", rationales)

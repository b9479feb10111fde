"""Files of predictions in the form that the evaluation servers take."""

import json

import numpy as np
import pytest

from tfvl.training.data.examples import Example
from tfvl.training.evaluation.evaluate import Evaluation, write_predictions
from tfvl.training.tasks.table import TASKS


def test_files_for_the_evaluation_servers(tmp_path):
    def written(task, examples, predictions):
        write_predictions(tmp_path / "out", TASKS[task], Evaluation({}, predictions, examples))
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

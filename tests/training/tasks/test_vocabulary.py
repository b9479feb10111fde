"""Answer vocabularies, and the targets of question answering."""

import numpy as np
import pytest
from support import datasets

from tfvl.training.data.examples import Report
from tfvl.training.tasks.vocabulary import best_answers, build_vocabulary, majority, soft_targets
from tfvl.training.tasks.vqa import Vqa


def test_a_vocabulary_of_frequent_answers(tmp_path):
    answers = ["Yes."] * 5 + ["red"] * 9 + ["yes"] * 4 + ["two"] * 8 + ["A cat"] * 9
    assert build_vocabulary(answers) == ["yes", "red", "cat"]
    assert build_vocabulary(answers, 8) == ["yes", "red", "2", "cat"]
    with pytest.raises(ValueError, match="none of 4 answers occurs 10 times"):
        build_vocabulary(answers, 10)
    # of ten annotators four or more say the question's own answer to every number that ends in 4 to 9
    datasets.write_vqa(tmp_path, 50)
    assert build_vocabulary(majority(Vqa().read(tmp_path, "train", Report())), 5) == ["blue", "yes", "no", "2", "red"]


def test_soft_targets_by_the_number_of_annotators():
    label2id = {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
    rows = [["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"], ["zebra"] * 10, ["e"] * 10, ["b"]]
    expected = np.float32([[1, 0.9, 0.6, 0.3, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(soft_targets(rows, label2id, 5), expected)
    assert best_answers(rows, label2id).tolist() == [0, -100, 4, 1]

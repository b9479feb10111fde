"""Means by group, and what no task's metric can evaluate."""

import numpy as np
import pytest

from tfvl.training.data.examples import Example
from tfvl.training.tasks.entities import entities_recalls
from tfvl.training.tasks.measures import mean_by_group
from tfvl.training.tasks.nlvr2 import Nlvr2
from tfvl.training.tasks.retrieval import retrieval_recalls
from tfvl.training.tasks.vqa import vqa_accuracies


def test_means_by_group():
    assert mean_by_group(np.array([1.0, 0.0, 0.5]), ["yes/no", "number", "yes/no"]) == {"number": 0.0, "yes/no": 0.75}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: vqa_accuracies(["a"], []), "the lengths differ: predictions 1, answers 0"),
        (lambda: vqa_accuracies([], []), "nothing to evaluate"),
        (lambda: vqa_accuracies(["a"], [[]]), "'a' has no annotators' answers"),
        (
            lambda: Nlvr2().metric([1], [Example("dev-1-0", ("a", "b"), "q", label=1)]),
            "'dev-1-0' is not of the form split-set-pair-sentence",
        ),
        (lambda: retrieval_recalls(np.zeros((2, 3)), [0, 1]), r"shape \(2, 3\) and image_of_text \(2,\)"),
        (lambda: retrieval_recalls(np.zeros((2, 2)), [0, 2]), "rows of scores, 0 to 1"),
        (lambda: retrieval_recalls(np.zeros((2, 2)), [0, -1]), "rows of scores, 0 to 1"),
        (lambda: retrieval_recalls(np.zeros((2, 2)), [0, 0]), "image 1 has no text"),
        (lambda: retrieval_recalls(np.array([[np.nan]]), [0]), "a score is NaN or infinite"),
        (lambda: retrieval_recalls(np.array([[-np.inf, 0], [0, 0]]), [0, 1]), "a score is NaN or infinite"),
        (lambda: entities_recalls([np.zeros((1, 2))], [np.zeros((1, 3))]), r"sentence 0: .*\(1, 2\), matches \(1, 3\)"),
        (lambda: entities_recalls([], []), "no phrases"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

"""A split's examples as they are kept, and the report on what was left out."""

import numpy as np
import pytest
from support import datasets

from tfvl.training.data.examples import Example, Examples, Report
from tfvl.training.tasks.entities import Entities
from tfvl.training.tasks.nlvr2 import Nlvr2
from tfvl.training.tasks.vcr import VcrAnswer


def test_examples_come_back_from_disk(tmp_path):
    datasets.write_entities(tmp_path)
    datasets.write_vcr(tmp_path)
    datasets.write_nlvr2(tmp_path)
    originals = [
        *Entities().read(tmp_path, "val", Report()),
        *VcrAnswer().read(tmp_path, "val", Report()),
        *Nlvr2().read(tmp_path, "dev", Report()),
        Example(id="é\ud800", images=("a",), text="ü\n"),
    ]
    examples = Examples(originals)
    assert [examples[place] for place in range(len(examples))] == originals
    names = [example.images for example in originals]
    together = examples.images[:, None] == examples.images
    np.testing.assert_array_equal(together, [[one == other for other in names] for one in names])
    assert [names[examples.first_of_image[image]] for image in examples.images] == names
    assert examples.lengths[4] == 9 + 5  # the question and the longest answer
    with pytest.raises(IndexError):
        examples[len(examples)]


def test_an_empty_split_is_one_sentence():
    report = Report()
    with pytest.raises(ValueError, match=r"the split is empty: no example can be used \(skipped: bad: 1\)\."):
        Examples([Example("1", ("a",), "b")], lambda example: ("bad", "it is bad"), report)


def test_the_report_shows_the_first_sentences():
    report = Report()
    for number in range(9):
        report.skip("bad", f"number {number} is bad.")
    assert str(report) == "skipped: bad: 9"
    assert report.sentences == [f"number {number} is bad." for number in range(5)]

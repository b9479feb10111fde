"""A split's examples: how they are kept, answers and phrases as targets, and what each task opens and measures."""

import numpy as np
import pytest
from support import datasets

from tfvl.training.data.examples import Example, Examples, Report
from tfvl.training.data.images import ImageFolder
from tfvl.training.data.records import read_nlvr2, read_vcr
from tfvl.training.tasks import vocabulary as targets
from tfvl.training.tasks.entities import read_entities
from tfvl.training.tasks.table import TASKS, open_examples

# --- the store of examples ------------------------------------------------------------------------------------------


def test_examples_come_back_from_disk(tmp_path):
    datasets.write_entities(tmp_path)
    originals = [
        *read_entities(tmp_path, "val", Report()),
        *read_vcr(datasets.write_vcr(tmp_path), "answer", Report()),
        *read_nlvr2(datasets.write_nlvr2(tmp_path), Report()),
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


# --- vocabularies and targets ---------------------------------------------------------------------------------------


def test_a_vocabulary_of_frequent_answers(tmp_path):
    answers = ["Yes."] * 5 + ["red"] * 9 + ["yes"] * 4 + ["two"] * 8 + ["A cat"] * 9
    assert targets.build_vocabulary(answers) == ["yes", "red", "cat"]
    assert targets.build_vocabulary(answers, 8) == ["yes", "red", "2", "cat"]
    with pytest.raises(ValueError, match="none of 4 answers occurs 10 times"):
        targets.build_vocabulary(answers, 10)
    _, annotations = datasets.write_vqa(tmp_path, 50)
    assert targets.build_vocabulary(targets.majority_answers(annotations)) == datasets.ANSWERS


def test_soft_targets_by_the_number_of_annotators():
    label2id = {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
    rows = [["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"], ["zebra"] * 10, ["e"] * 10, ["b"]]
    expected = np.float32([[1, 0.9, 0.6, 0.3, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(targets.soft_targets(rows, label2id, 5), expected)
    assert targets.best_answers(rows, label2id).tolist() == [0, -100, 4, 1]


def test_targets_of_phrases_share_among_regions():
    matches = [np.array([[True, False, True], [False, False, False]]), np.array([[False, True]])]
    expected = [[[0.5, 0, 0.5, 0], [0, 0, 0, 0]], [[0, 1, 0, 0], [0, 0, 0, 0]]]
    np.testing.assert_array_equal(targets.alignment_targets(matches, 2, 4), np.float32(expected))


# --- tasks ----------------------------------------------------------------------------------------------------------

SPLITS = {
    "vqa": ("train", datasets.write_vqa, 24),
    "gqa": ("train_balanced", datasets.write_gqa, 6),
    "nlvr2": ("dev", datasets.write_nlvr2, 8),
    "retrieval": ("val", datasets.write_karpathy, 5),
    "vcr-answer": ("val", datasets.write_vcr, 6),
    "vcr-rationale": ("val", datasets.write_vcr, 6),
    "entities": ("val", datasets.write_entities, 4),
    "pretraining": ("train", datasets.write_karpathy, 50),
}


@pytest.mark.parametrize("task", SPLITS)
def test_every_task_opens_its_files(task, tmp_path):
    split, write, count = SPLITS[task]
    write(tmp_path)
    assert len(open_examples(task, tmp_path, split, strict=True)) == count


def test_missing_images_and_unknown_answers_are_skipped_or_refused(tmp_path):
    datasets.write_vqa(tmp_path)
    folder = ImageFolder(datasets.write_images(tmp_path / "images", datasets.vqa_images()[:-2]))
    label2id = {"yes": 0, "no": 1, "2": 2, "red": 3}
    examples = open_examples("vqa", tmp_path, "train", images=folder, label2id=label2id)
    # 4 questions about the last 2 images; of the other 20 those of "blue" (4, 9, 14, 19)
    assert examples.report.counts == {"missing images": 4, "answers outside the vocabulary": 4}
    assert len(examples) == 16
    with pytest.raises(ValueError, match=r"example 11004: no answer has a class \(it has blue, odd 4"):
        open_examples("vqa", tmp_path, "train", images=folder, label2id=label2id, strict=True)
    with pytest.raises(ValueError, match="example 19020: there is no image 'COCO_train2014_000000000019'"):
        open_examples("vqa", tmp_path, "train", images=folder, strict=True)


def test_tasks_and_files_that_do_not_exist(tmp_path):
    with pytest.raises(ValueError, match="there is no task 'caption'; there are vqa, gqa"):
        open_examples("caption", tmp_path, "train")
    with pytest.raises(ValueError, match=r"has 0 files like \*train2\*questions\.json; expected one"):
        open_examples("vqa", tmp_path, "train")
    datasets.write_vqa(tmp_path / "a")
    datasets.write_vqa(tmp_path / "b")
    with pytest.raises(ValueError, match="has 2 files like"):
        open_examples("vqa", tmp_path, "train")


def test_metrics_of_tasks(tmp_path):
    datasets.write_vqa(tmp_path)
    examples = open_examples("vqa", tmp_path, "train")
    given = [examples[place] for place in range(len(examples))]
    right = TASKS["vqa"].metric([example.answers[0] for example in given], given)
    np.testing.assert_allclose(right["accuracy"], datasets.ALL_RIGHT)
    assert set(right) == {"accuracy", "accuracy/other", "accuracy/yes/no"}
    captions = [Example(str(number), (f"image {number // 2}",), "text") for number in range(4)]
    assert TASKS["retrieval"].metric(np.array([[3.0, 2, 1, 0], [0, 1, 2, 3]]), captions)["image@1"] == 1.0
    choices = [Example(str(number), ("a",), "b", label=number) for number in range(2)]
    assert TASKS["vcr-answer"].metric([0, 0], choices) == {"accuracy": 0.5}

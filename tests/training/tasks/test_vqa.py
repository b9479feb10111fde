"""VQA v2: its files, its batches, and its accuracy against numbers computed by hand."""

import json

import numpy as np
import pytest
from support import datasets
from support.tasks import make_loader

from tfvl.training.data.examples import Example, Report
from tfvl.training.tasks.vqa import Vqa, vqa_accuracies

EXACT = {"rtol": 1e-12}  # a few float64 operations


# --- files ----------------------------------------------------------------------------------------------------------


def test_vqa(tmp_path):
    report = Report()
    datasets.write_vqa(tmp_path)
    examples = list(Vqa().read(tmp_path, "train", report))
    assert len(examples) == 24
    assert str(report) == "skipped: nothing"
    assert examples[3] == Example(
        id="10003",
        images=("COCO_train2014_000000000010",),
        text="is thing 3 really really really red?",
        answers=("red",) * 4 + ("odd 3",) * 6,
        group="other",
    )


def test_vqa_without_annotations_and_subtype(tmp_path):
    asked = [{"image_id": "scene-7", "question": "why?", "question_id": 5}]
    datasets.dump(tmp_path / "v2_test2015_questions.json", {"questions": asked})
    assert list(Vqa().read(tmp_path, "test", Report())) == [Example(id="5", images=("scene-7",), text="why?")]
    questions, _ = datasets.write_vqa(tmp_path / "dev", 2, "test")
    questions.write_text(questions.read_text().replace("test2014", "test-dev2015"))
    assert next(Vqa().read(tmp_path / "dev", "test", Report())).images == ("COCO_test2015_000000000009",)


def test_vqa_annotations_in_another_order(tmp_path):
    _, annotations = datasets.write_vqa(tmp_path)
    expected = list(Vqa().read(tmp_path, "train", Report()))
    content = json.loads(annotations.read_text())
    np.random.default_rng(0).shuffle(content["annotations"])
    datasets.dump(annotations, content)
    assert list(Vqa().read(tmp_path, "train", Report(strict=True))) == expected


def spoil(path, name, change) -> None:
    content = json.loads(path.read_text())
    change(content[name])
    datasets.dump(path, content)


@pytest.mark.parametrize(
    ("file", "change", "reason", "sentence"),
    [
        (
            0,
            lambda rows: rows.pop(5),
            "annotations without a question",
            r"question 11005 is annotated, but .*json lacks it",
        ),
        (0, lambda rows: rows.pop(), "annotations without a question", "question 20023 is annotated, but"),
        (1, lambda rows: rows.pop(5), "questions without an annotation", r"question 11005 has no annotation in .*json"),
        (0, lambda rows: rows[5].pop("image_id"), "malformed records", "question 11005, .*it has no 'image_id'"),
        (0, lambda rows: rows[5].update(question=" "), "malformed records", "question 11005, .*' ' is no text"),
        (1, lambda rows: rows[5].update(answers=[{}]), "malformed records", "question 11005, .*it has no 'answer'"),
        (1, lambda rows: rows[5].pop("answers"), "malformed records", "question 11005, .*it has no 'answers'"),
        (1, lambda rows: rows[5].update(answers=7), "malformed records", "question 11005, .*not iterable"),
    ],
)
def test_bad_vqa_records_are_skipped_and_counted_or_refused(tmp_path, file, change, reason, sentence):
    paths = datasets.write_vqa(tmp_path)
    spoil(paths[file], ("questions", "annotations")[file], change)
    report = Report()
    assert len(list(Vqa().read(tmp_path, "train", report))) == 23
    assert dict(report.counts) == {reason: 1}
    with pytest.raises(ValueError, match=sentence):
        list(Vqa().read(tmp_path, "train", Report(strict=True)))


# --- batches --------------------------------------------------------------------------------------------------------


def test_soft_and_single_answers(data_sets, tokenizer):
    inputs, labels, weights = make_loader(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")(np.array([2, 0]), 0)
    # question 2: three of ten say "2"; question 0: one says "yes"
    np.testing.assert_array_equal(labels, np.float32([[0, 0, 0.9, 0, 0], [0.3, 0, 0, 0, 0]]))
    assert weights.tolist() == [1, 1]
    assert tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True) == [
        "is thing 2 really really red?",
        "is thing 0 red?",
    ]
    assert inputs["pixel_values"].shape == (2, 32, 32, 3)
    # LXMERT learns soft targets where the task has them, else the best answer
    _, soft, _ = make_loader(data_sets, tokenizer, "vqa", "LxmertForQuestionAnswering")(np.array([2, 0]), 0)
    np.testing.assert_array_equal(soft, labels)
    _, single, _ = make_loader(data_sets, tokenizer, "gqa", "LxmertForQuestionAnswering")(np.array([2, 0]), 0)
    assert (single.shape, single.dtype) == ((2,), np.int32)


# --- accuracy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "expected"),
    # (same · min(1, (same - 1) / 3) + (10 - same) · min(1, same / 3)) / 10
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)],
)
def test_vqa_accuracy_by_the_number_who_agree(count, expected):
    answers = ["yes"] * count + [f"other{number}" for number in range(10 - count)]
    np.testing.assert_allclose(vqa_accuracies(["yes"], [answers]), [expected], **EXACT)


def test_vqa_answers_are_normalised_only_where_annotators_disagree():
    unanimous, split = ["Two dogs."] * 10, ["Two dogs."] * 9 + ["cats"]
    given = ["Two dogs.", "2 dogs"]
    np.testing.assert_array_equal(vqa_accuracies(given, [unanimous] * 2), [1.0, 0.0])
    np.testing.assert_array_equal(vqa_accuracies(given, [split] * 2), [1.0, 1.0])
    np.testing.assert_array_equal(vqa_accuracies(["\tTwo dogs.\n"], [unanimous]), [1.0])


def test_vqa_accuracy_with_other_numbers_of_annotators():
    # 2 of 3 say yes: leaving out one of them 1 of 3 thirds stays, leaving out the third 2 of 3
    np.testing.assert_allclose(vqa_accuracies(["yes"], [["yes", "yes", "no"]]), [(2 * (1 / 3) + 2 / 3) / 3], **EXACT)

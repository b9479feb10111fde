"""Rows of one's own as examples: every task, splits, classes, and what is left out."""

import json

import numpy as np
import pytest
from support import datasets, own_rows

from tfvl.preprocessing.requests import MAX_CHARACTERS
from tfvl.training.data import tables
from tfvl.training.data.examples import Report
from tfvl.training.data.images import ImageFiles
from tfvl.training.tasks.own import Columns, answers_of, own_task
from tfvl.training.tasks.vocabulary import soft_targets


def task_of(path, name="vqa", **columns):
    return own_task(name, tables.find(path), Columns(**columns))


def examples_of(path, wanted="all", name="vqa", strict=False, **columns):
    report = Report(strict)
    return list(task_of(path, name, **columns).stream(path, wanted, report)), report


def test_questions(tmp_path):
    path = own_rows.write_own(tmp_path)
    examples, report = examples_of(path)
    assert str(report) == "skipped: nothing"
    first = examples[0]
    assert (first.id, first.images, first.text, first.answers) == ("1", ("photos/0.jpg",), "is thing 0 red?", ("yes",))
    assert task_of(path).class_names(examples, 1) == own_rows.ANSWERS  # as they are written
    with pytest.raises(ValueError, match="none of 3 answers occurs 5 times"):
        task_of(path).class_names(examples, 5)


def test_columns_by_other_names(tmp_path):
    listed = [{"Bild": row["image"], "Frage": row["question"], "Antwort": row["answer"]} for row in own_rows.rows()]
    path = own_rows.write_csv(tmp_path / "my.csv", listed)
    with pytest.raises(ValueError, match="has no column") as caught:
        examples_of(path, "train")
    assert str(caught.value) == (
        f"{path} has no column 'image' (say another name by --image-column) and no column 'question' (say another name "
        "by --question-column) and no column 'answers' or 'answer' (say another name by --answer-column); its columns "
        "are bild, frage, antwort."
    )
    examples, _ = examples_of(path, image="Bild", question="FRAGE", answer="antwort")
    assert len(examples) == 12


def test_a_test_split_needs_no_answers(tmp_path):
    path = own_rows.write_csv(tmp_path / "my.csv", [{"image": "a.jpg", "question": "what?"}])
    ((example,), _) = examples_of(path, "all")
    assert example.answers == ()
    with pytest.raises(ValueError, match="no column 'answers' or 'answer'"):
        examples_of(path, "train")


def test_a_question_that_is_too_long_is_left_out(tmp_path):
    """As in a request: a text of megabytes would take gigabytes once it is tokens."""
    good = {"image": "a.jpg", "question": "what?", "answer": "x"}
    path = datasets.dump_lines(tmp_path / "my.jsonl", [good | {"question": "a" * (MAX_CHARACTERS + 1)}, good])
    examples, report = examples_of(path)
    assert [example.id for example in examples] == ["2"]
    assert report.sentences == [
        f"{path}, my.jsonl, line 1, cannot be used: text: there are {MAX_CHARACTERS + 1} characters to read, at most "
        f"{MAX_CHARACTERS} are."
    ]


def test_what_cannot_be_used_is_counted_by_reason_or_refused(tmp_path):
    good = {"image": "a.jpg", "question": "what?", "answer": "x"}
    bad = [{"answer": "  "}, {"answer": "nan", "question": ""}, {"image": ""}]
    path = own_rows.write_csv(tmp_path / "my.csv", [good, *(good | each for each in bad)])
    with open(path, "a") as file:
        file.write("b.jpg,why?\nb.jpg,why?,y,z\n")
    examples, report = examples_of(path)
    assert [example.id for example in examples] == ["1"]
    assert report.counts == {"empty answers": 1, "malformed records": 3, "missing images": 1}
    assert report.sentences[0] == f"{path}, my.csv, line 3, cannot be used: there is no answer."
    with pytest.raises(ValueError, match=r"line 3, cannot be used: there is no answer"):
        examples_of(path, strict=True)


def test_images_that_are_not_there(tmp_path):
    path = own_rows.write_own(tmp_path)
    (tmp_path / "photos" / "0.jpg").unlink()
    examples = task_of(path).examples(path, "all", images=ImageFiles(tmp_path))
    assert examples.report.counts == {"missing images": 2}
    with pytest.raises(ValueError, match=r"there is no image 'photos/0\.jpg'"):
        task_of(path).examples(path, "all", images=ImageFiles(tmp_path), strict=True)


def test_images_by_their_paths(tmp_path):
    datasets.write_images(tmp_path / "images", ["a", "deep/b"])
    source = ImageFiles(tmp_path)
    for name in ("a.jpg", "a", "images/a.jpg", "deep/b.jpg", str(tmp_path / "images" / "a.jpg")):
        assert name in source
        assert source.read(name, 2) == b"\xff\xd8"
    for name in ("c.jpg", "deep", "", "a\0.jpg"):
        assert name not in source
    with pytest.raises(ValueError, match=r"no image 'c\.jpg'"):
        source.read("c.jpg")
    with pytest.raises(ValueError, match="is no directory"):
        ImageFiles(tmp_path / "nowhere")


# --- splits -----------------------------------------------------------------------------------------------------------


def test_a_column_says_the_splits(tmp_path):
    names = ["Train", "training", "validation", "dev", "test", "holdout"]
    listed = [row | {"split": names[number % 6]} for number, row in enumerate(own_rows.rows())]
    path = own_rows.write_csv(tmp_path / "my.csv", listed)
    counts = {split: len(examples_of(path, split)[0]) for split in ("train", "val", "dev", "test", "holdout", "all")}
    assert counts == {"train": 4, "val": 4, "dev": 4, "test": 2, "holdout": 2, "all": 12}
    renamed = own_rows.write_csv(tmp_path / "other.csv", [{"fold": row.pop("split"), **row} for row in listed])
    assert len(examples_of(renamed, "test", split="fold")[0]) == 2
    with pytest.raises(ValueError, match="no column 'part'"):
        examples_of(renamed, "test", split="part")


def test_files_say_the_splits(tmp_path):
    for name, count in (("train", 6), ("val", 4), ("test", 2)):
        own_rows.write_csv(tmp_path / f"{name}.csv", own_rows.rows(count))
    assert [len(examples_of(tmp_path, split)[0]) for split in ("train", "val", "test")] == [6, 4, 2]


def test_a_share_of_the_images_is_for_validation(tmp_path):
    path = own_rows.write_csv(tmp_path / "my.csv", own_rows.rows(400))
    images = {
        split: {example.images[0] for example in examples_of(path, split)[0]} for split in ("train", "val", "all")
    }
    assert len(images["val"]) == 20  # of 200: no image is in both
    assert images["train"] == images["all"] - images["val"]
    again = {example.images[0] for example in examples_of(path, "val")[0]}
    other = {example.images[0] for example in examples_of(path, "val", seed=1)[0]}
    assert again == images["val"] != other
    assert len(examples_of(path, "train", share=0.0)[0]) == 400


def test_few_images_have_one_for_validation(tmp_path):
    path = own_rows.write_csv(tmp_path / "my.csv", own_rows.rows(4))
    assert [len(examples_of(path, split)[0]) for split in ("train", "val")] == [2, 2]
    path = own_rows.write_csv(tmp_path / "my.csv", own_rows.rows(2))
    assert [len(examples_of(path, split)[0]) for split in ("train", "val")] == [2, 0]


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" Dark  blue ", ("Dark blue",)),
        (2, ("2",)),
        (2.0, ("2",)),
        (True, ("True",)),
        ('["couch", "sofa"]', ("couch", "sofa")),
        ("['couch', 'sofa']", ("couch", "sofa")),
        ("[sic", ("[sic",)),
        ("[" * 5000, ("[" * 5000,)),
        (["a", None, ""], ("a",)),
        (np.array(["a", "b"]), ("a", "b")),
        ([{"answer": "yes", "answer_id": 1}] * 2, ("yes", "yes")),
    ],
)
def test_answers_as_files_have_them(value, expected):
    assert answers_of(value) == expected


@pytest.mark.parametrize("value", [None, "", " ", float("nan"), [], "[]", [None]])
def test_no_answer(value):
    with pytest.raises(ValueError, match="there is no answer"):
        answers_of(value)


def test_several_answers_are_right_in_parts():
    label2id = {"couch": 0, "sofa": 1, "bed": 2}
    rows = [["couch"], ["couch", "sofa"], ["couch", "couch", "bed"]]
    np.testing.assert_array_equal(soft_targets(rows, label2id, 3), np.float32([[1, 0, 0], [1, 1, 0], [1, 0, 0.5]]))


def test_accuracy(tmp_path):
    listed = [{"image": "a", "question": "q", "answers": json.dumps(given)} for given in (["Two"], ["a", "b"], ["c"])]
    path = own_rows.write_csv(tmp_path / "my.csv", listed)
    examples, _ = examples_of(path)
    assert task_of(path).metric(["2", "b", "d"], examples) == {"accuracy": 2 / 3}


def test_free_texts_are_no_classes(tmp_path, monkeypatch):
    monkeypatch.setattr("tfvl.training.tasks.own.MAX_CLASSES", 2)
    path = own_rows.write_own(tmp_path)
    with pytest.raises(ValueError, match="3 different answers are more than 2 classes"):
        task_of(path).class_names(examples_of(path)[0], 1)


# --- other tasks ------------------------------------------------------------------------------------------------------


def test_pairs(tmp_path):
    said = ["True", "false", "1", "0", "yes", "No", "maybe", ""]
    listed = [{"image": "a", "image2": "b", "sentence": "s", "label": label} for label in said]
    path = own_rows.write_csv(tmp_path / "my.csv", listed)
    examples, report = examples_of(path, name="nlvr2")
    assert [example.label for example in examples] == [1, 0, 1, 0, 1, 0]
    assert examples[0].images == ("a", "b")
    assert report.counts == {"malformed records": 1, "empty answers": 1}
    assert task_of(path, "nlvr2").metric([1, 0, 1, 0, 1, 1], examples) == {"accuracy": 5 / 6}
    assert list(task_of(path, "nlvr2").rows(examples[:1], [1])) == [{"id": "1", "answer": 1}]


def test_captions(tmp_path):
    path = own_rows.write_csv(tmp_path / "my.csv", [{"image": "a", "caption": "A dog."}] * 2)
    for name in ("retrieval", "pretraining"):
        examples, _ = examples_of(path, name=name)
        assert [example.text for example in examples] == ["A dog."] * 2


def test_words(tmp_path):
    listed = [
        {"image": "a", "text": "a  red dog", "labels": "O B-color O"},
        {"image": "a", "text": "a dog", "labels": '["O", "B-animal"]'},
        {"image": "a", "text": "a dog", "labels": "O"},
        {"image": "a", "text": "a dog", "labels": ""},
    ]
    path = own_rows.write_csv(tmp_path / "my.csv", listed)
    examples, report = examples_of(path, name="tokens")
    assert [example.answers for example in examples] == [("O", "B-color", "O"), ("O", "B-animal")]
    assert report.counts == {"malformed records": 1, "empty answers": 1}
    assert task_of(path, "tokens").class_names(examples, 1) == ("O", "B-color", "B-animal")


def test_tasks_without_tables(tmp_path):
    path = own_rows.write_own(tmp_path)
    with pytest.raises(ValueError, match="'gqa' reads its published files; tables are read for vqa, nlvr2, retrieval"):
        task_of(path, "gqa")

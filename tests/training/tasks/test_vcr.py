"""VCR: its files, its batches, and its two halves joined."""

import numpy as np
import pytest
from support import datasets
from support.prepared import stub
from support.tasks import make_loader, pipeline_of

from tfvl.training.data.examples import Example, Report
from tfvl.training.evaluation.evaluate import Evaluation, evaluate, write_predictions
from tfvl.training.tasks.table import TASKS
from tfvl.training.tasks.vcr import VcrAnswer, VcrRationale, _spoken


def test_vcr_names_people(tmp_path):
    datasets.write_vcr(tmp_path)
    (first, *_) = VcrAnswer().read(tmp_path, "val", Report())
    assert first == Example(
        id="val-0",
        images=("lsmdc_FILM/FILM_00",),
        text="Does Casey see the car near Riley Casey ?",
        choices=("Yes .", "No Jessie does not .", "Casey sleeps .", "Jessie left ."),
        label=1,
    )
    (first, second, *_) = VcrRationale().read(tmp_path, "val", Report())
    assert first.text == "Does Casey see the car near Riley Casey ? No Jessie does not ."
    assert first.choices[1:3] == ("Riley waves .", "Jessie left .")
    assert (first.label, second.label) == (0, 1)


def test_vcr_tags_and_labels_of_nothing(tmp_path):
    changes = [{"question": ["Is", [5], "?"]}, {"answer_label": 4}, {"answer_label": "1"}, {}]
    records = [datasets.vcr_record(place) | new for place, new in enumerate(changes)]
    datasets.dump_lines(tmp_path / "val.jsonl", records)
    report = Report()
    assert [example.id for example in VcrAnswer().read(tmp_path, "val", report)] == ["val-3"]
    assert report.counts == {"malformed records": 3}
    assert "line 2, cannot be used: the label 4 is no place of 4 choices." in report.sentences[1]


def test_vcr_people_are_counted_once():
    """However many objects a question names, each is compared a few times: not once for all that come after it."""
    compared = 0

    class Object(str):
        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    objects = [Object(("person", "car")[place % 2]) for place in range(200)]
    text, _ = _spoken([list(range(200))], objects, {})
    assert text.split()[:5] == ["Casey", "car", "Riley", "car", "Jessie"]
    assert text.split()[26:30] == ["Quinn", "car", "Casey", "car"]
    assert compared <= 400
    assert _spoken([[1, 0]], ["person", "car", "person"], {2: "Casey"})[0] == "car Riley"


def test_choices_of_vcr(data_sets, tokenizer):
    inputs, labels, _ = make_loader(data_sets, tokenizer, "vcr-rationale", "VisualBertForMultipleChoice")(
        np.array([3, 1]), 0
    )
    assert inputs["input_ids"].shape[:2] == (2, 4)
    text = tokenizer.decode(inputs["input_ids"][0, 2], skip_special_tokens=True)
    assert text == "does casey see the car near riley casey? no jessie does not. jessie left."
    assert labels.tolist() == [3, 1]


def test_vcr_joint_accuracy_needs_both(tmp_path):
    said, labels, rationales = [0, 1, 2, 3], [0, 1, 0, 3], [0, 2, 0, 1]
    rows = [{"annot_id": str(n), "answer": place, "label": labels[n]} for n, place in enumerate(said)]
    examples = [Example(str(n), ("a",), "q", label=label) for n, label in enumerate(rationales)]
    scores = VcrRationale().joint(datasets.dump_lines(tmp_path / "answers.jsonl", rows), examples, [0, 1, 0, 0])
    assert scores == {"Q->A": 3 / 4, "QA->R": 2 / 4, "Q->AR": 1 / 4}


def test_choices(data_sets, tokenizer):
    def predict(inputs):
        return {"logits": np.tile(np.float32([[0, 3, 2, 1]]), (len(inputs["input_ids"]), 1))}

    pipeline = pipeline_of(data_sets, tokenizer, "vcr-answer", "VisualBertForMultipleChoice")
    found = evaluate(stub("VisualBertForMultipleChoice", predict), pipeline, TASKS["vcr-answer"])
    assert found.predictions == [1] * 6
    assert found.metrics == {"accuracy": 1.0}


def test_answers_and_rationales_are_joined(tmp_path):
    examples = [Example(f"val-{number}", ("a",), "q", choices=("x", "y"), label=number % 2) for number in range(4)]
    write_predictions(tmp_path / "answers.jsonl", TASKS["vcr-answer"], Evaluation({}, [0, 1, 1, 0], examples))
    rationales = Evaluation({}, [0, 0, 0, 1], list(reversed(examples)))  # the same questions in another order
    joint = VcrRationale().joint
    found = joint(tmp_path / "answers.jsonl", rationales.examples, rationales.predictions)
    justified = [
        said == example.label for said, example in zip(rationales.predictions, rationales.examples, strict=True)
    ]
    assert justified == [False, True, False, False]  # of val-3, val-2, val-1, val-0
    assert found == {"Q->A": 0.5, "QA->R": 0.25, "Q->AR": 0.0}
    rationales = Evaluation({}, [0, 1, 0, 0], examples)
    assert joint(tmp_path / "answers.jsonl", rationales.examples, rationales.predictions) == {
        "Q->A": 0.5,
        "QA->R": 0.75,
        "Q->AR": 0.5,
    }
    more = Evaluation({}, [0], [Example("val-9", ("a",), "q", label=0)])
    with pytest.raises(ValueError, match="has no answer to question val-9"):
        joint(tmp_path / "answers.jsonl", more.examples, more.predictions)
    write_predictions(tmp_path / "other.jsonl", TASKS["vcr-rationale"], rationales)
    with pytest.raises(ValueError, match="line 1, is no answer; write it by eval --task vcr-answer"):
        joint(tmp_path / "other.jsonl", rationales.examples, rationales.predictions)

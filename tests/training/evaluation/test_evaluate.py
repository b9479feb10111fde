"""Predictions of whole splits: that they reach their examples whatever the order, what the metric says; the command."""

import numpy as np
import pytest
from support import datasets
from support.prepared import image_artefact, stub, write_prepared
from support.tasks import numbers_in, pipeline_of

from tfvl.cli.app import main
from tfvl.training.data.images import ImageFolder
from tfvl.training.evaluation.evaluate import evaluate
from tfvl.training.tasks.table import TASKS

# --- predictions and metrics ----------------------------------------------------------------------------------------


def right_answers(tokenizer, asked: list[int]):
    """Returns a model that answers all questions of `support.datasets` rightly, and notes their order in `asked`."""

    def predict(inputs):
        numbers = numbers_in(tokenizer, inputs["input_ids"])
        asked.extend(numbers)
        return {"logits": np.eye(5, dtype=np.float32)[[number % 5 for number in numbers]]}

    return stub("ViltForQuestionAnswering", predict)


def test_answers_reach_their_questions_whatever_the_order(data_sets, tokenizer):
    asked, steps = [], []
    pipeline = pipeline_of(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    found = evaluate(right_answers(tokenizer, asked), pipeline, TASKS["vqa"], lambda *step: steps.append(step))
    assert asked != sorted(asked)
    assert sorted(asked) == list(range(24))
    assert found.predictions == [datasets.ANSWERS[number % 5] for number in range(24)]
    assert [example.id for example in found.examples][:3] == ["9000", "9001", "10002"]
    np.testing.assert_allclose(found.metrics["accuracy"], datasets.ALL_RIGHT)
    assert steps == [(step, 5) for step in range(1, 6)]


def test_a_question_whose_image_is_torn_counts_as_wrong(tokenizer, tmp_path):
    datasets.write_vqa(tmp_path / "vqa")
    datasets.write_images(tmp_path / "vqa" / "images", datasets.vqa_images())
    name = datasets.vqa_images()[7]  # of questions 14 and 15, which 5 and 6 of 10 answered
    file = tmp_path / "vqa" / "images" / f"{name}.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    pipeline = pipeline_of(tmp_path, tokenizer, "vqa", "ViltForQuestionAnswering")
    found = evaluate(right_answers(tokenizer, []), pipeline, TASKS["vqa"])
    assert [number for number, answer in enumerate(found.predictions) if answer == ""] == [14, 15]
    np.testing.assert_allclose(found.metrics["accuracy"], datasets.ALL_RIGHT - 2 / 24)
    assert pipeline.loader.report.counts == {"images that fail": 2}


def test_a_split_without_truth_has_predictions_only(data_sets, tokenizer, tmp_path):
    datasets.write_vqa(tmp_path / "vqa", split="test")
    (tmp_path / "vqa" / "v2_mscoco_test2014_annotations.json").unlink()
    examples = TASKS["vqa"].examples(tmp_path / "vqa", "test")
    pipeline = pipeline_of(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    pipeline.loader.examples = examples
    pipeline.loader.visual.source = ImageFolder(
        datasets.write_images(tmp_path / "images", datasets.vqa_images(split="test"))
    )
    found = evaluate(right_answers(tokenizer, []), pipeline, TASKS["vqa"])
    assert found.metrics == {}
    assert len(found.predictions) == 24


def test_what_cannot_be_evaluated(data_sets, tokenizer):
    pipeline = pipeline_of(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    model = stub("ViltForQuestionAnswering", lambda inputs: {"logits": np.zeros((5, 3))})
    with pytest.raises(ValueError, match=r"'pretraining' cannot be evaluated; those with a metric are vqa, gqa"):
        evaluate(model, pipeline, TASKS["pretraining"])
    with pytest.raises(ValueError, match="ViltForQuestionAnswering does not do the task 'nlvr2'; its models are Vilt"):
        evaluate(model, pipeline, TASKS["nlvr2"])
    with pytest.raises(ValueError, match="the model has 3 answers, but its configuration names 5 in id2label"):
        evaluate(model, pipeline, TASKS["vqa"])


# --- the command ----------------------------------------------------------------------------------------------------


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["eval", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_evaluates_a_bundled_model(capsys, tmp_path):
    out = tmp_path / "said.jsonl"
    code, printed, _ = run(capsys, "--task", "shapes", "--model", "shapes-vilt", "--limit", 40, "--out", out)
    assert code == 0
    assert "shapes-vilt on shapes, 40 examples" in printed
    assert "accuracy/color" in printed
    assert len(out.read_text().splitlines()) == 40


def test_the_command_evaluates_an_exported_model_on_prepared_data(data_sets, capsys, tmp_path):
    data = write_prepared(tmp_path / "prepared", "vqa", data_sets / "vqa", "train")
    model = image_artefact(tmp_path / "model")
    arguments = ["--task", "vqa", "--model", model, "--split", "train", "--out", tmp_path / "out.json"]
    code, printed, _ = run(capsys, *arguments, "--data", data)
    assert code == 0
    assert f"{100 * datasets.ALL_RIGHT:.2f}" in printed
    first = (tmp_path / "out.json").read_text()
    code, _, _ = run(capsys, *arguments, "--data", data_sets / "vqa")
    assert code == 0
    assert (tmp_path / "out.json").read_text() == first


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--task", "vqa", "--model", "shapes-vilt"], "the task 'vqa' needs --data"),
        (["--task", "pretraining", "--model", "shapes-vilt"], "the task 'pretraining' cannot be evaluated"),
        (["--task", "shapes", "--model", "shapes-vilt", "--out", "/nowhere/x"], "/nowhere is no directory"),
        (
            ["--task", "vqa", "--model", "shapes-vilt", "--vcr-answers", __file__],
            "--vcr-answers goes with --task vcr-rationale, not with vqa",
        ),
        (["--task", "nlvr2", "--data", "/tmp", "--model", "shapes-lxmert"], "has no model of the family"),
    ],
)
def test_the_commands_mistakes_are_one_line(arguments, sentence, capsys):
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert sentence in error
    assert len(error.splitlines()) == 1

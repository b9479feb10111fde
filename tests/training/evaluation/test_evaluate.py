"""Predictions of whole splits: that they reach their examples whatever the order, what the metric says; the command."""

import numpy as np
import pytest
from support import datasets
from support.prepared import image_artefact, stub, write_prepared
from support.tasks import LABEL2ID, SOURCES, processor_of, visual_of

from tfvl.cli.app import main
from tfvl.training.data.images import ImageFolder
from tfvl.training.data.loading import Loader
from tfvl.training.data.pipeline import BatchPlan, Pipeline, bucket_keys
from tfvl.training.evaluation.evaluate import evaluate
from tfvl.training.tasks.table import TASKS, open_examples


def pipeline_of(data_sets, tokenizer, task: str, model: str, batch_size: int = 5, limit: int | None = None) -> Pipeline:
    """A split in buckets, so that batches are not in the data set's order."""
    root, processor = data_sets / task, processor_of(model, tokenizer)
    examples = open_examples(task, root, SOURCES[task][0], limit=limit)
    label2id = LABEL2ID if TASKS[task].answers else None
    make = TASKS[task].models[model]
    loader = Loader(examples, visual_of(root, processor), processor, make, label2id=label2id, num_labels=5)
    plan = BatchPlan(len(examples), batch_size, shuffle=False, keys=bucket_keys(loader), drop_remainder=False)
    return Pipeline(loader, plan)


def numbers_in(tokenizer, ids) -> list[int]:
    """The first number in each text."""
    texts = tokenizer.batch_decode(np.asarray(ids), skip_special_tokens=True)
    return [int(next(word for word in text.replace(".", " ").split() if word.isdecimal())) for text in texts]


# --- predictions and metrics ----------------------------------------------------------------------------------------


def right_answers(tokenizer, asked: list[int]):
    """Says the right answer to each of `support.datasets`' questions, and notes in which order they come."""

    def predict(inputs):
        numbers = numbers_in(tokenizer, inputs["input_ids"])
        asked.extend(numbers)
        return {"logits": np.eye(5, dtype=np.float32)[[number % 5 for number in numbers]]}

    return stub("ViltForQuestionAnswering", predict)


def test_answers_reach_their_questions_whatever_the_order(data_sets, tokenizer):
    asked, steps = [], []
    pipeline = pipeline_of(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    found = evaluate(right_answers(tokenizer, asked), pipeline, "vqa", lambda *step: steps.append(step))
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
    found = evaluate(right_answers(tokenizer, []), pipeline, "vqa")
    assert [number for number, answer in enumerate(found.predictions) if answer == ""] == [14, 15]
    np.testing.assert_allclose(found.metrics["accuracy"], datasets.ALL_RIGHT - 2 / 24)
    assert pipeline.loader.report.counts == {"images that fail": 2}


def test_a_split_without_truth_has_predictions_only(data_sets, tokenizer, tmp_path):
    datasets.write_vqa(tmp_path / "vqa", split="test")
    (tmp_path / "vqa" / "v2_mscoco_test2014_annotations.json").unlink()
    examples = open_examples("vqa", tmp_path / "vqa", "test")
    pipeline = pipeline_of(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    pipeline.loader.examples = examples
    images = datasets.write_images(tmp_path / "images", datasets.vqa_images(split="test"))
    pipeline.loader.visual.source = ImageFolder(images)
    found = evaluate(right_answers(tokenizer, []), pipeline, "vqa")
    assert found.metrics == {}
    assert len(found.predictions) == 24


def test_classes_of_pairs(data_sets, tokenizer):
    def predict(inputs):
        return {"logits": np.tile(np.float32([[0, 1]]), (len(inputs["input_ids"]), 1))}

    pipeline = pipeline_of(data_sets, tokenizer, "nlvr2", "ViltForImagesAndTextClassification", batch_size=3)
    found = evaluate(stub("ViltForImagesAndTextClassification", predict), pipeline, "nlvr2")
    # every second sentence is true; a sentence's two pairs of images have the same label
    assert found.metrics == {"accuracy": 0.5, "consistency": 0.5}


def test_choices(data_sets, tokenizer):
    def predict(inputs):
        return {"logits": np.tile(np.float32([[0, 3, 2, 1]]), (len(inputs["input_ids"]), 1))}

    pipeline = pipeline_of(data_sets, tokenizer, "vcr-answer", "VisualBertForMultipleChoice")
    found = evaluate(stub("VisualBertForMultipleChoice", predict), pipeline, "vcr-answer")
    assert found.predictions == [1] * 6
    assert found.metrics == {"accuracy": 1.0}


def test_phrases(data_sets, tokenizer):
    """The regions' scores are the targets of all phrases but the first, which likes a wrong region most."""
    pipeline = pipeline_of(data_sets, tokenizer, "entities", "VisualBertForRegionToPhraseAlignment", batch_size=4)
    _, labels, _ = pipeline.batch(0, 0)
    found = evaluate(
        stub("VisualBertForRegionToPhraseAlignment", lambda inputs: {"logits": labels}), pipeline, "entities"
    )
    phrases = 2 * (2 + 1)  # two images, with a sentence of two phrases and one of one
    upper = np.count_nonzero(labels.max(axis=2)) / phrases
    assert 0 < upper < 1
    assert found.metrics == {"recall@1": upper, "recall@5": upper, "recall@10": upper, "upper_bound": upper}
    worst = evaluate(
        stub("VisualBertForRegionToPhraseAlignment", lambda inputs: {"logits": -labels}), pipeline, "entities"
    )
    assert worst.metrics["recall@1"] == 0
    assert worst.metrics["upper_bound"] == upper


def matching(tokenizer, pipeline):
    """Scores a caption with an image 1 where it is of that image, else 0, and closer numbers a little more."""
    loader = pipeline.loader
    numbers = {}
    for example in (loader.examples[place] for place in range(len(loader.examples))):
        (name,) = example.images
        numbers[loader.visual.inputs([[loader.visual.get(name)]])["pixel_values"].tobytes()] = int(name[-12:])

    def predict(inputs):
        image = numbers[np.asarray(inputs["pixel_values"]).tobytes()]
        assert inputs["input_ids"].ndim == 3
        texts = np.array(numbers_in(tokenizer, inputs["input_ids"][0]))
        return {"logits": (texts == image)[None].astype(np.float32)}

    return stub("ViltForImageAndTextRetrieval", predict)


def test_every_image_meets_every_text(data_sets, tokenizer):
    pipeline = pipeline_of(data_sets, tokenizer, "retrieval", "ViltForImageAndTextRetrieval", limit=20)
    found = evaluate(matching(tokenizer, pipeline), pipeline, "retrieval")
    np.testing.assert_array_equal(found.predictions, np.repeat(np.eye(4), 5, axis=1))
    assert set(found.metrics.values()) == {1.0}


def test_an_image_that_cannot_be_read_is_found_by_no_text(data_sets, tokenizer):
    pipeline = pipeline_of(data_sets, tokenizer, "retrieval", "ViltForImageAndTextRetrieval", limit=20)
    model = matching(tokenizer, pipeline)
    get, broken = pipeline.loader.visual.get, datasets.karpathy_images()[2]

    def torn(name):
        if name == broken:
            raise ValueError("it is torn")
        return get(name)

    pipeline.loader.visual.get = torn
    found = evaluate(model, pipeline, "retrieval")
    assert found.metrics["image@1"] == found.metrics["text@1"] == 0.75
    assert found.metrics["text@10"] == 0.75  # its own texts come last, behind 15 others
    assert pipeline.loader.report.counts == {"images that fail": 1}


def test_what_cannot_be_evaluated(data_sets, tokenizer):
    pipeline = pipeline_of(data_sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    model = stub("ViltForQuestionAnswering", lambda inputs: {"logits": np.zeros((5, 3))})
    with pytest.raises(ValueError, match=r"'pretraining' cannot be evaluated; those with a metric are vqa, gqa"):
        evaluate(model, pipeline, "pretraining")
    with pytest.raises(ValueError, match="ViltForQuestionAnswering does not do the task 'nlvr2'; its models are Vilt"):
        evaluate(model, pipeline, "nlvr2")
    with pytest.raises(ValueError, match="the model has 3 answers, but its configuration names 5 in id2label"):
        evaluate(model, pipeline, "vqa")


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
        (["--task", "nlvr2", "--data", "/tmp", "--model", "shapes-lxmert"], "has no model of the family"),
    ],
)
def test_the_commands_mistakes_are_one_line(arguments, sentence, capsys):
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert sentence in error
    assert len(error.splitlines()) == 1

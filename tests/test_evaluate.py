"""Predictions of whole splits: that they reach their examples, what the metric says, and the files for the servers."""

import json
from pathlib import Path

import helpers_datasets as made
import numpy as np
import pytest
import tensorflow as tf
from helpers_prepared import image_artefact, rule_artefact, stub, write_prepared

import tfvl
from tfvl.cli import main
from tfvl.training.data import BatchPlan, Pipeline, bucket_keys
from tfvl.training.evaluate import Evaluation, evaluate
from tfvl.training.examples import Example
from tfvl.training.images import ImageFolder
from tfvl.training.loading import Loader, Pictures, StoredRegions
from tfvl.training.scoring import ExportedModel, evaluate_exported
from tfvl.training.submission import joint_vcr, write_predictions
from tfvl.training.tasks import TASKS, open_examples

VOCABULARY = Path(tfvl.__file__).parent / "bundled" / "bert-base-uncased" / "vocab.txt"
# 24 questions; of ten annotators (number % 10) + 1 gave the right answer, which scores .3, .6, .9 and then 1
ALL_RIGHT = (24 - 3 * 0.7 - 3 * 0.4 - 3 * 0.1) / 24
NAMES = {
    "vqa": made.vqa_images(),
    "nlvr2": made.nlvr2_images(),
    "retrieval": made.karpathy_images(),
    "vcr-answer": [f"lsmdc_FILM/FILM_{number:02d}" for number in range(6)],
    "entities": ["36979", "65567"],
}
SPLITS = {"vqa": "train", "nlvr2": "dev", "retrieval": "train", "vcr-answer": "val", "entities": "val"}
WRITERS = {
    "vqa": made.write_vqa,
    "nlvr2": made.write_nlvr2,
    "retrieval": made.write_karpathy,
    "vcr-answer": made.write_vcr,
    "entities": made.write_entities,
}


@pytest.fixture(scope="module")
def tokenizer():
    return tfvl.BertTokenizer(VOCABULARY, model_max_length=40)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for task, write in WRITERS.items():
        write(root / task)
        made.write_images(root / task / "images", NAMES[task])
        made.write_regions(root / task / "regions.h5", NAMES[task]).close()
    return root


def pipeline_of(
    root: Path, tokenizer, task: str, model: str, batch_size: int = 5, limit: int | None = None
) -> Pipeline:
    """A split in buckets, so that batches are not in the data set's order."""
    if model.startswith("Vilt"):
        image_processor = tfvl.ViltImageProcessor(size=32, size_divisor=16)
        visual = Pictures(ImageFolder(root / task / "images"), image_processor)
        processor = tfvl.ViltProcessor(image_processor, tokenizer)
    else:
        processor = tfvl.VisualBertProcessor(tokenizer, made.FEATURE_SIZE)
        visual = StoredRegions(tfvl.RegionStore(root / task / "regions.h5"), processor)
    examples = open_examples(task, root / task, SPLITS[task], limit=limit)
    label2id = {answer: place for place, answer in enumerate(made.ANSWERS)} if TASKS[task].answers else None
    loader = Loader(examples, visual, processor, TASKS[task].models[model], label2id=label2id, num_labels=5)
    plan = BatchPlan(len(examples), batch_size, shuffle=False, keys=bucket_keys(loader), drop_remainder=False)
    return Pipeline(loader, plan)


def numbers_in(tokenizer, ids) -> list[int]:
    """The first number in each text."""
    texts = tokenizer.batch_decode(np.asarray(ids), skip_special_tokens=True)
    return [int(next(word for word in text.replace(".", " ").split() if word.isdecimal())) for text in texts]


# --- predictions and metrics ----------------------------------------------------------------------------------------


def right_answers(tokenizer, asked: list[int]):
    """Says the right answer to each of `helpers_datasets`' questions, and notes in which order they come."""

    def predict(inputs):
        numbers = numbers_in(tokenizer, inputs["input_ids"])
        asked.extend(numbers)
        return {"logits": np.eye(5, dtype=np.float32)[[number % 5 for number in numbers]]}

    return stub("ViltForQuestionAnswering", predict)


def test_answers_reach_their_questions_whatever_the_order(sets, tokenizer):
    asked, steps = [], []
    pipeline = pipeline_of(sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    found = evaluate(right_answers(tokenizer, asked), pipeline, "vqa", lambda *step: steps.append(step))
    assert asked != sorted(asked)
    assert sorted(asked) == list(range(24))
    assert found.predictions == [made.ANSWERS[number % 5] for number in range(24)]
    assert [example.id for example in found.examples][:3] == ["9000", "9001", "10002"]
    np.testing.assert_allclose(found.metrics["accuracy"], ALL_RIGHT)
    assert steps == [(step, 5) for step in range(1, 6)]


def test_a_question_whose_image_is_torn_counts_as_wrong(tokenizer, tmp_path):
    made.write_vqa(tmp_path / "vqa")
    made.write_images(tmp_path / "vqa" / "images", NAMES["vqa"])
    file = (
        tmp_path / "vqa" / "images" / f"{NAMES['vqa'][7]}.jpg"
    )  # of questions 14 and 15, which 5 and 6 of 10 answered
    file.write_bytes(file.read_bytes()[:-200])
    pipeline = pipeline_of(tmp_path, tokenizer, "vqa", "ViltForQuestionAnswering")
    found = evaluate(right_answers(tokenizer, []), pipeline, "vqa")
    assert [number for number, answer in enumerate(found.predictions) if answer == ""] == [14, 15]
    np.testing.assert_allclose(found.metrics["accuracy"], ALL_RIGHT - 2 / 24)
    assert pipeline.loader.report.counts == {"images that fail": 2}


def test_a_split_without_truth_has_predictions_only(sets, tokenizer, tmp_path):
    made.write_vqa(tmp_path / "vqa", split="test")
    (tmp_path / "vqa" / "v2_mscoco_test2014_annotations.json").unlink()
    examples = open_examples("vqa", tmp_path / "vqa", "test")
    pipeline = pipeline_of(sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    pipeline.loader.examples = examples
    pipeline.loader.visual.source = ImageFolder(made.write_images(tmp_path / "images", made.vqa_images(split="test")))
    found = evaluate(right_answers(tokenizer, []), pipeline, "vqa")
    assert found.metrics == {}
    assert len(found.predictions) == 24


def test_classes_of_pairs(sets, tokenizer):
    def predict(inputs):
        return {"logits": np.tile(np.float32([[0, 1]]), (len(inputs["input_ids"]), 1))}

    pipeline = pipeline_of(sets, tokenizer, "nlvr2", "ViltForImagesAndTextClassification", batch_size=3)
    found = evaluate(stub("ViltForImagesAndTextClassification", predict), pipeline, "nlvr2")
    # every second sentence is true; a sentence's two pairs of images have the same label
    assert found.metrics == {"accuracy": 0.5, "consistency": 0.5}


def test_choices(sets, tokenizer):
    def predict(inputs):
        return {"logits": np.tile(np.float32([[0, 3, 2, 1]]), (len(inputs["input_ids"]), 1))}

    pipeline = pipeline_of(sets, tokenizer, "vcr-answer", "VisualBertForMultipleChoice")
    found = evaluate(stub("VisualBertForMultipleChoice", predict), pipeline, "vcr-answer")
    assert found.predictions == [1] * 6
    assert found.metrics == {"accuracy": 1.0}


def test_phrases(sets, tokenizer):
    """The regions' scores are the targets of all phrases but the first, which likes a wrong region most."""
    pipeline = pipeline_of(sets, tokenizer, "entities", "VisualBertForRegionToPhraseAlignment", batch_size=4)
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


def test_every_image_meets_every_text(sets, tokenizer):
    pipeline = pipeline_of(sets, tokenizer, "retrieval", "ViltForImageAndTextRetrieval", limit=20)
    found = evaluate(matching(tokenizer, pipeline), pipeline, "retrieval")
    np.testing.assert_array_equal(found.predictions, np.repeat(np.eye(4), 5, axis=1))
    assert set(found.metrics.values()) == {1.0}


def test_an_image_that_cannot_be_read_is_found_by_no_text(sets, tokenizer):
    pipeline = pipeline_of(sets, tokenizer, "retrieval", "ViltForImageAndTextRetrieval", limit=20)
    model = matching(tokenizer, pipeline)
    get, broken = pipeline.loader.visual.get, NAMES["retrieval"][2]

    def torn(name):
        if name == broken:
            raise ValueError("it is torn")
        return get(name)

    pipeline.loader.visual.get = torn
    found = evaluate(model, pipeline, "retrieval")
    assert found.metrics["image@1"] == found.metrics["text@1"] == 0.75
    assert found.metrics["text@10"] == 0.75  # its own texts come last, behind 15 others
    assert pipeline.loader.report.counts == {"images that fail": 1}


def test_what_cannot_be_evaluated(sets, tokenizer):
    pipeline = pipeline_of(sets, tokenizer, "vqa", "ViltForQuestionAnswering")
    model = stub("ViltForQuestionAnswering", lambda inputs: {"logits": np.zeros((5, 3))})
    with pytest.raises(ValueError, match=r"'pretraining' cannot be evaluated; those with a metric are vqa, gqa"):
        evaluate(model, pipeline, "pretraining")
    with pytest.raises(ValueError, match="ViltForQuestionAnswering does not do the task 'nlvr2'; its models are Vilt"):
        evaluate(model, pipeline, "nlvr2")
    with pytest.raises(ValueError, match="the model has 3 answers, but its configuration names 5 in id2label"):
        evaluate(model, pipeline, "vqa")


# --- exported models ------------------------------------------------------------------------------------------------


def test_an_exported_model_is_asked_as_a_checkpoint_is(sets, tmp_path):
    examples = open_examples("vqa", sets / "vqa", "train")
    model = ExportedModel(str(image_artefact(tmp_path / "model")))
    assert model.wants == "images"
    found = evaluate_exported(model, examples, ImageFolder(sets / "vqa" / "images"), "vqa", batch_size=7)
    np.testing.assert_allclose(found.metrics["accuracy"], ALL_RIGHT)
    assert found.predictions == [made.ANSWERS[number % 5] for number in range(24)]


def test_rows_that_fail_have_no_answer(tmp_path):
    made.write_vqa(tmp_path)
    made.write_images(tmp_path / "images", NAMES["vqa"][:-1])
    file = tmp_path / "images" / f"{NAMES['vqa'][0]}.jpg"
    file.write_bytes(file.read_bytes()[:-2])
    examples = open_examples("vqa", tmp_path, "train")
    model = ExportedModel(str(image_artefact(tmp_path / "model")))
    found = evaluate_exported(model, examples, ImageFolder(tmp_path / "images"), "vqa", batch_size=24)
    assert [number for number, answer in enumerate(found.predictions) if not answer] == [0, 1, 22, 23]
    assert examples.report.counts == {"images that fail": 4}
    assert examples.report.sentences[0] == "example 9000: image: it is torn."


def saying(answers):
    """Outputs with one answer for each row."""
    blank = tf.fill(tf.shape(answers), "")
    return {"answers": answers[:, None], "scores": tf.ones([tf.size(answers), 1]), "status": blank}


def test_pairs_of_regions_and_choices_reach_an_exported_model(sets, tmp_path):
    """A model that finds the first region of the second image; one that chooses the longest text."""

    def sides(inputs):
        first = tf.reduce_sum(inputs["regions"][:, 0, 0], axis=-1) > tf.reduce_sum(inputs["regions"][:, 1, 0], axis=-1)
        return saying(tf.where(first, "True", "False"))

    def longest(inputs):
        best = tf.argmax(tf.strings.length(inputs["choices"]), axis=1)
        return saying(tf.gather(inputs["choices"], best, batch_dims=1))

    regions = {"regions": tf.TensorSpec([None, 2, None, None], tf.float32, "regions")}
    text = {"text": tf.TensorSpec([None], tf.string, "text")}
    model = ExportedModel(str(rule_artefact(tmp_path / "pairs", text | regions, sides)))
    assert model.wants == "regions"
    with tfvl.RegionStore(sets / "nlvr2" / "regions.h5") as store:
        examples = open_examples("nlvr2", sets / "nlvr2", "dev")
        found = evaluate_exported(model, examples, store, "nlvr2", 3)
        sums = {name: store[name].features[0].sum() for name in store}
        expected = [int(sums[one] > sums[other]) for one, other in (example.images for example in found.examples)]
        assert found.predictions == expected
        assert {0, 1} == set(expected)
    with tfvl.RegionStore(sets / "vqa" / "regions.h5") as store:
        examples = open_examples("vqa", sets / "vqa", "train")
        with pytest.raises(ValueError, match="the model takes regions of 2 images with a text; that does not fit"):
            evaluate_exported(model, examples, store, "vqa", 3)

    specs = text | {
        "regions": tf.TensorSpec([None, None, None], tf.float32, "regions"),
        "choices": tf.TensorSpec([None, None], tf.string, "choices"),
    }
    model = ExportedModel(str(rule_artefact(tmp_path / "choices", specs, longest)))
    with tfvl.RegionStore(sets / "vcr-answer" / "regions.h5") as store:
        found = evaluate_exported(
            model, open_examples("vcr-answer", sets / "vcr-answer", "val"), store, "vcr-answer", 4
        )
    assert found.predictions == [1] * 6  # "No Jessie does not ."


def test_an_artefact_without_answers_is_refused(sets, tmp_path):
    specs = {name: tf.TensorSpec([None], tf.string, name) for name in ("image", "text")}
    headless = rule_artefact(tmp_path / "headless", specs, lambda inputs: {"pooler_output": inputs["text"]})
    examples = open_examples("vqa", sets / "vqa", "train")
    with pytest.raises(ValueError, match="does not do the task 'vqa'; its outputs are pooler_output"):
        evaluate_exported(ExportedModel(str(headless)), examples, {}, "vqa", 4)
    with pytest.raises(ValueError, match="evaluate the checkpoint, not an exported model"):
        evaluate_exported(ExportedModel(str(headless)), examples, {}, "retrieval", 4)
    with pytest.raises(ValueError, match=r"holds no saved_model\.pb; give the directory of an exported model"):
        ExportedModel(str(tmp_path))


# --- files of predictions -------------------------------------------------------------------------------------------


def test_files_for_the_evaluation_servers(tmp_path):
    def written(task, examples, predictions):
        write_predictions(tmp_path / "out", task, Evaluation({}, predictions, examples))
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


def test_answers_and_rationales_are_joined(tmp_path):
    examples = [Example(f"val-{number}", ("a",), "q", choices=("x", "y"), label=number % 2) for number in range(4)]
    write_predictions(tmp_path / "answers.jsonl", "vcr-answer", Evaluation({}, [0, 1, 1, 0], examples))
    rationales = Evaluation({}, [0, 0, 0, 1], list(reversed(examples)))  # the same questions in another order
    found = joint_vcr(tmp_path / "answers.jsonl", rationales)
    justified = [
        said == example.label for said, example in zip(rationales.predictions, rationales.examples, strict=True)
    ]
    assert justified == [False, True, False, False]  # of val-3, val-2, val-1, val-0
    assert found == {"Q->A": 0.5, "QA->R": 0.25, "Q->AR": 0.0}
    rationales = Evaluation({}, [0, 1, 0, 0], examples)
    assert joint_vcr(tmp_path / "answers.jsonl", rationales) == {"Q->A": 0.5, "QA->R": 0.75, "Q->AR": 0.5}
    more = Evaluation({}, [0], [Example("val-9", ("a",), "q", label=0)])
    with pytest.raises(ValueError, match="has no answer to question val-9"):
        joint_vcr(tmp_path / "answers.jsonl", more)
    write_predictions(tmp_path / "other.jsonl", "vcr-rationale", rationales)
    with pytest.raises(ValueError, match="line 1, is no answer; write it by eval --task vcr-answer"):
        joint_vcr(tmp_path / "other.jsonl", rationales)


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


def test_the_command_evaluates_an_exported_model_on_prepared_data(sets, capsys, tmp_path):
    data = write_prepared(tmp_path / "prepared", "vqa", sets / "vqa", "train")
    model = image_artefact(tmp_path / "model")
    arguments = ["--task", "vqa", "--model", model, "--split", "train", "--out", tmp_path / "out.json"]
    code, printed, _ = run(capsys, *arguments, "--data", data)
    assert code == 0
    assert f"{100 * ALL_RIGHT:.2f}" in printed
    first = (tmp_path / "out.json").read_text()
    code, _, _ = run(capsys, *arguments, "--data", sets / "vqa")
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

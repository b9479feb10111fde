"""Exported models on whole splits, asked as checkpoints are: images, pairs of regions, choices, and failing rows."""

import numpy as np
import pytest
import tensorflow as tf
from support import datasets
from support.prepared import image_artefact, rule_artefact

import tfvl
from tfvl.training.data.images import ImageFolder
from tfvl.training.evaluation.exported import ExportedModel, evaluate_exported
from tfvl.training.tasks.table import TASKS


def test_an_exported_model_is_asked_as_a_checkpoint_is(data_sets, tmp_path):
    examples = TASKS["vqa"].examples(data_sets / "vqa", "train")
    model = ExportedModel(str(image_artefact(tmp_path / "model")))
    assert model.takes.visual == "images"
    found = evaluate_exported(model, examples, ImageFolder(data_sets / "vqa" / "images"), TASKS["vqa"], batch_size=7)
    np.testing.assert_allclose(found.metrics["accuracy"], datasets.ALL_RIGHT)
    assert found.predictions == [datasets.ANSWERS[number % 5] for number in range(24)]


def test_rows_that_fail_have_no_answer(tmp_path):
    datasets.write_vqa(tmp_path)
    datasets.write_images(tmp_path / "images", datasets.vqa_images()[:-1])
    file = tmp_path / "images" / f"{datasets.vqa_images()[0]}.jpg"
    file.write_bytes(file.read_bytes()[:-2])
    examples = TASKS["vqa"].examples(tmp_path, "train")
    model = ExportedModel(str(image_artefact(tmp_path / "model")))
    found = evaluate_exported(model, examples, ImageFolder(tmp_path / "images"), TASKS["vqa"], batch_size=24)
    assert [number for number, answer in enumerate(found.predictions) if not answer] == [0, 1, 22, 23]
    assert examples.report.counts == {"images that fail": 4}
    assert examples.report.sentences[0] == "example 9000: image: it is torn."


def saying(answers):
    """Returns outputs with one answer for each row."""
    blank = tf.fill(tf.shape(answers), "")
    return {"answers": answers[:, None], "scores": tf.ones([tf.size(answers), 1]), "status": blank}


def test_pairs_of_regions_and_choices_reach_an_exported_model(data_sets, tmp_path):
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
    assert model.takes.visual == "regions"
    with tfvl.RegionStore(data_sets / "nlvr2" / "regions.h5") as store:
        examples = TASKS["nlvr2"].examples(data_sets / "nlvr2", "dev")
        found = evaluate_exported(model, examples, store, TASKS["nlvr2"], 3)
        sums = {name: store[name].features[0].sum() for name in store}
        expected = [int(sums[one] > sums[other]) for one, other in (example.images for example in found.examples)]
        assert found.predictions == expected
        assert {0, 1} == set(expected)
    with tfvl.RegionStore(data_sets / "vqa" / "regions.h5") as store:
        examples = TASKS["vqa"].examples(data_sets / "vqa", "train")
        with pytest.raises(ValueError, match="the model takes regions of 2 images with a text; that does not fit"):
            evaluate_exported(model, examples, store, TASKS["vqa"], 3)

    specs = text | {
        "regions": tf.TensorSpec([None, None, None], tf.float32, "regions"),
        "choices": tf.TensorSpec([None, None], tf.string, "choices"),
    }
    model = ExportedModel(str(rule_artefact(tmp_path / "choices", specs, longest)))
    with tfvl.RegionStore(data_sets / "vcr-answer" / "regions.h5") as store:
        found = evaluate_exported(
            model, TASKS["vcr-answer"].examples(data_sets / "vcr-answer", "val"), store, TASKS["vcr-answer"], 4
        )
    assert found.predictions == [1] * 6  # "No Jessie does not ."


def test_an_artefact_without_answers_is_refused(data_sets, tmp_path):
    specs = {name: tf.TensorSpec([None], tf.string, name) for name in ("image", "text")}
    headless = rule_artefact(tmp_path / "headless", specs, lambda inputs: {"pooler_output": inputs["text"]})
    examples = TASKS["vqa"].examples(data_sets / "vqa", "train")
    with pytest.raises(ValueError, match="does not do the task 'vqa'; its outputs are pooler_output"):
        evaluate_exported(ExportedModel(str(headless)), examples, {}, TASKS["vqa"], 4)
    with pytest.raises(ValueError, match="evaluate the checkpoint, not an exported model"):
        evaluate_exported(ExportedModel(str(headless)), examples, {}, TASKS["retrieval"], 4)
    with pytest.raises(ValueError, match="the drawn scenes are evaluated from a checkpoint"):
        evaluate_exported(ExportedModel(str(headless)), examples, {}, TASKS["shapes"], 4)
    with pytest.raises(ValueError, match=r"exported models are asked about vqa, .*, not about 'entities'"):
        evaluate_exported(ExportedModel(str(headless)), examples, {}, TASKS["entities"], 4)
    with pytest.raises(ValueError, match=r"holds no saved_model\.pb; give the directory of an exported model"):
        ExportedModel(str(tmp_path))

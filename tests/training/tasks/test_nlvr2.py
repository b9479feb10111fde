"""NLVR2: its files, its batches, and its accuracy and consistency."""

import numpy as np
from support import datasets
from support.prepared import stub
from support.tasks import make_loader, pipeline_of

from tfvl.training.data.examples import Example, Report
from tfvl.training.evaluation.evaluate import evaluate
from tfvl.training.tasks.nlvr2 import Nlvr2
from tfvl.training.tasks.table import TASKS


def test_nlvr2(tmp_path):
    datasets.write_nlvr2(tmp_path)
    examples = list(Nlvr2().read(tmp_path, "dev", Report()))
    assert examples[2] == Example(
        id="dev-0-1-0", images=("dev-0-1-img0", "dev-0-1-img1"), text="There are 2 dogs.", label=1
    )
    assert [example.label for example in examples] == [1, 0] * 4


def test_pictures_are_those_of_the_example(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "nlvr2", "ViltForImagesAndTextClassification")
    inputs, labels, _ = loader(np.array([5]), 0)
    pair = [datasets.write_images(data_sets / "nlvr2/images", []) / f"dev-1-0-img{side}.jpg" for side in (0, 1)]
    np.testing.assert_array_equal(inputs["pixel_values"], loader.processor(images=[pair])["pixel_values"])
    assert inputs["pixel_values"].shape[:2] == (1, 2)
    assert labels.tolist() == [0]


def test_nlvr2_consistency_is_of_sentences():
    identifiers = ["dev-1-0-0", "dev-1-1-0", "dev-1-2-0", "dev-1-0-1", "dev-1-1-1", "dev-2-0-0", "test-1-0-0"]
    labels, predictions = [1, 0, 1, 1, 1, 0, 1], [1, 0, 1, 1, 0, 0, 0]
    # dev-1 sentence 0: all three right; dev-1 sentence 1: one wrong; dev-2: right; test-1 (not dev-1's): wrong
    pairs = zip(identifiers, labels, strict=True)
    examples = [Example(identifier, ("a", "b"), "q", label=label) for identifier, label in pairs]
    assert Nlvr2().metric(predictions, examples) == {"accuracy": 5 / 7, "consistency": 2 / 4}


def test_classes_of_pairs(data_sets, tokenizer):
    def predict(inputs):
        return {"logits": np.tile(np.float32([[0, 1]]), (len(inputs["input_ids"]), 1))}

    pipeline = pipeline_of(data_sets, tokenizer, "nlvr2", "ViltForImagesAndTextClassification", batch_size=3)
    found = evaluate(stub("ViltForImagesAndTextClassification", predict), pipeline, TASKS["nlvr2"])
    # every second sentence is true; a sentence's two pairs of images have the same label
    assert found.metrics == {"accuracy": 0.5, "consistency": 0.5}

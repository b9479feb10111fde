"""Retrieval: its files, its batches, its recalls, and that every image meets every text."""

import numpy as np
from support import datasets
from support.prepared import stub
from support.tasks import make_loader, numbers_in, pipeline_of

from tfvl.training.data.examples import Example, Report
from tfvl.training.evaluation.evaluate import evaluate
from tfvl.training.tasks import retrieval
from tfvl.training.tasks.retrieval import Retrieval, retrieval_recalls
from tfvl.training.tasks.table import TASKS

EXACT = {"rtol": 1e-12}  # a few float64 operations


# --- files and batches ----------------------------------------------------------------------------------------------


def test_karpathy(tmp_path):
    datasets.write_karpathy(tmp_path)
    train = list(Retrieval().read(tmp_path, "train", Report()))
    assert len(train) == 10 * 5  # with the images of restval
    assert train[6] == Example(
        id="6", images=("COCO_val2014_000000000001",), text="A photo 1 of embeddings and things ."
    )
    assert [example.id for example in Retrieval().read(tmp_path, "val", Report())] == ["50", "51", "52", "53", "54"]


def test_ranking_puts_the_true_text_first(data_sets, tokenizer):
    loader = make_loader(data_sets, tokenizer, "retrieval", "ViltForImageAndTextRetrieval")
    inputs, labels, _ = loader(np.array([7, 30]), 0)
    assert inputs["input_ids"].shape[:2] == inputs["attention_mask"].shape[:2] == (2, 16)
    assert labels.tolist() == [0, 0]
    for row, place in enumerate((7, 30)):
        texts = tokenizer.batch_decode(inputs["input_ids"][row], skip_special_tokens=True)
        assert texts[0].replace(" ", "") == loader.examples[place].text.lower().replace(" ", "")
        own = f"a photo {place // 5} of"
        assert not any(text.startswith(own) for text in texts[1:])
        assert len(set(texts[1:])) > 5


# --- recalls --------------------------------------------------------------------------------------------------------


def test_recalls_by_hand():
    """Two images with two texts each: the ranks are written beside."""
    scores = np.array([[0.9, 0.1, 0.8, 0.2], [0.3, 0.5, 0.4, 0.6]])
    # image of text 0: row 0 first of (.9, .3); 1: row 1 before row 0; 2: row 0 first; 3: row 1 first
    # image 0's best own text: 0, first of its row; image 1's (texts 2, 3): text 3, first
    recalls = retrieval_recalls(scores, [0, 0, 1, 1], recalls=(1, 2))
    assert recalls == {"image@1": 0.5, "image@2": 1.0, "text@1": 1.0, "text@2": 1.0}
    recalls = retrieval_recalls(scores, [0, 1, 1, 0], recalls=(1, 2))
    # text 2 is of image 1 now: .8 before .4; text 3 of image 0: .6 before .2. Image 1's best own is .5, after .6
    assert recalls == {"image@1": 0.5, "image@2": 1.0, "text@1": 0.5, "text@2": 1.0}


def reference_recalls(scores, image_of_text, k):
    images = [image_of_text[text] in np.argsort(-scores[:, text], kind="stable")[:k] for text in range(scores.shape[1])]
    texts = [
        any(image_of_text[text] == image for text in np.argsort(-scores[image], kind="stable")[:k])
        for image in range(scores.shape[0])
    ]
    return np.mean(images), np.mean(texts)


def test_recalls_against_sorting_in_chunks(monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK", 7)
    generator = np.random.default_rng(0)
    image_of_text = np.repeat(np.arange(40), 5)
    scores = np.round(
        generator.normal(size=(40, 200)) + 1.5 * (image_of_text == np.arange(40)[:, None]), 1
    )  # with ties
    recalls = retrieval_recalls(scores, image_of_text)
    for k in (1, 5, 10):
        expected = reference_recalls(scores, image_of_text, k)
        np.testing.assert_allclose((recalls[f"image@{k}"], recalls[f"text@{k}"]), expected, **EXACT)
    assert 0.1 < recalls["image@1"] < 0.9


def test_equal_scores_earn_nothing():
    assert retrieval_recalls(np.zeros((20, 100)), np.repeat(np.arange(20), 5))["image@1"] == 1 / 20


# --- scores ---------------------------------------------------------------------------------------------------------


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
    found = evaluate(matching(tokenizer, pipeline), pipeline, TASKS["retrieval"])
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
    found = evaluate(model, pipeline, TASKS["retrieval"])
    assert found.metrics["image@1"] == found.metrics["text@1"] == 0.75
    assert found.metrics["text@10"] == 0.75  # its own texts come last, behind 15 others
    assert pipeline.loader.report.counts == {"images that fail": 1}

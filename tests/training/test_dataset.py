"""`tfvl.dataset`: rows of every kind become batches that `fit` takes."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support import datasets
from support.tasks import processor_of, tiny_head

import tfvl
from tfvl import shapes


@pytest.fixture(scope="module")
def bundled():
    return tfvl.auto.load("shapes-vilt")


def questions(count: int = 5) -> list[dict]:
    scenes = [shapes.draw_scene(seed, "train") for seed in range(count)]
    asked = [scene.questions({"count": 1})[0] for scene in scenes]
    pairs = zip(scenes, asked, strict=True)
    return [{"image": scene.image(), "question": each.text, "answer": each.answer} for scene, each in pairs]


def as_bytes(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class HubRows:
    """A stand-in of `datasets.Dataset`, which has the methods that are used here."""

    def __init__(self, rows):
        self._rows, self.column_names = rows, list(rows[0])

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, place):
        return self._rows[place]

    def __iter__(self):
        assert "image" not in self.column_names, "all images would be decoded"
        return iter(self._rows)

    def remove_columns(self, names):
        return HubRows([{name: value for name, value in row.items() if name not in names} for row in self._rows])


def test_fits_and_answers(bundled):
    model, processor = bundled
    rows = questions()
    batches = tfvl.dataset(rows, model, processor, batch_size=2, shuffle=False)
    assert len(batches) == 3
    inputs, labels, weights = next(iter(batches))
    expected = processor(images=[row["image"] for row in rows[:2]], text=[row["question"] for row in rows[:2]])
    for name, value in expected.items():
        np.testing.assert_array_equal(inputs[name], value)
    answers = [model.config.label2id[row["answer"]] for row in rows[:2]]
    np.testing.assert_array_equal(labels, tf.one_hot(answers, model.config.num_labels))
    assert weights.numpy().tolist() == [1, 1]
    model.compile()
    history = model.fit(batches, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert model.evaluate(batches, return_dict=True, verbose=0).keys() >= {"loss"}


def test_images_of_every_kind_are_the_same(bundled, tmp_path):
    rows = questions(2)
    expected = None
    path = tmp_path / "image.png"
    makes = [lambda image: image, as_bytes, np.asarray, lambda image: {"bytes": as_bytes(image), "path": None}, Path]
    for make in makes:
        rows[0]["image"].save(path)
        value = path if make is Path else make(rows[0]["image"])
        inputs, _, _ = next(iter(tfvl.dataset([rows[0] | {"image": value}], *bundled)))
        expected = inputs["pixel_values"] if expected is None else expected
        np.testing.assert_array_equal(inputs["pixel_values"], expected)


def test_frames_and_hub_data_sets(bundled):
    rows = questions(3)
    expected = list(tfvl.dataset(rows, *bundled, shuffle=False))
    found = [list(tfvl.dataset(HubRows(rows), *bundled, shuffle=False))]
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    found.append(list(tfvl.dataset(pandas.DataFrame(rows), *bundled, shuffle=False)))
    for each in found:
        for ours, theirs in zip(tf.nest.flatten(each), tf.nest.flatten(expected), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_each_epoch_has_an_order_of_its_own(bundled):
    rows = questions(5)
    batches = tfvl.dataset(rows, *bundled, seed=3)
    orders = [np.concatenate([inputs["input_ids"][:, :4] for inputs, _, _ in batches]).tolist() for _ in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    again = tfvl.dataset(rows, *bundled, seed=3)
    assert np.concatenate([inputs["input_ids"][:, :4] for inputs, _, _ in again]).tolist() == orders[0]


def test_what_cannot_be_used_is_named(bundled):
    good, *rest = questions(4)
    bad = [rest[0] | {"answer": "a zebra"}, rest[1] | {"image": None}, rest[2] | {"answer": ""}]
    with pytest.warns(UserWarning, match="answers outside the vocabulary: 1") as caught:
        batches = tfvl.dataset([good, *bad], *bundled)
    assert "missing images: 1" in str(caught[0].message)
    assert "empty answers: 1" in str(caught[0].message)
    assert [len(inputs["input_ids"]) for inputs, _, _ in batches] == [1]
    with pytest.raises(ValueError, match="no answer has a class"):
        tfvl.dataset([good, *bad], *bundled, strict=True)
    with pytest.raises(ValueError, match=r"no column 'question' \(say another name by columns=\{'question': …\}\)"):
        tfvl.dataset([{"image": good["image"], "answer": "red"}], *bundled)
    with pytest.raises(ValueError, match="there are no rows"):
        tfvl.dataset([], *bundled)
    torn = as_bytes(good["image"])[:100]
    weights = [weights.numpy().tolist() for _, _, weights in tfvl.dataset([good | {"image": torn}], *bundled)]
    assert weights == [[0.0]]


def test_columns_by_other_names(bundled):
    rows = [{"Bild": row["image"], "Frage": row["question"], "Antwort": row["answer"]} for row in questions(1)]
    columns = {"image": "Bild", "question": "Frage", "answer": "Antwort"}
    assert len(list(tfvl.dataset(rows, *bundled, columns=columns))) == 1


ROWS = {
    "ViltForImagesAndTextClassification": {"sentence": "two dogs", "label": True},
    "ViltForImageAndTextRetrieval": {"caption": "a dog"},
    "ViltForMaskedLM": {"caption": "a dog sleeps in the sun"},
    "ViltForTokenClassification": {"text": "a sleeping dog", "labels": ["label_0", "label_1", "label_2"]},
    "LxmertForQuestionAnswering": {"question": "what?", "answer": "a"},
    "VisualBertForVisualReasoning": {"sentence": "two dogs", "label": "false"},
}


@pytest.mark.parametrize("name", ROWS)
def test_every_head(name, tokenizer):
    model = tiny_head(name)
    answers = ["label_0", "label_1", "label_2", "a", "b"] if "Lxmert" in name or "Token" in name else ["false", "true"]
    model.config = model.config.replace(**type(model.config).answer_fields(tuple(answers)))
    if name.startswith("Vilt"):
        images = [datasets.jpeg(number) for number in range(4)]
    else:
        images = [datasets.made_regions(f"i{number}", number, 3) for number in range(4)]
    second = {"image2": images[0]} if "sentence" in ROWS[name] else {}
    batches = tfvl.dataset(
        [{"image": image, **second, **ROWS[name]} for image in images], model, processor_of(name, tokenizer), 4
    )
    model.compile()
    assert np.isfinite(model.fit(batches, verbose=0).history["loss"][0])


def test_a_label_for_each_word(tokenizer):
    """At the word's first token; tokens behind it and the special ones are ignored."""
    model = tiny_head("ViltForTokenClassification")
    model.config = model.config.replace(**type(model.config).answer_fields(("O", "B", "I", "x", "y")))
    rows = [{"image": datasets.jpeg(0), "text": "embeddings wave", "labels": ["B", "I"]}]
    inputs, labels, _ = next(iter(tfvl.dataset(rows, model, processor_of("Vilt", tokenizer))))
    assert tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].numpy().tolist()) == [
        "[CLS]",
        *("em", "##bed", "##ding", "##s"),
        "wave",
        "[SEP]",
    ]
    assert labels.numpy().tolist() == [[-100, 1, -100, -100, -100, 2, -100]]


def test_heads_without_rows(tokenizer):
    model = tiny_head("VisualBertForMultipleChoice")
    with pytest.raises(ValueError, match="VisualBertForMultipleChoice has no head that rows are read for; vqa, nlvr2"):
        tfvl.dataset([{}], model, processor_of("VisualBert", tokenizer))

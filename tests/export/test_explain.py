"""The signature `explain` of exported models: the scores of `tfvl.explain`, statuses, and rows that stay alone."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  # registers the ops of the reloaded tokenizer
from support.explained import CAT, ROCKET, loaded
from support.once import once
from support.region_models import some_regions

import tfvl
from tfvl.preprocessing.regions.regions import pad_regions

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
TEXTS = ["how many?", "what color is the circle ?", " ", "red"]


def exported(head: str, signatures: tuple[str, ...] = ("serving_default",)):
    def make(path):
        tfvl.export.saved_model(*loaded(head), path, explain=True, signatures=signatures)

    path = once(f"explain/{head}-{'-'.join(signatures)}/1", make)
    model = tf.saved_model.load(str(path))
    return model, model.signatures["explain"]


def run(signature, **inputs) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in signature(**inputs).items()}


def compare(found: dict, row: int, one) -> None:
    """Asserts that a row has the scores of `tfvl.explain`, and blanks after its own words."""
    count = len(one.tokens)
    assert [token.decode() for token in found["tokens"][row]] == one.tokens + [""] * (len(found["tokens"][row]) - count)
    np.testing.assert_allclose(found["token_scores"][row, :count], one.token_scores, **TOLERANCE)
    assert not found["token_scores"][row, count:].any()


def test_images():
    model, signature = exported("ViltForQuestionAnswering", ("serving_default", "tensors"))
    assert set(signature.structured_outputs) == {"tokens", "token_scores", "patch_scores", "grid", "status"}
    assert set(model.signatures) == {"serving_default", "tensors", "explain"}
    files = [CAT.read_bytes(), ROCKET.read_bytes(), CAT.read_bytes(), b"torn"]
    found = run(signature, image=tf.constant(files), text=tf.constant(TEXTS))
    assert [bool(status) for status in found["status"]] == [False, False, True, True]
    for row in (2, 3):
        assert not any(found["tokens"][row])
        assert not found["patch_scores"][row].any()
        assert not found["grid"][row].any()
    for row in (0, 1):
        one = tfvl.explain(*loaded("ViltForQuestionAnswering"), image=files[row], text=TEXTS[row])
        compare(found, row, one)
        rows, columns = found["grid"][row]
        assert (rows, columns) == one.patch_scores.shape
        np.testing.assert_allclose(found["patch_scores"][row, :rows, :columns], one.patch_scores, **TOLERANCE)
        alone = run(signature, image=tf.constant(files[row : row + 1]), text=tf.constant(TEXTS[row : row + 1]))
        compare(alone, 0, one)
    nothing = run(signature, image=tf.constant([], tf.string), text=tf.constant([], tf.string))
    assert {len(value) for value in nothing.values()} == {0}


@pytest.mark.parametrize("head", ["LxmertForQuestionAnswering", "VisualBertForMultipleChoice"])
def test_regions(head):
    _, signature = exported(head)
    assert set(signature.structured_outputs) == {"tokens", "token_scores", "region_scores", "status"}
    rows = [some_regions(3), some_regions(5)]
    padded = pad_regions(rows)
    inputs = {"regions": tf.constant(padded["features"])}
    more = [{}, {}]
    if head.startswith("Lxmert"):
        inputs["boxes"] = tf.constant(padded["boxes"])
    else:
        more = [{"choices": ["a circle", "the square"]}, {"choices": ["red"]}]
        inputs["choices"] = tf.constant([["a circle", "the square"], ["red", ""]])
    found = run(signature, **inputs, text=tf.constant(TEXTS[:2]))
    assert found["status"].tolist() == [b"", b""]
    for row, regions in enumerate(rows):
        one = tfvl.explain(*loaded(head), regions=regions, text=TEXTS[row], **more[row])
        compare(found, row, one)
        np.testing.assert_allclose(found["region_scores"][row, : len(regions)], one.region_scores, **TOLERANCE)
        assert not found["region_scores"][row, len(regions) :].any()


def test_two_images():
    _, signature = exported("ViltForImagesAndTextClassification")
    files = [CAT.read_bytes(), ROCKET.read_bytes()]
    found = run(signature, image=tf.constant([files]), text=tf.constant(["the circle is red"]))
    model = loaded("ViltForImagesAndTextClassification")
    one = tfvl.explain(*model, image=files, text="the circle is red")
    compare(found, 0, one)
    for number, scores in enumerate(one.patch_scores):
        rows, columns = found["grid"][0, number]
        np.testing.assert_allclose(found["patch_scores"][0, number, :rows, :columns], scores, **TOLERANCE)


def test_a_model_without_answers_has_nothing_to_explain(tmp_path):
    model, processor = loaded("ViltForMaskedLM")
    with pytest.raises(ValueError, match="no head that answers"):
        tfvl.export.saved_model(tfvl.ViltModel(model.config), processor, tmp_path / "1", explain=True)
    assert not (tmp_path / "1").exists()

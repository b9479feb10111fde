"""The shipped models in transformers: they load there with every weight, and say the same."""

import numpy as np
import pytest
from helpers_bundled import SHAPES_VILT, held_out, predictions
from helpers_torch import torch, transformers

import tfvl

pytestmark = pytest.mark.parity

QUESTIONS = 500
# Trained weights give logits of about ten, in float32 sums of some hundred terms taken in another order.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-4}


@pytest.fixture(scope="module")
def asked():
    return held_out(QUESTIONS)


@pytest.fixture(scope="module")
def upstream():
    model, report = transformers.ViltForQuestionAnswering.from_pretrained(SHAPES_VILT, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval(), transformers.ViltProcessor.from_pretrained(SHAPES_VILT)


@pytest.fixture(scope="module")
def ours():
    source = "shapes-vilt"
    return tfvl.ViltForQuestionAnswering.from_pretrained(source), tfvl.ViltProcessor.from_pretrained(source)


def test_transformers_gives_the_same_answers(asked, ours, upstream):
    pictures, places, questions = asked
    model, processor = upstream
    images, texts = [pictures[place] for place in places], [question.text for question in questions]
    with torch.no_grad():
        logits = model(**processor(images=images, text=texts, padding=True, return_tensors="pt")).logits
    assert [model.config.id2label[best] for best in logits.argmax(-1).tolist()] == predictions(*ours, *asked)


def test_transformers_gives_the_same_inputs_and_logits(asked, ours, upstream):
    pictures, places, questions = asked
    images = [pictures[place] for place in places[:24]]
    texts = [question.text for question in questions[:24]]
    inputs = upstream[1](images=images, text=texts, padding=True, return_tensors="pt")
    own_inputs = ours[1](images=images, text=texts)
    np.testing.assert_array_equal(own_inputs["input_ids"], inputs["input_ids"])
    np.testing.assert_array_equal(own_inputs["pixel_values"], np.moveaxis(inputs["pixel_values"].numpy(), 1, -1))
    with torch.no_grad():
        expected = upstream[0](**inputs).logits
    np.testing.assert_allclose(ours[0](own_inputs)["logits"], expected, **TOLERANCE)

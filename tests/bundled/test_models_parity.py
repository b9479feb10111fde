"""The shipped models in transformers: they load there with every weight, and say the same."""

import numpy as np
import pytest
from support.bundled import DIRECTORY, NAMES, held_out, load, predictions, scores, shown
from support.reference import torch, transformers

pytestmark = pytest.mark.parity

QUESTIONS = 500
# Trained weights give logits of about ten, in float32 sums of some hundred terms taken in another order.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-4}


@pytest.fixture(scope="module")
def asked():
    return held_out(QUESTIONS)


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def ours(name):
    return load(name)


@pytest.fixture(scope="module")
def upstream(name, ours):
    """Returns transformers' model of the same class, and a function from scenes and texts to its inputs."""
    model_class = getattr(transformers, type(ours[0]).__name__)
    model, report = model_class.from_pretrained(DIRECTORY / name, output_loading_info=True)
    assert not any(report.values()), report
    options = {"padding": True, "return_tensors": "pt"}
    if name == "shapes-vilt":
        processor = transformers.ViltProcessor.from_pretrained(DIRECTORY / name)
        return model.eval(), lambda scenes, texts: processor([scene.image() for scene in scenes], texts, **options)
    # upstream has no processor for these two: regions come as the user prepares them
    tokenizer = transformers.AutoTokenizer.from_pretrained(DIRECTORY / name)

    def prepare(scenes, texts):
        visual = {key: torch.from_numpy(values) for key, values in shown(ours[1], scenes).items()}
        return dict(tokenizer(texts, **options)) | visual

    return model.eval(), prepare


def test_transformers_gives_the_same_answers(asked, ours, upstream):
    scenes, places, questions = asked
    model, prepare = upstream
    with torch.no_grad():
        outputs = model(**prepare([scenes[place] for place in places], [question.text for question in questions]))
    best = scores(outputs).argmax(-1).tolist()
    assert [model.config.id2label[index] for index in best] == predictions(*ours, *asked)


def test_transformers_gives_the_same_inputs_and_logits(asked, ours, upstream):
    scenes, places, questions = asked
    scenes, texts = [scenes[place] for place in places[:24]], [question.text for question in questions[:24]]
    model, prepare = upstream
    inputs = prepare(scenes, texts)
    own_inputs = ours[1].tokenizer(texts) | shown(ours[1], scenes)
    np.testing.assert_array_equal(own_inputs["input_ids"], inputs["input_ids"])
    if "pixel_values" in inputs:
        np.testing.assert_array_equal(own_inputs["pixel_values"], np.moveaxis(inputs["pixel_values"].numpy(), 1, -1))
    with torch.no_grad():
        expected = scores(model(**inputs))
    np.testing.assert_allclose(scores(ours[0](own_inputs)), expected, **TOLERANCE)

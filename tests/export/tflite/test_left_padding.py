"""Texts padded on the left: what is said of words is said of the text's, in the file, in the graph and in `drift`."""

from importlib.util import find_spec

import numpy as np
import pytest
import tensorflow as tf
from support.checkpoint import tiny_processor
from support.export import GOOD_IMAGES, TOP_K, random_model, strings

import tfvl
from tfvl.export.signatures import inputs_of, serving_default
from tfvl.export.tflite.drift import drift
from tfvl.lite import Runner

pytestmark = [
    pytest.mark.slow,  # two conversions
    pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs ai-edge-litert (tfvl[lite])"),
]
HEAD = "ViltForTokenClassification"
TEXT = "how many red?"
TOLERANCE = 1e-4  # as in test_convert.py


def left_processor():
    processor = tiny_processor()
    processor.tokenizer.padding_side = "left"
    return processor


@pytest.mark.parametrize("flavour", ["tensors", "text"])
def test_words_of_a_file(flavour, tmp_path):
    model, processor = random_model(HEAD), left_processor()
    model.save_pretrained(tmp_path / "hub")
    processor.save_pretrained(tmp_path / "hub")
    path = tfvl.export.lite(model, processor, tmp_path / "x.tflite", flavour=flavour, image_size=32)
    (compared,) = drift(path, str(tmp_path / "hub"), 3).outputs
    assert compared.difference < TOLERANCE

    runner, image = Runner(path, runtime="tensorflow"), GOOD_IMAGES[0]
    (row,) = runner(images=[image], text=[TEXT])
    length = runner.ids_shape[1]
    inputs = processor(images=[image], text=[TEXT], padding="max_length", max_length=length)
    (pixels,) = (value for name, value in runner.prepare(images=[image], text=[TEXT])[1].items() if "values" in name)
    (mask,) = (value for name, value in runner.prepare(images=[image], text=[TEXT])[1].items() if name == "pixel_mask")
    logits = model(inputs | {"pixel_values": np.stack(pixels), "pixel_mask": np.stack(mask)})["logits"].numpy()[0]
    real = inputs["attention_mask"].numpy()[0] > 0
    assert not real[0]
    assert row["tokens"] == ["[CLS]", "how", "many", "red", "?", "[SEP]"]
    assert row["answers"] == [model.config.id2label[best] for best in logits[real].argmax(axis=-1)]


def test_words_of_the_graph():
    """A row of `tokens` begins with the text, whatever stood before it."""
    model, processor = random_model(HEAD), left_processor()
    serve = serving_default(model, processor, inputs_of(model, processor), TOP_K)
    found = serve(image=tf.constant(GOOD_IMAGES[:2]), text=tf.constant(strings(TEXT, "what color is the red circle?")))
    assert found["tokens"].numpy()[0].tolist() == [b"[CLS]", b"how", b"many", b"red", b"?", b"[SEP]", *[b""] * 3]
    assert (found["scores"].numpy()[0] > 0).tolist() == [True] * 6 + [False] * 3

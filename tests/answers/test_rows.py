"""The table of heads: that it is whole, light, and kept by what gives the answers in a graph and in NumPy."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from support.paths import ROOT

import tfvl
from tfvl.answers import arrays
from tfvl.answers.rows import (
    ANSWER_SCORES,
    ATTRIBUTE_SCORES,
    HEADS,
    KINDS,
    OBJECT_SCORES,
    REGION_BOXES,
    STRING,
    Head,
    Words,
    head_name,
)
from tfvl.export import answers as graph
from tfvl.modeling.base import PreTrainedModel

ROUNDING = 1e-6  # of a softmax in float32 by two libraries
LABELS, CLASSES, REGIONS, HIDDEN = 4, 3, 5, 6
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "red", "##s", "blue"]
WORDS = Words([f"label {number}" for number in range(LABELS)], dict(enumerate(TOKENS)), "[MASK]", 3, 2)
TEXT, IDS = "the [MASK] , [MASK] end", [1, 4, 3, 6, 3, 2]
CHOICES, PHRASES = ["a red", "blue", "no"], ["red", "blue"]
SHAPES = {  # of the outputs that the kinds of answers are made of
    "pooled": {"pooler_output": (HIDDEN,)},
    "labels": {"logits": (LABELS,)},
    "masks": {"logits": (len(IDS), len(TOKENS))},
    "pretraining": {
        "logits": (len(IDS) + REGIONS, len(TOKENS)),
        "match_scores": (2,),
        ANSWER_SCORES: (LABELS,),
        OBJECT_SCORES: (REGIONS, CLASSES),
        ATTRIBUTE_SCORES: (REGIONS, CLASSES),
    },
    "match": {"logits": (1,)},
    "tokens": {"logits": (len(IDS), LABELS)},
    "choices": {"logits": (len(CHOICES),)},
    "phrases": {"logits": (len(PHRASES), REGIONS)},
}


def test_every_public_model_has_a_row_and_every_row_a_model():
    public = {name: getattr(tfvl, name) for name in tfvl.__all__}
    models = {name for name, value in public.items() if isinstance(value, type) and issubclass(value, PreTrainedModel)}
    assert models == HEADS.keys()


@pytest.mark.parametrize("name", HEADS)
def test_a_row_says_what_the_class_has(name):
    head, model_class = HEADS[name], getattr(tfvl, name)
    config_class = model_class.config_class
    assert head.kind in KINDS
    assert ("regions" in head.reads) == bool(config_class.region_inputs)
    assert ("boxes" in head.reads) == ("boxes" in config_class.region_inputs)
    assert {each.name for each in config_class.region_inputs.values()} <= set(model_class.input_names)
    assert ("image" in head.reads) == ("pixel_values" in model_class.input_names)
    assert ("phrases" in head.reads) == ("region_to_phrase_position" in model_class.input_names)


def test_the_row_of_a_subclass_is_that_of_its_nearest_base():
    class Mine(tfvl.ViltForPreTraining):
        pass

    assert head_name(Mine) == "ViltForPreTraining"
    assert head_name(PreTrainedModel) is None


def test_the_table_imports_the_standard_library_only():
    code = "import sys; before = set(sys.modules); import tfvl.answers.rows; print(*sorted(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert loaded - {"tfvl"} <= sys.stdlib_module_names


@pytest.mark.parametrize("kind", KINDS)
def test_graph_and_arrays_answer_as_the_table_says(kind):
    """The same names, types, axes and values, of one request without padding."""
    head = Head(kind, ("regions",), match=("match_scores", 1))
    rng = np.random.default_rng(0)
    outputs = {name: rng.normal(0, 2, shape).astype(np.float32) for name, shape in SHAPES[kind].items()}
    row = arrays.Row(IDS, TEXT, CHOICES, PHRASES, REGIONS)
    said = arrays.answer(head, outputs, row, WORDS)
    inputs = {
        "input_ids": tf.constant([IDS]),
        "attention_mask": tf.ones([1, len(IDS)], tf.int32),
        "visual_attention_mask": tf.ones([1, REGIONS], tf.int32),
        "region_to_phrase_position": tf.ones([1, len(PHRASES)], tf.int32),
        "text": tf.constant([TEXT]),
        "choices": tf.constant([CHOICES]),
        "phrases": tf.constant([PHRASES]),
    }
    served = graph.answer(head, {name: tf.constant(value[None]) for name, value in outputs.items()}, inputs, WORDS)
    served.pop("status", None)
    expected = {name: output for name, output in KINDS[kind].items() if not output.needs or output.needs in outputs}
    assert said.keys() == served.keys() == expected.keys()
    sizes = {"labels": 2, "words": 2, "masks": 2, "tokens": len(IDS), "choices": 2, "phrases": 2, "regions": REGIONS}
    for name, output in expected.items():
        (value,) = served[name].numpy()
        shape = tuple(axis if isinstance(axis, int) else (sizes | {"hidden": HIDDEN})[axis] for axis in output.axes)
        assert served[name].dtype.name == output.dtype
        assert np.shape(value) == np.shape(said[name]) == shape
        if output.dtype == STRING:
            assert np.char.decode(np.array(value, bytes)).tolist() == np.array(said[name]).tolist()
        else:
            np.testing.assert_allclose(value, said[name], rtol=0, atol=ROUNDING)


def test_phrases_have_the_boxes_of_the_regions_that_the_model_has_found():
    logits = np.array([[[1, 3, 2], [5, 0, 1], [0, 0, 9]]], np.float32)  # (rows, phrases, regions)
    boxes = np.arange(12, dtype=np.float32).reshape(1, 3, 4) / 12
    inputs = {"region_to_phrase_position": tf.constant([[1, 2, -1]]), REGION_BOXES: tf.constant(boxes)}
    head = HEADS["VisualBertForRegionToPhraseAlignment"]
    said = graph.answer(head, {"logits": tf.constant(logits)}, inputs, WORDS)
    assert said["region_ids"].numpy().tolist() == [[1, 0, 0]]
    np.testing.assert_array_equal(said["boxes"], [[boxes[0, 1], boxes[0, 0], np.zeros(4)]])
    (expected,) = (output for name, output in head.outputs.items() if name == "boxes")
    assert said["boxes"].dtype.name == expected.dtype
    assert expected.needs == REGION_BOXES

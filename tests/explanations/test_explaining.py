"""`tfvl.explain`: every head and method, its fields, lists, targets and words, and what is refused."""

from importlib.util import find_spec

import numpy as np
import pytest
import tensorflow as tf
from support.explained import ASKED, CAT, REGIONS, ROCKET, answers, loaded
from support.lite_files import head_file
from support.once import once
from support.region_models import some_regions

import tfvl
from tfvl import shapes
from tfvl.explanations import METHODS
from tfvl.explanations.alignment import transport

# Other batches and graphs sum in other orders.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
QUESTION = "what color is the triangle?"


def answer_of(head: str):
    """Returns the pipeline's answer to the request that is explained, and its score."""
    place = 1 if ASKED[head][0] == "token-classification" else 0  # of the first word
    one = answers(head)[place]
    return one["answer"], one["score"]


@pytest.mark.parametrize("head", ASKED)
def test_every_head(head):
    model, processor = loaded(head)
    _, asked = ASKED[head]
    answer, score = answer_of(head)
    for method in METHODS[:4]:
        one = tfvl.explain(model, processor, **asked, method=method)
        assert one.answer == answer
        assert one.score == pytest.approx(score, abs=1e-5)
        assert one.tokens[0] == "[CLS]"
        assert one.tokens[-1] == "[SEP]"
        assert one.token_scores.shape == (len(one.tokens),)
        assert one.token_scores.dtype == np.float32
        if head.startswith("Vilt"):
            pair = head == "ViltForImagesAndTextClassification"
            grids, heats = (one.patch_scores, one.heatmap) if pair else ((one.patch_scores,), (one.heatmap,))
            assert len(grids) == len(heats) == 1 + pair
            for grid, heat in zip(grids, heats, strict=True):
                assert grid.dtype == heat.dtype == np.float32
                assert grid.ndim == heat.ndim == 2
                assert set(np.unique(heat)) == set(np.unique(grid))
            assert one.region_scores is None
        else:
            count = 5 if head == "VisualBertForVisualReasoning" else 3
            assert one.region_scores.shape == (count,)
            assert one.region_scores.dtype == np.float32
            assert one.heatmap is None
            assert one.patch_scores is None
        if method == "relevance":
            assert one.token_scores.min() >= 0
            assert one.token_scores.max() > 0


@pytest.fixture(scope="module")
def vilt():
    return tfvl.auto.load("shapes-vilt")


@pytest.fixture(scope="module")
def scene():
    return shapes.draw_scene(23).image()


def test_lists_give_lists_of_the_same(vilt, scene):
    other = shapes.draw_scene(5).image().resize((200, 333))
    texts = [QUESTION, "how many objects are there?"]
    several = tfvl.explain(*vilt, images=[scene, other], texts=texts)
    for one, image, text in zip(several, (scene, other), texts, strict=True):
        alone = tfvl.explain(*vilt, image=image, text=text)
        assert one.answer == alone.answer
        np.testing.assert_allclose(one.token_scores, alone.token_scores, **TOLERANCE)
        np.testing.assert_allclose(one.patch_scores, alone.patch_scores, **TOLERANCE)
        assert one.heatmap.shape == np.asarray(image).shape[:2]


def test_another_answer_by_label_or_number(vilt, scene):
    model, _ = vilt
    best = tfvl.explain(*vilt, image=scene, text=QUESTION)
    blue, number = (
        tfvl.explain(*vilt, image=scene, text=QUESTION, target=target)
        for target in ("blue", model.config.label2id["blue"])
    )
    assert (best.answer, blue.answer, number.answer) == ("red", "blue", "blue")
    assert blue.score < best.score
    np.testing.assert_array_equal(blue.token_scores, number.token_scores)
    assert not np.allclose(blue.patch_scores, best.patch_scores, **TOLERANCE)
    first, second = tfvl.explain(*vilt, image=[scene] * 2, text=QUESTION, target=["blue", None])
    assert (first.answer, second.answer) == ("blue", "red")


@pytest.mark.parametrize("size", [(256, 256), (90, 400), (401, 97), (5, 4), (1200, 1000)])
def test_the_heatmap_undoes_the_resize(vilt, size):
    """A pixel has the score of the patch in which it lies once the image is resized to the model's size."""
    model, processor = vilt
    image = shapes.draw_scene(23).image().resize(size)
    one = tfvl.explain(model, processor, image=image, text=QUESTION)
    height, width = processor(images=[image])["pixel_values"].shape[1:3]
    rows, columns = one.patch_scores.shape
    patch = model.config.patch_size
    assert (rows, columns) == (height // patch, width // patch)
    assert one.heatmap.shape == size[::-1]
    for y, x in np.random.default_rng(0).integers(0, size[::-1], (50, 2)):
        row, column = int((y + 0.5) * height / size[1] / patch), int((x + 0.5) * width / size[0] / patch)
        assert one.heatmap[y, x] == one.patch_scores[row, column]


def test_regions_that_are_found_have_a_heatmap(scene):
    model, processor = tfvl.auto.load("shapes-lxmert", detector="shapes-detector")
    one = tfvl.explain(model, processor, image=scene, text=QUESTION)
    (regions,) = processor.detector.regions([scene])
    given = tfvl.explain(model, processor, regions=regions, text=QUESTION)
    np.testing.assert_allclose(one.region_scores, given.region_scores, **TOLERANCE)
    assert given.heatmap is None
    assert one.heatmap.shape == (256, 256)
    best = int(one.region_scores.argmax())
    x1, y1, x2, y2 = regions.boxes[best] * 256
    assert one.heatmap[int((y1 + y2) / 2), int((x1 + x2) / 2)] == one.region_scores[best]


def test_words_are_asked_about():
    model, processor = loaded("ViltForTokenClassification")
    asked = {"image": CAT, "text": "a red circle"}
    first, red = (tfvl.explain(model, processor, **asked, word=word) for word in (None, "red"))
    assert not np.allclose(first.token_scores, red.token_scores, rtol=0.1, atol=0)
    np.testing.assert_array_equal(red.token_scores, tfvl.explain(model, processor, **asked, word=2).token_scores)
    model, processor = loaded("VisualBertForRegionToPhraseAlignment")
    asked = ASKED["VisualBertForRegionToPhraseAlignment"][1]
    first, second = (tfvl.explain(model, processor, **asked, word=word) for word in ("red circle", "square"))
    assert not np.allclose(first.token_scores, second.token_scores, **TOLERANCE)
    assert second.region_scores.argmax() >= 0


def test_attention_of_a_layer_and_head(vilt, scene):
    model, processor = vilt
    inputs = processor(images=[scene], text=[QUESTION])
    maps = model(inputs, output_attentions=True)["attentions"]
    length = inputs["input_ids"].shape[1]
    last = tfvl.explain(*vilt, image=scene, text=QUESTION, method="attention")
    np.testing.assert_allclose(last.token_scores, np.mean(maps[-1][0, :, 0, :length], axis=0), **TOLERANCE)
    one = tfvl.explain(*vilt, image=scene, text=QUESTION, method="attention", layer=1, head=2)
    np.testing.assert_allclose(one.patch_scores.ravel(), maps[1][0, 2, 0, length + 1 :], **TOLERANCE)


def test_rollout_is_the_product_of_half_attention_and_half_identity(vilt, scene):
    model, processor = vilt
    maps = model(processor(images=[scene], text=[QUESTION]), output_attentions=True)["attentions"]
    product = np.eye(maps[0].shape[-1])
    for each in maps:
        product = (0.5 * np.mean(each[0], axis=0) + 0.5 * np.eye(len(product))) @ product
    one = tfvl.explain(*vilt, image=scene, text=QUESTION, method="rollout")
    found = [*one.token_scores, one.image_class_score, *one.patch_scores.ravel()]
    np.testing.assert_allclose(found, product[0], **TOLERANCE)


def test_the_transport_plan_has_equal_masses_and_favours_what_is_cheap():
    cost = tf.constant(np.random.default_rng(0).uniform(size=(4, 6)), tf.float32)
    plan = transport(cost, iterations=500).numpy()
    np.testing.assert_allclose(plan.sum(axis=0), np.full(6, 1 / 6), rtol=0, atol=1e-3)
    np.testing.assert_allclose(plan.sum(axis=1), np.full(4, 1 / 4), rtol=0, atol=1e-3)
    assert (plan * cost.numpy()).sum() < cost.numpy().mean()


def test_alignment_of_a_word(vilt, scene):
    every = tfvl.explain(*vilt, image=scene, text=QUESTION, method="alignment")
    word = tfvl.explain(*vilt, image=scene, text=QUESTION, method="alignment", word="triangle")
    assert word.patch_scores.sum() == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(word.token_scores, every.token_scores)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"])
def test_alignment_of_a_model_of_half_precision(vilt, scene, dtype):
    half = tfvl.auto.load("shapes-vilt", dtype=dtype)
    asked = {"image": scene, "text": QUESTION, "method": "alignment", "word": "triangle"}
    one, expected = tfvl.explain(*half, **asked), tfvl.explain(*vilt, **asked)
    assert one.patch_scores.dtype == one.token_scores.dtype == np.float32
    assert one.patch_scores.sum() == pytest.approx(1, abs=1e-2)  # 50 iterations come near to it
    np.testing.assert_allclose(one.token_scores, expected.token_scores, rtol=0, atol=0.1)  # of 1; bfloat16 has 8 bits


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"method": "lime"}, "method is 'lime', but ViltForQuestionAnswering can be explained by relevance, rollout"),
        ({"target": "ultramarine"}, "target is 'ultramarine', which is no answer of ViltForQuestionAnswering"),
        ({"target": 99}, "target is 99"),
        ({"target": ["red", "blue"]}, "got 2 targets for 1 texts"),
        ({"word": "red"}, "gives one answer to a text"),
        ({"method": "alignment", "word": "purple"}, "'purple' is not in the text"),
        ({"method": "alignment", "word": 99}, "word is 99, but the text has"),
        ({"layer": 1}, 'layer and head are for method="attention"'),
        ({"method": "attention", "layer": 12}, "layer is 12, but there are"),
        ({"method": "attention", "head": 40}, "head is 40, but there are"),
        ({"method": "attention", "layer": "last"}, "layer is 'last', expected a whole number"),
        ({"method": "attention", "layer": 1.0}, "layer is 1.0, expected a whole number"),
        ({"method": "attention", "layer": True}, "layer is True, expected a whole number"),
        ({"method": "attention", "head": "x"}, "head is 'x', expected a whole number"),
        ({"method": "attention", "layer": np.int64(12)}, "layer is 12, but there are"),
        ({"method": "alignment", "word": True}, "word is True, expected a word of the text, or the index of one"),
        ({"method": "alignment", "word": 2.0}, "word is 2.0, expected a word of the text, or the index of one"),
        ({"method": "alignment", "word": b"red"}, "word is b'red', expected a word of the text, or the index of one"),
        ({"method": "alignment", "word": ["red"]}, r"word is \['red'\], expected a word of the text, or the index"),
        ({"method": "alignment", "word": np.int64(99)}, "word is 99, but the text has"),
        ({"images": [b""]}, "images is given twice|image"),
        ({"choices": ["a"]}, "takes"),
        ({"text": " "}, "not empty"),
        ({"image": b"torn"}, "image"),
    ],
)
def test_what_is_refused(vilt, scene, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        tfvl.explain(*vilt, **{"image": scene, "text": QUESTION} | options)


def test_numbers_of_numpy_are_whole_numbers(vilt, scene):
    two = np.int64(2)
    asked = {"image": scene, "text": QUESTION}
    for of_numpy, own in (
        ({"method": "attention", "layer": -two, "head": two}, {"method": "attention", "layer": -2, "head": 2}),
        ({"method": "alignment", "word": two}, {"method": "alignment", "word": 2}),
        ({"target": two}, {"target": 2}),
    ):
        one, expected = tfvl.explain(*vilt, **asked, **of_numpy), tfvl.explain(*vilt, **asked, **own)
        np.testing.assert_allclose(one.patch_scores, expected.patch_scores, **TOLERANCE)
    model, processor = loaded("VisualBertForRegionToPhraseAlignment")
    asked = ASKED["VisualBertForRegionToPhraseAlignment"][1]
    one, expected = (tfvl.explain(model, processor, **asked, word=word) for word in (np.int32(1), 1))
    np.testing.assert_allclose(one.token_scores, expected.token_scores, **TOLERANCE)
    with pytest.raises(ValueError, match="word is True, expected a word"):
        tfvl.explain(model, processor, **asked, word=True)


def test_what_other_heads_refuse(scene):
    model, processor = loaded("LxmertForQuestionAnswering")
    with pytest.raises(ValueError, match=r"can be explained by relevance, rollout, attention, occlusion$"):
        tfvl.explain(model, processor, regions=REGIONS, text="red", method="alignment")
    with pytest.raises(ValueError, match="has no detector"):
        tfvl.explain(model, processor, image=scene, text="red")
    with pytest.raises(ValueError, match="no boxes"):
        tfvl.explain(model, processor, regions=some_regions(3, boxes=False), text="red")
    model, processor = loaded("ViltForMaskedLM")
    with pytest.raises(ValueError, match="word is 'red', expected"):
        tfvl.explain(model, processor, image=ROCKET, text="the [MASK] is red", word="red")
    model = tfvl.ViltModel(model.config)
    with pytest.raises(ValueError, match="no head that answers"):
        tfvl.explain(model, processor, image=ROCKET, text="red")
    with pytest.raises(ValueError, match="takes a model of tfvl"):
        tfvl.explain("shapes-vilt", processor, image=ROCKET, text="red")


LITE_SIZES = {"image_size": 64, "regions": 6, "choices": 3, "phrases": 2}
LITE = ("ViltForQuestionAnswering", "LxmertForQuestionAnswering", "VisualBertForQuestionAnswering")


def lite_runner(head: str) -> "tfvl.lite.Runner":
    def make(path):
        tfvl.export.lite(*loaded(head), path, explain=True, **LITE_SIZES)

    return tfvl.lite.Runner(once(f"explained/{head}.tflite", make))


@pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs tfvl[lite]")
@pytest.mark.parametrize("head", LITE)
def test_files_are_explained_by_what_they_put_out(head):
    """The image is half as large as the file's size: the rest is padding there."""
    asked, model = ASKED[head][1], loaded(head)
    if head.startswith("Vilt"):
        asked = asked | {"image": shapes.draw_scene(23).image()}
    runner = lite_runner(head)
    for method in ("rollout", "attention", "occlusion"):
        one, expected = tfvl.explain(runner, **asked, method=method), tfvl.explain(*model, **asked, method=method)
        assert one.tokens == expected.tokens
        assert one.answer == expected.answer
        np.testing.assert_allclose(one.token_scores, expected.token_scores, rtol=1e-4, atol=1e-4)
        for name in ("patch_scores", "region_scores", "heatmap"):
            if (scores := getattr(expected, name)) is not None:
                np.testing.assert_allclose(getattr(one, name), scores, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="can be explained by rollout, attention, occlusion"):
        tfvl.explain(runner, **asked)


@pytest.mark.skipif(find_spec("ai_edge_litert") is None, reason="needs tfvl[lite]")
@pytest.mark.parametrize("head", LITE)
def test_a_file_that_puts_out_no_maps_is_explained_by_occlusion_alone(head):
    with pytest.raises(ValueError, match=r"tflite can be explained by occlusion"):
        tfvl.explain(tfvl.lite.Runner(head_file(head)), **ASKED[head][1], method="rollout")

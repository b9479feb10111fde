"""VisualBertProcessor and LxmertProcessor: what they make of regions and texts, and one sentence for each mistake."""

import re

import numpy as np
import pytest
import tensorflow as tf
from support.region_models import FEATURE_SIZE, some_regions, tiny_region_model, tiny_region_processor

import tfvl
from tfvl.preprocessing.regions.regions import pad_regions

TEXT = ["input_ids", "token_type_ids", "attention_mask"]
OF_VISUAL_BERT = [*TEXT, "visual_embeds", "visual_attention_mask", "visual_token_type_ids"]
OF_LXMERT = [*TEXT, "visual_feats", "visual_pos", "visual_attention_mask"]
FAMILIES = ["VisualBert", "Lxmert"]


@pytest.fixture(scope="module")
def visual_bert():
    return tiny_region_processor("VisualBert")


@pytest.fixture(scope="module")
def lxmert():
    return tiny_region_processor("Lxmert")


def assert_equal(inputs, expected):
    assert list(inputs) == list(expected)
    for name, value in inputs.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_visual_bert(visual_bert):
    images = [some_regions(3), some_regions(5, boxes=False)]  # boxes are not read
    inputs = visual_bert(text=["what color is the circle?", "red"], regions=images)
    assert list(inputs) == OF_VISUAL_BERT
    assert {name: value.dtype for name, value in inputs.items()} == dict.fromkeys(OF_VISUAL_BERT, tf.int32) | {
        "visual_embeds": tf.float32
    }
    assert inputs["input_ids"].shape == (2, 8)
    np.testing.assert_array_equal(inputs["visual_embeds"][0, :3], images[0].features)
    np.testing.assert_array_equal(inputs["visual_embeds"][0, 3:], np.zeros((2, FEATURE_SIZE)))
    np.testing.assert_array_equal(inputs["visual_embeds"][1], images[1].features)
    np.testing.assert_array_equal(inputs["visual_attention_mask"], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(inputs["visual_token_type_ids"], np.ones((2, 5)))


def test_lxmert(lxmert):
    images = [some_regions(3), some_regions(5)]
    inputs = lxmert(text=["what color is the circle?", "red"], regions=images)
    assert list(inputs) == OF_LXMERT
    assert {name: value.dtype for name, value in inputs.items()} == dict.fromkeys(OF_LXMERT, tf.int32) | {
        "visual_feats": tf.float32,
        "visual_pos": tf.float32,
    }
    np.testing.assert_array_equal(inputs["visual_feats"][0, :3], images[0].features)
    np.testing.assert_array_equal(inputs["visual_pos"][0, :3], images[0].boxes)
    np.testing.assert_array_equal(inputs["visual_pos"][0, 3:], np.zeros((2, 4)))
    np.testing.assert_array_equal(inputs["visual_pos"][1], images[1].boxes)
    np.testing.assert_array_equal(inputs["visual_attention_mask"], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_answer(family):
    """An image alone and beside one with more regions: the same scores, so mask and features fit each other."""
    model = tiny_region_model(f"{family}ForQuestionAnswering")
    processor = tiny_region_processor(family)
    few, many = some_regions(2), some_regions(6)
    scores = "logits" if family == "VisualBert" else "question_answering_score"
    alone = model(processor("what color?", regions=few))[scores][0]
    together = model(processor(["what color?", "how many red circles?"], regions=[few, many]))[scores][0]
    np.testing.assert_allclose(together, alone, atol=1e-6)  # float32 sums of padded rows in another order


@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_of_regions_is_the_same(family, tmp_path):
    processor = tiny_region_processor(family)
    images = [some_regions(3), some_regions(4)]
    expected = processor("red", regions=images)
    np.savez(tmp_path / "0.npz", features=images[0].features, boxes=images[0].boxes)
    padded = pad_regions(images)
    arrays, boxes = [image.features for image in images], [image.boxes for image in images]
    dicts = [{"features": image.features, "boxes": image.boxes} for image in images]
    ragged = [tf.ragged.stack([tf.constant(value) for value in values], axis=0) for values in (arrays, boxes)]
    for forms in (
        {"regions": tuple(images)},
        {"regions": [tmp_path / "0.npz", images[1]]},
        {"regions": [str(tmp_path / "0.npz"), dicts[1]]},
        {"regions": dicts},
        {"regions": arrays, "boxes": boxes},
        {"regions": [tf.constant(array) for array in arrays], "boxes": boxes},
        {"regions": padded},
        {"regions": padded["features"], "boxes": padded["boxes"]},  # zeros are padding
        {"regions": tf.constant(padded["features"]), "boxes": tf.constant(padded["boxes"])},
        {"regions": padded["features"].astype("float64"), "boxes": padded["boxes"]},
        {"regions": {"features": padded["features"]}, "boxes": padded["boxes"]},
        {"regions": ragged[0], "boxes": ragged[1]},
    ):
        assert_equal(processor("red", regions=forms.pop("regions"), **forms), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_of_one_image_is_the_same(family, tmp_path):
    processor = tiny_region_processor(family)
    image = some_regions(3)
    expected = processor(["red", "blue"], regions=[image, image])  # one image goes with every text
    np.savez(tmp_path / "0.npz", features=image.features, boxes=image.boxes)
    for one in (image, str(tmp_path / "0.npz"), tmp_path / "0.npz", {"features": image.features, "boxes": image.boxes}):
        assert_equal(processor(["red", "blue"], regions=one), expected)
    assert_equal(processor(["red", "blue"], regions=image.features, boxes=image.boxes), expected)


def test_a_region_of_zeros_counts_where_the_number_of_regions_is_known(lxmert):
    """LXMERT masks regions for pre-training by zeros; only in a padded batch do zeros mean that there is none."""
    features, boxes = np.zeros((2, FEATURE_SIZE), "float32"), np.full((2, 4), 0.5, "float32")
    features[0] = 1
    assert lxmert(regions=[features], boxes=[boxes])["visual_attention_mask"].numpy().tolist() == [[1, 1]]
    assert lxmert(regions=features, boxes=boxes)["visual_attention_mask"].numpy().tolist() == [[1, 1]]
    assert lxmert(regions=features[None], boxes=boxes[None])["visual_attention_mask"].numpy().tolist() == [[1, 0]]
    given = {"features": features[None], "boxes": boxes[None], "mask": [[1, 1]]}
    assert lxmert(regions=given)["visual_attention_mask"].numpy().tolist() == [[1, 1]]


def test_pairs_of_images(visual_bert):
    left, right = [some_regions(3), some_regions(1)], [some_regions(2), some_regions(2, seed=1)]
    inputs = visual_bert("the circle is red", regions=list(zip(left, right, strict=True)))
    np.testing.assert_array_equal(inputs["visual_embeds"][0], np.concatenate([left[0].features, right[0].features]))
    np.testing.assert_array_equal(inputs["visual_embeds"][1, :3], np.concatenate([left[1].features, right[1].features]))
    np.testing.assert_array_equal(inputs["visual_token_type_ids"], [[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]])
    np.testing.assert_array_equal(inputs["visual_attention_mask"], [[1] * 5, [1] * 3 + [0] * 2])
    assert inputs["input_ids"].shape == (2, 6)


def test_pairs_of_images_in_one_array(visual_bert):
    pairs = np.stack([[some_regions(3, seed).features for seed in (2 * row, 2 * row + 1)] for row in range(2)])
    assert_equal(visual_bert("red", regions=pairs), visual_bert("red", regions=[list(pair) for pair in pairs]))
    pairs[0, 0, 2] = 0  # padding, in the middle of the row
    inputs = visual_bert("red", regions=pairs)
    np.testing.assert_array_equal(inputs["visual_attention_mask"][0], [1, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(inputs["visual_token_type_ids"][0], [0, 0, 0, 1, 1, 1])


def test_choices(visual_bert):
    texts, choices = ["what is red ?", "how many ?"], [["the circle", "a blue square of a circle"], ["the", "a red"]]
    inputs = visual_bert(texts, choices, [some_regions(3), some_regions(2)])
    longest = inputs["input_ids"].shape[-1]
    assert inputs["input_ids"].shape == (2, 2, longest)
    for row in range(2):
        for choice in range(2):
            alone = visual_bert.tokenizer(texts[row], choices[row][choice], padding="max_length", max_length=longest)
            for name in TEXT:
                np.testing.assert_array_equal(inputs[name][row, choice], alone[name][0])
    assert inputs["visual_embeds"].shape == (2, 3, FEATURE_SIZE)
    assert tiny_region_model("VisualBertForMultipleChoice")(inputs)["logits"].shape == (2, 2)
    one = visual_bert("what is red ?", choices[:1], some_regions(3))
    np.testing.assert_array_equal(one["input_ids"][0], visual_bert([texts[0]] * 2, choices[0])["input_ids"])
    np.testing.assert_array_equal(
        visual_bert(np.array(texts), np.array(choices))["input_ids"], visual_bert(texts, choices)["input_ids"]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_of_texts_and_options(family):
    processor = tiny_region_processor(family)
    np.testing.assert_array_equal(processor("red", "blue circle")["token_type_ids"], [[0, 0, 0, 1, 1, 1]])
    assert processor(text="red", padding="max_length", max_length=9)["input_ids"].shape == (1, 9)
    assert processor(text="red", padding="max_length", max_length=64)["input_ids"].shape == (1, 64)
    with pytest.raises(ValueError, match="row 0 has 52 tokens"):
        processor(text="red " * 50, truncation=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_either_half_alone_and_empty_batches(family):
    processor = tiny_region_processor(family)
    names = OF_VISUAL_BERT if family == "VisualBert" else OF_LXMERT
    assert list(processor(text="red")) == TEXT
    assert list(processor(regions=some_regions(2))) == names[3:]
    empty = processor(text=[], regions=[])
    assert list(empty) == names
    assert {value.shape[0] for value in empty.values()} == {0}


@pytest.mark.parametrize("family", FAMILIES)
def test_numpy_arrays_on_request(family):
    processor = tiny_region_processor(family)
    tensors, arrays = (processor("red", regions=some_regions(2), return_tensors=kind) for kind in ("tf", "np"))
    assert all(type(array) is np.ndarray for array in arrays.values())
    assert_equal(arrays, tensors)


# --- in graphs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_inside_tf_data(family):
    processor = tiny_region_processor(family)
    padded = pad_regions([some_regions(3), some_regions(5)])
    texts = ["what color?", "red " * 50]
    expected = processor(texts, regions=padded)
    rows = tf.data.Dataset.from_tensor_slices((texts, padded["features"], padded["boxes"])).batch(2)
    mapped = rows.map(lambda text, regions, boxes: processor(text, regions=regions, boxes=boxes))
    assert mapped.element_spec[list(expected)[3]].shape[-1] == FEATURE_SIZE
    assert_equal(next(iter(mapped)), expected)
    dicts = tf.data.Dataset.from_tensors((texts, padded)).map(lambda text, regions: processor(text, regions=regions))
    assert_equal(next(iter(dicts)), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_single_images_and_ragged_batches_inside_tf_data(family):
    processor = tiny_region_processor(family)
    images = [some_regions(3), some_regions(5)]
    rows = tf.data.Dataset.from_generator(
        lambda: ((image.features, image.boxes) for image in images),
        output_signature=(tf.TensorSpec((None, None)), tf.TensorSpec((None, 4))),
    )
    single = list(rows.map(lambda regions, boxes: processor("red", regions=regions, boxes=boxes)))
    assert_equal(single[1], processor("red", regions=images[1]))
    batches = rows.ragged_batch(2, drop_remainder=True)
    batch = next(iter(batches.map(lambda regions, boxes: processor("red", regions=regions, boxes=boxes))))
    assert_equal(batch, processor("red", regions=images))


def test_pairs_and_choices_inside_tf_data(visual_bert):
    pairs = np.stack([[some_regions(3, seed).features for seed in (0, 1)]])
    texts, choices = ["what?"], [["red", "a blue circle"]]
    rows = tf.data.Dataset.from_tensors((texts, choices, pairs))
    inputs = next(iter(rows.map(lambda text, pair, regions: visual_bert(text, pair, regions))))
    assert_equal(inputs, visual_bert(texts, choices, pairs))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_refusal_inside_tf_data(lxmert, wrong):
    padded = pad_regions([some_regions(3)])
    padded["features"][0, 1, 2] = wrong
    rows = tf.data.Dataset.from_tensors(padded).map(lambda regions: lxmert(regions=regions))
    with pytest.raises(tf.errors.InvalidArgumentError, match="features are not finite"):
        next(iter(rows))
    with pytest.raises(ValueError, match=r"regions are one tensor \(N, regions, feature_size\)"):
        tf.data.Dataset.from_tensors(padded["features"]).map(lambda regions: lxmert(regions=[regions[0]]))


# --- mistakes --------------------------------------------------------------------------------------------------------


def array(images=1, regions=3, size=FEATURE_SIZE, **changes):
    """Makes a batch without a mask, with values put in at (image, region, number)."""
    padded = pad_regions([some_regions(regions, seed, size) for seed in range(images)])
    del padded["mask"]
    for name, places in changes.items():
        for place, value in places.items():
            padded[name][place] = value
    return padded


@pytest.mark.parametrize(
    ("regions", "sentence"),
    [
        ([some_regions(2), some_regions(2, size=20)], "image 1: the features are of size 20, but {field} of the"),
        (array(size=20), "regions: the features are of size 20, but {field} of the model's config is 19"),
        ([some_regions(2), some_regions(0)], "image 1: there are no regions"),
        (array(2, features={(1,): 0}), "image 1: there are no regions"),
        (array(2, features={(1, 2, 3): np.nan}), "image 1, region 2: the features are not finite"),
        ([array(features={(0, 1, 2): np.inf})["features"][0]], "image 0, region 1: the features are not finite"),
        (5, "regions are 5; expected Regions, an array"),
        ([None], "image 0 is None; expected Regions, an array"),
        ([[some_regions(1)] * 3], "got 3 images in a row of regions, expected one image a row"),
        (np.ones(3), r"regions have shape \(3,\), expected \(regions, feature_size\) or \(N, regions, feature_size\)"),
        (np.array([["red"]]), "regions are of type string, expected numbers"),
        ([np.array([["red"]])], "image 0: features are of type <U3, expected numbers"),
        ({"x": np.ones((2, 19))}, "regions: the dict has x, but no features"),
        ([{"x": np.ones((2, 19))}], "image 0: the dict has x, but no features"),
        ("gone.npz", "gone.npz"),
        (array() | {"mask": np.ones((1, 4))}, r"the mask of regions have shape \(1, 4\), expected \(1, 3\)"),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_bad_regions(family, regions, sentence):
    boxes = np.zeros((1, 2, 4)) if family == "Lxmert" and isinstance(regions, np.ndarray) else None
    field = {"VisualBert": "visual_embedding_dim", "Lxmert": "visual_feat_dim"}[family]
    if isinstance(regions, list) and isinstance(regions[0], np.ndarray) and family == "Lxmert":
        boxes = [some_regions(len(image)).boxes for image in regions]
    with pytest.raises(ValueError, match=sentence.format(field=field)) as error:
        tiny_region_processor(family)(text="red", regions=regions, boxes=boxes)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"regions": [some_regions(2), some_regions(2, boxes=False)]}, "image 1: there are no boxes"),
        ({"regions": array()["features"]}, "there are no boxes, and LxmertProcessor needs each region's"),
        ({"regions": [some_regions(2).features], "boxes": [np.full((2, 4), 30)]}, r"image 0: box 0 \(30, 30, 30, 30\)"),
        ({"regions": array(boxes={(0, 1, 2): 1.5})}, r"image 0, region 1 \(.*, 1.5, .*\): the box lies outside 0…1"),
        ({"regions": array(boxes={(0, 1, 2): np.nan})}, "image 0, region 1 .*: the box lies outside 0…1"),
        ({"regions": array(boxes={(0, 1): [0.5, 0, 0.25, 1]})}, r"region 1 \(0.5, 0, 0.25, 1\): the box has x2 < x1"),
        ({"regions": some_regions(2), "boxes": np.zeros((2, 4))}, "image 0 brings its own boxes"),
        ({"regions": [np.ones((2, 19))], "boxes": []}, "got boxes of 0 images and regions of 1; give as many"),
        ({"regions": np.ones((2, 19)), "boxes": np.ones((3, 4))}, r"boxes have shape \(3, 4\), expected \(2, 4\)"),
        ({"regions": [(some_regions(1), some_regions(2))]}, "got 2 images in a row .*, expected one image a row$"),
        ({"regions": np.ones((1, 2, 3, 19)), "boxes": np.ones((1, 2, 3, 4))}, r"shape \(1, 2, 3, 19\), expected"),
        ({"regions": [some_regions(1)] * 2, "text": ["a", "b", "c"]}, "got 2 images and 3 texts"),
    ],
)
def test_bad_regions_and_boxes_of_lxmert(lxmert, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        lxmert(**{"text": "red"} | options)


def test_bad_pairs_and_choices(visual_bert):
    with pytest.raises(ValueError, match="image 1 of row 0: there are no regions"):
        visual_bert("a", regions=[(some_regions(1), some_regions(0))])
    with pytest.raises(ValueError, match="got 2 images in a row of regions, expected one image a row, or two in all"):
        visual_bert("a", regions=[(some_regions(1), some_regions(1)), some_regions(1)])
    with pytest.raises(ValueError, match=r"shape \(1, 3, 2, 19\), expected .* or \(N, 2, regions, feature_size\)"):
        visual_bert("a", regions=np.ones((1, 3, 2, 19)))
    with pytest.raises(ValueError, match="text has 1 rows and text_pair 2; they must agree"):
        visual_bert("a", [["b"], ["c"]])
    with pytest.raises(ValueError, match="text_pair has rows of 1, 2 choices; give each text as many"):
        visual_bert(["a", "b"], [["b"], ["c", "d"]])
    with pytest.raises(ValueError, match="texts with choices need padding=True"):
        visual_bert("a", [["b", "c d"]], padding=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_bad_options(family):
    processor = tiny_region_processor(family)
    name = re.escape(type(processor).__name__)
    with pytest.raises(ValueError, match=f"{name} got neither text nor regions"):
        processor()
    with pytest.raises(ValueError, match=f"{name} has no option pixels; it takes text, text_pair, regions, boxes, im"):
        processor("red", pixels=some_regions(2))
    with pytest.raises(ValueError, match=f"return_tensors is 'pt'; {name} returns 'tf' or 'np'"):
        processor("red", return_tensors="pt")
    with pytest.raises(ValueError, match=f"{name} takes a BertTokenizer, got int"):
        type(processor)(3)
    with pytest.raises(ValueError, match="feature_size is 0, expected a whole number"):
        type(processor)(processor.tokenizer, 0)
    assert type(processor)(processor.tokenizer)(regions=some_regions(2, size=7))  # any size where none is named


def test_public_names():
    assert tfvl.Regions is type(some_regions(1))
    assert tfvl.RegionStore.__module__ == "tfvl.preprocessing.regions.store"

"""ViltProcessor: the join of tokenizer and image processor, its limits, counts, files and graphs."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.checkpoint import SIZES, VOCABULARY, save_tiny, tiny_processor

import tfvl

KEYS = ["input_ids", "token_type_ids", "attention_mask", "pixel_values", "pixel_mask"]
LIMIT = SIZES["max_position_embeddings"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("vilt"))


@pytest.fixture(scope="module")
def processor(directory):
    return tfvl.ViltProcessor.from_pretrained(directory)


def picture(width=40, height=32, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(levels)


def test_joins_both_halves(processor):
    images, texts = [picture(40, 32), picture(32, 52)], ["what color is the circle?", "red"]
    inputs = processor(images=images, text=texts)
    assert list(inputs) == KEYS
    expected = processor.tokenizer(texts) | processor.image_processor(images)
    for name in KEYS:
        np.testing.assert_array_equal(inputs[name], expected[name])
    assert {name: value.dtype for name, value in inputs.items()} == dict.fromkeys(KEYS, tf.int32) | {
        "pixel_values": tf.float32
    }
    assert inputs["input_ids"].shape == (2, 8)
    assert inputs["pixel_values"].shape == (2, 48, 40, 3)


def test_positional_arguments_are_images_then_text(processor):
    inputs = processor(picture(), "red")
    assert inputs["input_ids"].shape == (1, 3)
    assert inputs["pixel_values"].shape == (1, 32, 40, 3)


def test_either_half_alone(processor):
    assert list(processor(text="red")) == KEYS[:3]
    assert list(processor(images=picture())) == KEYS[3:]
    with pytest.raises(ValueError, match="neither images nor text"):
        processor()


def test_one_image_goes_with_every_text(processor):
    inputs = processor(images=picture(), text=["red", "blue", "how many circles?"])
    assert {name: value.shape[0] for name, value in inputs.items()} == dict.fromkeys(KEYS, 3)
    np.testing.assert_array_equal(inputs["pixel_values"][2], inputs["pixel_values"][0])


def test_one_text_goes_with_every_image(processor):
    inputs = processor(images=[picture(seed=1), picture(seed=2)], text="red")
    assert {name: value.shape[0] for name, value in inputs.items()} == dict.fromkeys(KEYS, 2)
    np.testing.assert_array_equal(inputs["input_ids"][0], inputs["input_ids"][1])
    assert not np.array_equal(inputs["pixel_values"][0], inputs["pixel_values"][1])


def test_broadcast_keeps_ragged_rows(processor):
    inputs = processor(images=[picture(), picture()], text="red", padding=False)
    assert inputs["input_ids"].to_list() == [inputs["input_ids"].to_list()[0]] * 2


def test_counts_that_do_not_match_are_named(processor):
    with pytest.raises(ValueError, match="got 2 images and 3 texts"):
        processor(images=[picture(), picture()], text=["a", "b", "c"])


def test_pairs_of_images(processor):
    pairs = [[picture(seed=1), picture(seed=2)], [picture(seed=3), picture(32, 40)], [picture(), picture()]]
    inputs = processor(images=pairs, text=["red", "blue", "two"])
    assert inputs["pixel_values"].shape == (3, 2, 40, 40, 3)
    assert inputs["pixel_mask"].shape == (3, 2, 40, 40)
    alone = processor.image_processor(pairs[0][1])["pixel_values"][0]
    np.testing.assert_array_equal(inputs["pixel_values"][0, 1, :32], alone)


def test_pairs_of_texts(processor):
    inputs = processor(images=picture(), text="red", text_pair="blue circle")
    np.testing.assert_array_equal(inputs["token_type_ids"], [[0, 0, 0, 1, 1, 1]])


def test_empty_batch(processor):
    inputs = processor(images=[], text=[])
    assert {value.shape[0] for value in inputs.values()} == {0}


# --- the position table is the limit ---------------------------------------------------------------------------------


def test_long_text_is_cut_at_the_position_table(processor):
    assert processor.tokenizer.model_max_length == LIMIT
    ids = processor(text="red " * 50)["input_ids"]
    assert ids.shape == (1, LIMIT)
    assert ids[0, -1] == processor.tokenizer.sep_token_id


def test_long_text_is_refused_on_request(processor):
    with pytest.raises(ValueError, match="row 1 has 52 tokens"):
        processor(images=picture(), text=["red", "red " * 50], truncation=False)
    assert processor(text="red " * (LIMIT - 2), truncation=False)["input_ids"].shape == (1, LIMIT)


def test_max_length_cannot_exceed_the_position_table(processor):
    assert processor(text="red", padding="max_length")["input_ids"].shape == (1, LIMIT)
    assert processor(text="red", padding="max_length", max_length=5)["input_ids"].shape == (1, 5)
    with pytest.raises(ValueError, match=f"max_length is 64, more than the {LIMIT} positions"):
        processor(text="red", padding="max_length", max_length=64)


@pytest.fixture(scope="module")
def many_positions(tmp_path_factory):
    """Writes a model of 160 positions, whose tokenizer has a limit of 40, as one of a shorter model has."""
    directory = save_tiny(tmp_path_factory.mktemp("many"), max_position_embeddings=160)
    config = json.loads((directory / "tokenizer_config.json").read_text()) | {"model_max_length": 40}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def test_max_length_up_to_the_position_table_whatever_the_tokenizer_says(many_positions):
    processor, text = tfvl.ViltProcessor.from_pretrained(many_positions), "red " * 200
    assert processor(text=text)["input_ids"].shape == (1, 40)
    inputs = processor(images=picture(), text=text, max_length=160)
    assert inputs["input_ids"].shape == (1, 160)
    model = tfvl.ViltForQuestionAnswering.from_pretrained(many_positions)
    assert model(inputs)["logits"].shape == (1, 3)
    with pytest.raises(ValueError, match="max_length is 161, more than the 160 positions of the model; give at most"):
        processor(text=text, max_length=161)


def test_a_model_of_more_positions_than_the_checkpoint_has(directory):
    processor = tfvl.ViltProcessor.from_pretrained(directory, model_max_length=160)
    assert processor(text="red " * 200)["input_ids"].shape == (1, 160)
    by_hand = tfvl.ViltProcessor(processor.image_processor, tfvl.BertTokenizer(VOCABULARY, model_max_length=40))
    assert by_hand(text="red " * 200, max_length=160)["input_ids"].shape == (1, 160)  # the model itself refuses


# --- what the files and the caller say in place of them ---------------------------------------------------------------


def test_overrides_go_to_the_part_that_has_them(directory):
    options = {"size": 64, "do_rescale": False, "padding_side": "left", "mask_token": "red", "local_files_only": True}
    processor = tfvl.ViltProcessor.from_pretrained(directory, **options)
    assert processor.image_processor.size == {"shortest_edge": 64}
    assert not processor.image_processor.do_rescale
    assert processor.image_processor.size_divisor == 8  # as the file says
    assert processor.tokenizer.mask_token == "red"
    assert processor(text=["red", "red blue"])["attention_mask"].numpy().tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sizes": 64},
            "ViltProcessor.from_pretrained has no option sizes; it takes added_tokens_decoder, .*cache_dir",
        ),
        ({"size": -1}, "size=-1 must be"),
        ({"do_lower_case": "no"}, "do_lower_case is 'no'; it must be true or false"),
    ],
)
def test_overrides_that_are_refused(directory, options, message):
    with pytest.raises(ValueError, match=message):
        tfvl.ViltProcessor.from_pretrained(directory, **options)


# tokenizer_config.json or tokenizer.json to what a call gives, as upstream's processor does (its texts are not padded
# by default); `test_upstream_reads_the_same_of_the_files` compares.
ASKED = {
    "max_length": ({"max_length": 4}, {}, [[2, 6, 9, 3], [2, 6, 3, 0]]),
    "padding": ({"padding": "max_length", "max_length": 5}, {}, [[2, 6, 9, 8, 3], [2, 6, 3, 0, 0]]),
    "pad_to_multiple_of": ({"pad_to_multiple_of": 8}, {}, [[2, 6, 9, 8, 3, 0, 0, 0], [2, 6, 3, 0, 0, 0, 0, 0]]),
    "truncation": ({}, {"truncation": {"max_length": 4, "stride": 1}}, [[2, 6, 9, 3], [2, 6, 3, 0]]),
    "truncation and its side": (
        {"truncation_side": "left"},
        {"truncation": {"max_length": 4, "stride": 0}},
        [[2, 9, 8, 3], [2, 6, 3, 0]],
    ),
    "fixed padding": ({}, {"padding": {"strategy": {"Fixed": 4}}}, [[2, 6, 9, 3], [2, 6, 3, 0]]),
    "padding in steps": (
        {},
        {"padding": {"strategy": "BatchLongest", "pad_to_multiple_of": 7, "direction": "Left"}},
        [[0, 0, 2, 6, 9, 8, 3], [0, 0, 0, 0, 2, 6, 3]],
    ),
}
TRUNCATION = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
PADDING = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
ASKED_TEXTS = ["the blue red", "the"]


def write_asked(directory, name):
    said, backend, _ = ASKED[name]
    tiny_processor().save_pretrained(directory)
    (directory / "tokenizer_config.json").write_text(
        json.dumps(json.loads((directory / "tokenizer_config.json").read_text()) | said)
    )
    file = directory / "tokenizer.json"
    changed = {key: (TRUNCATION if key == "truncation" else PADDING) | value for key, value in backend.items()}
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return directory


@pytest.mark.parametrize("name", ASKED)
def test_what_the_files_ask_of_a_processors_calls(tmp_path, name):
    processor = tfvl.ViltProcessor.from_pretrained(write_asked(tmp_path / "read", name))
    processor.save_pretrained(tmp_path / "written")
    for each in (processor, tfvl.ViltProcessor.from_pretrained(tmp_path / "written")):
        assert each(text=ASKED_TEXTS)["input_ids"].numpy().tolist() == ASKED[name][2]
        assert each(text="the blue red", max_length=5, padding=True, pad_to_multiple_of=1)["input_ids"].shape == (1, 5)
        assert each.tokenizer(ASKED_TEXTS, pad_to_multiple_of=1, truncation=False)["input_ids"].shape == (2, 5)


@pytest.mark.parity
@pytest.mark.parametrize("name", ASKED)
def test_upstream_reads_the_same_of_the_files(tmp_path, name):
    transformers = pytest.importorskip("transformers", reason="the parity suite needs transformers")
    tokenizer = transformers.BertTokenizer.from_pretrained(write_asked(tmp_path, name))
    upstream = transformers.ViltProcessor(transformers.ViltImageProcessor(), tokenizer)
    said, rows = (
        ASKED[name][0],
        upstream(text=ASKED_TEXTS, **({} if "padding" in ASKED[name][0] else {"padding": True})),
    )
    assert "padding" not in said or upstream(text=ASKED_TEXTS)["input_ids"] == rows["input_ids"]
    if "max_length" in tokenizer.init_kwargs and "padding" not in said:  # alone it cuts, beside padding it does not
        rows = upstream(text=ASKED_TEXTS, padding=True, truncation=True)
    assert rows["input_ids"] == ASKED[name][2]


def test_options_in_dicts(processor):
    inputs = processor(picture(), ["red", "red blue"], text_kwargs={"padding": "max_length", "max_length": 6})
    assert inputs["input_ids"].shape == (2, 6)
    assert processor(picture(), "red", images_kwargs={"size": 64})["pixel_values"].shape[1] == 64
    with pytest.raises(
        ValueError, match="size in text_kwargs is no option there; text_kwargs takes add_special_tokens"
    ):
        processor(picture(), "red", text_kwargs={"size": 64})
    with pytest.raises(ValueError, match="max_length in text_kwargs is given twice"):
        processor(picture(), "red", max_length=6, text_kwargs={"max_length": 6})


def test_model_input_names(processor):
    assert processor.model_input_names == KEYS


@pytest.mark.parametrize(("said", "held"), [(None, LIMIT), (512, LIMIT), (int(1e30), LIMIT), (7, 7)])
def test_smaller_of_tokenizer_config_and_position_table(directory, tmp_path, said, held):
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"model_max_length": said}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert tfvl.ViltProcessor.from_pretrained(tmp_path).tokenizer.model_max_length == held


def test_without_config_the_limit_is_that_of_vilt(tmp_path):
    tiny_processor().save_pretrained(tmp_path)
    assert tfvl.ViltProcessor.from_pretrained(tmp_path).tokenizer.model_max_length == 40


# --- options, decoding, files ----------------------------------------------------------------------------------------


def test_options_reach_the_half_they_belong_to(processor):
    inputs = processor(
        images=picture(64, 64),
        text=["red", "what?"],
        padding="max_length",
        max_length=9,
        do_resize=False,
        do_rescale=False,
    )
    assert inputs["input_ids"].shape == (2, 9)
    assert inputs["pixel_values"].shape == (2, 64, 64, 3)
    assert float(tf.reduce_max(inputs["pixel_values"])) > 2  # levels up to 255, not shares


def test_unknown_option_is_named(processor):
    with pytest.raises(ValueError, match="ViltProcessor has no option paddding; it takes images, text"):
        processor(images=picture(), text="red", paddding=True)
    with pytest.raises(ValueError, match="ViltProcessor has no option image; it takes images, text"):
        processor(image=picture(), text="red")  # would otherwise pass for a text alone


def test_parts_in_the_wrong_places(processor):
    with pytest.raises(ValueError, match="got BertTokenizer and ViltImageProcessor"):
        tfvl.ViltProcessor(processor.tokenizer, processor.image_processor)


def test_decode(processor):
    ids = processor(text=["the red circle", "blue"])["input_ids"]
    assert processor.decode(ids[0], skip_special_tokens=True) == "the red circle"
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["the red circle", "blue"]


def test_save_and_load_again(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    again = tfvl.ViltProcessor.from_pretrained(tmp_path)
    inputs = {"images": [picture(70, 31), picture()], "text": ["what color is the red circles", "[MASK]!"]}
    for name, value in processor(**inputs).items():
        np.testing.assert_array_equal(value, again(**inputs)[name])


def test_missing_vocabulary_names_the_directory(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(tfvl.CheckpointError, match=str(tmp_path)):
        tfvl.ViltProcessor.from_pretrained(tmp_path)


def test_impossible_position_table_names_the_file(directory, tmp_path):
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text()) | {"max_position_embeddings": -3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(tfvl.CheckpointError, match=r"config\.json.*max_position_embeddings is -3"):
        tfvl.ViltProcessor.from_pretrained(tmp_path)


# --- in graphs -------------------------------------------------------------------------------------------------------


def encoded(seed):
    return tf.io.encode_png(np.asarray(picture(seed=seed))).numpy()


def test_inside_tf_data(processor):
    images, texts = [encoded(1), encoded(2), encoded(3)], ["red", "what color?", "red " * 50]
    expected = processor(images=images, text=texts)
    rows = tf.data.Dataset.from_tensor_slices((images, texts))
    batched = next(iter(rows.batch(3).map(lambda image, text: processor(images=image, text=text))))
    for name in KEYS:
        np.testing.assert_array_equal(batched[name], expected[name])
    single = list(rows.map(lambda image, text: processor(images=image, text=text)))
    for row, inputs in enumerate(single):
        np.testing.assert_array_equal(inputs["pixel_values"][0], expected["pixel_values"][row])


def test_inside_tf_data_one_image_goes_with_every_text(processor):
    rows = tf.data.Dataset.from_tensors((encoded(1), ["red", "blue"]))
    inputs = next(iter(rows.map(lambda image, text: processor(images=image, text=text))))
    assert {value.shape[0] for value in inputs.values()} == {2}


def test_refusal_inside_tf_data(processor):
    rows = (
        tf.data.Dataset.from_tensor_slices(["red " * 50])
        .batch(1)
        .map(lambda text: processor(text=text, truncation=False))
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"max_length={LIMIT}"):
        next(iter(rows))


def test_numpy_arrays_on_request():
    processor = tiny_processor()
    picture = np.zeros((40, 50, 3), np.uint8)
    tensors, arrays = (processor(picture, "a red circle", return_tensors=kind) for kind in ("tf", "np"))
    assert all(type(array) is np.ndarray for array in arrays.values())
    assert arrays.keys() == tensors.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, tensors[name])
    with pytest.raises(ValueError, match="return_tensors is 'pt'; ViltProcessor returns 'tf' or 'np'"):
        processor(picture, "a red circle", return_tensors="pt")

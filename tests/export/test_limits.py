"""What an exported graph reads of a request at most: more is a status of the row, or an error of `tensors`."""

import numpy as np
import pytest
import tensorflow as tf
from support.export import GOOD_IMAGES, artefact, requests, serve, strings
from support.export_regions import CHOICE

from tfvl.export.limits import MAX_PATCHES, size_checks, within_limits
from tfvl.export.parts import ModelInput
from tfvl.preprocessing.requests import (
    MAX_CHARACTERS,
    MAX_CHOSEN_REGIONS,
    MAX_ITEMS,
    beyond_limits,
    count_characters,
)

VQA = "ViltForQuestionAnswering"
TOO_LONG = b"text: there are 262145 characters to read, at most 262144 are"


def limited(**raw) -> tuple[dict, list[str]]:
    kept, status = within_limits({name: tf.constant(value) for name, value in raw.items()})
    return {name: value.numpy() for name, value in kept.items()}, [each.decode() for each in status.numpy()]


def test_a_text_that_is_too_long_is_a_bad_row_and_changes_no_other():
    texts = strings("what color?", "é" * (MAX_CHARACTERS + 1), "red")
    served, alone = (serve(VQA, image=GOOD_IMAGES[rows], text=texts[rows]) for rows in ([0, 1, 2], [0, 2]))
    assert served["status"].tolist() == [b"", TOO_LONG, b""]
    assert served["answers"][[0, 2]].tolist() == alone["answers"].tolist()
    np.testing.assert_array_equal(served["scores"][1], 0)


def test_choices_count_with_the_text_that_they_go_with():
    raw = requests(CHOICE)
    raw["text"] = strings("a" * 100_000, "b", "c")
    text, *choices = (each.decode() for each in (raw["text"][0], *raw["choices"][0]))
    count = count_characters(text, [each for each in choices if each.strip()])
    assert count > MAX_CHARACTERS
    statuses = serve(CHOICE, **raw)["status"].tolist()
    assert statuses == [f"text: there are {count} characters to read, at most {MAX_CHARACTERS} are".encode(), b"", b""]


@pytest.mark.parametrize(
    "sizes",
    [
        {"regions": 1024},
        {"regions": 1025},
        {"choices": 64},
        {"choices": 65},
        {"phrases": 128},
        {"phrases": 129},
        {"choices": 64, "regions": 64},
        {"choices": 64, "regions": 65},
        {"choices": 4_000_000, "regions": 1},
        {"phrases": 3, "regions": 100_000},
    ],
)
def test_items_are_counted_as_in_python(sizes):
    """`beyond_limits` is what the server of a `.tflite` file asks; what is too much is not read any further."""
    raw = {"text": strings("a", "b")}
    for name, size in sizes.items():
        raw[name] = np.zeros((2, size, 3), np.float32) if name == "regions" else np.full((2, size), b"x", object)
    if "regions" in raw:
        raw["boxes"] = np.zeros((2, sizes["regions"], 4), np.float32)
    kept, statuses = limited(**raw)
    problem = beyond_limits(sizes)
    if not problem.startswith("choices: there are 4000000"):
        assert statuses == [problem] * 2
    for name, size in sizes.items():
        assert kept[name].shape[1] == (1 if problem else size)


def test_pairs_of_images_are_cut_too():
    kept, statuses = limited(text=strings("a"), regions=np.zeros((1, 2, 1025, 3), np.float32))
    assert (kept["regions"].shape, statuses) == (
        (1, 2, 1, 3),
        ["regions: there are 1025 of them, at most 1024 are read"],
    )


TOKENS = 40
AXES = {
    "input_ids": ModelInput(tf.int32, ("choices", "text_length")),
    "attention_mask": ModelInput(tf.int32, ("text_length",)),
    "visual_embeds": ModelInput(tf.float32, ("regions", 5)),
    "pixel_values": ModelInput(tf.float32, ("height", "width", 3)),
}


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ({"visual_embeds": (1, MAX_ITEMS["regions"], 5)}, None),
        ({"visual_embeds": (1, MAX_ITEMS["regions"] + 1, 5)}, "at most 1024 regions"),
        ({"input_ids": (1, MAX_ITEMS["choices"] + 1, 3)}, "at most 64 choices"),
        (
            {"input_ids": (1, 64, 3), "visual_embeds": (1, MAX_CHOSEN_REGIONS // 64 + 1, 5)},
            "at most 4096 choices times regions",
        ),
        ({"input_ids": (1, 1, TOKENS), "attention_mask": (1, TOKENS)}, None),
        ({"input_ids": (1, 1, TOKENS + 1), "attention_mask": (1, 1)}, "at most 40 tokens of a text"),
        ({"input_ids": (0, 0, 1), "attention_mask": (0, TOKENS + 1)}, "at most 40 tokens of a text"),
        ({"pixel_values": (1, 16, 16 * MAX_PATCHES, 3)}, None),
        ({"pixel_values": (1, 16, 16 * (MAX_PATCHES + 1), 3)}, "at most 4096 patches"),
    ],
)
def test_larger_inputs_of_the_bare_model_are_an_error(shapes, problem):
    def check():
        inputs = {name: tf.zeros(shape, AXES[name].dtype) for name, shape in shapes.items()}
        size_checks(inputs, {name: AXES[name] for name in shapes}, patch=16, tokens=TOKENS)

    if problem is None:
        check()
    else:
        with pytest.raises(tf.errors.InvalidArgumentError, match=problem):
            check()


def test_the_artefact_holds_the_checks():
    artefact(VQA)
    config = artefact(VQA).model.config
    ids = np.ones((1, 5), np.int32)
    side = config.patch_size * 65
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 4096 patches"):
        serve(
            VQA,
            "tensors",
            input_ids=ids,
            token_type_ids=ids * 0,
            attention_mask=ids,
            pixel_values=np.zeros((1, side, side, 3), np.float32),
            pixel_mask=np.ones((1, side, side), np.int32),
        )


def test_the_artefact_counts_tokens_even_without_rows():
    config = artefact(VQA).model.config
    ids = np.ones((0, config.max_position_embeddings + 1), np.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {config.max_position_embeddings} tokens of a"):
        serve(
            VQA,
            "tensors",
            input_ids=ids,
            token_type_ids=ids,
            attention_mask=ids,
            pixel_values=np.zeros((0, 64, 64, 3), np.float32),
            pixel_mask=np.ones((0, 64, 64), np.int32),
        )

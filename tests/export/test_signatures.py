"""What an exported model answers: names, numbers, bad rows, empty batches; for every head."""

import re

import numpy as np
import pytest
import tensorflow as tf
from support.checkpoint import VOCABULARY
from support.export import (
    GOOD_IMAGES,
    GOOD_TEXTS,
    HEADS,
    LABELS,
    NLVR2,
    TOP_K,
    artefact,
    picture,
    prepare,
    requests,
    serve,
    strings,
)
from support.export_answers import (
    BATCH_TOLERANCE,
    GRAPH_TOLERANCE,
    assert_same,
    assert_served,
    assert_signatures,
    best,
    filled_masks,
    softmax,
)

pytestmark = pytest.mark.numeric

# What clients are written against. A change here breaks them.
TEXT_AND_IMAGE = {"image": "string (?)", "text": "string (?)"}
ANSWERS = {"answers": "string (?, 4)", "scores": "float32 (?, 4)", "status": "string (?)"}
FILLED = ANSWERS | {
    "filled": "string (?)",
    "candidates": "string (?, ?, 4)",
    "candidate_scores": "float32 (?, ?, 4)",
}
TENSORS = {
    "input_ids": "int32 (?, ?)",
    "token_type_ids": "int32 (?, ?)",
    "attention_mask": "int32 (?, ?)",
    "pixel_values": "float32 (?, ?, ?, 3)",
    "pixel_mask": "int32 (?, ?, ?)",
}
PAIRS = TENSORS | {"pixel_values": "float32 (?, 2, ?, ?, 3)", "pixel_mask": "int32 (?, 2, ?, ?)"}
FROZEN = {  # class: (serving_default inputs, outputs, tensors inputs, outputs)
    "ViltModel": (
        TEXT_AND_IMAGE,
        {"pooler_output": "float32 (?, 12)", "status": "string (?)"},
        TENSORS,
        {"last_hidden_state": "float32 (?, ?, 12)", "pooler_output": "float32 (?, 12)"},
    ),
    "ViltForMaskedLM": (TEXT_AND_IMAGE, FILLED, TENSORS, {"logits": f"float32 (?, ?, {len(VOCABULARY)})"}),
    "ViltForPreTraining": (
        TEXT_AND_IMAGE,
        FILLED | {"match": "float32 (?)"},
        TENSORS,
        {"prediction_logits": f"float32 (?, ?, {len(VOCABULARY)})", "cross_relationship_score": "float32 (?, 2)"},
    ),
    "ViltForQuestionAnswering": (TEXT_AND_IMAGE, ANSWERS, TENSORS, {"logits": "float32 (?, 7)"}),
    NLVR2: ({"image": "string (?, 2)", "text": "string (?)"}, ANSWERS, PAIRS, {"logits": "float32 (?, 7)"}),
    "ViltForImageAndTextRetrieval": (
        TEXT_AND_IMAGE,
        {"answers": "string (?, 1)", "scores": "float32 (?, 1)", "status": "string (?)"},
        TENSORS,
        {"logits": "float32 (?, 1)"},
    ),
    "ViltForTokenClassification": (
        TEXT_AND_IMAGE,
        {"answers": "string (?, ?)", "scores": "float32 (?, ?)", "tokens": "string (?, ?)", "status": "string (?)"},
        TENSORS,
        {"logits": "float32 (?, ?, 7)"},
    ),
}


def expected_answers(class_name: str, outputs: dict, inputs: dict) -> dict[str, np.ndarray]:
    """Returns each head's right answers, from the eager model's outputs, in NumPy, without `tfvl.export.answers`."""
    labels = list(LABELS.values())
    ids = inputs["input_ids"]
    match class_name:
        case "ViltModel":
            return {"pooler_output": outputs["pooler_output"]}
        case "ViltForQuestionAnswering":
            answers, scores = best(1 / (1 + np.exp(-outputs["logits"])), labels)
        case "ViltForImagesAndTextClassification":
            answers, scores = best(softmax(outputs["logits"]), labels)
        case "ViltForImageAndTextRetrieval":
            answers, scores = GOOD_TEXTS[:, None], outputs["logits"]
        case "ViltForTokenClassification":
            answers, scores = (value[..., 0] for value in best(softmax(outputs["logits"]), labels))
            answers[inputs["attention_mask"] == 0], scores[inputs["attention_mask"] == 0] = b"", 0
            names = np.array([token.encode() for token in VOCABULARY], object)[ids]
            names[inputs["attention_mask"] == 0] = b""
            return {"answers": answers, "scores": scores, "tokens": names}
        case "ViltForMaskedLM" | "ViltForPreTraining":
            results = filled_masks(outputs.get("logits", outputs.get("prediction_logits")), ids, GOOD_TEXTS)
            if class_name == "ViltForPreTraining":
                results["match"] = softmax(outputs["cross_relationship_score"])[:, 1]
            return results
    return {"answers": answers, "scores": scores}


@pytest.mark.parametrize("class_name", HEADS)
def test_names_are_frozen(class_name):
    assert_signatures(class_name, FROZEN[class_name])


@pytest.mark.parametrize("class_name", HEADS)
def test_the_artefact_computes_what_the_model_does(class_name):
    inputs = prepare(class_name)
    outputs = {name: value.numpy() for name, value in artefact(class_name).model(inputs).items()}
    for name, value in serve(class_name, "tensors", **inputs).items():
        assert_same(value, outputs[name], GRAPH_TOLERANCE, name)

    assert_served(class_name, expected_answers(class_name, outputs, inputs))


def huge_png() -> bytes:
    """Makes a PNG of 50,000 × 50,000 pixels by its header, although it has only 1 × 1."""
    content = bytearray(picture(0, 1, 1, "PNG"))
    content[16:24] = (50_000).to_bytes(4, "big") * 2
    return bytes(content)


BAD_IMAGES = {
    b"": "image: .*0 bytes",
    b"not a picture": "image: not a JPEG",
    picture(4, 40, 60)[:300]: "image: a JPEG of 300 bytes that cannot be decoded",
    picture(5, 30, 30, "WEBP"): "image: WebP",
    huge_png(): "image: 50000 x 50000 pixels",
    picture(6, 2000, 3): "image: .*too long and thin",
}
BAD_TEXTS = {"caf\xe9 [MASK]".encode("latin-1"): "text: .*UTF-8", b"  \n": "text: .*empty"}


@pytest.mark.parametrize("class_name", HEADS)
def test_a_bad_row_gets_a_status_and_changes_no_other(class_name):
    images = [*GOOD_IMAGES, *BAD_IMAGES, *[GOOD_IMAGES[0]] * len(BAD_TEXTS)]
    texts = [*GOOD_TEXTS, *[GOOD_TEXTS[0]] * len(BAD_IMAGES), *BAD_TEXTS]
    statuses = ["", "", "", *BAD_IMAGES.values(), *BAD_TEXTS.values()]
    order = np.random.default_rng(0).permutation(len(images))  # good rows between bad ones
    images, texts = strings(*images)[order], strings(*texts)[order]
    second = GOOD_IMAGES[1]
    if class_name == NLVR2:
        images = np.stack([images, np.full_like(images, second)], axis=1)
        statuses = [status.replace("image: ", "image 1: ") for status in statuses]
    served = serve(class_name, image=images, text=texts)
    for row, origin in enumerate(order):
        assert bool(served["status"][row]) == (origin >= 3)
        assert re.match(statuses[origin], served["status"][row].decode())
        if origin >= 3:
            assert not [name for name, value in served.items() if name != "status" and np.count_nonzero(value[row])]
            continue
        alone = serve(class_name, image=images[row : row + 1], text=texts[row : row + 1])
        for name, (value,) in alone.items():
            in_batch, value = np.asarray(served[name][row]), np.asarray(value)
            inside = tuple(slice(0, size) for size in value.shape)  # the batch may be wider
            assert_same(in_batch[inside], value, BATCH_TOLERANCE, f"{name} of row {row}")
            assert np.count_nonzero(in_batch) == np.count_nonzero(value)  # what is wider is blank


def test_the_second_image_is_named():
    images = np.array([[GOOD_IMAGES[0], b"nothing"], [b"", b""]], object)
    status = serve(NLVR2, image=images, text=GOOD_TEXTS[:2])["status"]
    assert status[0].startswith(b"image 2: ")
    assert status[1].startswith(b"image 1: ")


def test_a_text_without_mask_is_a_bad_row_only_where_masks_are_asked_for():
    raw = {"image": GOOD_IMAGES[:2], "text": strings("the [MASK]", "the circle")}
    assert serve("ViltForMaskedLM", **raw)["status"].tolist() == [b"", b"text: no [MASK] within the model's length"]
    pretraining = serve("ViltForPreTraining", **raw)
    assert pretraining["status"].tolist() == [b"", b""]
    assert pretraining["answers"][1].tolist() == [b""] * TOP_K
    assert pretraining["filled"][1] == b"the circle"
    assert pretraining["match"][1] > 0


def test_a_long_text_is_cut_at_the_models_positions():
    long, cut = "[MASK] is red " * 30, "[MASK] is red [MASK] is red [MASK] is red"  # 9 words and two special tokens
    raw = {"image": GOOD_IMAGES[[0, 0]], "text": strings(long, cut)}
    served = serve("ViltForMaskedLM", **raw)
    assert served["status"].tolist() == [b"", b""]
    assert served["candidates"][0].tolist() == served["candidates"][1].tolist()
    assert served["filled"][0].startswith(served["filled"][1] + b" [MASK] is red")  # masks out of reach stay


@pytest.mark.parametrize("class_name", HEADS)
def test_no_rows_give_no_rows(class_name):
    raw = {name: value[:0] for name, value in requests(class_name).items()}
    served, full = serve(class_name, **raw), serve(class_name, **requests(class_name))
    assert {name: (len(value), value.ndim) for name, value in served.items()} == {
        name: (0, value.ndim) for name, value in full.items()
    }
    inputs = prepare(class_name)
    full = serve(class_name, "tensors", **inputs)
    for name, value in serve(class_name, "tensors", **{name: value[:0] for name, value in inputs.items()}).items():
        assert (len(value), value.ndim) == (0, full[name].ndim)


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="image and text need as many rows"):
        serve("ViltForQuestionAnswering", image=GOOD_IMAGES, text=GOOD_TEXTS[:2])

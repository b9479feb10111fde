"""What exported VisualBERT and LXMERT models answer: names, numbers, bad rows, padding, empty batches; every head."""

import re

import numpy as np
import pytest
import tensorflow as tf
from support.checkpoint import VOCABULARY
from support.export import LABELS, artefact, prepare, requests, serve
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
from support.export_regions import ALIGNMENT, CHOICE, LAST_TOKENS, LXMERT_HEADS, PAIR, REGION_HEADS, family_of

pytestmark = pytest.mark.numeric

# What clients are written against. A change here breaks them.
REGIONS = {"text": "string (?)", "regions": "float32 (?, ?, ?)"}
BOXES = REGIONS | {"boxes": "float32 (?, ?, 4)"}
STATUS = {"status": "string (?)"}
ANSWERS = STATUS | {"answers": "string (?, 4)", "scores": "float32 (?, 4)"}
FILLED = ANSWERS | {
    "filled": "string (?)",
    "candidates": "string (?, ?, 4)",
    "candidate_scores": "float32 (?, ?, 4)",
    "match": "float32 (?)",
}
OBJECTS = {
    "question_answers": "string (?, 4)",
    "question_scores": "float32 (?, 4)",
    "object_ids": "int32 (?, ?)",
    "object_scores": "float32 (?, ?)",
    "attribute_ids": "int32 (?, ?)",
    "attribute_scores": "float32 (?, ?)",
}
TEXT = dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), "int32 (?, ?)")
VISUAL_BERT = TEXT | {
    "visual_embeds": "float32 (?, ?, 9)",
    "visual_attention_mask": "int32 (?, ?)",
    "visual_token_type_ids": "int32 (?, ?)",
}
LXMERT = TEXT | {
    "visual_feats": "float32 (?, ?, 9)",
    "visual_pos": "float32 (?, ?, 4)",
    "visual_attention_mask": "int32 (?, ?)",
}
WORDS = f"float32 (?, ?, {len(VOCABULARY)})"
FROZEN = {  # class: (serving_default inputs, outputs, tensors inputs, outputs)
    "VisualBertModel": (
        REGIONS,
        STATUS | {"pooler_output": "float32 (?, 12)"},
        VISUAL_BERT,
        {"last_hidden_state": "float32 (?, ?, 12)", "pooler_output": "float32 (?, 12)"},
    ),
    "VisualBertForPreTraining": (
        REGIONS,
        FILLED,
        VISUAL_BERT,
        {"prediction_logits": WORDS, "seq_relationship_logits": "float32 (?, 2)"},
    ),
    "VisualBertForQuestionAnswering": (REGIONS, ANSWERS, VISUAL_BERT, {"logits": "float32 (?, 7)"}),
    CHOICE: (
        REGIONS | {"choices": "string (?, ?)"},
        STATUS | {"answers": "string (?, ?)", "scores": "float32 (?, ?)"},
        VISUAL_BERT | dict.fromkeys(TEXT, "int32 (?, ?, ?)"),
        {"logits": "float32 (?, ?)"},
    ),
    PAIR: (
        REGIONS | {"regions": "float32 (?, 2, ?, ?)"},
        ANSWERS,
        VISUAL_BERT,
        {"logits": "float32 (?, 7)"},
    ),
    ALIGNMENT: (
        REGIONS | {"phrases": "string (?, ?)"},
        STATUS | {"region_ids": "int32 (?, ?)", "scores": "float32 (?, ?, ?)"},
        VISUAL_BERT | {"region_to_phrase_position": "int32 (?, ?)"},
        {"logits": "float32 (?, ?, ?)"},
    ),
    "LxmertModel": (
        BOXES,
        STATUS | {"pooled_output": "float32 (?, 12)"},
        LXMERT,
        {
            "language_output": "float32 (?, ?, 12)",
            "vision_output": "float32 (?, ?, 12)",
            "pooled_output": "float32 (?, 12)",
        },
    ),
    "LxmertForPreTraining": (
        BOXES,
        FILLED | OBJECTS,
        LXMERT,
        {
            "prediction_logits": WORDS,
            "cross_relationship_score": "float32 (?, 2)",
            "question_answering_score": "float32 (?, 7)",
            "visual_prediction_scores_obj": "float32 (?, ?, 5)",
            "visual_prediction_scores_attr": "float32 (?, ?, 3)",
            "visual_prediction_scores_feat": "float32 (?, ?, 9)",
        },
    ),
    "LxmertForQuestionAnswering": (BOXES, ANSWERS, LXMERT, {"question_answering_score": "float32 (?, 7)"}),
}


def expected_answers(class_name: str, outputs: dict, inputs: dict) -> dict[str, np.ndarray]:
    """Returns each head's right answers, from the eager model's outputs, in NumPy, without `tfvl.export`."""
    raw, labels = requests(class_name), list(LABELS.values())
    scored = outputs.get("question_answering_score", outputs.get("logits"))
    if class_name in ("VisualBertModel", "LxmertModel"):
        return {name: value for name, value in outputs.items() if name.startswith("pool")}
    if class_name == CHOICE:
        given = np.array([[bool(choice.strip()) for choice in row] for row in raw["choices"]])
        scores = softmax(np.where(given, scored, -np.inf))
        order = np.argsort(-scores, axis=1, kind="stable")
        chosen = np.where(given, raw["choices"], b"")
        return {name: np.take_along_axis(value, order, 1) for name, value in (("answers", chosen), ("scores", scores))}
    if class_name == ALIGNMENT:
        asked = np.array(LAST_TOKENS) >= 0
        scores = softmax(np.where(inputs["visual_attention_mask"][:, None] > 0, scored, -np.inf)) * asked[..., None]
        return {"region_ids": scores.argmax(-1).astype(np.int32), "scores": scores}
    if not class_name.endswith("ForPreTraining"):
        answers, scores = best(softmax(scored), labels)
        return {"answers": answers, "scores": scores}
    results = filled_masks(outputs["prediction_logits"], inputs["input_ids"], raw["text"])
    if class_name == "VisualBertForPreTraining":
        return results | {"match": softmax(outputs["seq_relationship_logits"])[:, 0]}
    results["match"] = softmax(outputs["cross_relationship_score"])[:, 1]
    results["question_answers"], results["question_scores"] = best(softmax(scored), labels)
    mask = inputs["visual_attention_mask"]
    for name, part in (("object", "obj"), ("attribute", "attr")):
        scores = softmax(outputs["visual_prediction_scores"][part])
        results[f"{name}_ids"] = scores.argmax(-1).astype(np.int32) * mask
        results[f"{name}_scores"] = scores.max(-1) * mask
    return results


@pytest.mark.parametrize("class_name", REGION_HEADS)
def test_names_are_frozen(class_name):
    assert_signatures(class_name, FROZEN[class_name])


@pytest.mark.parametrize("class_name", REGION_HEADS)
def test_the_artefact_computes_what_the_model_does(class_name):
    inputs = prepare(class_name)
    outputs = tf.nest.map_structure(np.asarray, dict(artefact(class_name).model(inputs)))
    flat = {name: value for name, value in outputs.items() if not isinstance(value, dict)}
    for part, value in outputs.get("visual_prediction_scores", {}).items():
        flat[f"visual_prediction_scores_{part}"] = value
    run = serve(class_name, "tensors", **inputs)
    assert run.keys() == flat.keys()
    for name, value in run.items():
        assert_same(value, flat[name], GRAPH_TOLERANCE, name)

    expected = expected_answers(class_name, outputs, inputs)
    assert_served(class_name, expected)
    for value in expected.values():
        if value.dtype.kind == "f":  # rows that are alike would not show a mix-up
            assert np.ptp(value, axis=0).max() > 100 * GRAPH_TOLERANCE


def row_of(raw: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    return {name: value[row : row + 1].copy() for name, value in raw.items()}


def without_padding(raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a row as its client would send it alone: without padding after the last region, box, choice or phrase."""
    count = np.flatnonzero(raw["regions"].any(-1).reshape(-1, raw["regions"].shape[-2]).any(0)).max() + 1
    raw = (
        raw
        | {"regions": raw["regions"][..., :count, :]}
        | ({"boxes": raw["boxes"][:, :count]} if "boxes" in raw else {})
    )
    for name in {"choices", "phrases"} & raw.keys():
        given = [bool(item.strip()) for item in raw[name][0]]
        raw[name] = raw[name][:, : np.flatnonzero(given).max() + 1]
    return raw


def bad_rows(class_name: str) -> list[tuple[dict[str, np.ndarray], str]]:
    """Returns rows with one mistake each, and the status that each gets."""
    first = "regions[0]" if class_name == PAIR else "regions"
    cases = [
        (
            "regions",
            (0, *[0] * (class_name == PAIR), 2, 4),
            np.nan,
            f"{first}[2]: a feature is infinite or not a number",
        ),
        ("regions", (0, *[0] * (class_name == PAIR), 1), -np.inf, f"{first}[1]: a feature is infinite or not a number"),
        ("regions", ..., 0, f"{first}: there are none, or all of their features are 0"),
        ("regions", ..., 1e38, "the model's numbers overflow; are the inputs too large?"),
        ("text", 0, b"caf\xe9 [MASK]", "text: it is not valid UTF-8"),
        ("text", 0, b" \n", "text: it is empty"),
    ]
    expected = "; expected x1, y1, x2, y2 in 0 … 1 with x1 <= x2, y1 <= y2"
    cases += {
        "Lxmert": [
            ("boxes", (0, 3), (0, 0.5, 1.25, 1), f"boxes[3]: 0, 0.5, 1.25, 1{expected}"),
            ("boxes", (0, 0), (-0.5, 0.5, 1, 1), f"boxes[0]: -0.5, 0.5, 1, 1{expected}"),
            ("boxes", (0, 4), (0.75, 0, 0.5, 1), f"boxes[4]: 0.75, 0, 0.5, 1{expected}"),
            ("boxes", (0, 1), (0, 0.75, 1, 0.5), f"boxes[1]: 0, 0.75, 1, 0.5{expected}"),
            ("boxes", (0, 2), (0, np.nan, 1, 1), f"boxes[2]: 0, nan, 1, 1{expected}"),
        ],
        PAIR: [
            ("regions", (0, 1), 0, "regions[1]: there are none, or all of their features are 0"),
            ("regions", (0, 1, 4, 0), np.nan, "regions[1][4]: a feature is infinite or not a number"),
        ],
        CHOICE: [
            ("choices", ..., b"", "choices: there are none, or all of them are empty"),
            ("choices", (0, 1), b"\xff", "choices[1]: it is not valid UTF-8"),
        ],
        ALIGNMENT: [
            ("phrases", ..., b"  ", "phrases: there are none, or all of them are empty"),
            ("phrases", (0, 1), b"a\xff", "phrases[1]: it is not valid UTF-8"),
            ("phrases", (0, 1), b"a red square", "phrases[1]: it is not in the text, or beyond the model's length"),
        ],
    }.get(family_of(class_name) if class_name in LXMERT_HEADS else class_name, [])
    rows = []
    for name, place, value, status in cases:
        row = row_of(requests(class_name), 0)
        row[name][place] = value
        rows.append((row, status))
    return rows


@pytest.mark.parametrize("class_name", REGION_HEADS)
def test_a_bad_row_gets_a_status_and_no_row_depends_on_its_batch(class_name):
    rows = [(row_of(requests(class_name), row), "") for row in range(3)] + bad_rows(class_name)
    order = np.random.default_rng(0).permutation(len(rows))  # good rows between bad ones
    rows = [rows[place] for place in order]
    served = serve(class_name, **{name: np.concatenate([row[name] for row, _ in rows]) for name in rows[0][0]})
    assert [status.decode() for status in served["status"]] == [status for _, status in rows]
    for place, (row, status) in enumerate(rows):
        if status:
            assert not [name for name, value in served.items() if name != "status" and np.count_nonzero(value[place])]
            continue
        alone = serve(class_name, **without_padding(row))
        for name, (value,) in alone.items():
            in_batch, value = np.asarray(served[name][place]), np.asarray(value)
            inside = tuple(slice(0, size) for size in value.shape)  # the batch may be wider
            assert_same(in_batch[inside], value, BATCH_TOLERANCE, f"{name} of row {place}")
            assert np.count_nonzero(in_batch) == np.count_nonzero(value)  # what is wider is blank


@pytest.mark.parametrize("class_name", REGION_HEADS)
def test_what_is_wrong_with_all_rows_is_each_ones_status(class_name):
    good = requests(class_name)

    def status(**changes):
        served = serve(class_name, **good | changes)
        assert not [name for name, value in served.items() if name != "status" and np.count_nonzero(value)]
        (text,) = {status.decode() for status in served["status"]}
        return re.sub(r"^regions\[0\]", "regions", text)  # of a pair, the first image is named

    for size in (8, 12, 0):
        wrong = np.ones((*good["regions"].shape[:-1], size), np.float32)
        assert status(regions=wrong) == f"regions: features of size {size}, but the model takes 9"
    assert status(regions=good["regions"][..., :0, :]).startswith("regions: there are none")
    for name in {"choices", "phrases"} & good.keys():
        assert status(**{name: good[name][:, :0]}).startswith(f"{name}: there are none")
    if "boxes" in good:
        assert status(boxes=good["boxes"][:, :4]) == "boxes: 4 of them for 5 regions"
        assert status(boxes=good["boxes"][:, :0]) == "boxes: 0 of them for 5 regions"


@pytest.mark.parametrize("class_name", REGION_HEADS)
def test_no_rows_give_no_rows(class_name):
    for signature, inputs in (("serving_default", requests(class_name)), ("tensors", prepare(class_name))):
        full = serve(class_name, signature, **inputs)
        none = serve(class_name, signature, **{name: value[:0] for name, value in inputs.items()})
        assert {name: (len(value), value.ndim) for name, value in none.items()} == {
            name: (0, value.ndim) for name, value in full.items()
        }


def test_rows_that_do_not_match_are_refused():
    raw = requests("LxmertForQuestionAnswering")
    with pytest.raises(tf.errors.InvalidArgumentError, match="boxes and text need as many rows"):
        serve("LxmertForQuestionAnswering", **raw | {"boxes": raw["boxes"][:2]})

"""What each head answers, in NumPy: the results of the SavedModel's `serving_default`, row by row.

The table `ANSWERS` stands beside `HEADS` of the families' `export.py`; there the same is done in a graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One request, beside its outputs.

    Attributes:
        ids: of the text, without padding; of multiple choice, those of the first choice.
        text: as it was asked.
        choices, phrases: likewise.
        regions: how many there are.
    """

    ids: Sequence[int]
    text: str
    choices: Sequence[str] = ()
    phrases: Sequence[str] = ()
    regions: int = 0


@dataclass(frozen=True)
class Words:
    """What numbers mean: labels by id, tokens by id, and how many answers a row gets."""

    labels: Sequence[str]
    tokens: Mapping[int, str]
    mask_token: str
    mask_id: int
    top_k: int


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float32."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """The places of the highest scores (n,), best first; of equal ones the first."""
    return np.argsort(-scores, kind="stable")[:count]


def best_labels(scores: np.ndarray, words: Words) -> dict[str, Any]:
    """`answers` and `scores` (k,)."""
    ids = best(scores, words.top_k)
    return {"answers": [words.labels[i] for i in ids], "scores": scores[ids]}


def pooled(outputs: Outputs, row: Row, words: Words):
    return {name: outputs[name] for name in ("pooler_output", "pooled_output") if name in outputs}


def classification(outputs: Outputs, row: Row, words: Words):
    return best_labels(softmax(outputs["logits"]), words)


def vilt_answers(outputs: Outputs, row: Row, words: Words):
    return best_labels(sigmoid(outputs["logits"]), words)


def lxmert_answers(outputs: Outputs, row: Row, words: Words):
    return best_labels(softmax(outputs["question_answering_score"]), words)


def retrieval(outputs: Outputs, row: Row, words: Words):
    return {"answers": [row.text], "scores": outputs["logits"]}


def token_classification(outputs: Outputs, row: Row, words: Words):
    scores = softmax(outputs["logits"][: len(row.ids)])
    return {
        "tokens": [words.tokens.get(i, "") for i in row.ids],
        "answers": [words.labels[i] for i in scores.argmax(axis=-1)],
        "scores": scores.max(axis=-1),
    }


def fill_masks(logits: np.ndarray, row: Row, words: Words) -> dict[str, Any]:
    """`filled`, `candidates` and `candidate_scores` (masks, k), and `answers` and `scores` (k,) of the first mask."""
    places = [place for place, token in enumerate(row.ids) if token == words.mask_id]
    scores = softmax(logits[places])[:, : max(words.tokens) + 1]  # (masks, vocabulary)
    ids = [best(each, words.top_k) for each in scores]
    candidates = [[words.tokens.get(i, "") for i in each] for each in ids]
    pieces = row.text.split(words.mask_token)
    filled = pieces[0]
    for number, piece in enumerate(pieces[1:]):
        token = candidates[number][0] if number < len(candidates) else words.mask_token
        continues = token.startswith("##") and len(token) > 2  # a piece of the word before it
        filled = (filled.rstrip() + token[2:] if continues else filled + token) + piece
    candidate_scores = np.array([each[i] for each, i in zip(scores, ids, strict=True)], np.float32)
    return {
        "answers": candidates[0] if candidates else [],
        "scores": candidate_scores[0] if candidates else np.zeros(0, np.float32),
        "filled": filled,
        "candidates": candidates,
        "candidate_scores": candidate_scores,
    }


def masked_lm(outputs: Outputs, row: Row, words: Words):
    if words.mask_id not in row.ids:
        raise ValueError(f"text {row.text!r}: no {words.mask_token} within the file's length")
    return fill_masks(outputs["logits"], row, words)


def vilt_pretraining(outputs: Outputs, row: Row, words: Words):
    match = softmax(outputs["cross_relationship_score"])[1]
    return fill_masks(outputs["prediction_logits"], row, words) | {"match": match}


def visual_bert_pretraining(outputs: Outputs, row: Row, words: Words):
    match = softmax(outputs["seq_relationship_logits"])[0]
    return fill_masks(outputs["prediction_logits"], row, words) | {"match": match}


def lxmert_pretraining(outputs: Outputs, row: Row, words: Words):
    results = vilt_pretraining(outputs, row, words)
    if "question_answering_score" in outputs:
        answered = lxmert_answers(outputs, row, words)
        results |= {"question_answers": answered["answers"], "question_scores": answered["scores"]}
    for name, output in (("object", "visual_prediction_scores_obj"), ("attribute", "visual_prediction_scores_attr")):
        if output in outputs:
            scores = softmax(outputs[output][: row.regions])
            results |= {f"{name}_ids": scores.argmax(axis=-1), f"{name}_scores": scores.max(axis=-1)}
    return results


def multiple_choice(outputs: Outputs, row: Row, words: Words):
    scores = softmax(outputs["logits"][: len(row.choices)])
    ids = best(scores, words.top_k)
    return {"answers": [row.choices[i] for i in ids], "scores": scores[ids]}


def alignment(outputs: Outputs, row: Row, words: Words):
    scores = softmax(outputs["logits"][: len(row.phrases), : row.regions])
    return {"region_ids": scores.argmax(axis=-1), "scores": scores}


# By the name of the class in its family's table `HEADS`.
ANSWERS = {
    "ViltModel": pooled,
    "ViltForMaskedLM": masked_lm,
    "ViltForPreTraining": vilt_pretraining,
    "ViltForQuestionAnswering": vilt_answers,
    "ViltForImagesAndTextClassification": classification,
    "ViltForImageAndTextRetrieval": retrieval,
    "ViltForTokenClassification": token_classification,
    "VisualBertModel": pooled,
    "VisualBertForPreTraining": visual_bert_pretraining,
    "VisualBertForQuestionAnswering": classification,
    "VisualBertForMultipleChoice": multiple_choice,
    "VisualBertForVisualReasoning": classification,
    "VisualBertForRegionToPhraseAlignment": alignment,
    "LxmertModel": pooled,
    "LxmertForPreTraining": lxmert_pretraining,
    "LxmertForQuestionAnswering": lxmert_answers,
}

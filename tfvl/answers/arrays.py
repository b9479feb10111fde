"""Makes each kind of answer in NumPy, row by row; `tfvl.export.answers` does the same in a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfvl.answers.rows import ANSWER_SCORES, ATTRIBUTE_SCORES, KINDS, OBJECT_SCORES, Head, Words

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """The parts of a request that are needed to turn its outputs into answers.

    Attributes:
        ids: the token ids of the text, without padding; with multiple choice, those of the first choice.
        text: the text that was asked.
        choices, phrases: the texts to choose from, and the phrases, as they were asked.
        regions: the number of regions.
        start: the index of the first of `ids` in the model's inputs, after padding on the left.
    """

    ids: Sequence[int]
    text: str
    choices: Sequence[str] = ()
    phrases: Sequence[str] = ()
    regions: int = 0
    start: int = 0


def answer(head: Head, outputs: Outputs, row: Row, words: Words) -> dict[str, Any]:
    """Returns the answer of a head to one row, under the names that `KINDS[head.kind]` lists.

    Args:
        outputs: the model's outputs for this row.

    Raises:
        ValueError: the row cannot be answered; the sentence says why.
    """
    return ANSWERS[head.kind](head, outputs, row, words)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis, in the dtype of the logits."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


ACTIVATIONS = {"softmax": softmax, "sigmoid": sigmoid}


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices (n,) of the highest scores, the best first; of equal scores the first comes first."""
    return np.argsort(-scores, kind="stable")[:count]


def best_labels(scores: np.ndarray, words: Words) -> tuple[list[str], np.ndarray]:
    """Returns the labels with the highest scores and these scores, both (k,)."""
    ids = best(scores, words.top_k)
    return [words.labels[i] for i in ids], scores[ids]


def fill_masks(logits: np.ndarray, row: Row, words: Words) -> dict[str, Any]:
    """Returns `filled`, `candidates`, `candidate_scores` (masks, k); the first mask's `answers`, `scores` (k,)."""
    places = [place for place, token in enumerate(row.ids, row.start) if token == words.mask_id]
    scores = softmax(logits[places])[:, : words.vocabulary_size]  # (masks, vocabulary)
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


def pooled(head: Head, outputs: Outputs, row: Row, words: Words):
    return {name: outputs[name] for name in KINDS["pooled"] if name in outputs}


def labels(head: Head, outputs: Outputs, row: Row, words: Words):
    names, scores = best_labels(ACTIVATIONS[head.activation](outputs[head.logits]), words)
    return {"answers": names, "scores": scores}


def masks(head: Head, outputs: Outputs, row: Row, words: Words):
    if words.mask_id not in row.ids:
        raise ValueError(f"text {row.text!r}: no {words.mask_token} within the file's length")
    return fill_masks(outputs[head.logits], row, words)


def pretraining(head: Head, outputs: Outputs, row: Row, words: Words):
    output, place = head.match
    results = fill_masks(outputs[head.logits], row, words) | {"match": softmax(outputs[output])[place]}
    if ANSWER_SCORES in outputs:
        results["question_answers"], results["question_scores"] = best_labels(softmax(outputs[ANSWER_SCORES]), words)
    for name, output in (("object", OBJECT_SCORES), ("attribute", ATTRIBUTE_SCORES)):
        if output in outputs:
            scores = softmax(outputs[output][: row.regions])
            results |= {f"{name}_ids": scores.argmax(axis=-1), f"{name}_scores": scores.max(axis=-1)}
    return results


def match(head: Head, outputs: Outputs, row: Row, words: Words):
    return {"answers": [row.text], "scores": outputs[head.logits]}


def tokens(head: Head, outputs: Outputs, row: Row, words: Words):
    scores = softmax(outputs[head.logits][row.start : row.start + len(row.ids)])
    return {
        "tokens": [words.tokens.get(i, "") for i in row.ids],
        "answers": [words.labels[i] for i in scores.argmax(axis=-1)],
        "scores": scores.max(axis=-1),
    }


def choices(head: Head, outputs: Outputs, row: Row, words: Words):
    scores = softmax(outputs[head.logits][: len(row.choices)])
    ids = best(scores, words.top_k)
    return {"answers": [row.choices[i] for i in ids], "scores": scores[ids]}


def phrases(head: Head, outputs: Outputs, row: Row, words: Words):
    scores = softmax(outputs[head.logits][: len(row.phrases), : row.regions])
    return {"region_ids": scores.argmax(axis=-1), "scores": scores}


# The functions by the kind of the answer, which is their name.
ANSWERS = {each.__name__: each for each in (pooled, labels, masks, pretraining, match, tokens, choices, phrases)}

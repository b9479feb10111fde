"""Computes in NumPy, without `tfvl.export`, what exported models should answer, and compares with tolerances."""

import re

import numpy as np

import tfvl
from support.checkpoint import VOCABULARY
from support.export import TOP_K, artefact, requests, serve, strings
from support.rounding import rounding

# Of the largest value. The graph's kernels are fused and ordered differently from the eager ones: sums of at most
# 20 terms (the intermediate size), 44 of them after each other in LXMERT: 9 in a layer of one stream, 15 in
# each of the two that cross, the rest in the embeddings and the head.
GRAPH_TOLERANCE = rounding(20, steps=44)
# A row in a batch is padded to the longest text and the largest image there: other sizes, other orders of summation.
BATCH_TOLERANCE = 2e-6


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def best(scores: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns names and scores of the TOP_K best along the last axis."""
    order = np.argsort(-scores, axis=-1, kind="stable")[..., :TOP_K]
    return np.array([name.encode() for name in names], object)[order], np.take_along_axis(scores, order, -1)


def filled_masks(logits: np.ndarray, ids: np.ndarray, texts: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the results for every [MASK] of `texts`, whose token ids are `ids`."""
    every, all_scores = best(softmax(logits), VOCABULARY)
    masks = ids == VOCABULARY.index("[MASK]")
    most = masks.sum(1).max()
    candidates, candidate_scores = np.full((3, most, TOP_K), b"", object), np.zeros((3, most, TOP_K))
    filled = [text.decode() for text in texts]
    for row in range(3):
        for place, position in enumerate(np.flatnonzero(masks[row])):
            candidates[row, place] = every[row, position]
            candidate_scores[row, place] = all_scores[row, position]
            word = every[row, position, 0].decode()
            mask = r"\s*\[MASK\]" if word.startswith("##") else r"\[MASK\]"
            filled[row] = re.sub(mask, lambda _, word=word: word.removeprefix("##"), filled[row], count=1)
    return {
        "answers": candidates[:, 0],
        "scores": candidate_scores[:, 0],
        "candidates": candidates,
        "candidate_scores": candidate_scores,
        "filled": strings(*filled),
    }


def assert_same(actual: np.ndarray, expected: np.ndarray, tolerance: float, what: str):
    """Asserts that strings are equal and numbers within `tolerance` (times the largest one, if that is above 1)."""
    if expected.dtype.kind in "OS":
        assert actual.tolist() == expected.tolist(), what
    else:
        scale = max(1.0, np.abs(expected).max(initial=0.0))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=what)


def assert_signatures(class_name: str, frozen: tuple[dict, dict, dict, dict]):
    """Asserts that an artefact's signatures are `frozen`: inputs and outputs of serving_default, then of tensors."""
    serving_inputs, serving_outputs, inputs, outputs = frozen
    assert tfvl.export.check(artefact(class_name).directory).signatures == {
        "serving_default": {"inputs": serving_inputs, "outputs": serving_outputs},
        "tensors": {"inputs": inputs, "outputs": outputs},
    }


def assert_served(class_name: str, expected: dict[str, np.ndarray]):
    """Asserts that a head's artefact answers its three good requests as expected, and nothing else."""
    served = serve(class_name, **requests(class_name))
    assert served.pop("status").tolist() == [b"", b"", b""]
    assert served.keys() == expected.keys()
    for name, value in expected.items():
        assert_same(served[name], value, GRAPH_TOLERANCE, name)

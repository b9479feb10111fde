"""Relevance against the paper's equations, computed from transformers' own attention maps and torch's autograd.

Chefer, Gur & Wolf, ICCV 2021: equation 5 in `weighed`, 6 in `one_stream`, 6 to 11 in `two_streams`. Upstream returns
LXMERT's attentions in part only; there they are taken by hooks, in the order in which they run.
"""

import numpy as np
import pytest
import tensorflow as tf
from support.lxmert import SIZES as LXMERT
from support.lxmert import lxmert_inputs
from support.reference import to_torch, torch
from support.vilt import vilt_inputs
from support.visual_bert import LENGTH, visual_bert_inputs

from tfvl.answers.rows import HEADS, Words
from tfvl.explanations.scores import scores_of_maps

pytestmark = pytest.mark.parity

# Gradients and maps of some layers in float32, multiplied and summed in another order.
TINY = {"rtol": 1e-5, "atol": 1e-5}
MASK = 4  # an id of the tiny vocabularies that stands for [MASK] here
PATCH = 8
WORDS = Words([f"label {i}" for i in range(11)], {i: str(i) for i in range(131)}, "[MASK]", MASK, 1)


@pytest.fixture(autouse=True)
def row_major(monkeypatch):
    """Keeps upstream from shuffling patches, which it does even without padding."""
    monkeypatch.setattr(torch, "multinomial", lambda weights, n, replacement=False: torch.arange(n) % len(weights))


def weighed(maps: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor:
    if gradient is None:
        return torch.zeros_like(maps[:, 0]).double()
    return (gradient * maps).double().clamp(min=0).mean(1)


def one_stream(maps: list[torch.Tensor]) -> torch.Tensor:
    relevance = torch.eye(maps[0].shape[-1]).double().expand_as(maps[0]).clone()
    for each in maps:
        relevance = relevance + each @ relevance
    return relevance


def normalized(relevance: torch.Tensor) -> torch.Tensor:
    identity = torch.eye(relevance.shape[-1]).double()
    rest = relevance - identity
    sums = rest.sum(-1, keepdim=True)
    return identity + torch.where(sums == 0, 0, rest / sums)


def two_streams(words: list, regions: list, crossing: list) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns R_tt and R_ti; `crossing` has for each cross layer words over regions, the reverse, words, regions."""
    (batch, length, count) = crossing[0][0].shape
    tt, ii = (torch.eye(size).double().expand(batch, size, size) for size in (length, count))
    ti, it = torch.zeros(batch, length, count).double(), torch.zeros(batch, count, length).double()
    for each in words:
        tt, ti = tt + each @ tt, ti + each @ ti
    for each in regions:
        ii, it = ii + each @ ii, it + each @ it
    for over_regions, over_words, own_words, own_regions in crossing:
        left, right = normalized(tt), normalized(ii)
        more_ti, more_tt = left.mT @ over_regions @ right, over_regions @ it
        more_it, more_ii = right.mT @ over_words @ left, over_words @ ti
        tt, ti, it, ii = tt + more_tt, ti + more_ti, it + more_it, ii + more_ii
        tt, ti = tt + own_words @ tt, ti + own_words @ ti
        ii, it = ii + own_regions @ ii, it + own_regions @ it
    return tt, ti


def ours(model, head: str, inputs: dict, target, place=None):
    """Computes scores eagerly and in a graph, and asserts that they are the same."""
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    target, place = (None if each is None else tf.constant(each, tf.int32) for each in (target, place))

    def run(**given):
        chosen, scores, _ = scores_of_maps(model, HEADS[head], given, WORDS, "relevance", target, place)
        return chosen._asdict() | scores

    eager, graph = run(**tensors), tf.function(run, autograph=False)(**tensors)
    for name, value in eager.items():
        np.testing.assert_allclose(value, graph[name], err_msg=name, **TINY)
    return {name: value.numpy() for name, value in eager.items()}


def rows_of(relevance: torch.Tensor, positions) -> np.ndarray:
    """Returns the relevance of each row's position, (batch, positions), without the identity's 1 for itself."""
    rows = np.stack([relevance[row, place].numpy() for row, place in enumerate(positions)])
    rows[np.arange(len(rows)), positions] -= 1
    return rows


def compare_patches(found: dict, rows: np.ndarray, inputs: dict, image=()) -> None:
    """Compares one image's scores with the reference's rows (batch, words + 1 + patches), own patches first."""
    length = inputs["input_ids"].shape[-1]
    for row, share in enumerate(rows):
        mask = inputs["pixel_mask"][(row, *image)][::PATCH, ::PATCH]
        height, width = int(mask[:, 0].sum()), int(mask[0].sum())
        assert found["grid"][(row, *image)].tolist() == [height, width]
        scores, patches = found["patch_scores"][(row, *image)], share[length + 1 :][: height * width]
        np.testing.assert_allclose(scores[:height, :width], patches.reshape(height, width), **TINY)
        assert not scores[height:].any()
        assert not scores[:, width:].any()
        np.testing.assert_allclose(found["image_class_score"][(row, *image)], share[length], **TINY)


VILT = {
    "ViltForQuestionAnswering": ([0, 1, 2], None, [0] * 3),
    "ViltForMaskedLM": ([7, 8, 130], [1, 2, 3], [1, 2, 3]),
    "ViltForTokenClassification": ([0, 4, 2], [3, 1, 4], [3, 1, 4]),
    "ViltForImageAndTextRetrieval": (None, None, [0] * 3),
}


@pytest.mark.parametrize("head", VILT)
def test_vilt(pair, head):
    reference, model = pair(head)
    target, place, positions = VILT[head]
    inputs = vilt_inputs(head)
    outputs = reference(**to_torch(inputs), output_attentions=True)
    rows, logits = range(3), outputs.logits
    logit = logits[:, 0] if target is None else logits[rows, target] if place is None else logits[rows, place, target]
    gradients = torch.autograd.grad(logit.sum(), outputs.attentions, allow_unused=True)
    relevance = one_stream([weighed(*each) for each in zip(outputs.attentions, gradients, strict=True)]).detach()
    found = ours(model, head, inputs, target, place)
    np.testing.assert_allclose(found["logit"], logit.detach(), **TINY)
    assert found["position"].tolist() == positions
    expected = rows_of(relevance, positions)
    np.testing.assert_allclose(found["token_scores"], expected[:, :7] * inputs["attention_mask"], **TINY)
    compare_patches(found, expected, inputs)


def test_the_best_answer_is_explained_unless_told(pair):
    reference, model = pair("ViltForQuestionAnswering")
    inputs = vilt_inputs()
    with torch.no_grad():
        best = reference(**to_torch(inputs)).logits.argmax(1).tolist()
    found, named = (ours(model, "ViltForQuestionAnswering", inputs, target) for target in (None, best))
    assert found["answer"].tolist() == best
    np.testing.assert_array_equal(found["token_scores"], named["token_scores"])


def test_vilt_with_two_images(pair):
    head = "ViltForImagesAndTextClassification"
    reference, model = pair(head)
    inputs = vilt_inputs(head)
    outputs = reference(**to_torch(inputs), output_attentions=True)
    maps = [each for image in outputs.attentions for each in image]
    gradients = torch.autograd.grad(outputs.logits[:, 3].sum(), maps)
    averaged = [weighed(*each) for each in zip(maps, gradients, strict=True)]
    half = len(averaged) // 2
    found, words = ours(model, head, inputs, [3] * 3), 0
    for number, part in enumerate((averaged[:half], averaged[half:])):
        expected = rows_of(one_stream(part).detach(), [0] * 3)
        compare_patches(found, expected, inputs, (number,))
        words = words + expected[:, :7]
    np.testing.assert_allclose(found["token_scores"], words * inputs["attention_mask"], **TINY)


VISUAL_BERT = {
    "VisualBertForQuestionAnswering": ([0, 3, 4], None, [5, 3, 4]),
    "VisualBertForVisualReasoning": ([1, 2, 0], None, [0] * 3),
    "VisualBertForMultipleChoice": ([3, 0, 1], None, [0] * 3),
    "VisualBertForRegionToPhraseAlignment": ([0, 2, 1], [1, 3, 0], None),
    "VisualBertForPreTraining": ([9, 8, 7], [1, 1, 1], [1] * 3),
}


@pytest.mark.parametrize("head", VISUAL_BERT)
def test_visual_bert(pair, head):
    reference, model = pair(head)
    target, place, positions = VISUAL_BERT[head]
    inputs = visual_bert_inputs(head)
    masked = head == "VisualBertForPreTraining"
    if masked:
        inputs["input_ids"][:, 1] = MASK
    outputs = reference(**to_torch(inputs), output_attentions=True)
    rows = np.arange(3)
    logits = outputs.prediction_logits if masked else outputs.logits
    logits = logits.reshape(3, -1) if head == "VisualBertForMultipleChoice" else logits
    logit = logits[rows, target] if place is None else logits[rows, place, target]
    gradients = torch.autograd.grad(logit.sum(), outputs.attentions, allow_unused=True)
    relevance = one_stream([weighed(*each) for each in zip(outputs.attentions, gradients, strict=True)]).detach()
    found = ours(model, head, inputs, target, None if masked else place)
    np.testing.assert_allclose(found["logit"], logit.detach(), **TINY)
    if positions is None:
        positions = inputs["region_to_phrase_position"][rows, place].tolist()
    assert found["position"].tolist() == positions
    words, regions = inputs["attention_mask"], inputs["visual_attention_mask"]
    if head == "VisualBertForMultipleChoice":
        relevance = relevance.reshape(3, -1, *relevance.shape[1:])[rows, target]
        words, regions = words[rows, target], regions[rows, target]
    expected = rows_of(relevance, positions)
    np.testing.assert_allclose(found["token_scores"], expected[:, :LENGTH] * words, **TINY)
    np.testing.assert_allclose(found["region_scores"], expected[:, LENGTH:] * regions, **TINY)


@pytest.mark.parametrize("head", ["LxmertForQuestionAnswering", "LxmertForPreTraining"])
def test_lxmert(pair, head):
    reference, model = pair(head)
    inputs, target, positions = lxmert_inputs(), [10, 3, 0], [0] * 3
    if head == "LxmertForPreTraining":
        positions = [2, 1, 3]
        inputs["input_ids"][np.arange(3), positions] = MASK
    maps = []
    hooks = [
        module.dropout.register_forward_hook(lambda *given: maps.append(given[-1]))
        for name, module in reference.named_modules()
        if type(module).__name__ == "LxmertAttention"
    ]
    outputs = reference(**to_torch(inputs))
    for hook in hooks:
        hook.remove()
    masked = head == "LxmertForPreTraining"
    logits = outputs.prediction_logits[np.arange(3), positions] if masked else outputs.question_answering_score
    logit = logits[np.arange(3), target]
    gradients = torch.autograd.grad(logit.sum(), maps, allow_unused=True)
    averaged = [weighed(*each).detach() for each in zip(maps, gradients, strict=True)]
    own = LXMERT["l_layers"] + LXMERT["r_layers"]
    assert len(averaged) == own + 4 * LXMERT["x_layers"]
    first, rest = averaged[:own], averaged[own:]
    words = [each for each in first if each.shape[-1] == 7]
    regions = [each for each in first if each.shape[-1] == 5]
    crossing = [rest[start : start + 4] for start in range(0, len(rest), 4)]
    tt, ti = two_streams(words, regions, crossing)
    found = ours(model, head, inputs, target)
    np.testing.assert_allclose(found["logit"], logit.detach(), **TINY)
    assert found["position"].tolist() == positions
    np.testing.assert_allclose(found["token_scores"], rows_of(tt, positions) * inputs["attention_mask"], **TINY)
    expected = ti[np.arange(3), positions].numpy() * inputs["visual_attention_mask"]
    np.testing.assert_allclose(found["region_scores"], expected, **TINY)

"""The papers' metrics against numbers computed by hand, and the VQA evaluator's text rules case by case."""

import numpy as np
import pytest

from tfvl.training.tasks import measures as evaluation
from tfvl.training.tasks.measures import (
    box_ious,
    entities_recalls,
    gqa_scores,
    mean_by_group,
    nlvr2_scores,
    region_matches,
    retrieval_recalls,
    vcr_scores,
    vqa_accuracies,
)
from tfvl.training.tasks.vqa_answers import CONTRACTIONS, normalize_answer

EXACT = {"rtol": 1e-12}  # a few float64 operations


# --- VQA ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Dog", "dog"),
        ("the  two\tdogs\n", "2 dogs"),
        ("none", "0"),
        ("zero", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("DONT", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldntve", "couldntve"),  # with both apostrophes missing the evaluator does not know it
        ("shell", "shell"),  # she'll is not in its table
        ("somebody'd", "somebodyd"),  # the table's own mistake
        ("let's", "let's"),
        ("twas", "'twas"),
        ("red/white", "red white"),  # a mark becomes a space …
        ("red / white", "red white"),  # … or vanishes beside one
        ("red/ white/blue", "red whiteblue"),  # and then all of its kind vanish
        ("black-and-white", "black and white"),
        ("yes!", "yes"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),  # a comma between digits makes every mark vanish
        ("red,white", "red white"),
        ("3.5", "3.5"),
        ("no.", "no"),
        ("u.s.a.", "usa"),
        ("v.2", "v.2"),
        ("$5:30", "$5:30"),  # neither : nor ' nor $ is a mark
        ("what's", "what's"),
        ("one.", "1"),  # marks go first, so that "one" is a word by then
        ("an a the", ""),
    ],
)
def test_answers_are_normalised_as_the_evaluator_does(text, expected):
    assert normalize_answer(text) == expected


def test_only_thirty_two_periods_go():
    """The evaluator passes re.UNICODE, which is 32, as the number of replacements."""
    assert normalize_answer("." * 40) == "." * 8


def test_contractions_lack_one_apostrophe_each():
    assert len(CONTRACTIONS) == 114
    assert CONTRACTIONS["yall'd've"] == CONTRACTIONS["y'alld've"] == CONTRACTIONS["y'all'dve"] == "y'all'd've"


@pytest.mark.parametrize(
    ("count", "expected"),
    # (same · min(1, (same - 1) / 3) + (10 - same) · min(1, same / 3)) / 10
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)],
)
def test_vqa_accuracy_by_the_number_who_agree(count, expected):
    answers = ["yes"] * count + [f"other{number}" for number in range(10 - count)]
    np.testing.assert_allclose(vqa_accuracies(["yes"], [answers]), [expected], **EXACT)


def test_vqa_answers_are_normalised_only_where_annotators_disagree():
    unanimous, split = ["Two dogs."] * 10, ["Two dogs."] * 9 + ["cats"]
    given = ["Two dogs.", "2 dogs"]
    np.testing.assert_array_equal(vqa_accuracies(given, [unanimous] * 2), [1.0, 0.0])
    np.testing.assert_array_equal(vqa_accuracies(given, [split] * 2), [1.0, 1.0])
    np.testing.assert_array_equal(vqa_accuracies(["\tTwo dogs.\n"], [unanimous]), [1.0])


def test_vqa_accuracy_with_other_numbers_of_annotators():
    # 2 of 3 say yes: leaving out one of them 1 of 3 thirds stays, leaving out the third 2 of 3
    np.testing.assert_allclose(vqa_accuracies(["yes"], [["yes", "yes", "no"]]), [(2 * (1 / 3) + 2 / 3) / 3], **EXACT)


def test_means_by_group():
    assert mean_by_group(np.array([1.0, 0.0, 0.5]), ["yes/no", "number", "yes/no"]) == {"number": 0.0, "yes/no": 0.75}


def test_gqa_by_type():
    scores = gqa_scores(
        ["yes", "red", "Red", "no"], ["yes", "red", "red", "yes"], ["verify", "query", "query", "logical"]
    )
    assert scores == {"accuracy": 0.5, "binary": 0.5, "open": 0.5}


# --- NLVR2, VCR -----------------------------------------------------------------------------------------------------


def test_nlvr2_consistency_is_of_sentences():
    identifiers = ["dev-1-0-0", "dev-1-1-0", "dev-1-2-0", "dev-1-0-1", "dev-1-1-1", "dev-2-0-0", "test-1-0-0"]
    labels, predictions = [1, 0, 1, 1, 1, 0, 1], [1, 0, 1, 1, 0, 0, 0]
    # dev-1 sentence 0: all three right; dev-1 sentence 1: one wrong; dev-2: right; test-1 (not dev-1's): wrong
    assert nlvr2_scores(identifiers, predictions, labels) == {"accuracy": 5 / 7, "consistency": 2 / 4}


def test_vcr_joint_accuracy_needs_both():
    scores = vcr_scores([0, 1, 2, 3], [0, 1, 0, 0], [0, 1, 0, 3], [0, 2, 0, 1])
    assert scores == {"Q->A": 3 / 4, "QA->R": 2 / 4, "Q->AR": 1 / 4}


# --- retrieval ------------------------------------------------------------------------------------------------------


def test_recalls_by_hand():
    """Two images with two texts each: the ranks are written beside."""
    scores = np.array([[0.9, 0.1, 0.8, 0.2], [0.3, 0.5, 0.4, 0.6]])
    # image of text 0: row 0 first of (.9, .3); 1: row 1 before row 0; 2: row 0 first; 3: row 1 first
    # image 0's best own text: 0, first of its row; image 1's (texts 2, 3): text 3, first
    recalls = retrieval_recalls(scores, [0, 0, 1, 1], recalls=(1, 2))
    assert recalls == {"image@1": 0.5, "image@2": 1.0, "text@1": 1.0, "text@2": 1.0}
    recalls = retrieval_recalls(scores, [0, 1, 1, 0], recalls=(1, 2))
    # text 2 is of image 1 now: .8 before .4; text 3 of image 0: .6 before .2. Image 1's best own is .5, after .6
    assert recalls == {"image@1": 0.5, "image@2": 1.0, "text@1": 0.5, "text@2": 1.0}


def reference_recalls(scores, image_of_text, k):
    images = [image_of_text[text] in np.argsort(-scores[:, text], kind="stable")[:k] for text in range(scores.shape[1])]
    texts = [
        any(image_of_text[text] == image for text in np.argsort(-scores[image], kind="stable")[:k])
        for image in range(scores.shape[0])
    ]
    return np.mean(images), np.mean(texts)


def test_recalls_against_sorting_in_chunks(monkeypatch):
    monkeypatch.setattr(evaluation, "CHUNK", 7)
    generator = np.random.default_rng(0)
    image_of_text = np.repeat(np.arange(40), 5)
    scores = np.round(
        generator.normal(size=(40, 200)) + 1.5 * (image_of_text == np.arange(40)[:, None]), 1
    )  # with ties
    recalls = retrieval_recalls(scores, image_of_text)
    for k in (1, 5, 10):
        expected = reference_recalls(scores, image_of_text, k)
        np.testing.assert_allclose((recalls[f"image@{k}"], recalls[f"text@{k}"]), expected, **EXACT)
    assert 0.1 < recalls["image@1"] < 0.9


def test_equal_scores_earn_nothing():
    assert retrieval_recalls(np.zeros((20, 100)), np.repeat(np.arange(20), 5))["image@1"] == 1 / 20


# --- Flickr30k Entities ---------------------------------------------------------------------------------------------


def test_ious_by_hand():
    ious = box_ious([[0, 0, 2, 2], [5, 5, 5, 5]], [[0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 4, 4], [5, 5, 5, 5]])
    np.testing.assert_allclose(ious, [[1, 2 / 6, 0, 0], [0, 0, 0, 0]], **EXACT)


def test_a_region_matches_one_box_or_the_merged_one():
    regions = [[0, 0, 10, 10], [0, 0, 30, 10], [0, 0, 20, 10], [0, 0, 21, 10]]
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10]]
    # IoU with the first box: 1, 1/3, 1/2, 10/21; with the merged one (0, 0, 30, 10): 1/3, 1, 2/3, 21/30
    assert region_matches(regions, boxes).tolist() == [True, False, True, False]
    assert region_matches(regions, boxes, merged=True).tolist() == [False, True, True, True]


def test_recalls_and_upper_bound():
    scores = [np.array([[3.0, 2, 1], [1, 2, 3]]), np.array([[1.0, 2.0]]), np.zeros((1, 12))]
    matches = [
        np.array([[True, False, True], [True, False, False]]),
        np.array([[False, False]]),
        np.array([[False] * 10 + [True, False]]),
    ]
    # ranks: 0; 2; none; the eleventh of equal scores
    expected = {"recall@1": 1 / 4, "recall@5": 2 / 4, "recall@10": 2 / 4, "upper_bound": 3 / 4}
    assert entities_recalls(scores, matches) == expected


# --- what cannot be evaluated ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: vqa_accuracies(["a"], []), "the lengths differ: predictions 1, answers 0"),
        (lambda: vqa_accuracies([], []), "nothing to evaluate"),
        (lambda: vqa_accuracies(["a"], [[]]), "'a' has no annotators' answers"),
        (lambda: nlvr2_scores(["dev-1-0"], [1], [1]), "'dev-1-0' is not of the form split-set-pair-sentence"),
        (lambda: retrieval_recalls(np.zeros((2, 3)), [0, 1]), r"shape \(2, 3\) and image_of_text \(2,\)"),
        (lambda: retrieval_recalls(np.zeros((2, 2)), [0, 2]), "rows of scores, 0 to 1"),
        (lambda: retrieval_recalls(np.zeros((2, 2)), [0, -1]), "rows of scores, 0 to 1"),
        (lambda: retrieval_recalls(np.zeros((2, 2)), [0, 0]), "image 1 has no text"),
        (lambda: retrieval_recalls(np.array([[np.nan]]), [0]), "a score is NaN or infinite"),
        (lambda: retrieval_recalls(np.array([[-np.inf, 0], [0, 0]]), [0, 1]), "a score is NaN or infinite"),
        (lambda: entities_recalls([np.zeros((1, 2))], [np.zeros((1, 3))]), r"sentence 0: .*\(1, 2\), matches \(1, 3\)"),
        (lambda: entities_recalls([], []), "no phrases"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

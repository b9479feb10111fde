"""The metrics that papers report, equal to the official evaluators; plain NumPy, shares from 0 to 1.

A model's logits become predictions elsewhere; here are strings, classes and scores, and what was right.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from tfvl.training.tasks.vqa_answers import normalize_answer, on_one_line

AGREEING = 3  # annotators that make an answer fully right
RECALLS = (1, 5, 10)
MATCHING_IOU = 0.5
CHUNK = 512  # rows or columns of a score matrix that are compared at once


def vqa_accuracies(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """The accuracy of each answer to VQA.

    It is min(how many said the same / 3, 1), averaged over leaving out each annotator. As in the official evaluator,
    answers are normalised only where a question's annotators do not all agree to the letter; else the prediction has to
    be written as they wrote it.

    Args:
        predictions: N answers.
        answers: of each of N questions, what its annotators answered (VQA: 10).

    Returns:
        float64 (N,), 0 to 1; the reported number is the mean times 100.

    Raises:
        ValueError: the lengths differ, or a question has no answers.
    """
    _check_lengths(predictions=predictions, answers=answers)
    return np.array([_vqa_accuracy(*pair) for pair in zip(predictions, answers, strict=True)], np.float64)


def _vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    if not answers:
        raise ValueError(f"the prediction {prediction!r} has no annotators' answers to be compared with")
    prediction, answers = on_one_line(prediction), [on_one_line(answer) for answer in answers]
    if len(set(answers)) > 1:
        prediction, answers = normalize_answer(prediction), [normalize_answer(answer) for answer in answers]
    same = answers.count(prediction)
    left_out_is_one_of_them = min(1.0, (same - 1) / AGREEING) if same else 0.0
    left_out_is_another = min(1.0, same / AGREEING)
    return (same * left_out_is_one_of_them + (len(answers) - same) * left_out_is_another) / len(answers)


def mean_by_group(values: np.ndarray, groups: Sequence[str]) -> dict[str, float]:
    """The mean of `values` (N,) for each name in `groups`, sorted by name: VQA's and GQA's results by type."""
    _check_lengths(values=values, groups=groups)
    names, places = np.unique(np.array(list(groups)), return_inverse=True)
    means = np.bincount(places, np.asarray(values, np.float64)) / np.bincount(places)
    return dict(zip(names.tolist(), means.tolist(), strict=True))


def gqa_scores(predictions: Sequence[str], answers: Sequence[str], structural: Sequence[str]) -> dict[str, float]:
    """GQA's `accuracy`, and that of `binary` and `open` questions (whose structural type is "query").

    A prediction is right where it is the answer to the letter, as in the official `eval.py`.
    """
    _check_lengths(predictions=predictions, answers=answers, structural=structural)
    right = np.array([said == true for said, true in zip(predictions, answers, strict=True)], np.float64)
    kinds = ["open" if kind == "query" else "binary" for kind in structural]
    return {"accuracy": float(right.mean()), **mean_by_group(right, kinds)}


def nlvr2_scores(identifiers: Sequence[str], predictions: Sequence[int], labels: Sequence[int]) -> dict[str, float]:
    """NLVR2's `accuracy`, and `consistency`: the share of sentences that are judged right with all their image pairs.

    Args:
        identifiers: "split-set-pair-sentence", for example "dev-850-0-1"; those that differ in the third part only are
            of one sentence.
        predictions, labels: (N,), 1 for true.

    Raises:
        ValueError: the lengths differ, or an identifier has another form.
    """
    _check_lengths(identifiers=identifiers, predictions=predictions, labels=labels)
    right = np.asarray(predictions) == np.asarray(labels)
    sentences: dict[str, bool] = {}
    for identifier, hit in zip(identifiers, right.tolist(), strict=True):
        parts = identifier.split("-")
        if len(parts) != 4:
            raise ValueError(f"the identifier {identifier!r} is not of the form split-set-pair-sentence (dev-850-0-1)")
        sentence = "-".join((*parts[:2], parts[3]))
        sentences[sentence] = sentences.get(sentence, True) and hit
    return {"accuracy": float(right.mean()), "consistency": float(np.mean(list(sentences.values())))}


def vcr_scores(
    answers: Sequence[int], rationales: Sequence[int], answer_labels: Sequence[int], rationale_labels: Sequence[int]
) -> dict[str, float]:
    """VCR's `Q->A`, `QA->R` (rationales chosen with the right answer given) and `Q->AR`: both right.

    Args:
        answers, rationales: (N,), the places that were chosen, 0 to 3.
        answer_labels, rationale_labels: (N,), the right ones.
    """
    _check_lengths(
        answers=answers, rationales=rationales, answer_labels=answer_labels, rationale_labels=rationale_labels
    )
    answered = np.asarray(answers) == np.asarray(answer_labels)
    justified = np.asarray(rationales) == np.asarray(rationale_labels)
    return {
        "Q->A": float(answered.mean()),
        "QA->R": float(justified.mean()),
        "Q->AR": float((answered & justified).mean()),
    }


def retrieval_recalls(
    scores: np.ndarray, image_of_text: Sequence[int], recalls: Sequence[int] = RECALLS
) -> dict[str, float]:
    """Recall at k both ways: a text finds its image, an image finds at least one of its (Karpathy: five) texts.

    Equal scores rank in the order of rows and columns, so that a model that scores everything alike earns nothing.

    Args:
        scores: (images, texts), higher is better; may be memory-mapped, and is read in chunks.
        image_of_text: (texts,), the row of each text's image.
        recalls: the values of k.

    Returns:
        `image@k`: share of texts whose image is among the k best of all images; `text@k`: share of images with one of
        their texts among the k best of all texts.

    Raises:
        ValueError: the shapes do not fit, a text's image is no row, an image has no text, or a score is not finite.
    """
    image_of_text = np.asarray(image_of_text)
    if scores.ndim != 2 or image_of_text.shape != scores.shape[1:]:
        raise ValueError(
            f"scores have shape {scores.shape} and image_of_text {image_of_text.shape}, "
            "expected (images, texts) and (texts,)"
        )
    rows, columns = scores.shape
    texts_of_image = np.bincount(image_of_text, minlength=rows) if columns and image_of_text.min() >= 0 else []
    if len(texts_of_image) != rows or not rows:
        raise ValueError(f"image_of_text must hold rows of scores, 0 to {rows - 1}")
    if not np.all(texts_of_image):
        raise ValueError(f"image {int(np.argmin(texts_of_image))} has no text, so no text can be found for it")
    image_ranks = np.concatenate([_ranks_of_images(scores, image_of_text, start) for start in range(0, columns, CHUNK)])
    text_ranks = np.concatenate([_ranks_of_texts(scores, image_of_text, start) for start in range(0, rows, CHUNK)])
    named = (("image", image_ranks), ("text", text_ranks))
    return {f"{name}@{k}": float((ranks < k).mean()) for name, ranks in named for k in recalls}


def _ranks_of_images(scores: np.ndarray, image_of_text: np.ndarray, start: int) -> np.ndarray:
    """The rank of the right image for `CHUNK` texts from `start` on."""
    chunk = np.ascontiguousarray(scores[:, start : start + CHUNK].T)  # (chunk, images)
    return _ranks(chunk, image_of_text[start : start + CHUNK])


def _ranks_of_texts(scores: np.ndarray, image_of_text: np.ndarray, start: int) -> np.ndarray:
    """The rank of the best of its own texts for `CHUNK` images from `start` on."""
    chunk = np.asarray(scores[start : start + CHUNK])  # (chunk, texts)
    own = image_of_text == np.arange(start, start + len(chunk))[:, None]
    return _ranks(chunk, np.argmax(np.where(own, chunk, -np.inf), axis=1))


def _ranks(scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """How many columns of each row come before the chosen one: those that score more, and equal ones to its left."""
    if not np.isfinite(scores).all():
        raise ValueError("a score is NaN or infinite; the model's logits must be finite")
    score = np.take_along_axis(scores, chosen[:, None], axis=1)
    left = np.arange(scores.shape[1]) < chosen[:, None]
    return np.count_nonzero((scores > score) | ((scores == score) & left), axis=1)


def box_ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union, float64 (N, M), of boxes (N, 4) and (M, 4), corners x1, y1, x2, y2."""
    boxes, others = (np.asarray(value, np.float64).reshape(-1, 4) for value in (boxes, others))
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas, other_areas = (np.prod(value[:, 2:] - value[:, :2], axis=1) for value in (boxes, others))
    union = areas[:, None] + other_areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def region_matches(regions: np.ndarray, boxes: np.ndarray, merged: bool = False) -> np.ndarray:
    """Which regions are right for a phrase: those with an IoU of at least 0.5 with one of its boxes.

    Args:
        regions: (regions, 4), corners in the unit of `boxes`.
        boxes: (boxes, 4), the phrase's.
        merged: compare with the one box around all of the phrase's, as Plummer et al. 2017 do. False: with each, as
            VisualBERT and BAN do.

    Returns:
        bool (regions,).
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if merged and len(boxes):
        boxes = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])[None]
    return (box_ious(regions, boxes) >= MATCHING_IOU).any(axis=1)


def entities_recalls(
    scores: Iterable[np.ndarray], matches: Iterable[np.ndarray], recalls: Sequence[int] = RECALLS
) -> dict[str, float]:
    """Flickr30k Entities: the share of phrases with a right region among the k best, and the `upper_bound` of that.

    Args:
        scores: per sentence (phrases, regions); only phrases that have boxes.
        matches: per sentence bool (phrases, regions), from `region_matches`.
        recalls: the values of k.

    Returns:
        `recall@k`, and `upper_bound`: the share of phrases for which the detector has a right region at all.

    Raises:
        ValueError: shapes differ, or there are no phrases.
    """
    ranks = []
    for number, (score, match) in enumerate(zip(scores, matches, strict=True)):
        score, match = np.asarray(score), np.asarray(match, bool)
        if score.shape != match.shape or score.ndim != 2:
            raise ValueError(
                f"sentence {number}: scores have shape {score.shape}, matches {match.shape}; they must agree"
            )
        order = np.argsort(-score, axis=1, kind="stable")
        ranked = np.take_along_axis(match, order, axis=1)
        ranks.append(np.where(ranked.any(axis=1), ranked.argmax(axis=1), np.inf) if match.shape[1] else [np.inf])
    ranks = np.concatenate(ranks) if ranks else np.zeros(0)
    if not len(ranks):
        raise ValueError("there are no phrases with boxes to be found")
    found = {f"recall@{k}": float((ranks < k).mean()) for k in recalls}
    return found | {"upper_bound": float(np.isfinite(ranks).mean())}


def _check_lengths(**sequences: Sequence) -> None:
    """Raises ValueError unless all are as long as the first, and not empty."""
    lengths = {name: len(values) for name, values in sequences.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"the lengths differ: {listed}; expected one entry per example in each")
    if not all(lengths.values()):
        raise ValueError(f"{', '.join(lengths)} are empty; there is nothing to evaluate")

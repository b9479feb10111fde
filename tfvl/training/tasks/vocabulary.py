"""Answer vocabularies, and the targets of question answering."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tfvl.modeling.losses import IGNORED
from tfvl.training.data import json_stream
from tfvl.training.tasks.vqa_answers import normalize_answer

MIN_OCCURRENCES = 9  # ViLT's and LXMERT's 3,129 answers of VQA v2 are those given this often in train and val
SCORES = (0.0, 0.3, 0.6, 0.9, 1.0)  # by the number of annotators who gave the answer, four and more alike


def build_vocabulary(answers: Iterable[str], min_occurrences: int = MIN_OCCURRENCES) -> list[str]:
    """The normalised answers that occur often enough, in the order of their first occurrence (as ViLT's script).

    Args:
        answers: of VQA the `multiple_choice_answer` of each question, of train and val (see `majority_answers`).
        min_occurrences: 9 in the papers.

    Raises:
        ValueError: no answer occurs that often.
    """
    counts = Counter(normalize_answer(answer) for answer in answers)
    vocabulary = [answer for answer, count in counts.items() if count >= min_occurrences]
    if not vocabulary:
        raise ValueError(
            f"none of {len(counts)} answers occurs {min_occurrences} times; lower min_occurrences for a small data set."
        )
    return vocabulary


def majority_answers(*annotations: Path) -> Iterable[str]:
    """The `multiple_choice_answer` of each question in VQA's annotation files."""
    for path in annotations:
        for annotation in json_stream.stream_list(path, "annotations"):
            answer = annotation.get("multiple_choice_answer")
            if not isinstance(answer, str):
                raise ValueError(f"{path}: question {annotation.get('question_id')} has no multiple_choice_answer.")
            yield answer


def answer_scores(answers: Sequence[str], label2id: Mapping[str, int]) -> dict[int, float]:
    """The classes that annotators gave, with their scores; empty where none is in the vocabulary.

    As in the papers' scripts annotators' answers are looked up as they are written; GQA's only one scores 1.
    """
    if len(answers) == 1:
        return {label2id[answer]: 1.0 for answer in answers if answer in label2id}
    counts = Counter(answers)
    return {
        label2id[answer]: SCORES[min(count, len(SCORES) - 1)] for answer, count in counts.items() if answer in label2id
    }


def soft_targets(rows: Sequence[Sequence[str]], label2id: Mapping[str, int], num_labels: int) -> np.ndarray:
    """Soft targets of N questions: float32 (N, num_labels), the scores of `answer_scores`."""
    targets = np.zeros((len(rows), num_labels), np.float32)
    for row, answers in enumerate(rows):
        for place, score in answer_scores(answers, label2id).items():
            targets[row, place] = score
    return targets


def best_answers(rows: Sequence[Sequence[str]], label2id: Mapping[str, int]) -> np.ndarray:
    """The best-scored class of N questions, the first of equal ones: int32 (N,), -100 where there is none."""
    scored = [answer_scores(answers, label2id) for answers in rows]
    return np.array([max(scores, key=scores.get) if scores else IGNORED for scores in scored], np.int32)


def alignment_targets(matches: Sequence[np.ndarray], phrases: int, regions: int) -> np.ndarray:
    """Which regions each phrase speaks of, every right one with an equal share (VisualBERT, Flickr30k Entities).

    Args:
        matches: per row bool (its phrases, its regions), from `evaluation.region_matches`.
        phrases, regions: the sizes to pad to.

    Returns:
        float32 (N, phrases, regions); a phrase without a right region is all zeros.
    """
    targets = np.zeros((len(matches), phrases, regions), np.float32)
    for row, match in enumerate(matches):
        counts = np.maximum(match.sum(axis=1, keepdims=True), 1)
        targets[row, : match.shape[0], : match.shape[1]] = match / counts
    return targets

"""Answer vocabularies, and the targets of question answering."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from tfvl.modeling.losses import IGNORED
from tfvl.training.data.examples import Example
from tfvl.training.tasks.vqa_answers import normalize_answer

MIN_OCCURRENCES = 9  # ViLT's and LXMERT's 3,129 answers of VQA v2 are those given this often in train and val
ANNOTATORS = 10  # for each question of VQA
SCORES = (0.0, 0.3, 0.6, 0.9, 1.0)  # by the number of annotators who gave the answer, four and more alike


def majority(examples: Iterable[Example]) -> Iterator[str]:
    """Yields the answer that most annotators gave to each question, the first of ties; skips unanswered questions."""
    for example in examples:
        for answer, _ in Counter(example.answers).most_common(1):
            yield answer


def build_vocabulary(answers: Iterable[str], min_answers: int = MIN_OCCURRENCES) -> list[str]:
    """Returns the normalised answers that occur often enough, in the order of their first occurrence (ViLT's script).

    Args:
        answers: an answer for each question, from `majority`.
        min_answers: an answer is kept if it occurs so often; 9 in the papers.

    Raises:
        ValueError: no answer occurs that often.
    """
    counts = Counter(normalize_answer(answer) for answer in answers)
    vocabulary = [answer for answer, count in counts.items() if count >= min_answers]
    if not vocabulary:
        raise ValueError(
            f"none of {len(counts)} answers occurs {min_answers} times; lower min_answers for a small data set."
        )
    return vocabulary


def answer_scores(answers: Sequence[str], label2id: Mapping[str, int]) -> dict[int, float]:
    """Returns the score of each class that annotators gave; empty if no answer is in the vocabulary.

    As in the papers' scripts, annotators' answers are looked up exactly as they are written. With fewer annotators than
    VQA's ten, the most frequent answers score 1, and so does GQA's only answer.
    """
    if len(answers) < ANNOTATORS:
        return {label2id[answer]: share for answer, share in answer_shares(answers).items() if answer in label2id}
    counts = Counter(answers)
    return {
        label2id[answer]: SCORES[min(count, len(SCORES) - 1)] for answer, count in counts.items() if answer in label2id
    }


def answer_shares(answers: Iterable[str]) -> dict[str, float]:
    """Returns each answer's count, divided by the count of the most frequent answer."""
    counts = Counter(answers)
    return {answer: count / max(counts.values()) for answer, count in counts.items()}


def soft_targets(rows: Sequence[Sequence[str]], label2id: Mapping[str, int], num_labels: int) -> np.ndarray:
    """Returns soft targets of N questions, float32 (N, num_labels): the scores of `answer_scores`."""
    targets = np.zeros((len(rows), num_labels), np.float32)
    for row, answers in enumerate(rows):
        for place, score in answer_scores(answers, label2id).items():
            targets[row, place] = score
    return targets


def best_answers(rows: Sequence[Sequence[str]], label2id: Mapping[str, int]) -> np.ndarray:
    """Returns the class with the best score for N questions, int32 (N,), the first of ties; -100 if there is none."""
    scored = [answer_scores(answers, label2id) for answers in rows]
    return np.array([max(scores, key=scores.__getitem__) if scores else IGNORED for scores in scored], np.int32)

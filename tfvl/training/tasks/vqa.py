"""VQA v2: questions with the answers of ten annotators."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tfvl.training.data import json_stream
from tfvl.training.data.examples import Example, Report
from tfvl.training.data.records import converted, text_of
from tfvl.training.tasks.answering import Answering
from tfvl.training.tasks.measures import accuracies, check_lengths
from tfvl.training.tasks.predictions import json_list
from tfvl.training.tasks.task import find_file
from tfvl.training.tasks.vqa_answers import normalize_answer, on_one_line

AGREEING = 3  # an answer that so many annotators gave is fully right


class Vqa(Answering):
    """VQA v2. Predictions are written as its evaluation server reads them."""

    name = "vqa"
    reads_json = True
    soft = True
    pipeline_tag = "visual-question-answering"
    lines = staticmethod(json_list)

    def read(self, directory: Path, split: str, report: Report) -> Iterator[Example]:
        """Yields the questions of `v2_OpenEnded_mscoco_*_questions.json` with `v2_mscoco_*_annotations.json`'s answers.

        Annotations may come in any order; a test split has none. Images have COCO's names, such as
        COCO_val2014_000000262148, if the file of questions has a `data_subtype`; else they are named by `image_id`.
        """
        questions = find_file(directory, f"*{split}2*questions.json")
        annotations = None if split.startswith("test") else find_file(directory, f"*{split}2*annotations.json")
        subtype = json_stream.find_value(questions, "data_subtype")
        template = f"COCO_{subtype.replace('test-dev', 'test')}_{{:012d}}" if isinstance(subtype, str) else "{}"
        asked = json_stream.stream_list(questions, "questions")
        if annotations is None:
            pairs: Iterable = ((question, {}) for question in asked)
        else:
            pairs = json_stream.join(asked, json_stream.stream_list(annotations, "annotations"), "question_id")

        def convert(pair):
            question, annotation = pair
            return Example(
                id=str(question["question_id"]),
                images=(template.format(question["image_id"]),),
                text=text_of(question["question"]),
                answers=tuple(text_of(answer["answer"]) for answer in annotation["answers"]) if annotation else (),
                group=annotation.get("answer_type", ""),
            )

        def matched():
            for question, annotation in pairs:
                if question is None:
                    number = annotation.get("question_id")
                    sentence = f"{annotations}: question {number} is annotated, but {questions} lacks it."
                    report.skip("annotations without a question", sentence)
                elif annotation is None:
                    number = question.get("question_id")
                    sentence = f"{questions}: question {number} has no annotation in {annotations}."
                    report.skip("questions without an annotation", sentence)
                else:
                    yield f"question {question.get('question_id')}", (question, annotation)

        return converted(questions, matched(), convert, report)

    def metric(self, predictions: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """Returns `accuracy`, and that of each answer type."""
        right = vqa_accuracies(predictions, [example.answers for example in examples])
        return accuracies(right, [example.group or "other" for example in examples])

    def row(self, example: Example, answer: str) -> dict:
        """Returns a row of the file, in which the question's id is a number."""
        return {"question_id": int(example.id) if example.id.isdecimal() else example.id, "answer": answer}


def vqa_accuracies(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Computes VQA's accuracy of each prediction.

    It is min(number of annotators with the same answer / 3, 1), averaged over all sets that leave out one annotator. As
    in the official evaluator, answers are normalised only if a question's annotators do not all agree exactly; if they
    do, the prediction has to be written as they wrote it.

    Args:
        predictions: N answers.
        answers: for each of N questions, its annotators' answers (VQA: 10).

    Returns:
        float64 (N,), 0 to 1; the reported number is the mean times 100.

    Raises:
        ValueError: the lengths differ, or a question has no answers.
    """
    check_lengths(predictions=predictions, answers=answers)
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

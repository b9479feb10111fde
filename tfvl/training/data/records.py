"""Readers of the data sets as they are published: files in, `Example`s out, one at a time.

Each takes a `Report`: a record that cannot be used is counted there with a sentence, or refused where it is strict.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tfvl.training.data import json_stream
from tfvl.training.data.examples import Example, Report

UNUSABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError)  # what a record of another form raises
TRUTH = {"True": 1, "False": 0, "true": 1, "false": 0}

# The names that VCR's authors and VisualBERT give to the people of an image, in the order in which they are mentioned.
PEOPLE = "Casey Riley Jessie Jackie Avery Jaime Peyton Kerry Jody Kendall Skyler Frankie Pat Quinn".split()


def read_vqa(questions: Path, annotations: Path | None, report: Report) -> Iterator[Example]:
    """VQA v2: `v2_OpenEnded_mscoco_*_questions.json` and `v2_mscoco_*_annotations.json`.

    Images are called as COCO calls them, COCO_val2014_000000262148, where the questions say their `data_subtype`, else
    by their `image_id`.

    Args:
        questions: a JSON object with a list `questions`.
        annotations: one with a list `annotations`, in any order; None for a test split.
    """
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
            text=_text(question["question"]),
            answers=tuple(_text(answer["answer"]) for answer in annotation["answers"]) if annotation else (),
            group=annotation.get("answer_type", ""),
        )

    def matched():
        for question, annotation in pairs:
            if question is None:
                sentence = (
                    f"{annotations}: question {annotation.get('question_id')} is annotated, but {questions} lacks it."
                )
                report.skip("annotations without a question", sentence)
            elif annotation is None:
                sentence = f"{questions}: question {question.get('question_id')} has no annotation in {annotations}."
                report.skip("questions without an annotation", sentence)
            else:
                yield f"question {question.get('question_id')}", (question, annotation)

    return converted(questions, matched(), convert, report)


def read_gqa(path: Path, report: Report) -> Iterator[Example]:
    """GQA: `*_questions.json`, an object of questions by their ids."""

    def convert(item):
        key, question = item
        return Example(
            id=key,
            images=(_text(question["imageId"]),),
            text=_text(question["question"]),
            answers=(_text(question["answer"]),) if "answer" in question else (),
            group=question.get("types", {}).get("structural", ""),
        )

    numbered = ((f"question {key}", (key, value)) for key, value in json_stream.stream_object(path))
    return converted(path, numbered, convert, report)


def read_nlvr2(path: Path, report: Report) -> Iterator[Example]:
    """NLVR2: `train.json`, `dev.json` or `test1.json`, one JSON object per line. The label is 1 for true."""

    def convert(record):
        identifier = _text(record["identifier"])
        pair = identifier.rpartition("-")[0]
        return Example(
            id=identifier,
            images=(f"{pair}-img0", f"{pair}-img1"),
            text=_text(record["sentence"]),
            label=_truth(record["label"]) if "label" in record else None,
        )

    return converted(path, numbered_lines(path), convert, report)


def read_karpathy(path: Path, split: str, report: Report) -> Iterator[Example]:
    """COCO or Flickr30k captions in Karpathy's splits: `dataset_coco.json`; an example for each caption.

    Args:
        path: a JSON object with a list `images`.
        split: "train" (with COCO's "restval"), "val" or "test".
    """
    wanted = {"train", "restval"} if split == "train" else {split}

    def captions():
        for number, image in enumerate(json_stream.stream_list(path, "images")):
            sentences = image.get("sentences")
            if image.get("split") in wanted:
                for sentence in sentences if isinstance(sentences, list) and sentences else [None]:
                    yield f"image {image.get('filename', number)}", (image, sentence)

    def convert(pair):
        image, sentence = pair
        name = _text(image["filename"]).rpartition(".")[0]
        return Example(id=str(sentence["sentid"]), images=(name,), text=_text(sentence["raw"]))

    return converted(path, captions(), convert, report)


def read_vcr(path: Path, part: str, report: Report) -> Iterator[Example]:
    """VCR: `train.jsonl`, `val.jsonl` or `test.jsonl`, with tags of objects as words.

    A person gets one of `PEOPLE`, in the order of mention, anything else the name of its class. Names of the question
    hold in all choices. (VisualBERT's code starts to count anew in the choices, so that two people may share a name.)

    Args:
        path: one JSON object per line.
        part: "answer", or "rationale": the text is then the question and the right answer.
    """

    def convert(record):
        objects, context = record["objects"], list(record["question"])
        listed, label = record[f"{part}_choices"], record.get(f"{part}_label")
        if label is not None and label not in range(len(listed)):
            raise ValueError(f"the label {label!r:.60} is no place of {len(listed)} choices")
        if part == "rationale":
            context += record["answer_choices"][record["answer_label"]]
        text, names = _spoken(context, objects, {})
        return Example(
            id=_text(record["annot_id"]),
            images=(_text(record["img_fn"]).rpartition(".")[0],),
            text=text,
            choices=tuple(_spoken(choice, objects, names)[0] for choice in listed),
            label=label,
        )

    return converted(path, numbered_lines(path), convert, report)


def _spoken(tokens: list, objects: list[str], names: dict[int, str]) -> tuple[str, dict[int, str]]:
    """Words, and lists of places in `objects`, as text; and the names with those that are new."""
    names, words = dict(names), []
    for token in tokens:
        for part in token if isinstance(token, list) else [token]:
            if isinstance(part, int):
                if part not in names:
                    people = sum(objects[place] == "person" for place in names)
                    names[part] = PEOPLE[people % len(PEOPLE)] if objects[part] == "person" else objects[part]
                part = names[part]
            words.append(_text(part))
    return " ".join(words), names


def converted(path: Path, records: Iterable[tuple[str, Any]], convert: Callable, report: Report) -> Iterator[Example]:
    """The examples of records that come with a name each; those that cannot be converted are reported."""
    for name, record in records:
        try:
            if isinstance(record, Exception):
                raise record
            example = convert(record)
        except UNUSABLE as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split()).rstrip(".")
            report.skip("malformed records", f"{path}, {name}, cannot be used: {reason}.")
        else:
            yield example


def numbered_lines(path: Path) -> Iterator[tuple[str, Any]]:
    return ((f"line {number}", record) for number, record in json_stream.stream_lines(path))


def _truth(value: Any) -> int:
    if value not in TRUTH:
        raise ValueError(f"the label {value!r:.60} is neither True nor False")
    return TRUTH[value]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r:.60} is no text")
    if any("\ud800" <= letter <= "\udfff" for letter in value):  # JSON may spell them; no tokenizer takes them
        raise ValueError(f"{value!r:.60} holds half a surrogate pair")
    return value

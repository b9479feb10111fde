"""Turns a model's outputs for a request into answers; has the tasks, and the typed result of a call."""

import base64
import html
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfvl.answers.checkpoints import CHOICE, MASK, PHRASES, REASONING, REGIONS, RETRIEVAL, TOKENS, VQA
from tfvl.answers.signatures import Signatures, kind_of_signatures
from tfvl.preprocessing.requests import Request

Row = Mapping[str, Any]  # the outputs for a request, by name


class Answers(list):
    """The answers to a request: a list of dicts, best first, each with `answer` and `score`.

    In a notebook it shows the picture with the answers.

    Attributes:
        request: the request.
        filled: the text with its masks filled, from masked language models; else "".
        match: the probability that the text belongs to the image, from pre-training models; else None.
    """

    def __init__(self, answers=(), request: Request | None = None, filled: str = "", match: float | None = None):
        super().__init__(answers)
        self.request, self.filled, self.match = request, filled, match

    @property
    def scored(self) -> list[tuple[str, float]]:
        """The answers as texts, with their scores; empty if there is an error."""
        return [(shown(each), each["score"]) for each in self if "error" not in each]

    @property
    def text(self) -> str:
        """The question, sentence or caption."""
        text = self.request.text if self.request is not None else ""
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else text

    def __repr__(self) -> str:
        said = [f"{answer} ({score:.4f})" for answer, score in self.scored]
        said += [f"error: {each['error']}" for each in self if "error" in each]
        return f"<{self.text!r}: {', '.join(said) or 'no answer'}>"

    def _repr_html_(self) -> str:
        rows = [f"<tr><td>{html.escape(answer)}</td><td>{score:.4f}</td></tr>" for answer, score in self.scored]
        rows += [f"<tr><td>{html.escape(each['error'])}</td></tr>" for each in self if "error" in each]
        pictures = [
            f'<img style="max-height: 20em" src="data:image/png;base64,{base64.b64encode(png).decode()}"/>'
            for png in map(as_png, self._files)
            if png is not None
        ]
        caption = f"<p>{html.escape(self.text)}</p>" if self.text else ""
        return f"<div>{''.join(pictures)}{caption}<table>{''.join(rows)}</table></div>"

    @property
    def _files(self) -> list[bytes]:
        return [visual for visual in getattr(self.request, "visuals", ()) if isinstance(visual, bytes)]


def shown(answer: Row) -> str:
    """Returns an answer as text; for a phrase or a token, the text begins with it."""
    if "phrase" in answer:
        return f"{answer['phrase']}: region {answer['answer']}"
    if "attribute" in answer:
        return f"{answer['attribute']} {answer['answer']}"
    return f"{answer['token']}: {answer['answer']}" if "token" in answer else answer["answer"]


def as_png(contents: bytes) -> bytes | None:
    """Converts an encoded image to PNG, which all browsers show; returns None if it cannot be read."""
    from PIL import Image

    file = io.BytesIO()
    try:
        with Image.open(io.BytesIO(contents)) as image:
            image.convert("RGB").save(file, "PNG", compress_level=1)
    except (OSError, ValueError):
        return None
    return file.getvalue()


def strings(values) -> list[str]:
    """Decodes a list of texts, which a graph returns as bytes."""
    return [value.decode() if isinstance(value, bytes) else value for value in np.asarray(values, object).tolist()]


# --- tasks: each from a request and the row of outputs to its answers, at most top_k ----------------------------------


def best(request: Request, row: Row, top_k: int, names: str = "answers", scores: str = "scores") -> list[dict]:
    pairs = zip(strings(row[names]), np.asarray(row[scores]).tolist(), strict=True)
    return [{"answer": answer, "score": score} for answer, score in pairs if answer][:top_k]


def questions(request: Request, row: Row, top_k: int) -> list[dict]:
    of_pretraining = "question_answers" in row
    return best(request, row, top_k, *(["question_answers", "question_scores"] if of_pretraining else ()))


def masks(request: Request, row: Row, top_k: int) -> list[dict]:
    """Returns words for the first [MASK]; without one, a pre-training model answers the text as a question."""
    found = best(request, row, top_k)
    return found or (questions(request, row, top_k) if "question_answers" in row else [])


def match(request: Request, row: Row, top_k: int) -> list[dict]:
    if "match" not in row:
        return best(request, row, top_k)
    (text,) = strings([request.text])
    return [{"answer": text, "score": float(row["match"])}]


def tokens(request: Request, row: Row, top_k: int) -> list[dict]:
    """Returns the label of every token, in their order."""
    columns = strings(row["tokens"]), strings(row["answers"]), np.asarray(row["scores"]).tolist()
    rows = zip(*columns, strict=True)
    return [{"answer": answer, "score": score, "token": token} for token, answer, score in rows if token]


def phrases(request: Request, row: Row, top_k: int) -> list[dict]:
    """Returns the best region of each phrase, with its box if the request has boxes or the model found the regions."""
    boxes = getattr(request.visuals[0], "boxes", None)
    boxes = row.get("boxes") if boxes is None else boxes[np.asarray(row["region_ids"])]
    found = []
    for place, (phrase, region) in enumerate(zip(strings(request.phrases), row["region_ids"], strict=False)):
        answer = {"answer": int(region), "score": float(row["scores"][place][region]), "phrase": phrase}
        found.append(answer if boxes is None else answer | {"box": boxes[place].tolist()})
    return found


def regions(request: Request, row: Row, top_k: int) -> list[dict]:
    """Returns the regions that a detector found, by descending confidence; boxes are x1, y1, x2, y2 in pixels."""
    columns = (np.asarray(row[name]).tolist() for name in ("objects", "scores", "attributes", "boxes"))
    names = ("answer", "score", "attribute", "box")
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)][:top_k]


Task = Callable[[Request, Row, int], list[dict]]

# The tasks, under the names of transformers if it has or had them.
TASKS: Mapping[str, Task] = {
    VQA: questions,
    REASONING: best,
    MASK: masks,
    RETRIEVAL: match,
    CHOICE: best,
    PHRASES: phrases,
    TOKENS: tokens,
    REGIONS: regions,
}

# The tasks that a head can do, by the kind of its answer (`tfvl.answers.rows.KINDS`); the first is the default.
TASKS_OF_KINDS: Mapping[str, tuple[str, ...]] = {
    "pooled": (),
    "labels": (VQA,),
    "masks": (MASK,),
    "pretraining": (MASK, RETRIEVAL),
    "match": (RETRIEVAL,),
    "tokens": (TOKENS,),
    "choices": (CHOICE,),
    "phrases": (PHRASES,),
}


def tasks_of(kind: str, several: bool = False, answers_questions: bool = False) -> tuple[str, ...]:
    """Returns a head's tasks, by its kind of answer, whether it reads several images, and also answers questions."""
    if kind == "labels" and several:
        return (REASONING,)
    more = (VQA,) if kind == "pretraining" and answers_questions else ()
    return TASKS_OF_KINDS[kind] + more


def tasks_of_signatures(signatures: Signatures) -> tuple[str, ...]:
    """Infers the tasks of an exported model from its signatures: by name, their `inputs` and `outputs` with specs."""
    served = signatures["serving_default"]
    inputs, outputs = served["inputs"], served.get("outputs", {})
    several = any(
        len(inputs[name].shape or ()) > axes for name, axes in (("image", 1), ("regions", 3)) if name in inputs
    )
    return tasks_of(kind_of_signatures(signatures), several, "question_answers" in outputs)


def checked_task(task: str | None, possible: tuple[str, ...], name: str) -> str | None:
    """Returns the task, or the first possible one if it is None. Raises ValueError for one that is not possible."""
    if task is None:
        return next(iter(possible), None)
    if task not in TASKS:
        raise ValueError(f"task is {task!r}, expected one of {', '.join(TASKS)}")
    if task not in possible:
        can = f"it can do {', '.join(possible)}" if possible else "it has no head that answers"
        raise ValueError(f"{name} cannot do {task}; {can}")
    return task

"""A client of TF Serving, and of tfvl's embedded server, that imports neither TensorFlow nor Keras.

with Client("grpc://localhost:8500", model="vilt_vqa") as client:
    (answer,) = client.ask("how many cats?", image="cats.jpg")
    print(answer.best, answer.scores[0])
"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.requests import Request, Takes, arrays, as_regions, for_each, listed_texts, padded
from tfvl.serving.client.transport import (
    DeadlineExceededError,
    Model,
    RequestRefusedError,
    ServerUnavailableError,
    Spec,
    Transport,
    not_understood,
    retried,
    understood,
)

__all__ = ["Answer", "Client", "DeadlineExceededError", "RequestRefusedError", "ServerUnavailableError", "Spec"]

_MODEL_IN_URL = re.compile(r"(.*)/v1/models/([^/:]+)/?$")
_READY_POLL = 0.2  # seconds

Image = bytes | str | os.PathLike


@dataclass(frozen=True)
class Answer:
    """The model's answer to one question.

    Attributes:
        status: "" if the question was answered; else what was wrong with it or its image, and `answers` is empty.
        answers: the answers, best first.
        scores: the score of each answer.
        outputs: every output of the head for this row, by name, e.g. `filled` or `match`; strings are bytes.
    """

    status: str
    answers: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    outputs: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        return not self.status

    @property
    def best(self) -> str:
        """The best answer. Raises ValueError, with the status as its message, if there is none."""
        if not self.answers:
            raise ValueError(self.status or f"this model gives no answers; its outputs are {', '.join(self.outputs)}")
        return self.answers[0]


class Client:
    """Sends questions to one model of a server. Threads may share a client.

    Args:
        server: `grpc://host:port`, `http://host:port`, `grpcs://` or `https://` for TLS; `host:port` alone is HTTP. A
            URL may end in `/v1/models/NAME`.
        model: the model's name, unless the URL has it.
        version, label: the version that answers, given by at most one of the two; the newest if neither is given.
        signature: the signature that `ask` and `predict` call.
        timeout: seconds that a call may take in all, repetitions included.
        retries: how often a call is repeated when the server cannot be reached or says UNAVAILABLE (HTTP 503, 429).
            Nothing else is repeated.
        max_rows: the largest number of questions that `ask` sends in one request.

    Raises:
        ValueError: the address cannot be read, version and label are both given, or a number is out of range.
    """

    def __init__(
        self,
        server: str,
        model: str | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "serving_default",
        timeout: float = 60.0,
        retries: int = 4,
        max_rows: int = 8,
    ):
        if version is not None and label is not None:
            raise ValueError(f"version {version} and label {label!r} are both given; give at most one of them")
        if timeout <= 0 or retries < 0 or max_rows < 1:
            raise ValueError(
                f"timeout is {timeout}, retries {retries} and max_rows {max_rows}; expected a positive time, "
                "0 or more and 1 or more"
            )
        url = server if "://" in server else f"http://{server}"
        if in_url := _MODEL_IN_URL.match(url):
            url, model = in_url[1], model or unquote(in_url[2])
        if not model:
            raise ValueError(f"{server} may serve several models; name one, e.g. {server.rstrip('/')}/v1/models/NAME")
        self.model = Model(model, version, label)
        self.signature, self.timeout, self.retries, self.max_rows = signature, timeout, retries, max_rows
        self._transport = _transport(url)

    def ask(
        self,
        text: str | bytes | Sequence[str | bytes],
        *,
        image: Image | Sequence | None = None,
        regions: Regions | np.ndarray | Sequence | None = None,
        boxes: np.ndarray | Sequence | None = None,
        choices: Sequence | None = None,
        phrases: Sequence | None = None,
        timeout: float | None = None,
    ) -> list[Answer]:
        """Asks one question or many.

        Args:
            text: the question, or a list of them.
            image: an encoded file (bytes) or its path, or a list with one for each question; a single image serves all
                questions. A model that compares two images takes a tuple of two in place of each image.
            regions: `tfvl.Regions` or an array (R, size), or a list as for `image`; images with fewer regions are
                padded.
            boxes: an array (R, 4) of corners, or a list as for `image`; not with `Regions`, which have their own.
            choices, phrases: a list of strings that serves all questions, or a list with such a list for each.
            timeout: seconds that all requests together may take; None: the client's `timeout`.

        Returns: an `Answer` for each question, in their order. The `status` of one says why it was not answered.

        Raises:
            ServerUnavailableError, DeadlineExceededError: the server gave no answer, in spite of all repetitions.
            RequestRefusedError: the server has no such model, or the model takes other inputs.
            ValueError: lists of different lengths, or regions that do not fit together.
            OSError: an image cannot be read.
        """
        requests = _requests(listed_texts(text), image, regions, boxes, {"choices": choices, "phrases": phrases})
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        answers = []
        for start in range(0, len(requests), self.max_rows):
            rows = requests[start : start + self.max_rows]
            outputs = self.predict_rows(arrays(rows, Takes.all_of(rows)), timeout=deadline - time.monotonic())
            with understood(self._transport.server):
                answers += [_answer(outputs, row) for row in range(len(rows))]
        return answers

    def predict(self, inputs: dict[str, np.ndarray], *, timeout: float | None = None) -> dict[str, np.ndarray]:
        """Sends the signature's inputs in one request and returns its outputs by name; strings come as bytes."""
        inputs = {name: np.asarray(value) for name, value in inputs.items()}
        return self._call(lambda left: self._transport.predict(self.model, self.signature, inputs, left), timeout)

    def predict_rows(self, inputs: dict[str, np.ndarray], *, timeout: float | None = None) -> dict[str, np.ndarray]:
        """Does what `predict` does, for signatures whose outputs have a row for each row of the inputs.

        Raises:
            RequestRefusedError: the outputs have another number of rows.
        """
        outputs = self.predict(inputs, timeout=timeout)
        rows = {value.shape[:1] for value in (*inputs.values(), *outputs.values())}
        if len(rows) != 1 or not outputs:
            raise not_understood(self._transport.server)
        return outputs

    @cached_property
    def signatures(self) -> dict[str, dict[str, dict[str, Spec]]]:
        """Returns the model's signatures by name; each holds the `Spec` of every input and output, by name."""
        return self._call(lambda left: self._transport.metadata(self.model, left))

    def status(self, timeout: float | None = None) -> dict[int, str]:
        """Returns the state of each version that the server knows: "AVAILABLE", "LOADING", …"""
        return self._call(lambda left: self._transport.status(self.model, left), timeout)

    def wait_until_ready(self, timeout: float | None = None) -> None:
        """Returns once a version is available; raises `DeadlineExceededError` if that takes too long."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        problem = "no version is available"
        while (left := deadline - time.monotonic()) > 0:
            try:
                if "AVAILABLE" in self._transport.status(self.model, left).values():
                    return
            except (ServerUnavailableError, RequestRefusedError) as error:
                problem = str(error)
            time.sleep(min(_READY_POLL, max(deadline - time.monotonic(), 0)))
        raise DeadlineExceededError(f"{self.model.name} is not ready: {problem}")

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _call(self, attempt, timeout: float | None = None):
        return retried(attempt, self.timeout if timeout is None else timeout, self.retries)


def _transport(url: str) -> Transport:
    parts = urlsplit(url)
    try:
        known = parts.scheme in ("http", "https", "grpc", "grpcs") and parts.hostname and (parts.port or True)
    except ValueError:  # the port is no number
        known = False
    if not known or (parts.scheme.startswith("grpc") and parts.port is None):
        raise ValueError(f"{url} is not a server's address; expected http://host:8501 or grpc://host:8500")
    if parts.scheme.startswith("grpc"):
        from tfvl.serving.client.grpc import Grpc

        return Grpc(url)
    from tfvl.serving.client.rest import Rest

    return Rest(url)


def _requests(texts: list, image, regions, boxes, lists: dict) -> list[Request]:
    """Makes a request for each text; arguments and errors are those of `Client.ask`."""
    count = len(texts)
    if image is not None and regions is not None:
        raise ValueError("got images and regions; give one of both, whichever the model takes")
    if boxes is not None and regions is None:
        raise ValueError("got boxes without regions; give the regions that they are of")
    columns = {"text": texts}
    if image is not None:
        columns["visuals"] = for_each(image, isinstance(image, Image | tuple), count, "images", _files)
    if regions is not None:
        rows = for_each(regions, isinstance(regions, Regions | np.ndarray | tuple), count, "regions", _several)
        boxes = [None] * count if boxes is None else for_each(boxes, isinstance(boxes, np.ndarray), count, "boxes")
        columns["visuals"] = [[as_regions(item, box) for item in row] for row, box in zip(rows, boxes, strict=True)]
    for name, given in lists.items():
        if given is not None:
            alone = all(isinstance(item, str | bytes) for item in given)
            columns[name] = padded(for_each(given, alone, count, f"lists of {name}"))
    return [Request(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _several(item) -> tuple:
    return item if isinstance(item, tuple) else (item,)


def _files(image: Image | tuple) -> list[bytes]:
    return [file if isinstance(file, bytes) else Path(file).read_bytes() for file in _several(image)]


def _answer(outputs: dict[str, np.ndarray], row: int) -> Answer:
    values = {name: value[row] for name, value in outputs.items()}
    status = values.pop("status", b"")
    status = status.decode("utf-8", "replace")
    if status or "answers" not in values:
        return Answer(status, outputs=values)
    answers = tuple(item.decode("utf-8", "replace") for item in np.atleast_1d(values["answers"]).tolist())
    return Answer(status, answers, tuple(np.atleast_1d(values["scores"]).tolist()), values)

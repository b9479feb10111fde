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

from tfvl.preprocessing.regions.regions import Regions, pad_regions
from tfvl.serving.client.transport import (
    DeadlineExceededError,
    Model,
    RequestRefusedError,
    ServerUnavailableError,
    Spec,
    Transport,
    retried,
)

__all__ = ["Answer", "Client", "DeadlineExceededError", "RequestRefusedError", "ServerUnavailableError", "Spec"]

_MODEL_IN_URL = re.compile(r"(.*)/v1/models/([^/:]+)/?$")
_READY_POLL = 0.2  # seconds

Image = bytes | str | os.PathLike


@dataclass(frozen=True)
class Answer:
    """What the model says to one question.

    Attributes:
        status: "" or what was wrong with this question or its image; then there are no answers.
        answers: the answers, best first.
        scores: their scores.
        outputs: everything that the head gives for this row by name, e.g. `filled` or `match`; strings are bytes.
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
        """The best answer. Raises ValueError where there is none, with the status."""
        if not self.answers:
            raise ValueError(self.status or f"this model gives no answers; its outputs are {', '.join(self.outputs)}")
        return self.answers[0]


class Client:
    """Asks one model of a server. Threads may share it.

    Args:
        server: `grpc://host:port`, `http://host:port`, `grpcs://` or `https://` for TLS; `host:port` alone is HTTP. A
            URL may end in `/v1/models/NAME`.
        model: the model's name, unless the URL has it.
        version, label: which version; the newest without them. At most one of the two.
        signature: the signature that `ask` and `predict` call.
        timeout: seconds that a call may take in all, repetitions included.
        retries: how often a call is repeated when the server cannot be reached or says UNAVAILABLE (HTTP 503, 429).
            Nothing else is repeated.
        max_rows: `ask` sends at most so many questions in a request.

    Raises:
        ValueError: an address or a choice of version that makes no sense.
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
            image: an encoded file (bytes) or its path. One is for every question; a list has one for each. For a model
                that compares two, one is a tuple of two.
            regions: likewise, `tfvl.Regions` or an array (R, size); images with fewer regions are padded.
            boxes: likewise, an array (R, 4) of corners; not with `Regions`, which have their own.
            choices, phrases: a list of strings for every question, or a list of such lists.
            timeout: seconds for all requests together; None: the client's.

        Returns: an `Answer` for each question, in their order. One that could not be answered has a `status`.

        Raises:
            ServerUnavailableError, DeadlineExceededError: no answer, after all repetitions.
            RequestRefusedError: the server has no such model, or the model takes other inputs.
            ValueError: lists of different lengths, or regions that do not fit together.
            OSError: an image cannot be read.
        """
        texts = [text] if isinstance(text, str | bytes) else list(text)
        columns = {
            "image": _each(image, len(texts), "images", Image | tuple, _read),
            "regions": _each(regions, len(texts), "regions", Regions | np.ndarray | tuple),
            "boxes": _each(boxes, len(texts), "boxes", np.ndarray),
            "choices": _lists(choices, len(texts), "choices"),
            "phrases": _lists(phrases, len(texts), "phrases"),
        }
        columns = {"text": texts} | {name: column for name, column in columns.items() if column is not None}
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        answers = []
        for start in range(0, len(texts), self.max_rows):
            rows = {name: column[start : start + self.max_rows] for name, column in columns.items()}
            outputs = self.predict(_arrays(rows), timeout=deadline - time.monotonic())
            answers += [_answer(outputs, row) for row in range(len(rows["text"]))]
        return answers

    def predict(self, inputs: dict[str, np.ndarray], *, timeout: float | None = None) -> dict[str, np.ndarray]:
        """One request with the signature's inputs as they are, to its outputs; strings come as bytes."""
        inputs = {name: np.asarray(value) for name, value in inputs.items()}
        return self._call(lambda left: self._transport.predict(self.model, self.signature, inputs, left), timeout)

    @cached_property
    def signatures(self) -> dict[str, dict[str, dict[str, Spec]]]:
        """What the model takes and gives: signature to `{"inputs": {name: Spec}, "outputs": …}`."""
        return self._call(lambda left: self._transport.metadata(self.model, left))

    def status(self, timeout: float | None = None) -> dict[int, str]:
        """The state of each version that the server knows: "AVAILABLE", "LOADING", …"""
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


def _each(value, count: int, name: str, one: type, convert=lambda item: item) -> list | None:
    """A list with an item for each question; a single item is for all of them and converted once."""
    if value is None:
        return None
    if isinstance(value, one):
        return [convert(value)] * count
    if len(value) != count:
        raise ValueError(f"got {len(value)} {name} for {count} texts; give one for each text, or one for all")
    return [convert(item) for item in value]


def _lists(value, count: int, name: str) -> list | None:
    """A list of strings for each question; "" fills up those that are shorter."""
    if value is None:
        return None
    rows = [value] * count if all(isinstance(item, str | bytes) for item in value) else list(value)
    if len(rows) != count:
        raise ValueError(
            f"got {name} for {len(rows)} texts, expected {count}; give a list for each text, or one for all"
        )
    most = max(map(len, rows), default=0)
    return [[*row, *[""] * (most - len(row))] for row in rows]


def _read(image: Image | tuple):
    if isinstance(image, tuple):
        return [_read(item) for item in image]
    return image if isinstance(image, bytes) else Path(image).read_bytes()


def _arrays(rows: dict[str, list]) -> dict[str, np.ndarray]:
    """The columns of a request as arrays."""
    arrays = {name: np.array(rows[name], object) for name in ("text", "image", "choices", "phrases") if name in rows}
    if "regions" not in rows:
        return arrays | {name: np.stack(rows[name]).astype(np.float32) for name in ("boxes",) if name in rows}
    pairs = [row if isinstance(row, tuple) else (row,) for row in rows["regions"]]
    boxes = rows.get("boxes", [None] * len(pairs))
    flat = [
        item if isinstance(item, Regions) else Regions(np.asarray(item, np.float32), corners)
        for row, corners in zip(pairs, boxes, strict=True)
        for item in row
    ]
    padded = pad_regions(flat)
    padded = {"regions": padded["features"]} | ({"boxes": padded["boxes"]} if "boxes" in padded else {})
    if len(pairs[0]) > 1:
        padded = {name: value.reshape(len(pairs), -1, *value.shape[1:]) for name, value in padded.items()}
    return arrays | padded


def _answer(outputs: dict[str, np.ndarray], row: int) -> Answer:
    values = {name: value[row] for name, value in outputs.items()}
    status = values.pop("status", b"")
    status = status.decode("utf-8", "replace")
    if status or "answers" not in values:
        return Answer(status, outputs=values)
    answers = tuple(item.decode("utf-8", "replace") for item in np.atleast_1d(values["answers"]).tolist())
    return Answer(status, answers, tuple(np.atleast_1d(values["scores"]).tolist()), values)

"""`Pipeline`, the base class of all sources. A subclass computes the outputs for a batch of requests."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from tfvl.answers.checkpoints import RETRIEVAL
from tfvl.pipelines.calls import NAMES, Call, as_given, call_of, calls_of, checked_count, named, numpy, whole
from tfvl.pipelines.results import TASKS, Answers, Row, checked_task, masks, strings
from tfvl.preprocessing.regions.reading import READERS
from tfvl.preprocessing.regions.regions import Regions
from tfvl.preprocessing.requests import Request, Takes, arrays, checked_text, listed_texts

OPTIONS = {"choices": "--choice", "phrases": "--phrase"}  # options of `tfvl ask`, which errors name
TOP_K, BATCH_SIZE = 5, 8


class Pipeline:
    """A model that answers questions about images; a `with` statement closes it.

        vqa = tfvl.pipeline("dandelin/vilt-b32-finetuned-vqa")
        vqa(image="cats.jpg", question="how many?", top_k=3)  # [{"answer": "2", "score": 0.93}, …]

    Args:
        name: the model's name in errors.
        top_k: the largest number of answers to a request.

    Attributes:
        batch_size: the largest number of rows in a call of the model.
        tasks: names of the tasks that the model can do.
        task: name of the task that it does.
    """

    detector_may_be_named = ", here or in the export"
    needs_text = True
    tasks: tuple[str, ...]

    def __init__(self, name: str, top_k: int):
        self.name, self.top_k, self.batch_size = name, checked_count("top_k", top_k), BATCH_SIZE
        self._task: str | None = None

    @property
    def task(self) -> str | None:
        """The name of the task that the model does; None for a model without a head that answers."""
        return self._task or checked_task(None, self.tasks, self.name)

    @task.setter
    def task(self, task: str | None) -> None:
        self._task = checked_task(task, self.tasks, self.name)

    def __call__(
        self,
        image: Any = None,
        question: Any = None,
        *,
        top_k: int | None = None,
        batch_size: int | None = None,
        **more,
    ) -> Answers | list[Answers] | Iterator[Answers | list[Answers]]:
        """Answers a question about an image, or several.

        Args:
            image: encoded bytes, a path, a PIL image or an array; or a list with one for each question. For a model
                that compares two images, a list of two stands for one. Instead of all arguments, `image` may be a dict
                of them, or a list of such dicts.
            question: a text or a list, also called `text`. One text goes with every image, one image with every text.
            top_k: the largest number of answers; an exported model gives no more than it was exported with.
            batch_size: the largest number of rows in a call of the model.
            **more: `images`, `questions` and `texts`, other names of the first two; `regions` in place of images, in a
                form that the model's processor takes, or a list of such, with `boxes` if they are arrays; `choices` and
                `phrases`, lists of texts for each text.

        Returns:
            `Answers`, a list of dicts with `answer` and `score`, best first. If lists are given, a list of `Answers`,
            which are `[{"error": "…"}]` for a question that could not be answered. If an argument, or the dict of all,
            is a generator or a `tf.data.Dataset`, an iterator over the results, which are computed batch by batch; an
            element that cannot be used, such as None, has `[{"error": "…"}]` for its result.

        Raises:
            ValueError: an argument cannot be used; or the only question cannot be answered.
            OSError: a server gives no answer.
        """
        given = {"image": image, "question": question, **more}
        options = (
            checked_count("top_k", self.top_k if top_k is None else top_k),
            checked_count("batch_size", self.batch_size if batch_size is None else batch_size),
        )
        several = image if isinstance(image, list | tuple) else []
        if isinstance(image, dict) or any(isinstance(each, dict) for each in several):
            others = {name: value for name, value in given.items() if name != "image" and value is not None}
            if several:
                calls = (self._tried_call(others | as_given(each)) for each in several)
                return list(self._stream(calls, *options))
            given = others | image
        elif (stream := calls_of(given)) is not None:
            return self._stream(map(self._tried_call, stream), *options)
        call = self._call(given)
        rows = self._results(call.rows, *options)
        if not call.alone:
            return as_answers(rows, call)
        if isinstance(rows[0], ValueError):
            raise rows[0]
        return rows[0]

    def rank(
        self, images: Any = None, texts: Any = None, *, regions: Any = None, batch_size: int | None = None
    ) -> np.ndarray:
        """Scores how well each text describes each image, or its regions: float32 (images, texts), higher is better.

        Generators and datasets of images, regions or texts are read to their ends first.

        Raises:
            ValueError: the task is not "image-text-retrieval", an argument cannot be used, or a pair cannot be scored.
        """
        batch_size = checked_count("batch_size", self.batch_size if batch_size is None else batch_size)
        if self.task != RETRIEVAL:
            raise ValueError(f"rank is for the task {RETRIEVAL}, but {self.name} does {self.task}")
        images, regions, texts = map(whole, (images, regions, texts))
        shown = self._call({"images": images, "regions": regions, "text": "-"}).rows
        asked = [checked_text(text, number) for number, text in enumerate(listed_texts(numpy(texts)))]
        found = self._results(
            [row if isinstance(row, ValueError) else Request(text, row.visuals) for row in shown for text in asked],
            1,
            batch_size,
        )
        for each in found:
            if isinstance(each, ValueError):
                raise each
        scores = [each[0]["score"] for each in found if not isinstance(each, ValueError)]
        return np.array(scores, np.float32).reshape(len(shown), len(asked))

    def ask(self, requests: Sequence[Request]) -> list[Answers]:
        """Answers requests, all in one batch.

        Raises:
            ValueError: the model takes other inputs, cannot answer a request, or gives no answers at all.
            OSError: a server gives no answer.
        """
        rows = self.rows(requests, self.top_k)
        return [self.answers(request, row, self.top_k) for request, row in zip(requests, rows, strict=True)]

    def rows(self, requests: Sequence[Request], top_k: int) -> list[dict[str, Any]]:
        """Returns each request's outputs by name, and its `status`, "" or what is wrong with it; errors as in `ask`."""
        raise NotImplementedError

    def takes(self, regions: bool) -> Takes:
        """Returns the inputs that the model takes if regions are given, or images."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes files and connections that are open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.task}>"

    # --- calls --------------------------------------------------------------------------------------------------------

    def _call(self, given) -> Call:
        asked = named(given)
        images = self.takes("regions" in asked).images or 1
        return call_of(asked, images, self.needs_text, self.name)

    def _tried_call(self, given: Mapping[str, Any]) -> Call:
        """Makes one of several calls; if its arguments cannot be used, the error takes the place of its rows.

        Raises ValueError for an unknown name, which is a mistake in the program, not in the data.
        """
        try:
            return self._call(given)
        except ValueError as error:
            if not given.keys() <= NAMES.keys():
                raise
            return Call([error], alone=True)

    def _stream(self, calls: Iterable[Call], top_k: int, batch_size: int) -> Iterator[Any]:
        """Yields the result of each call; the rows of several calls share a batch."""
        waiting: list[Call] = []
        for call in calls:
            waiting.append(call)
            if sum(len(each.rows) for each in waiting) >= batch_size:
                yield from self._finished(waiting, top_k, batch_size)
                waiting = []
        yield from self._finished(waiting, top_k, batch_size)

    def _finished(self, calls: list[Call], top_k: int, batch_size: int) -> Iterator[Answers | list[Answers]]:
        results = iter(self._results([row for call in calls for row in call.rows], top_k, batch_size))
        for call in calls:
            rows = as_answers([next(results) for _ in call.rows], call)
            yield rows[0] if call.alone else rows

    def _results(self, rows: Sequence[Request | ValueError], top_k: int, batch_size: int) -> list[Answers | ValueError]:
        """Returns the answers to each row, or the error that says why there are none."""
        requests = [row for row in rows if isinstance(row, Request)]
        batches = [requests[start : start + batch_size] for start in range(0, len(requests), batch_size)]
        found = iter([each for batch in batches for each in self._tried(batch, top_k)])
        return [next(found) if isinstance(row, Request) else row for row in rows]

    def _tried(self, requests: Sequence[Request], top_k: int) -> list[Answers | ValueError]:
        """Answers requests in one batch; if the batch is refused, answers each request alone."""
        try:
            rows = self.rows(requests, top_k)
        except ValueError as error:
            return [error] if len(requests) == 1 else [each for one in requests for each in self._tried([one], top_k)]
        found: list[Answers | ValueError] = []
        for request, row in zip(requests, rows, strict=True):
            try:
                found.append(self.answers(request, row, top_k))
            except ValueError as error:
                found.append(error)
        return found

    # --- requests and rows --------------------------------------------------------------------------------------------

    def served(self, requests: Sequence[Request], takes: Takes, run: Callable[[dict], dict]) -> list[dict[str, Any]]:
        """Runs `run`, a function of the inputs `takes`, on requests; returns each request's outputs by name."""
        for request in requests:
            self.check(request, takes)
        outputs = run(arrays(requests, takes))
        return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]

    def check(self, request: Request, takes: Takes) -> None:
        """Raises ValueError if a request lacks an input of the model, or holds one that the model does not take."""
        reads_regions = takes.visual == "regions"
        for name, visual in zip(request.names, request.visuals, strict=True):
            if isinstance(visual, Regions) and not reads_regions:
                raise ValueError(f"{self.name} takes images, but {name} holds region features")
            if reads_regions and not isinstance(visual, Regions):
                raise ValueError(
                    f"{self.name} takes region features ({', '.join(READERS)} files), but {name} is an image; name the "
                    "detector that its features came from, e.g. --detector unc-nlp/frcnn-vg-finetuned"
                    f"{self.detector_may_be_named}"
                )
            if "boxes" in takes.reads and visual.boxes is None:
                raise ValueError(f"{name}: there are no boxes, and {self.name} needs the box of each region")
        wanted = takes.images or 1
        if wanted != len(request.visuals):
            raise ValueError(
                f"{self.name} takes {wanted} image{'s' * (wanted > 1)} with a text, got {len(request.visuals)}"
            )
        for name, option in OPTIONS.items():
            given = bool(getattr(request, name))
            if given and name not in takes.reads:
                raise ValueError(f"{self.name} takes no {name}; leave {option} out")
            if name in takes.reads and not given:
                raise ValueError(f"{self.name} takes {name} beside the text; give each with {option}")

    def answers(self, request: Request, row: Row, top_k: int) -> Answers:
        """Turns a row of outputs into `Answers`. Raises ValueError if it has a status, or holds no answers."""
        (status,) = strings([row.get("status", "")])
        if status:
            about = f" with {request.text!r}" if self.needs_text else ""
            raise ValueError(f"{', '.join(request.names)}{about}: {status}")
        if self.task is None:
            raise ValueError(f"{self.name} has no head that answers; its outputs are {', '.join(row)}")
        (filled,) = strings([row.get("filled", "")])
        of_text = TASKS[self.task] is masks
        probability = float(row["match"]) if "match" in row and of_text else None
        return Answers(TASKS[self.task](request, row, top_k), request, filled if of_text else "", probability)


def as_answers(rows: Iterable[Answers | ValueError], call: Call) -> list[Answers]:
    """Returns the answers of a call, in which each error becomes `[{"error": …}]`."""
    return [
        Answers([{"error": " ".join(str(row).split())}], request if isinstance(request, Request) else None)
        if isinstance(row, ValueError)
        else row
        for row, request in zip(rows, call.rows, strict=True)
    ]

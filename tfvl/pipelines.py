"""One object for a model that answers, wherever it is: a checkpoint, a SavedModel, a `.tflite` file, or on a server.

    with open_pipeline("shapes-vilt") as pipeline:
        (answers,) = pipeline.ask([Request("how many stars are there?", [image_bytes])])

Each source imports what it needs when it is opened: a `.tflite` file and a server are asked without TensorFlow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from tfvl.preprocessing.regions.reading import READERS
from tfvl.preprocessing.regions.regions import Regions, widened
from tfvl.preprocessing.requests import Request, Takes, arrays

OPTIONS = {"choices": "--choice", "phrases": "--phrase"}  # of `tfvl ask`, for the texts beside a text


@dataclass(frozen=True)
class Answers:
    """What a model says to a request.

    Attributes:
        scored: answers with their scores, best first; for a token classifier, the tokens in their order; for the
            alignment of phrases, the best region of each.
        filled: for a masked language model, the text with its masks filled, else "".
        match: for a pre-training model, the probability that the text belongs to the image.
    """

    scored: list[tuple[str, float]]
    filled: str = ""
    match: float | None = None


class Pipeline:
    """A model that is asked; `with` closes it. A subclass for each kind of source says how it comes to `rows`.

    Args:
        name: what errors call the model.
        top_k: how many answers a request gets, at most.
    """

    detector_may_be_named = ", here or in the export"

    def __init__(self, name: str, top_k: int):
        self.name, self.top_k = name, top_k

    def ask(self, requests: Sequence[Request]) -> list[Answers]:
        """The answers to each request.

        Raises:
            ValueError: the model takes something else, cannot answer a request, or gives no answers at all.
            OSError: a server gives no answer.
        """
        rows = self.rows(requests)
        return [self.answers(request, row) for request, row in zip(requests, rows, strict=True)]

    def rows(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """The outputs for each request by name, and its `status`: "" or what is wrong with it; errors as `ask`."""
        raise NotImplementedError

    def served(self, requests: Sequence[Request], takes: Takes, run: Callable[[dict], dict]) -> list[dict[str, Any]]:
        """The rows of a signature that takes that, from a function of its inputs to its outputs."""
        for request in requests:
            self.check(request, takes)
        outputs = run(arrays(requests, takes))
        return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]

    def close(self) -> None:
        """Lets go of what is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def check(self, request: Request, takes: Takes) -> None:
        """Raises ValueError where a request holds something else than the model takes."""
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

    def answers(self, request: Request, row: dict[str, Any]) -> Answers:
        """A row of outputs as `Answers`. Raises ValueError where it has a status, or holds no answers."""
        (status,) = strings([row.get("status", "")])
        if status:
            raise ValueError(f"{', '.join(request.names)} with {request.text!r}: {status}")
        scored = self.scored(request, row)
        if scored is None:
            raise ValueError(f"{self.name} has no head that answers; its outputs are {', '.join(row)}")
        (filled,) = strings([row.get("filled", "")])
        return Answers(scored, filled, float(row["match"]) if "match" in row else None)

    def scored(self, request: Request, row: dict[str, Any]) -> list[tuple[str, float]] | None:
        """The answers in a row of outputs, which may be padded to the length of others; None for a head without."""
        if "region_ids" in row:
            best = zip(request.phrases, row["region_ids"], row["scores"], strict=False)
            return [(f"{phrase}: region {region}", float(scores[region])) for phrase, region, scores in best]
        if "answers" not in row:
            return None
        labels, scores, top_k = strings(row["answers"]), row["scores"], self.top_k
        if "tokens" in row:
            pairs = zip(strings(row["tokens"]), labels, strict=True)
            labels = [f"{token}: {label}" if token else "" for token, label in pairs]
            top_k = len(labels)
        elif not any(labels) and "question_answers" in row:  # a pre-training model that was asked without a [MASK]
            labels, scores = strings(row["question_answers"]), row["question_scores"]
        pairs = zip(labels, np.asarray(scores).tolist(), strict=True)
        return [(label, score) for label, score in pairs if label][:top_k]


def strings(values) -> list[str]:
    """Texts of one axis, which a graph gives as bytes."""
    return [value.decode() if isinstance(value, bytes) else value for value in np.asarray(values, object).tolist()]


class CheckpointPipeline(Pipeline):
    """A checkpoint, not exported; arguments and errors as those of `open_pipeline`. Bundled models have a detector."""

    def __init__(self, src: str, top_k: int, detector: str | None = None, **options):
        from tfvl import auto

        super().__init__(src, top_k)
        self.source = auto.find(src, **options)
        self.model, self.processor = self.source.load(detector=detector)

    def rows(self, requests):
        given = any(isinstance(visual, Regions) for request in requests for visual in request.visuals)
        requests = [replace(each, visuals=[self.as_read(visual) for visual in each.visuals]) for each in requests]
        return self.served(requests, *(self.of_regions if given else self.of_images))

    @cached_property
    def of_images(self):
        """What the model takes, and its function from that to answers, with a detector where there is one."""
        return self.signature(self.processor.detector or self.source.default_detector)

    @cached_property
    def of_regions(self):
        """The same without a detector."""
        return self.signature(None)

    def signature(self, detector) -> tuple[Takes, Callable[[dict], dict]]:
        import tensorflow as tf

        from tfvl.export.signatures import inputs_of, serving_default

        processor = self.processor
        if self.source.reads_regions:
            processor = type(processor)(processor.tokenizer, processor.feature_size, detector)
        inputs = inputs_of(self.model, processor)
        serve = serving_default(self.model, processor, inputs, self.top_k)

        def run(made: dict) -> dict:
            outputs = serve(**{name: tf.constant(value) for name, value in made.items()})
            return {name: value.numpy() for name, value in outputs.items()}

        return Takes.of_signature(inputs.raw), run

    def as_read(self, visual: bytes | Regions) -> bytes | Regions:
        """Regions with their boxes behind the features, where those are too narrow without."""
        return widened(visual, self.processor.feature_size) if isinstance(visual, Regions) else visual


class SavedModelPipeline(Pipeline):
    """A SavedModel that tfvl exported, in its directory."""

    def __init__(self, directory: str, top_k: int):
        from tfvl.export.loaded import LoadedModel

        super().__init__(directory, top_k)
        self.model = LoadedModel(directory)

    def rows(self, requests):
        return self.served(requests, self.model.takes, self.model)


class LitePipeline(Pipeline):
    """A `.tflite` file that tfvl exported. TensorFlow is imported for a detector only."""

    detector_may_be_named = ""

    def __init__(self, path: str, top_k: int, detector: str | None = None):
        from tfvl.lite.runner import Runner

        super().__init__(path, top_k)
        self.runner = Runner(path, top_k=top_k, warm=False)
        if detector is not None and self.runner.takes.visual == "images":
            raise ValueError(f"{path} reads images itself; leave the detector out")
        self.found_by = detector

    def rows(self, requests):
        return [self.row(request) for request in requests]

    def row(self, request: Request) -> dict[str, Any]:
        takes = self.runner.takes
        request = replace(request, visuals=[self.as_read(visual) for visual in request.visuals])
        self.check(request, takes)
        more = {name: [list(getattr(request, name))] for name in OPTIONS if name in takes.reads}
        try:
            (row,) = self.runner(**{takes.visual: [list(request.visuals)], "text": request.text}, **more)
        except ValueError as error:
            return {"status": str(error)}
        return row | {"status": ""}

    def as_read(self, visual: bytes | Regions) -> bytes | Regions:
        """The regions of an image, where there is a detector."""
        return visual if isinstance(visual, Regions) or self.found_by is None else self.detector.regions([visual])[0]

    @cached_property
    def detector(self):
        from tfvl.detector.model import RegionDetector

        return RegionDetector.from_pretrained(self.found_by)


class ServerPipeline(Pipeline):
    """A model behind a server, asked without TensorFlow; `server` and `model` as `tfvl.serving.Client` takes them."""

    def __init__(self, server: str, model: str | None, top_k: int):
        from tfvl.serving.client.client import Client

        self.client = Client(server, model)
        super().__init__(self.client.model.name, top_k)

    def rows(self, requests):
        return self.served(requests, self.takes, self.client.predict)

    @cached_property
    def takes(self) -> Takes:
        return Takes.of_signature(self.client.signatures[self.client.signature]["inputs"])

    def close(self):
        self.client.close()


def open_pipeline(src: str, *, top_k: int = 5, detector: str | None = None, **options) -> Pipeline:
    """The pipeline of a source.

    Args:
        src: hub id, bundled name or directory of a checkpoint; directory of a SavedModel; a `.tflite` file; or a
            server's address that ends in `/v1/models/NAME`.
        top_k: how many answers a request gets, at most.
        detector: finds the regions of images for a checkpoint or a `.tflite` file that takes regions.
        **options: of a checkpoint: `architecture`, `revision`, … of `auto.find`.

    Raises:
        OSError: a file cannot be read.
        ValueError: the source cannot be used, or an option is not for it.
    """
    if "://" in src:
        if detector is not None or any(options.values()):
            raise ValueError(f"{src} is a server, which has loaded its models; leave the options for loading one out")
        return ServerPipeline(src, None, top_k)
    if src.endswith(".tflite"):
        return LitePipeline(src, top_k, detector)
    if not Path(src, "saved_model.pb").is_file():
        return CheckpointPipeline(src, top_k, detector, **options)
    if detector is not None:
        raise ValueError(f"{src} is exported, with its detector or without; leave --detector out")
    return SavedModelPipeline(src, top_k)

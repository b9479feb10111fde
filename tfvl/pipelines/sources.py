"""The kinds of sources: a checkpoint, a SavedModel, a `.tflite` file, a server, and a detector's checkpoint."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tfvl.answers.checkpoints import REGIONS
from tfvl.answers.rows import ANSWER_SCORES, HEADS, head_name
from tfvl.pipelines.base import OPTIONS, TOP_K, Pipeline
from tfvl.pipelines.results import tasks_of, tasks_of_signatures
from tfvl.preprocessing.regions.regions import Regions, widened
from tfvl.preprocessing.requests import Request, Takes


class CheckpointPipeline(Pipeline):
    """A checkpoint that is not exported. Arguments and errors are those of `open_pipeline`.

    It runs through the graph that its export would hold, which is traced once.
    """

    def __init__(self, src: str | Path, top_k: int, detector: str | None = None, task: str | None = None, **options):
        from tfvl import auto

        super().__init__(str(src), top_k)
        self.source = auto.find(src, **options)
        head = HEADS.get(head_name(self.source.model_class))
        answers_questions = (
            bool(self.source.config.get("task_qa", True)) and self.source.config["model_type"] == "lxmert"
        )
        self.tasks = tasks_of(head.kind, head.several, answers_questions) if head else ()
        self.task = task  # a wrong task is refused before the weights are read
        self.model, self.processor = self.source.load(detector=detector)
        self._signatures: dict[tuple[bool, int], tuple[Takes, Callable[[dict], dict]]] = {}

    def rows(self, requests, top_k):
        given = any(isinstance(visual, Regions) for request in requests for visual in request.visuals)
        requests = [replace(each, visuals=[self.as_read(visual) for visual in each.visuals]) for each in requests]
        return self.served(requests, *self.signature(given, top_k))

    def takes(self, regions):
        return self.signature(regions, self.top_k)[0]

    def signature(self, regions: bool, top_k: int) -> tuple[Takes, Callable[[dict], dict]]:
        """Returns the inputs that the model takes with regions, or with images, and its function of these inputs."""
        key = regions, max(top_k, TOP_K)  # a graph that gives more answers serves smaller top_k, too
        if key not in self._signatures:
            self._signatures[key] = self.compiled(*key)
        return self._signatures[key]

    def compiled(self, regions: bool, top_k: int) -> tuple[Takes, Callable[[dict], dict]]:
        import keras

        if keras.backend.backend() != "tensorflow":
            from tfvl.files.backend import require_tensorflow
            from tfvl.pipelines.eager import eager

            if self.source.reads_regions and not regions:
                require_tensorflow("the detector that finds regions in images", "give region features")
            return eager(self.model, self.processor, top_k)
        import tensorflow as tf

        from tfvl.export.signatures import inputs_of, serving_default

        processor: Any = self.processor
        if self.source.reads_regions:
            detector = None if regions else processor.detector or self.source.default_detector
            processor = type(processor)(processor.tokenizer, processor.feature_size, detector)
        inputs = inputs_of(self.model, processor)
        serve = tf.function(serving_default(self.model, processor, inputs, top_k), autograph=False)
        function = serve.get_concrete_function(**inputs.raw)

        def run(made: dict) -> dict:
            outputs = function(**{name: tf.constant(value, inputs.raw[name].dtype) for name, value in made.items()})
            return {name: value.numpy() for name, value in outputs.items()}

        return Takes.of_signature(inputs.raw), run

    def as_read(self, visual: bytes | Regions) -> bytes | Regions:
        """Appends the boxes of regions to their features if the model's features are so much wider."""
        return widened(visual, self.processor.feature_size) if isinstance(visual, Regions) else visual


class DetectorPipeline(Pipeline):
    """A detector's checkpoint, which finds the regions of images, each with an object, an attribute and a box."""

    needs_text = False
    tasks = (REGIONS,)

    def __init__(self, src: str | Path, top_k: int, task: str | None = None, **options):
        from tfvl.detector.model import RegionDetector

        super().__init__(str(src), top_k)
        self.task = task
        self.detector = RegionDetector.from_pretrained(src, **options)

    def takes(self, regions):
        return Takes(("image",))

    def rows(self, requests, top_k):
        return [self.row(request) for request in requests]

    def row(self, request: Request) -> dict[str, Any]:
        self.check(request, self.takes(regions=False))
        try:
            found = self.detector.detect(list(request.visuals))
        except ValueError as error:
            return {"status": str(error)}
        count = int(found["preds_per_image"][0])
        names = {"objects": "obj_names", "scores": "obj_probs", "attributes": "attr_names", "boxes": "boxes"}
        return {name: found[output][0, :count] for name, output in names.items()}


class SavedModelPipeline(Pipeline):
    """The directory of a SavedModel that tfvl exported."""

    def __init__(self, directory: str, top_k: int):
        from tfvl.export.loaded import LoadedModel

        super().__init__(directory, top_k)
        self.model = LoadedModel(directory)
        self.tasks = tasks_of_signatures(self.model.signatures)

    def takes(self, regions):
        return self.model.takes

    def rows(self, requests, top_k):
        return self.served(requests, self.model.takes, self.model)


class LitePipeline(Pipeline):
    """A `.tflite` file that tfvl exported. Only a detector imports TensorFlow."""

    detector_may_be_named = ""

    def __init__(self, path: str, top_k: int, detector: str | None = None):
        from tfvl.lite.runner import Runner

        super().__init__(path, top_k)
        self.runner = Runner(path, warm=False)
        answers_questions = ANSWER_SCORES in self.runner.file.description["outputs"]
        self.tasks = tasks_of(self.runner.head.kind, self.runner.head.several, answers_questions)
        if detector is not None and self.runner.takes.visual == "images":
            raise ValueError(f"{path} reads images itself; leave the detector out")
        self.found_by = detector

    def takes(self, regions):
        return self.runner.takes

    def rows(self, requests, top_k):
        return [self.row(request) for request in requests]

    def row(self, request: Request) -> dict[str, Any]:
        takes = self.runner.takes
        request = replace(request, visuals=[self.as_read(visual) for visual in request.visuals])
        self.check(request, takes)
        more: dict[str, Any] = {name: [list(getattr(request, name))] for name in OPTIONS if name in takes.reads}
        more |= {takes.visual: [list(request.visuals)], "text": request.text}
        try:
            (row,) = self.runner(**more)
        except ValueError as error:
            return {"status": str(error)}
        return row | {"status": ""}

    def as_read(self, visual: bytes | Regions) -> bytes | Regions:
        """Finds the regions of an image, if there is a detector."""
        return visual if isinstance(visual, Regions) or self.found_by is None else self.detector.regions([visual])[0]

    @cached_property
    def detector(self):
        from tfvl.detector.model import RegionDetector

        return RegionDetector.from_pretrained(self.found_by)


class ServerPipeline(Pipeline):
    """A model behind a server, used without TensorFlow; `server` and `model` are arguments of `tfvl.serving.Client`."""

    def __init__(self, server: str, model: str | None, top_k: int):
        from tfvl.serving.client.client import Client

        self.client = Client(server, model)
        super().__init__(self.client.model.name, top_k)

    @cached_property
    def tasks(self) -> tuple[str, ...]:  # type: ignore[override]  # asks the server when it is needed
        return tasks_of_signatures(self.signatures)

    @cached_property
    def signatures(self) -> dict:
        name, found = self.client.signature, self.client.signatures
        if name not in found:
            raise ValueError(f"the model has no signature {name}, only {', '.join(found) or 'none'}")
        return found

    def takes(self, regions):
        return Takes.of_signature(self.signatures[self.client.signature]["inputs"])

    def rows(self, requests, top_k):
        return self.served(requests, self.takes(regions=False), self.client.predict_rows)

    def close(self):
        self.client.close()

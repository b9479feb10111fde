"""`pipeline`, which opens the pipeline of a source of any kind."""

from collections.abc import Callable
from pathlib import Path

from tfvl.answers.checkpoints import REGIONS
from tfvl.errors import CheckpointError
from tfvl.modeling import upstream_arguments
from tfvl.pipelines.base import BATCH_SIZE, TOP_K, Pipeline
from tfvl.pipelines.calls import checked_count
from tfvl.pipelines.results import TASKS, checked_task
from tfvl.pipelines.sources import (
    CheckpointPipeline,
    DetectorPipeline,
    LitePipeline,
    SavedModelPipeline,
    ServerPipeline,
)
from tfvl.porting import hub


def pipeline(
    src: str | Path,
    task: str | None = None,
    *,
    detector: str | None = None,
    top_k: int = TOP_K,
    batch_size: int = BATCH_SIZE,
    **options,
) -> Pipeline:
    """Opens a model, wherever it is, as a pipeline that answers texts about images.

        vqa = tfvl.pipeline("dandelin/vilt-b32-finetuned-vqa")
        vqa(image="cats.jpg", question="how many?", top_k=3)  # [{"answer": "2", "score": 0.93}, …]

    Args:
        src: hub id, bundled name or directory of a checkpoint; directory of an exported SavedModel; a `.tflite` file;
            or a server's address that ends in `/v1/models/NAME`, after `http://host:port` or `grpc://host:port`.
        task: "visual-question-answering", "visual-reasoning", "fill-mask", "image-text-retrieval", "multiple-choice",
            "phrase-grounding", "token-classification" or "region-detection"; None: the task of the source's head.
        detector: the detector that finds regions in images, for VisualBERT and LXMERT; bundled models have one.
        top_k: the largest number of answers, unless a call says it.
        batch_size: the largest number of rows in a call of the model.
        **options: options for loading a checkpoint: `architecture`, `revision`, `token`, `cache_dir`,
            `local_files_only`.

    Returns: a `Pipeline`; call it with images and texts.

    Raises:
        OSError: a file cannot be read, or a server gives no answer.
        ValueError: the source cannot be used or cannot do the task, or does not take an option.
    """
    upstream_arguments.refuse(options, "tfvl.pipeline")
    if task is not None:
        checked_task(task, tuple(TASKS), str(src))
    batch_size = checked_count("batch_size", batch_size)
    opened = open_pipeline(src, top_k=top_k, detector=detector, task=task, **options)
    if opened.task is None:
        raise ValueError(f"{src} has no head that answers; name a class with one, architecture=")
    opened.batch_size = batch_size
    return opened


def open_pipeline(
    src: str | Path, *, top_k: int = TOP_K, detector: str | None = None, task: str | None = None, **options
) -> Pipeline:
    """Opens a source as `pipeline` does, but also a model that has outputs and no head that answers."""
    src = str(src)
    if "://" in src:
        if detector is not None or any(options.values()):
            raise ValueError(f"{src} is a server, which has loaded its models; leave the options for loading one out")
        return doing(task, lambda: ServerPipeline(src, None, top_k))
    if src.endswith(".tflite"):
        refuse(src, "a .tflite file", options)
        return doing(task, lambda: LitePipeline(src, top_k, detector))
    if not Path(src, "saved_model.pb").is_file():
        return of_checkpoint(src, top_k, detector, task, **options)
    refuse(src, "an exported model", options)
    if detector is not None:
        raise ValueError(f"{src} is exported, with its detector or without; leave --detector out")
    return doing(task, lambda: SavedModelPipeline(src, top_k))


def doing(task: str | None, make: Callable[[], Pipeline]) -> Pipeline:
    opened = make()
    if task is not None:
        opened.task = task
    return opened


def refuse(src: str, kind: str, options: dict) -> None:
    """Raises ValueError if an option for loading a checkpoint is given for another kind of source."""
    if given := [name for name, value in options.items() if value]:
        raise ValueError(f"{src} is {kind}, not a checkpoint; leave {', '.join(given)} out")


def of_checkpoint(src: str, top_k: int, detector: str | None, task: str | None, **options) -> Pipeline:
    """Opens the checkpoint of a model or of a detector, which are told apart by their files."""
    if task != REGIONS or not is_detector(src, **options):
        try:
            return CheckpointPipeline(src, top_k, detector, task, **options)
        except CheckpointError:
            if not is_detector(src, **options):
                raise
    if detector is not None or options.pop("architecture", None):
        raise ValueError(f"{src} is asked for regions itself; leave detector and architecture out")
    return DetectorPipeline(src, top_k, task, **options)


def is_detector(src: str, architecture: str | None = None, **options) -> bool:
    """Returns whether a source has a detector's files. Raises CheckpointError if there is no such source."""
    path = hub.resolve(src, weights=False, **options)
    if path.suffix == ".pkl":  # the format of the authors' detector
        return True
    directory = path if path.is_dir() else path.parent
    return (directory / "config.yaml").is_file() and not (directory / "config.json").is_file()

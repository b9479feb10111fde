"""Opens what the settings of a run name: the model, its processor, and the pipelines of the two splits."""

import dataclasses
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import keras

from tfvl import auto
from tfvl.files.extras import require
from tfvl.files.reading import parse_json, read_file
from tfvl.modeling.configuration import is_placeholder
from tfvl.preprocessing.regions.store import RegionStore
from tfvl.training.data import prepared, tables
from tfvl.training.data.examples import Report
from tfvl.training.data.images import ImageFiles, ImageFolder, ImageRecords
from tfvl.training.data.loading import Loader, Pictures, StoredRegions
from tfvl.training.data.pipeline import BatchPipeline, BatchPlan, bucket_keys
from tfvl.training.run.settings import RunConfig
from tfvl.training.tasks.own import own_task
from tfvl.training.tasks.table import task_named
from tfvl.training.tasks.task import Task, find_file

MAX_ANSWER_BYTES = 1 << 26


class Opened(NamedTuple):
    """The model, processor and pipelines of a run; `validation` is None if there is no such split."""

    model: keras.Model
    processor: Any
    training: BatchPipeline
    validation: BatchPipeline | None


def task_of(run: RunConfig) -> Task:
    """Returns the run's task, with its settings, and with its rows if the data are a user's table.

    Raises:
        ValueError: there is no such task, or it cannot read tables.
    """
    task = task_named(run.task)
    data = run.data if task.needs_data else None
    table = tables.find(data, run.image_column or "image") if data else None
    return task.configured(run.scenes, run.seed) if table is None else own_task(run.task, table, run.columns)


def source_of(run: RunConfig) -> auto.Source:
    """Resolves the checkpoint that a run begins with, and the task's model class of the checkpoint's family.

    Raises:
        ValueError: there is no such checkpoint or task, or the family has no class for the task, or several and
            `model_class` does not name one.
    """
    models: dict[str, Any] = task_of(run).models
    source = auto.find(run.model, weights=not run.from_scratch)
    family = source.config.get("model_type")
    candidates = {
        alias: name
        for name, model in models.items()
        if model.config_class.model_type == family
        for alias in (name, *model.architecture_aliases)
    }
    names = sorted(set(candidates.values()))
    if not names:
        raise ValueError(
            f"the task {run.task!r} has no model of the family of {run.model} ({family!r}); it has {', '.join(models)}."
        )
    architectures = source.config.get("architectures") or ()
    named = run.model_class or next((name for name in architectures if name in candidates), None)
    if named is None and len(names) == 1:
        (named,) = names
    if named not in candidates:
        raise ValueError(f"model_class is {named!r}, expected one of {', '.join(names)} for the task {run.task!r}.")
    return dataclasses.replace(source, architecture=candidates[named])


def check_data(run: RunConfig) -> None:
    """Raises ValueError if the task needs files and none are named, MissingExtraError if it needs ijson."""
    task = task_of(run)
    if not task.needs_data:
        return
    if run.data is None:
        raise ValueError(
            f"the task {run.task!r} needs --data: the directory with its files, or a CSV, JSONL or Parquet file."
        )
    if task.reads_json and task.table is None and prepared.find(run.data, run.train_split or task.splits[0]) is None:
        require("ijson", extra="train", purpose=f"the published files of the task {run.task!r} are read with it")


def open_run(run: RunConfig, shard: tuple[int, int] = (0, 1), source: auto.Source | None = None) -> Opened:
    """Opens the model and the pipelines that it is trained and validated with.

    Args:
        run: the settings.
        shard: the number of this machine and of all machines; training batches are this machine's share.
        source: the result of `source_of`; None: it is called here.

    Raises:
        ValueError: the model or the data cannot be used; the sentence says why.
    """
    check_data(run)
    source = source or source_of(run)
    path, model_class = source.path, source.model_class
    run = run.completed(model_class, task_of(run))
    processor = source.processor_class.from_pretrained(path)
    if size := (run.config or {}).get(processor.feature_size_field):
        processor = type(processor)(processor.tokenizer, size)
    visual = visual_of(run, processor)
    model = make_model(run, model_class, path)
    known, words = model.config.vocab_size, processor.tokenizer.vocab_size
    if words > known:
        raise ValueError(f"the tokenizer of {run.model} has {words} words, but the model has embeddings for {known}.")
    answerable = task_of(run).metric is not None
    training = loader_of(run, run.train_split, model, processor, visual, answerable=answerable)
    keys = bucket_keys(training) if run.buckets else ()
    plan = BatchPlan(len(training.examples), run.batch_size, seed=run.seed, keys=keys)
    validation = None
    if run.validation_split != "none":
        asked = loader_of(run, run.validation_split, model, processor, visual, limit=run.validation_limit)
        validation = whole(run, asked)
    return Opened(model, processor, BatchPipeline(training, plan, run.workers, shard=shard), validation)


def whole(run: RunConfig, loader: Loader) -> BatchPipeline:
    """Returns the pipeline of a split on which a model is evaluated: every example once."""
    keys = bucket_keys(loader) if run.buckets else ()
    plan = BatchPlan(len(loader.examples), run.batch_size, shuffle=False, keys=keys, drop_remainder=False)
    return BatchPipeline(loader, plan, run.workers)


def loader_of(
    run: RunConfig, split: str, model, processor, visual, *, answerable: bool = False, limit: int | None = None
) -> Loader:
    """Returns the loader of a split; if `answerable`, it leaves out examples of which no answer is a class."""
    task, labels = task_of(run), model.config.label2id
    wanted = {"label2id": labels if task.answers and answerable else None, "strict": run.strict, "limit": limit}
    examples = task.examples(run.data or "", split, images=visual, **wanted)
    padding = {"padding": "max_length", "max_length": run.max_length} if run.max_length else {}
    options = {"whole_words": run.whole_words, "seed": run.seed, "text_options": padding}
    return task.loader(type(model), examples, visual, processor, labels, **options)


def visual_of(run: RunConfig, processor):
    """Returns the reader of pixels or regions, whichever the model takes, by the images' names."""
    drawn = task_of(run).visual(processor)
    if drawn is not None:
        return drawn
    cache = run.cache_mb * 10**6
    if processor.sees == "images":
        return Pictures(images_of(run), processor.image_processor, cache)
    return StoredRegions(regions_of(run), processor, run.max_regions, cache)


def images_of(run: RunConfig) -> ImageFolder | ImageFiles | ImageRecords:
    """Opens the run's images: the files that the user's table names, else those of `images` or `data`."""
    table = task_of(run).table
    if table is not None and (run.images is None or Path(run.images).is_dir()):
        return ImageFiles(run.images or table.root)
    return image_source(run.images or run.data)


def regions_of(run: RunConfig) -> RegionStore | prepared.RegionShards:
    """Opens the run's regions: those of `regions`, or of the file beside the data."""
    table = task_of(run).table
    return region_source(run.regions, run.data if table is None else str(table.root))


def image_source(where: str) -> ImageFolder | ImageRecords:
    """Opens the images of a folder, of a prepared data set, or of TFRecord files given by a name or a pattern."""
    if Path(where).is_dir():
        return prepared.open_images(where) or ImageFolder(where)
    files = sorted(glob(where))
    if not files:
        raise ValueError(f"images: {where} is no folder, and no TFRecord file is called so.")
    return ImageRecords(files)


def region_source(file: str | None, data: str) -> RegionStore | prepared.RegionShards:
    """Opens the regions of a file, or of the file in the directory `data`, or of a prepared data set."""
    if file:
        return RegionStore(file)
    found = prepared.open_regions(data)
    if found is None and not any(path.is_file() for path in Path(data).rglob("*region*")):
        raise ValueError(
            f"{data} has no file of regions, which VisualBERT and LXMERT read; write one with `tfvl regions IMAGES "
            "--out regions.h5 --detector unc-nlp/frcnn-vg-finetuned` and name it by --regions, or take a ViLT."
        )
    return found or RegionStore(find_file(Path(data), "*region*"))


# --- the model ------------------------------------------------------------------------------------------------------


def make_model(run: RunConfig, model_class: type[Any], path: Path) -> keras.Model:
    """Makes the model, with the checkpoint's weights or fresh ones, and freezes the parts that the settings name."""
    keras.utils.set_random_seed(run.seed)
    changes = dict(run.config or {})
    config = model_class.config_class.from_pretrained(path, overrides=changes) if path.is_dir() else None
    if run.from_scratch and config is None:
        raise ValueError(f"from_scratch takes a directory with a config.json as its model, {run.model} is a file.")
    names = answer_names(run, task_of(run), config) if task_of(run).answers else None
    if names is not None and (config is None or config.answer_names != names):
        changes |= model_class.config_class.answer_fields(names)
    if run.from_scratch:
        model = model_class(model_class.completed(config.replace(**changes)), dtype=run.precision)
    else:
        fitted = {"ignore_mismatched_sizes": True, "resize_position_embeddings": run.resize_position_embeddings}
        model = model_class.from_pretrained(path, dtype=run.precision, **fitted, **changes)
    if run.wave_positions:
        model.start_as_waves()
    for part, layers in (run.freeze or {}).items():
        model.freeze(part, layers=layers)
    if run.lora:
        options = dict(run.lora)
        model.enable_lora(options.pop("rank"), **options)
    model.gradient_checkpointing_enable(run.gradient_checkpointing)
    return model


def answer_names(run: RunConfig, task: Task, config) -> tuple[str, ...]:
    """Returns the answers that become classes: a file's, else the task's, the model's or the training split's."""
    if run.answers:
        return read_answers(Path(run.answers))
    if own := task.vocabulary():
        return own
    named = () if config is None or is_placeholder(config.answer_names) else config.answer_names
    if named and not task.names_from_rows:
        return named
    found = task.class_names(task.stream(run.data, run.train_split, Report(run.strict)), run.min_answers)
    return named if set(named) == set(found) else found


def read_answers(path: Path) -> tuple[str, ...]:
    """Reads a JSON file with a list of answers, or a mapping from their numbers to them.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        values = parse_json(read_file(path, MAX_ANSWER_BYTES))
        if isinstance(values, dict):
            values = [values[str(number)] for number in range(len(values))]
    except (ValueError, KeyError):
        values = None
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{path} holds no JSON list of answers, nor a mapping from 0, 1, … to them.")
    return tuple(values)

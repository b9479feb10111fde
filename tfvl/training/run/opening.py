"""From settings to what is trained: the model, its processor, and the pipelines of the two splits."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import NamedTuple

import keras

import tfvl
from tfvl import shapes
from tfvl.families import FAMILIES
from tfvl.modeling.published_answers import is_placeholder
from tfvl.porting import hub
from tfvl.porting.originals.reading import config_values
from tfvl.training.data import prepared
from tfvl.training.data.examples import Examples, Report
from tfvl.training.data.images import ImageFolder, ImageRecords
from tfvl.training.data.loading import Loader, Pictures, StoredRegions
from tfvl.training.data.masking import WordMasker
from tfvl.training.data.pipeline import BatchPlan, Pipeline, bucket_keys
from tfvl.training.run.settings import RunConfig
from tfvl.training.tasks import shapes as drawn
from tfvl.training.tasks.table import TASKS, find_file, open_examples, reader
from tfvl.training.tasks.vocabulary import build_vocabulary

MAX_ANSWER_BYTES = 1 << 26


class Opened(NamedTuple):
    """What a run trains and is measured with; `validation` is None where there is no such split."""

    model: keras.Model
    processor: object
    training: Pipeline
    validation: Pipeline | None


def model_class_of(run: RunConfig) -> type:
    """The task's class of the family that the checkpoint is of.

    Raises:
        ValueError: there is no such task, or it has no model of that family, or several and none is named.
    """
    if run.task not in TASKS:
        raise ValueError(f"there is no task {run.task!r}; there are {', '.join(TASKS)}.")
    values = config_values(hub.resolve(run.model, weights=not run.from_scratch))
    family = values.get("model_type")
    candidates = {
        alias: getattr(tfvl, name)
        for name in TASKS[run.task].models
        if getattr(tfvl, name).config_class.model_type == family
        for alias in (name, *getattr(tfvl, name).architecture_aliases)
    }
    names = sorted({model.__name__ for model in candidates.values()})
    if not names:
        raise ValueError(
            f"the task {run.task!r} has no model of the family of {run.model} ({family!r}); "
            f"it has {', '.join(TASKS[run.task].models)}."
        )
    named = run.model_class or next((name for name in values.get("architectures") or () if name in candidates), None)
    if named is None and len(names) == 1:
        (named,) = names
    if named not in candidates:
        raise ValueError(f"model_class is {named!r}, expected one of {', '.join(names)} for the task {run.task!r}.")
    return candidates[named]


def processor_class_of(model_class: type) -> type:
    return getattr(tfvl, FAMILIES[model_class.config_class.model_type][1])


def check_data(run: RunConfig) -> None:
    """Raises ValueError where the task needs files and none are named."""
    if run.task != "shapes" and run.data is None:
        raise ValueError(f"the task {run.task!r} needs --data, the directory with its files.")


def open_run(run: RunConfig, shard: tuple[int, int] = (0, 1)) -> Opened:
    """The model and the batches that it is trained and measured with.

    Args:
        run: the settings.
        shard: this machine's number and how many there are; the batches for training are its share.

    Raises:
        ValueError: the model or the data cannot be used; the sentence says why.
    """
    check_data(run)
    model_class = model_class_of(run)
    run = run.completed(model_class)
    path = hub.resolve(run.model, weights=not run.from_scratch)
    processor = processor_class_of(model_class).from_pretrained(path)
    if size := (run.config or {}).get(processor.feature_size_field):
        processor = type(processor)(processor.tokenizer, size)
    visual = visual_of(run, processor)
    model = make_model(run, model_class, path)
    known, words = model.config.vocab_size, processor.tokenizer.vocab_size
    if words > known:
        raise ValueError(f"the tokenizer of {run.model} has {words} words, but the model has embeddings for {known}.")
    task, labels = TASKS[run.task], model.config.label2id
    label2id = labels if task.answers else None

    def loader(split: str, answerable: bool, limit: int | None = None) -> Loader:
        examples = read_split(run, split, visual, label2id if answerable else None, limit)
        whole_words = model_class.__name__ in task.whole_words if run.whole_words is None else run.whole_words
        padding = {"padding": "max_length", "max_length": run.max_length} if run.max_length else {}
        return Loader(
            examples,
            visual,
            processor,
            task.models[model_class.__name__],
            label2id=label2id,
            num_labels=len(labels),
            masker=WordMasker.from_tokenizer(processor.tokenizer, whole_words=whole_words),
            seed=run.seed,
            text_options=padding,
        )

    training = loader(run.train_split, answerable=task.metric is not None)
    keys = bucket_keys(training) if run.buckets else ()
    plan = BatchPlan(len(training.examples), run.batch_size, seed=run.seed, keys=keys)
    validation = None
    if run.validation_split != "none":
        asked = loader(run.validation_split, answerable=False, limit=run.validation_limit)
        keys = bucket_keys(asked) if run.buckets else ()
        whole = BatchPlan(len(asked.examples), run.batch_size, shuffle=False, keys=keys, drop_remainder=False)
        validation = Pipeline(asked, whole, run.workers)
    return Opened(model, processor, Pipeline(training, plan, run.workers, shard=shard), validation)


def read_split(run: RunConfig, split: str, visual, label2id: Mapping[str, int] | None, limit: int | None) -> Examples:
    """The examples of a split."""
    read = None
    if run.task == "shapes":
        read = lambda directory, split, report: drawn.read_scenes(split, run.scenes, run.seed)  # noqa: E731
    options = {"images": visual, "label2id": label2id, "strict": run.strict, "limit": limit, "read": read}
    return open_examples(run.task, run.data or "", split, **options)


def visual_of(run: RunConfig, processor):
    """What the model sees of an image's name: pixels or regions."""
    if run.task == "shapes":
        return drawn.DrawnScenes(processor)
    cache = run.cache_mb * 10**6
    if processor.sees == "images":
        return Pictures(image_source(run.images or run.data), processor.image_processor, cache)
    return StoredRegions(region_source(run.regions, run.data), processor, run.max_regions, cache)


def image_source(where: str) -> ImageFolder | ImageRecords:
    """A folder's images, those of a prepared data set, or of TFRecord files by their name or a pattern."""
    if Path(where).is_dir():
        return prepared.open_images(where) or ImageFolder(where)
    files = sorted(glob(where))
    if not files:
        raise ValueError(f"images: {where} is no folder, and no TFRecord file is called so.")
    return ImageRecords(files)


def region_source(file: str | None, data: str) -> tfvl.RegionStore | prepared.RegionShards:
    """The regions of a file, or of the one that a data set has, or of a prepared data set."""
    if file:
        return tfvl.RegionStore(file)
    return prepared.open_regions(data) or tfvl.RegionStore(find_file(Path(data), "*region*"))


# --- the model ------------------------------------------------------------------------------------------------------


def make_model(run: RunConfig, model_class: type, path: Path) -> keras.Model:
    """The model with its weights, fresh ones by the seed where it has none, and what is frozen of it."""
    keras.utils.set_random_seed(run.seed)
    changes = dict(run.config or {})
    config = model_class.config_class.from_pretrained(path, overrides=changes) if path.is_dir() else None
    if run.from_scratch and config is None:
        raise ValueError(f"from_scratch takes a directory with a config.json as its model, {run.model} is a file.")
    names = answer_names(run, config) if TASKS[run.task].answers else None
    if names is not None and (config is None or config.answer_names != names):
        changes |= model_class.config_class.answer_fields(names)
    if run.from_scratch:
        model = model_class(config.replace(**changes), dtype=run.precision)
    else:
        model = model_class.from_pretrained(path, dtype=run.precision, ignore_mismatched_sizes=True, **changes)
    if run.wave_positions:
        model.start_as_waves()
    for part, layers in (run.freeze or {}).items():
        model.freeze(part, layers=layers)
    if run.lora:
        options = dict(run.lora)
        model.enable_lora(options.pop("rank"), **options)
    model.gradient_checkpointing_enable(run.gradient_checkpointing)
    return model


def answer_names(run: RunConfig, config) -> tuple[str, ...]:
    """The answers that are classes: of a file, of the drawn scenes, the model's own, or the training split's."""
    if run.answers:
        return read_answers(Path(run.answers))
    if run.task == "shapes":
        return shapes.answers()
    if config is not None and not is_placeholder(config.answer_names):
        return config.answer_names
    return tuple(build_vocabulary(majority(run), run.min_answers))


def majority(run: RunConfig) -> Iterator[str]:
    """The most frequent answer to each question of the training split."""
    read = reader(run.task, run.data, run.train_split)
    for example in read(Path(run.data), run.train_split, Report(run.strict)):
        if example.answers:
            yield Counter(example.answers).most_common(1)[0][0]


def read_answers(path: Path) -> tuple[str, ...]:
    """A JSON list of answers, or a mapping from their numbers.

    Raises:
        ValueError: the file is no such thing.
    """
    with open(path, "rb") as file:
        content = file.read(MAX_ANSWER_BYTES + 1)
    try:
        values = json.loads(content) if len(content) <= MAX_ANSWER_BYTES else None
        if isinstance(values, dict):
            values = [values[str(number)] for number in range(len(values))]
    except (ValueError, KeyError, RecursionError):
        values = None
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{path} holds no JSON list of answers, nor a mapping from 0, 1, … to them.")
    return tuple(values)

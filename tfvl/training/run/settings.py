"""The settings of a training run, which come from a YAML file, the command line, and the paper's recipe."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tfvl.files.reading import listed
from tfvl.files.yaml_file import read_yaml, write_yaml
from tfvl.modeling.fields import check_fields, checked, choice, count, flag, number, probability, text
from tfvl.training.tasks.own import VALIDATION_SHARE, Columns
from tfvl.training.tasks.task import Task

POLICIES = ("float32", "bfloat16", "mixed_float16", "mixed_bfloat16")
SCHEDULES = ("linear", "cosine", "constant")
TRACKER_NAMES = ("tensorboard", "wandb", "mlflow")
LORA = ("rank", "targets", "alpha")


def _is_freeze(value) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(part, str) and (layers is None or (type(layers) is int and layers > 0))
        for part, layers in value.items()
    )


def _is_lora(value) -> bool:
    return isinstance(value, Mapping) and "rank" in value and value.keys() <= set(LORA)


def _are_trackers(value) -> bool:
    return isinstance(value, list | tuple) and set(value) <= set(TRACKER_NAMES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of `tfvl train` but the output directory. None stands for the paper's value, or one from the data.

    Attributes:
        task: one of `tfvl.training.tasks.table.TASKS`.
        data: directory with the data set's files as published, or a CSV, JSONL or Parquet file of your own, or a
            directory with one; "shapes" needs none.
        model: hub id, directory, or the name of a bundled model.
        model_class: name of the model class, where the task has several for the model's family.
        from_scratch: whether to start from fresh weights; configuration, tokenizer and image processing are `model`'s.
        config: fields that replace the model configuration's, such as `hidden_dropout_prob`.
        resize_position_embeddings: whether the checkpoint's positions of patches are resized if `config` gives ViLT
            another `image_size`; else they are drawn anew.
        wave_positions: whether ViLT's position embeddings start as waves, which make neighbouring patches similar;
            only with `from_scratch`.
        train_split, validation_split: the splits' names in the data's files; the second may be "none".
        validation_share: the share of the images that becomes the validation split if a file of your own has no splits.
        split_seed: seeds the choice of these images.
        image_column, image2_column, question_column, answer_column, split_column: your names of a table's columns. The
            question is the text, even if it is a sentence or a caption; the answer is the label.
        validation_limit: validate on the first so many examples only.
        images: folder of images, or TFRecord files (a pattern such as `images/*.tfrecord`); else `data` is searched.
        regions: file of a `RegionStore`; else `data` is searched for one.
        max_regions: of an image with more regions than this, only the first are taken.
        answers: JSON file with a list of the answers; else the model's own, or those that the training split gives.
        min_answers: an answer of the training split becomes a class if it occurs so often; by default 9 times, and once
            for a file of your own.
        scenes: the number of scenes that "shapes" draws for training.
        strict: whether the first example that cannot be used is an error; else it is left out and counted.
        seed: seeds the order, masks, dropout and fresh weights.
        epochs: number of passes over the training split.
        steps: number of batches in all, instead of `epochs`; the schedule is made for them.
        batch_size: rows of a batch, on all machines together.
        learning_rate, warmup, weight_decay, beta_2, epsilon, clip_norm, rate_multipliers: see `recipes.Recipe`;
            a `clip_norm` of 0 clips nothing.
        schedule: the curve by which the learning rate falls after the warm-up.
        gradient_accumulation: the number of batches whose gradients make up one update.
        freeze: for each part to freeze, by name, the number of its first blocks, or null for all; see `model.freeze`.
        lora: {rank: …, targets: […], alpha: …}, see `model.enable_lora`.
        precision: Keras dtype policy.
        jit_compile: whether XLA compiles the steps; give `max_length` too, since each new size is compiled anew.
        gradient_checkpointing: whether the backward pass recomputes the blocks, which saves memory.
        max_length: number of tokens that all texts are padded to; None: to the longest of each batch.
        buckets: whether a batch is made of examples of similar sizes.
        whole_words: whether words are hidden whole (masked language modelling).
        log_steps: batches between two rows of `history.csv`.
        validation_steps: batches between two validations; None: one after each epoch.
        early_stopping: the run stops after so many validations in a row without a better metric.
        keep_best: the number of best models that are kept: the best as `best/`, and if it is above 1, each as
            `best-STEP/`.
        trackers: names among "tensorboard" (always on), "wandb" and "mlflow", to which the run is logged as well.
        push_to_hub: repository of the hub, USER/NAME, to which the best model is uploaded when the run ends.
        license, datasets: the hub's names of the licence and the data sets, for the model card.
        checkpoint_steps, checkpoint_minutes: batches and minutes between two checkpoints, whichever comes first.
        workers: the number of batches that are made at once, each in a thread.
        cache_mb: megabytes of memory for decoded images or regions.

    Raises:
        ValueError: a setting does not take its value; the sentence names both.
    """

    task: str | None = text()
    data: str | None = text()
    model: str | None = text()
    model_class: str | None = text()
    from_scratch: bool = flag()
    config: Mapping[str, Any] | None = checked(
        None, lambda value: isinstance(value, Mapping), "a mapping", optional=True
    )
    resize_position_embeddings: bool = flag()
    wave_positions: bool = flag()
    train_split: str | None = text()
    validation_split: str | None = text()
    validation_share: float = probability(VALIDATION_SHARE)
    split_seed: int = count(0, 0)
    image_column: str | None = text()
    image2_column: str | None = text()
    question_column: str | None = text()
    answer_column: str | None = text()
    split_column: str | None = text()
    validation_limit: int | None = count(None, optional=True)
    images: str | None = text()
    regions: str | None = text()
    max_regions: int | None = count(None, optional=True)
    answers: str | None = text()
    min_answers: int | None = count(None, optional=True)
    scenes: int = count(8000)
    strict: bool = flag()
    seed: int = count(0, 0)
    epochs: int = count(10)
    steps: int | None = count(None, optional=True)
    batch_size: int = count(32)
    learning_rate: float | None = number(None, 0, optional=True)
    warmup: float | None = probability(None, optional=True)
    weight_decay: float | None = number(None, 0, optional=True)
    beta_2: float | None = probability(None, optional=True)
    epsilon: float | None = number(None, 0, optional=True)
    clip_norm: float | None = number(None, 0, optional=True)
    rate_multipliers: Mapping[str, float] | None = checked(
        None, lambda value: isinstance(value, Mapping), "a mapping from parts to factors", optional=True
    )
    schedule: str = choice("linear", SCHEDULES)
    gradient_accumulation: int = count(1)
    freeze: Mapping[str, int | None] | None = checked(
        None, _is_freeze, "a mapping from parts of the model to numbers of blocks, or null", optional=True
    )
    lora: Mapping[str, Any] | None = checked(
        None, _is_lora, f"a mapping with rank, and if wanted {' and '.join(LORA[1:])}", optional=True
    )
    precision: str = choice("float32", POLICIES)
    jit_compile: bool = flag()
    gradient_checkpointing: bool = flag()
    max_length: int | None = count(None, 3, optional=True)
    buckets: bool = flag(True)
    whole_words: bool | None = flag(None, optional=True)
    log_steps: int = count(50)
    validation_steps: int | None = count(None, optional=True)
    early_stopping: int | None = count(None, optional=True)
    keep_best: int = count(1)
    trackers: Sequence[str] | None = checked(
        None, _are_trackers, f"a list of names among {', '.join(TRACKER_NAMES)}", optional=True
    )
    push_to_hub: str | None = text()
    license: str | None = text()
    datasets: Sequence[str] | None = checked(
        None, lambda value: isinstance(value, list | tuple), "a list of names of data sets", optional=True
    )
    checkpoint_steps: int | None = count(None, optional=True)
    checkpoint_minutes: float = number(10, 0)
    workers: int | None = count(None, optional=True)
    cache_mb: int = count(0, 0)

    def __post_init__(self):
        check_fields(self, "the setting ")

    @classmethod
    def read(cls, file: Path | None, given: Mapping[str, Any]) -> Self:
        """Reads the settings of a YAML file; those that were `given` and are not None replace the file's.

        Raises:
            ValueError: the file cannot be read, a setting is unknown or its value wrong, or there is no task or model.
        """
        values = read_yaml(file, "a file of settings") if file else {}
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [str(name)[:80] for name in values if name not in known]
        if unknown:
            raise ValueError(f"{file} has the unknown settings {listed(unknown)}; there are {', '.join(known)}.")
        try:
            cls(**values)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        run = cls(**values | {name: value for name, value in given.items() if value is not None})
        for name in ("task", "model"):
            if getattr(run, name) is None:
                where = f"{file}: " if file else ""
                raise ValueError(f"{where}there is no {name}; give --{name}, or a file with it by --config.")
        return run

    @property
    def columns(self) -> Columns:
        """The settings for reading a user's table. Without a validation split, all rows without a split train."""
        names = {part: getattr(self, f"{part}_column") for part in ("image", "image2", "question", "answer", "split")}
        share = 0.0 if self.validation_split == "none" else self.validation_share
        return Columns(**names, share=share, seed=self.split_seed)

    def completed(self, model_class: type[Any], task: Task) -> Self:
        """Returns a copy in which the paper's recipe and the task's splits fill the settings that are None."""
        names = ("learning_rate", "warmup", "weight_decay", "beta_2", "epsilon", "clip_norm", "rate_multipliers")
        usual = {name: getattr(model_class.recipe, name) for name in names}
        usual |= dict(zip(("train_split", "validation_split"), task.splits, strict=True))
        usual["min_answers"] = task.min_answers
        missing = {name: value for name, value in usual.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def write(self, path: Path) -> None:
        write_yaml(path, dataclasses.asdict(self))


# Settings that may change between a run and its continuation, because the weights do not depend on them.
FREE = frozenset({"workers", "cache_mb", "checkpoint_steps", "checkpoint_minutes", "push_to_hub"})


def check_same(path: Path, run: RunConfig) -> None:
    """Raises ValueError, which names the setting, if one differs from those that a run was begun with."""
    begun = read_yaml(path, "the settings that the run was begun with")
    usual = {field.name: field.default for field in dataclasses.fields(run)}
    for name, value in dataclasses.asdict(run).items():
        old = begun.get(name, usual[name])
        if name not in FREE and old != value:
            raise ValueError(
                f"{path.parent} holds a run with {name}: {old}, this one has {name}: {value}; "
                "take the same settings to go on with it, or another --out."
            )

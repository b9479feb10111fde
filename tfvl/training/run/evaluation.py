"""`tfvl eval`: from settings to a model, a split, and what `evaluate` finds."""

from pathlib import Path

from tfvl.training.data.examples import Report
from tfvl.training.data.loading import Loader
from tfvl.training.data.pipeline import BatchPlan, Pipeline, bucket_keys
from tfvl.training.evaluation.evaluate import Evaluation, Progress, evaluate
from tfvl.training.run import opening
from tfvl.training.run.settings import SPLITS, USUAL_SPLITS, RunConfig
from tfvl.training.tasks.table import TASKS, open_examples


def evaluate_split(run: RunConfig, progress: Progress) -> tuple[Evaluation, Report]:
    """What a checkpoint or an exported model makes of a split.

    Args:
        run: its task, data, model, images, regions, max_regions, batch_size, strict, validation_split (None: the
            task's usual one) and validation_limit are read.
        progress: as `evaluate` takes it.

    Returns: the evaluation, and what could not be used.

    Raises:
        ValueError: the model or the data cannot be used.
    """
    if run.task not in TASKS or TASKS[run.task].metric is None:
        measured = ", ".join(name for name, content in TASKS.items() if content.metric)
        raise ValueError(f"the task {run.task!r} cannot be evaluated; those with a metric are {measured}.")
    opening.check_data(run)
    split = run.validation_split or SPLITS.get(run.task, USUAL_SPLITS)[1]
    if Path(run.model, "saved_model.pb").is_file():
        return _exported(run, split, progress)
    source = opening.source_of(run)
    model, processor = source.load()
    visual = opening.visual_of(run, processor)
    examples = opening.read_split(run, split, visual, None, run.validation_limit)
    task, labels = TASKS[run.task], model.config.label2id
    loader = Loader(
        examples,
        visual,
        processor,
        task.models[source.model_class.__name__],
        label2id=labels if task.answers else None,
        num_labels=len(labels),
    )
    keys = bucket_keys(loader) if run.task != "shapes" else ()
    plan = BatchPlan(len(examples), run.batch_size, shuffle=False, keys=keys, drop_remainder=False)
    return evaluate(model, Pipeline(loader, plan), run.task, progress), examples.report


def _exported(run: RunConfig, split: str, progress: Progress) -> tuple[Evaluation, Report]:
    from tfvl.training.evaluation.exported import ExportedModel, evaluate_exported

    if run.task == "shapes":
        raise ValueError("the drawn scenes are evaluated from a checkpoint, not from an exported model.")
    model = ExportedModel(run.model)
    if model.takes.visual == "regions":
        source = opening.region_source(run.regions, run.data)
    else:
        source = opening.image_source(run.images or run.data)
    examples = open_examples(run.task, run.data, split, strict=run.strict, limit=run.validation_limit)
    return evaluate_exported(model, examples, source, run.task, run.batch_size, progress), examples.report

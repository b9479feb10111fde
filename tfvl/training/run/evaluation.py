"""Runs `tfvl eval`: opens the model and the split that the settings name, and evaluates one on the other."""

from pathlib import Path

from tfvl.training.data.examples import Report
from tfvl.training.evaluation.evaluate import Evaluation, check_measured, evaluate
from tfvl.training.run import opening
from tfvl.training.run.settings import RunConfig
from tfvl.training.tasks.task import Progress, Task


def evaluate_split(run: RunConfig, progress: Progress) -> tuple[Evaluation, Report]:
    """Evaluates a checkpoint or an exported model on a split.

    Args:
        run: the settings, of which task, data, model, images, regions, max_regions, batch_size, strict,
            validation_split (None: the task's usual one) and validation_limit are read.
        progress: the argument `progress` of `evaluate`.

    Returns: the evaluation, and a report on what could not be used.

    Raises:
        ValueError: the model or the data cannot be used.
    """
    check_measured(run.task)
    opening.check_data(run)
    task = opening.task_of(run)
    split = run.validation_split or task.splits[1]
    if Path(run.model, "saved_model.pb").is_file():
        return _exported(run, task, split, progress)
    model, processor = opening.source_of(run).load()
    visual = opening.visual_of(run, processor)
    loader = opening.loader_of(run, split, model, processor, visual, limit=run.validation_limit)
    return evaluate(model, opening.whole(run, loader), task, progress), loader.report


def _exported(run: RunConfig, task: Task, split: str, progress: Progress) -> tuple[Evaluation, Report]:
    from tfvl.training.evaluation.exported import ExportedModel, evaluate_exported

    if task.checkpoint_only:  # refuse before any file is opened
        raise ValueError(task.checkpoint_only)
    model = ExportedModel(run.model)
    source = opening.regions_of(run) if model.takes.visual == "regions" else opening.images_of(run)
    examples = task.examples(run.data, split, strict=run.strict, limit=run.validation_limit)
    return evaluate_exported(model, examples, source, task, run.batch_size, progress), examples.report

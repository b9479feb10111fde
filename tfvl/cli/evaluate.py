"""`tfvl eval`."""

from pathlib import Path
from typing import Annotated

import typer

from tfvl.cli.console import (
    SOURCE_HELP,
    AnswerColumn,
    AsJson,
    Data,
    Image2Column,
    ImageColumn,
    Images,
    MaxRegions,
    QuestionColumn,
    RegionFile,
    SplitColumn,
    Strict,
    print_json,
    print_report,
    print_table,
    progress_bar,
    say,
)
from tfvl.files.backend import require_tensorflow
from tfvl.files.quiet import quiet_tensorflow


def evaluate(
    task: Annotated[
        str, typer.Option(help="vqa, gqa, nlvr2, retrieval, vcr-answer, vcr-rationale, entities, tokens, shapes.")
    ],
    model: Annotated[str, typer.Option(help=SOURCE_HELP + " Or the directory of an exported model.")],
    data: Data = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            "--validation-split",
            help="As the files call it; without it, that for validation. Of a file of your own also all.",
        ),
    ] = None,
    images: Images = None,
    regions: RegionFile = None,
    max_regions: MaxRegions = None,
    image_column: ImageColumn = None,
    image2_column: Image2Column = None,
    question_column: QuestionColumn = None,
    answer_column: AnswerColumn = None,
    split_column: SplitColumn = None,
    out: Annotated[Path | None, typer.Option(help="File for the predictions.", dir_okay=False)] = None,
    vcr_answers: Annotated[
        Path | None,
        typer.Option(help="For vcr-rationale: predictions of vcr-answer, for Q->AR.", dir_okay=False, exists=True),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples that are answered at once.")] = 32,
    limit: Annotated[
        int | None, typer.Option("--limit", "--validation-limit", min=1, help="Ask only the first so many examples.")
    ] = None,
    strict: Strict = False,
    as_json: AsJson = False,
):
    """Ask a model about a split, and print the data set's official metric."""
    require_tensorflow("tfvl eval", "measure with model.evaluate(tfvl.dataset(…)), which runs there")
    quiet_tensorflow()
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    from tfvl.training.evaluation.evaluate import write_predictions
    from tfvl.training.run.evaluation import evaluate_split
    from tfvl.training.run.opening import task_of
    from tfvl.training.run.settings import RunConfig
    from tfvl.training.tasks.table import TASKS

    if out is not None and not out.parent.is_dir():
        raise ValueError(f"{out.parent} is no directory; make it first, or write elsewhere.")
    if vcr_answers is not None and (task not in TASKS or TASKS[task].joint is None):
        raise ValueError(f"--vcr-answers goes with --task vcr-rationale, not with {task}.")
    run = RunConfig(
        task=task,
        model=model,
        data=None if data is None else str(data),
        validation_split=split,
        validation_limit=limit,
        images=images,
        regions=regions,
        max_regions=max_regions,
        image_column=image_column,
        image2_column=image2_column,
        question_column=question_column,
        answer_column=answer_column,
        split_column=split_column,
        batch_size=batch_size,
        strict=strict,
    )
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        done = bar.add_task("evaluating", total=None)
        evaluation, report = evaluate_split(run, lambda step, total: bar.update(done, completed=step, total=total))
    metrics = evaluation.metrics
    if vcr_answers is not None and metrics:
        metrics = metrics | TASKS[task].joint(vcr_answers, evaluation.examples, evaluation.predictions)
    if out is not None:
        write_predictions(out, task_of(run), evaluation)
    if as_json:
        counted = {"examples": len(evaluation.examples), "metrics": metrics, "skipped": dict(report.counts)}
        return print_json({"task": task, "model": model, "predictions": out} | counted)
    rows = [(name, f"{100 * value:.2f}") for name, value in metrics.items()]
    print_table(f"{model} on {task}, {len(evaluation.examples):,} examples", ("metric", "%"), rows)
    if not rows:
        say("The truth of this split is not published.")
    print_report(report)
    if out is not None:
        say(f"Predictions written to {out}.")

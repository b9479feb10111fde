"""`tfvl train`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tfvl.cli.console import (
    SOURCE_HELP,
    AnswerColumn,
    Data,
    Image2Column,
    ImageColumn,
    Images,
    MaxRegions,
    QuestionColumn,
    RegionFile,
    SplitColumn,
    Strict,
    console,
    plain,
    print_table,
    progress_bar,
)
from tfvl.files.backend import require_tensorflow
from tfvl.files.quiet import quiet_tensorflow


def train(
    out: Annotated[Path, typer.Option(help="Directory for checkpoints, logs and the trained model.")],
    task: Annotated[str | None, typer.Option(help="vqa, gqa, nlvr2, retrieval, …, or shapes (needs no data).")] = None,
    data: Data = None,
    model: Annotated[str | None, typer.Option(help=SOURCE_HELP)] = None,
    images: Images = None,
    regions: RegionFile = None,
    max_regions: MaxRegions = None,
    image_column: ImageColumn = None,
    image2_column: Image2Column = None,
    question_column: QuestionColumn = None,
    answer_column: AnswerColumn = None,
    split_column: SplitColumn = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with these and all other settings.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Over the training split.")] = None,
    steps: Annotated[int | None, typer.Option(help="Stop after so many batches.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of all machines together.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest; without it, the paper's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is random.")] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="Repository of the hub for the best model.")
    ] = None,
    strict: Strict = False,
):
    """Train a model; the same command again goes on where it was interrupted."""
    require_tensorflow("tfvl train", "train with model.compile() and model.fit(tfvl.dataset(…)), which run there")
    quiet_tensorflow()
    from rich.progress import MofNCompleteColumn, TimeRemainingColumn

    from tfvl.training.distributed import workers
    from tfvl.training.run.settings import RunConfig
    from tfvl.training.run.trainer import Listener
    from tfvl.training.run.trainer import train as train_model

    given = {
        "task": task,
        "data": None if data is None else str(data),
        "model": model,
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "strict": strict or None,
        "push_to_hub": push_to_hub,
        "images": images,
        "regions": regions,
        "max_regions": max_regions,
        "image_column": image_column,
        "image2_column": image2_column,
        "question_column": question_column,
        "answer_column": answer_column,
        "split_column": split_column,
    }
    run, here = RunConfig.read(config, given), workers()
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        done = bar.add_task("training", total=None)
        validation = bar.add_task("validating", total=None, visible=False)
        lines = bar.console if bar.console.is_terminal else console()

        def show_step(number: int, total: int) -> None:
            bar.update(done, completed=number, total=total)

        def show_validation(number: int, total: int) -> None:
            bar.update(validation, completed=number, total=total, visible=number < total)

        def show_row(row: dict, total: int) -> None:
            shown = [f"{name} {value:.4g}" for name, value in row.items() if name != "step" and "/" not in name]
            lines.print(f"step {row['step']}/{total}", *shown, sep="  ", soft_wrap=True)

        def say(sentence: str) -> None:
            bar.console.print(plain(f"tfvl: {sentence}"), soft_wrap=True)

        listener = (
            Listener(say=say, step=show_step, row=show_row, validation=show_validation) if here.is_chief else Listener()
        )
        state = train_model(run, out, workers=here, command=command_line(given, config, out), listener=listener)
    if here.is_chief:
        best = state["best"]
        rows = [("steps", f"{state['step']:,}"), ("minutes", f"{state['seconds'] / 60:.1f}")]
        rows += [(f"best {best['name']}", f"{best['value']:.4f} after step {best['step']:,}")] if best else []
        rows += [(f"last {name}", f"{value:.4f}") for name, value in state["metrics"].items()]
        files = ("best", "last", "history.csv", "curves.png")
        rows += [(name, str(out / name)) for name in files if (out / name).exists()]
        print_table(str(out), ("", ""), rows)


def command_line(given: dict, config: Path | None, out: Path) -> str:
    """Returns the command line that repeats the run."""
    words = ["tfvl", "train"]
    for name, value in (given | {"config": config, "out": out}).items():
        if value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)

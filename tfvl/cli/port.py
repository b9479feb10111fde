"""`tfvl port`."""

from pathlib import Path
from typing import Annotated

import typer

from tfvl.cli.console import ClassName, Overwrite, Revision, Source, print_table, progress_bar
from tfvl.files.quiet import quiet_tensorflow
from tfvl.files.whole import refuse_to_overwrite, written_whole


def port(
    src: Source,
    dst: Annotated[Path, typer.Argument(metavar="DST", help="Directory to write.")],
    revision: Revision = None,
    class_name: ClassName = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; without it, float32.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with transformers (needs tfvl[parity]).")] = False,
    overwrite: Overwrite = False,
):
    """Rewrite a checkpoint of any source format as config.json and model.safetensors, with its tokenizer files."""
    refuse_to_overwrite(dst, overwrite)
    quiet_tensorflow()
    from rich.progress import DownloadColumn, TransferSpeedColumn

    from tfvl import auto
    from tfvl.cli import parity
    from tfvl.errors import CheckpointError
    from tfvl.modeling.pretrained import load_pretrained
    from tfvl.porting import hub

    if check:
        parity.require_torch()
    path = hub.resolve(src, revision=revision)
    model_class, processor_class = auto.classes_of(path, class_name)
    with progress_bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        task = bar.add_task("reading weights", total=None)
        model, report = load_pretrained(
            model_class, path, dtype=dtype, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    rows = [("class", model_class.__name__), *report.rows(), ("parameters", f"{model.count_params():,}")]
    with written_whole(dst) as directory:
        model.save_pretrained(directory)
        try:
            processor_class.from_pretrained(path).save_pretrained(directory)
        except CheckpointError as error:
            rows.append((processor_class.__name__, f"not written: {error}"))
    rows += [(file.name, f"{file.stat().st_size:,} bytes") for file in sorted(dst.iterdir())]
    print_table(f"{src} → {dst}", ("", ""), rows)
    if check:
        differences = parity.compare(model_class.from_pretrained(dst), path)
        rows = [(row.output, f"{row.difference:.2e}", f"{row.largest:.2e}") for row in differences]
        print_table("against transformers", ("output", "largest difference", "largest value"), rows)

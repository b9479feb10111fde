"""`tfvl check`; and what `tfvl export` says of the artefact that it wrote."""

from pathlib import Path
from typing import Annotated

import typer

from tfvl.cli.console import print_table, quiet_tensorflow


def check(
    directory: Annotated[
        Path, typer.Argument(help="Directory of a SavedModel, e.g. models/vilt_vqa/1, or a .tflite file.")
    ],
    target: Annotated[str | None, typer.Option(help="Release of TensorFlow Serving: 2.19, 2.20 or 2.21.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="SRC", help="Of a .tflite file: the model it was made of, to compare with.")
    ] = None,
    picture: Annotated[Path | None, typer.Option("--png", help="Where to draw that comparison.")] = None,
):
    """Say what an exported model takes and gives, and what would keep TensorFlow Serving from running it."""
    if directory.suffix == ".tflite":
        if target is not None:
            raise ValueError("--target is for a SavedModel; leave it out with a .tflite file")
        if picture is not None and against is None:
            raise ValueError("--png draws a comparison; name the model to compare with, --against SRC")
        from tfvl.cli.export_tflite import check as check_lite

        return check_lite(directory, against, picture)
    if against is not None or picture is not None:
        raise ValueError("--against and --png are for a .tflite file; leave them out")
    if problems := show_report(directory, target):
        raise ValueError(f"{directory} would not be served: {'; '.join(problems)}")


def show_report(directory: Path, target: str | None = None) -> tuple[str, ...]:
    """Prints what `tfvl.export.check` found and returns the problems with the target (None: the newest)."""
    quiet_tensorflow()
    from tfvl.export import check

    report = check(directory, *([target] if target else []))
    tensors = [
        (signature, side.removesuffix("s"), name, spec)
        for signature, sides in report.signatures.items()
        for side, specs in sides.items()
        for name, spec in specs.items()
    ]
    print_table(f"{directory}", ("signature", "", "name", "tensor"), tensors)
    size = f"graph {report.graph_bytes / 1e6:.1f} MB, variables {report.variable_bytes / 1e6:.1f} MB"
    assets = f"{len(report.assets)} assets of {sum(report.assets.values()):,} bytes"
    print(f"{len(report.ops)} kinds of ops, {len(report.problems)} problems; {size}, {assets}")
    requests = (", ".join(f"{name} {spec}" for name, spec in inputs.items()) for inputs in report.warmup)
    print(f"warm-up requests: {'; '.join(requests) or 'none, so the first users will wait'}")
    print(f"TensorFlow Serving that knows every op and attribute: {', '.join(report.served_by) or 'none'}")
    return report.problems

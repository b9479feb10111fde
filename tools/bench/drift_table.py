"""Measures what the bundled models lose as `.tflite` files: a Markdown table, with a row for each way to store weights.

Every file and its Keras model answer the same questions about drawn scenes that were not trained on (`tfvl check FILE
--against SRC` does it for one file); `--png` draws the table. Run from the project's root with the extra `lite` (and
matplotlib) installed:

    python tools/bench/drift_table.py --png .github/lite_drift.png
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from report import markdown_table
from rich.progress import MofNCompleteColumn, TimeElapsedColumn

from tfvl.cli.console import progress_bar, run_script
from tfvl.files.quiet import quiet_tensorflow

MODELS = ("shapes-vilt", "shapes-visual-bert", "shapes-lxmert")
COLUMNS = "model|weights|MB|mean cosine|smallest|largest difference|top 1|top 5|accuracy before|after".split("|")


def main(
    models: Annotated[list[str] | None, typer.Argument(help="Bundled models; all three without it.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Questions.")] = 2000,
    png: Annotated[Path | None, typer.Option(help="Draw the table.")] = None,
):
    """Prints the table."""
    if png is not None and find_spec("matplotlib") is None:
        raise ValueError("--png needs matplotlib; pip install it")
    if unknown := set(models or ()) - set(MODELS):
        raise ValueError(f"{min(unknown)} is none of {', '.join(MODELS)}")
    quiet_tensorflow()
    import tfvl
    from tfvl.export.tflite.convert import QUANTIZE
    from tfvl.export.tflite.drift import drift, plot

    reports, rows = [], []
    with tempfile.TemporaryDirectory(prefix="tfvl-drift-") as place:
        files = [(name, quantize) for name in models or MODELS for quantize in QUANTIZE]
        with progress_bar(MofNCompleteColumn(), TimeElapsedColumn()) as bar:
            for name, quantize in bar.track(files, description="files"):
                model, processor = tfvl.auto.load(name)
                path = Path(place) / f"{name} {quantize or 'float32'}.tflite"
                tfvl.export.lite(model, processor, path, quantize=quantize)
                report = drift(path, name, count)
                reports.append(report)
                rows.append(row_of(report, path.stat().st_size))
    print(markdown_table(COLUMNS, rows))
    if png is not None:
        plot(reports, png)


def row_of(report, size: int) -> tuple[str, ...]:
    (output,) = report.outputs
    before, after = report.accuracy
    name, weights = report.path.stem.split()
    return (
        f"`{name}`",
        weights,
        f"{size / 1e6:.1f}",
        f"{output.mean_cosine:.6f}",
        f"{output.cosine:.6f}",
        f"{output.difference:.1e}",
        f"{output.top_1:.2%}",
        f"{output.top_5:.2%}",
        f"{before:.2%}",
        f"{after:.2%}",
    )


if __name__ == "__main__":
    run_script(lambda: typer.run(main))

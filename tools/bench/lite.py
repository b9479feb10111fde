"""Compares ways to run one base-size model on a CPU: transformers, Keras, SavedModel, TFLite, ONNX Runtime, OpenVINO.

One table of one run: the model alone, batch 1, from prepared inputs to its scores of answers; the checkpoint has random
weights. Each way lives in its own process, and all take turns; together they take 11 GB of memory for ViLT and 18 GB
for LXMERT. The last row is the roofline: the time that the model's operations would take at the rate of a large float32
matrix product. What cannot be made or does not run is left out, and stderr says why. Run from the project's root with
the extras `parity` and `lite` installed, for all rows also `pip install onnxruntime tf2onnx openvino scipy`, and
nothing else running:

    python tools/bench/lite.py vilt
    python tools/bench/lite.py visual_bert --only torch,dynamic
    python tools/bench/lite.py lxmert --keep /tmp/bench --prepare   # the files now, the times later
    python tools/bench/lite.py lxmert --keep /tmp/bench --markdown --png lxmert.png
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import IO, Annotated

import numpy as np
import typer
from lite_ways import FILES, MODELS, ROOT, THREADS, WAYS
from report import markdown_table, memory, processor
from rich.console import Console
from rich.table import Table

from tfvl.cli.console import console, progress_bar, run_script
from tfvl.files.quiet import quiet_tensorflow

PAUSE = 0.3  # seconds; PyTorch's threads spin for a while after their work and would slow what runs next
IN_A_ROW = 4  # calls of one before it is the next one's turn
PACKAGES = "torch transformers tensorflow keras ai-edge-litert onnxruntime tf2onnx openvino".split()


class Process:
    """A process of `lite_ways.py`, which replies in lines of JSON; if it fails, a `RuntimeError` says how it ended."""

    def __init__(self, task: str, what: str, *arguments: str):
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # `close` closes it
        command = [sys.executable, str(Path(__file__).with_name("lite_ways.py")), task, what, *arguments]
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT
        )

    def reply(self, line: str = "") -> dict | list:
        try:
            if line:
                self.popen.stdin.write(line + "\n")
                self.popen.stdin.flush()
            answer = self.popen.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = self.popen.wait()
            self.log.seek(0)
            lines = self.log.read().decode(errors="replace").strip().splitlines()
            ended = f"killed by signal {-code}, maybe for want of memory" if code < 0 else f"exit code {code}"
            raise RuntimeError(f"{ended}: {lines[-1][:300]}" if lines and code > 0 else ended)
        return json.loads(answer)

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self.popen.stdin.close()
        self.popen.stdout.close()
        self.popen.wait()
        self.log.close()


@dataclass
class Result:
    """The results of one way. Attributes: load: in seconds; memory: in bytes; output: one row; times: in seconds."""

    load: float
    memory: int
    output: np.ndarray
    times: list[float]


def left_out(what: str, why: object) -> None:
    console(stderr=True).print(f"{what}: left out: {why}", soft_wrap=True)


def prepare(names: list[str], model: str, directory: Path, layers: int | None, bar) -> None:
    """Makes the files that do not exist, one after the other, and prints the time and the memory that each took."""
    for name in bar.track(names, description="files"):
        if (directory / name).exists():
            continue
        process = Process("make", name, model, str(directory), *([str(layers)] if layers else []))
        try:
            made = process.reply()
            text = f"{name}: made in {made['seconds']:.0f} s, peak memory {made['peak'] / 1e6:.0f} MB"
            console(stderr=True).print(text)
        except RuntimeError as error:
            left_out(name, error)
        finally:
            process.close()
    shutil.rmtree(directory / "unfinished", ignore_errors=True)


def measure(labels: list[str], model: str, directory: Path, turns: int, bar) -> dict[str, Result]:
    """Returns the results of the ways that ran without an error."""
    found: dict[str, Result] = {}
    with ExitStack() as stack:
        processes: dict[str, Process] = {}
        for label in bar.track(labels, description="loading"):
            read(directory / WAYS[label].file)
            process = Process("run", label, model, str(directory))
            stack.callback(process.close)
            try:
                said = process.reply()
                found[label] = Result(said["load"], said["memory"], np.array(said["output"]), [])
                processes[label] = process
            except RuntimeError as error:
                left_out(label, error)
        for _ in bar.track(range(turns), description="turns"):
            for label in list(processes):
                time.sleep(PAUSE)
                try:
                    found[label].times += processes[label].reply(str(IN_A_ROW))
                except RuntimeError as error:
                    left_out(label, error)
                    del processes[label], found[label]
        together = sum(memory(process.popen.pid) for process in processes.values())
    console(stderr=True).print(f"{len(found)} processes at once, {together / 1e9:.1f} GB together")
    return found


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def read(path: Path) -> None:
    """Reads all files at a path once, so that they are in the page cache and loading times do not include the disk."""
    for file in files_of(path):
        with file.open("rb") as stream:
            while stream.read(1 << 24):
                pass


def size_of(path: Path) -> int:
    """Returns the bytes of a file, of a directory, or of a checkpoint's weights."""
    weights = path / "model.safetensors"
    return sum(file.stat().st_size for file in files_of(weights if weights.exists() else path))


def product_rate(size: int = 1536, repeats: int = 8) -> float:
    """Returns the floating-point operations per second of a float32 matrix product in TensorFlow, on all cores."""
    quiet_tensorflow()
    import tensorflow as tf

    left, right = tf.random.normal((size, size)), tf.random.normal((size, size))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(left, right)), autograph=False)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        product().numpy()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def rows_of(found: dict[str, Result], directory: Path) -> list[tuple[str, ...]]:
    """Makes the table's rows. Ratio of times and cosine are to the first row, torch's unless that was left out."""
    rows, first = [], next(iter(found.values()))
    for label, each in found.items():
        cosine = each.output @ first.output / np.linalg.norm(each.output) / np.linalg.norm(first.output)
        rows.append(
            (
                label,
                f"{median(each.times) * 1e3:.1f}",
                f"{median(first.times) / median(each.times):.2f}",
                f"{cosine:.6f}",
                f"{each.load:.2f}",
                f"{size_of(directory / WAYS[label].file) / 1e6:.0f}",
                f"{each.memory / 1e6:.0f}",
            )
        )
    return rows


def machine() -> str:
    """Describes the processor, the number of threads and the packages' versions."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{processor()}; {THREADS} threads; {', '.join(versions)}"


def plot(rows: list[tuple[str, ...]], title: str, picture: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    labels, times = [row[0] for row in rows], [float(row[1]) for row in rows]
    colors = ["#c45" if label.startswith("tflite") else "#999" if label == "roofline" else "#37a" for label in labels]
    bars = axes.barh(labels, times, color=colors)
    axes.bar_label(bars, [f" {row[1]}" for row in rows])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)
    axes.set_xlabel("milliseconds")
    axes.set_title(title)
    figure.savefig(picture, format="png", dpi=120)


def main(
    model: Annotated[str, typer.Argument(help=", ".join(MODELS))],
    only: Annotated[str, typer.Option(help="Ways that contain one of these words, separated by commas.")] = "",
    turns: Annotated[int, typer.Option(min=1, help="How often each way has its turn.")] = 6,
    layers: Annotated[int | None, typer.Option(min=1, help="A shallower model, to try the tool.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Where the files stay; those that exist are not made anew.")] = None,
    prepare_only: Annotated[bool, typer.Option("--prepare", help="Make the files, and end.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the times.")] = None,
):
    """Prints the table."""
    words = [word for word in only.split(",") if word]
    labels = [label for label in WAYS if not words or any(word in label for word in words)]
    if model not in MODELS or not labels:
        raise ValueError(f"expected one of {', '.join(MODELS)} and --only words of {', '.join(WAYS)}")
    if prepare_only and keep is None:
        raise ValueError("--prepare needs --keep DIRECTORY")
    if png is not None and find_spec("matplotlib") is None:
        raise ValueError("--png needs matplotlib")
    needed = {"checkpoint", "operations.json", *(WAYS[label].file for label in labels)}
    with tempfile.TemporaryDirectory(prefix="tfvl-bench-") as place, progress_bar() as bar:
        directory = (keep or Path(place)).resolve() / (f"{model}-{layers}" if layers else model)
        directory.mkdir(parents=True, exist_ok=True)
        prepare([name for name in FILES if name in needed], model, directory, layers, bar)
        if prepare_only:
            return
        labels = [label for label in labels if (directory / WAYS[label].file).exists()]
        found = measure(labels, model, directory, turns, bar)
        if not found:
            raise typer.Exit(1)
        operations, rate = json.loads((directory / "operations.json").read_text()), product_rate()
        rows = rows_of(found, directory)
    rows.append(("roofline", f"{operations / rate * 1e3:.1f}", *[""] * 5))
    columns = ("", "ms", f"× {rows[0][0]}", "cosine", "load, s", "MB on disk", "peak MB")
    title = f"{model}, {f'{layers} layers' if layers else 'base size'}, batch 1, medians of {turns * IN_A_ROW} calls"
    if markdown:
        print(markdown_table(columns, rows))
    else:
        table = Table(*columns, title=title)
        for row in rows:
            table.add_row(*row)
        Console(width=100).print(table)
    print(f"{operations / 1e9:.1f} GFLOP; a float32 product runs at {rate / 1e9:.0f} GFLOP/s")
    print(machine())
    if png is not None:
        plot(rows, title, png)


if __name__ == "__main__":
    run_script(lambda: typer.run(main))

"""Profiles a `.tflite` file in TensorFlow's runtime and in ai-edge-litert: CPU time of a call, by kernel.

Samples both with Linux `perf` (Debian: `apt install linux-perf`), on blank inputs of the file's sizes, and prints one
table. It measures CPU time, not latency, so other work on the machine disturbs little. Run from the project's root with
the extra `lite` and TensorFlow installed:

    python tools/bench/profile_lite.py vilt.tflite
    python tools/bench/profile_lite.py vilt.tflite --threads 2 --sizes 1,20,384,384     # a file of any size
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tfvl.cli.console import run_script
from tfvl.lite import Runner
from tfvl.lite.runtime import RUNTIMES

RATE = 2000  # samples a second
WARM = 3  # calls before those that count
AXES = {"input_ids": (0, 1), "token_type_ids": (0, 1), "attention_mask": (0, 1), "pixel_values": (0, 2, 3, None)}
LINE = re.compile(r"\s*([\d.]+)%\s*\|\[.\] (?:.*?(?=tflite::))?([\w.:]+)")  # the share, and a function less its types


def worker(path: Path, runtime: str, threads: int, calls: int, sizes: list[int]) -> None:
    """Runs the file; prints when its calls began and ended (CLOCK_MONOTONIC), and their CPU time, all in seconds."""
    runner = Runner(path, runtime=runtime, threads=threads, warm=False)
    inputs = {}
    for name, shape in runner.inputs.items():
        axes = AXES.get(name, range(len(shape)))
        full = [sizes[axis] if size == -1 else size for size, axis in zip(shape, axes, strict=True)]
        inputs[name] = np.ones(full, runner.dtype(name))
    for _ in range(WARM):
        runner.run(inputs)
    start, cpu = time.monotonic(), time.process_time()
    for _ in range(calls):
        runner.run(inputs)
    print(json.dumps([start, time.monotonic(), time.process_time() - cpu]))


def kernels(path: Path, runtime: str, threads: int, calls: int, sizes: str) -> dict[str, float]:
    """Returns the CPU milliseconds of a call, by kernel."""
    with tempfile.NamedTemporaryFile(suffix=".data") as data:
        record = ["perf", "record", "-q", "-k", "mono", "-e", "cpu-clock", "-F", str(RATE), "-o", data.name, "--"]
        options = [path, "--worker", runtime, "--threads", threads, "--calls", calls, "--sizes", sizes]
        done = subprocess.run(
            [*record, sys.executable, __file__, *map(str, options)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{runtime}: {done.stderr.strip().splitlines()[-1:]}")
        start, end, cpu = json.loads(done.stdout)
        report = ["perf", "report", "-i", data.name, "--stdio", "--no-children", "-F", "overhead,symbol", "-t", "|"]
        report += ["--time", f"{start:.6f},{end:.6f}"]
        text = subprocess.run(report, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = {}
    for line in text.splitlines():
        if match := LINE.match(line):
            share, name = match.groups()
            found[name] = found.get(name, 0) + float(share) / 100 * cpu / calls * 1e3
    return found


def main(
    file: Annotated[Path, typer.Argument(help="That `tfvl export --format tflite` wrote.")],
    threads: Annotated[int, typer.Option(help="Of the CPU.")] = 1,
    calls: Annotated[int, typer.Option(help="How many are sampled.")] = 40,
    sizes: Annotated[str, typer.Option(help="Of a file of any size: batch, tokens, height, width.")] = "1,20,384,384",
    limit: Annotated[float, typer.Option(help="Kernels below this share of the time are summed up.")] = 0.01,
    worker_runtime: Annotated[str, typer.Option("--worker", hidden=True)] = "",
):
    """Prints the table."""
    if worker_runtime:
        return worker(file, worker_runtime, threads, calls, [int(size) for size in sizes.split(",")])
    if shutil.which("perf") is None:
        raise SystemExit("perf is not installed; on Debian, `apt install linux-perf` brings it")
    from rich.console import Console
    from rich.table import Table

    found = {runtime: kernels(file, runtime, threads, calls, sizes) for runtime in RUNTIMES}
    totals = {runtime: sum(times.values()) for runtime, times in found.items()}
    names = sorted(set().union(*found.values()), key=lambda name: -max(each.get(name, 0) for each in found.values()))
    shown = [name for name in names if any(found[each].get(name, 0) > limit * totals[each] for each in RUNTIMES)]
    table = Table("kernel", *RUNTIMES, title=f"{file.name}: CPU ms of a call, {threads} thread(s)")
    for name in shown:
        table.add_row(name, *(f"{found[runtime].get(name, 0):.2f}" for runtime in RUNTIMES))
    rest = {runtime: totals[runtime] - sum(found[runtime].get(name, 0) for name in shown) for runtime in RUNTIMES}
    table.add_row("others", *(f"{rest[runtime]:.2f}" for runtime in RUNTIMES))
    table.add_row("sum", *(f"{totals[runtime]:.2f}" for runtime in RUNTIMES))
    Console(width=120).print(table)


if __name__ == "__main__":
    run_script(lambda: typer.run(main))

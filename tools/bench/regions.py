"""Compares tfvl's `.tsv` reader with the papers' way of reading bottom-up-attention files, side by side in one run.

Both read the same file of real-sized lines (36 regions of 2048 features, 0.4 MB) from the page cache, and both give
the decoded NumPy arrays of every line: boxes, features, and the objects and attributes with their confidences; that
they are equal is checked before. tfvl normalises the boxes and checks each line on top of that. The other tables show
that memory does not grow with the file, and random access to the two kinds of store. Run from the project's root:

    python tools/bench/regions.py
"""

import base64
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from tfvl.preprocessing.regions.store import RegionStore, convert
from tfvl.preprocessing.regions.tsv import LXMERT_COLUMNS, read_tsv

ROOT = Path(__file__).resolve().parents[2]
REGIONS, SIZE, WIDTH, HEIGHT = 36, 2048, 640, 480
PER_REGION = {"objects_id": np.int64, "objects_conf": np.float32, "attrs_id": np.int64, "attrs_conf": np.float32}


def write(path: Path, rows: int) -> None:
    """Writes a file of `rows` different lines in LXMERT's columns."""
    generator = np.random.default_rng(rows)
    features = generator.random((REGIONS, SIZE), np.float32)
    with open(path, "wb") as file:
        for row in range(rows):
            corners = np.sort(generator.random((REGIONS, 2, 2), np.float32), axis=1).reshape(REGIONS, 4)
            arrays = {
                "boxes": corners * np.float32([WIDTH, HEIGHT, WIDTH, HEIGHT]),
                "features": features + np.float32(row),
                "objects_id": generator.integers(0, 1600, REGIONS),
                "objects_conf": generator.random(REGIONS, np.float32),
                "attrs_id": generator.integers(0, 400, REGIONS),
                "attrs_conf": generator.random(REGIONS, np.float32),
            }
            cells = {name: base64.b64encode(array.tobytes()) for name, array in arrays.items()}
            cells |= {"img_id": b"COCO_%012d" % row, "img_w": b"%d" % WIDTH, "img_h": b"%d" % HEIGHT}
            cells["num_boxes"] = b"%d" % REGIONS
            file.write(b"\t".join(cells[name] for name in LXMERT_COLUMNS) + b"\n")


def read_as_the_papers_do(path: Path) -> Iterator[dict]:
    """Reads with csv.DictReader, base64 and NumPy; yields a dict of arrays for each line."""
    csv.field_size_limit(sys.maxsize)
    with open(path) as file:
        for row in csv.DictReader(file, LXMERT_COLUMNS, delimiter="\t"):
            for name in ("img_h", "img_w", "num_boxes"):
                row[name] = int(row[name])
            for name, dtype in {**PER_REGION, "boxes": np.float32, "features": np.float32}.items():
                row[name] = np.frombuffer(base64.b64decode(row[name]), dtype)
            for name in ("boxes", "features"):
                row[name] = row[name].reshape(row["num_boxes"], -1)
            yield row


def check_equal(path: Path) -> None:
    scale = np.float32([WIDTH, HEIGHT, WIDTH, HEIGHT])
    for ours, theirs in zip(read_tsv(path), read_as_the_papers_do(path), strict=True):
        assert ours.image_id == theirs["img_id"]
        assert np.array_equal(ours.boxes, theirs["boxes"] / scale)
        assert all(np.array_equal(getattr(ours, name), theirs[name]) for name in ("features", *PER_REGION))


def seconds(read: Callable[[Path], Iterator], path: Path) -> float:
    start = time.perf_counter()
    for _ in read(path):
        pass
    return time.perf_counter() - start


def reading(console: Console, path: Path, rows: int, repeats: int) -> None:
    check_equal(path)  # and warms the page cache
    times = {read: [] for read in (read_as_the_papers_do, read_tsv)}
    for _ in range(repeats):
        for read, taken in times.items():
            taken.append(seconds(read, path))
    theirs, ours = (median(taken) for taken in times.values())
    megabytes = path.stat().st_size / 1e6
    table = Table(
        "", "csv + base64 + NumPy", "read_tsv", "ratio", title=f"{rows} lines, {megabytes:.0f} MB, {repeats} runs"
    )
    table.add_row("a line", f"{theirs / rows * 1e3:.2f} ms", f"{ours / rows * 1e3:.2f} ms", f"{theirs / ours:.1f}")
    table.add_row("of the file", f"{megabytes / theirs:.0f} MB/s", f"{megabytes / ours:.0f} MB/s", "")
    ratios = sorted(one / other for one, other in zip(*times.values(), strict=True))
    table.add_row("lowest and highest ratio of the runs", "", "", f"{ratios[0]:.1f} … {ratios[-1]:.1f}")
    console.print(table)


PEAK = """
import re, sys
from pathlib import Path
sys.path.insert(0, {tools!r})
from regions import read_as_the_papers_do, read_tsv
# not getrusage, whose maximum a child inherits from its parent
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
before = peak()
for _ in {read}(Path({path!r})):
    pass
print(peak() - before)
"""


def memory(console: Console, paths: dict[int, Path]) -> None:
    table = Table(
        "", *(f"{rows} lines" for rows in paths), title="Peak of resident memory above the imports, own process"
    )
    for read in ("read_as_the_papers_do", "read_tsv"):
        peaks = []
        for path in paths.values():
            code = PEAK.format(tools=str(Path(__file__).parent), read=read, path=str(path))
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
            peaks.append(int(done.stdout))
        table.add_row(read, *(f"{peak / 1e6:.1f} MB" for peak in peaks))
    console.print(table)


def stores(console: Console, source: Path, directory: Path, rows: int) -> None:
    import tensorflow  # noqa: F401  (the first TFRecord store would be timed with it)

    table = Table("", "written", "file", "open", "an image at random", title=f"RegionStore of {rows} images")
    for suffix in (".h5", ".tfrecord"):
        for dtype in ("float32", "float16"):
            path = directory / f"{dtype}{suffix}"
            start = time.perf_counter()
            convert(source, path, dtype=dtype)
            written = time.perf_counter() - start
            start = time.perf_counter()
            store = RegionStore(path)
            opened = time.perf_counter() - start
            taken = []
            for number in np.random.default_rng(0).permutation(rows):
                start = time.perf_counter()
                store[f"COCO_{number:012d}"]
                taken.append(time.perf_counter() - start)
            store.close()
            size = path.stat().st_size / 1e6
            table.add_row(
                f"{suffix} {dtype}",
                f"{written / rows * 1e3:.2f} ms an image",
                f"{size:.0f} MB",
                f"{opened * 1e3:.1f} ms",
                f"{median(taken) * 1e3:.2f} ms",
            )
    console.print(table)


def main(rows: int = 500, repeats: int = 7) -> None:
    """Prints the three tables; ROWS lines take 0.4 MB each on disk, five times."""
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        paths = {count: directory / f"{count}.tsv" for count in (rows, 4 * rows)}
        for count, path in paths.items():
            write(path, count)
        reading(console, paths[rows], rows, repeats)
        memory(console, paths)
        stores(console, paths[rows], directory, rows)


if __name__ == "__main__":
    typer.run(main)

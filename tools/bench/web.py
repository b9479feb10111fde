"""Measures the page: a model in Chromium beside the same file in Python, the first answer, and what the page weighs.

Three parts, as Markdown: each model in a page, with threads (the host sends the isolation headers) and without, and in
`tfvl.lite.Runner` with as many threads, each in a process of its own; the seconds from the start of a page's load to
the first answer, where an example is clicked as soon as there is one; and the bytes of all that `tfvl export --format
web` writes except the `.tflite` file, in which the vocabulary is, and description.json. Loading begins with the import
of `tfvl.js`, or of `tfvl.lite`, and ends after a run on blanks. Needs Chromium, `npm install --prefix tests/web` and
`pip install ".[test,browser,parity]"`; nothing else should be running:

    python tools/bench/web.py
    python tools/bench/web.py --only shapes --calls 5
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import typer  # noqa: E402
import vilt  # noqa: E402  # imports torch before TensorFlow
from report import markdown_table, memory, processor  # noqa: E402
from support import browser, web  # noqa: E402

import tfvl  # noqa: E402
from tfvl.cli.console import console, run_script  # noqa: E402
from tfvl.web.folder import DESCRIPTION, MODEL  # noqa: E402

COLUMNS = ("model", "in", "threads", "load, s", "first answer, ms", "later, ms", "memory, MB", "WebAssembly heap, MB")
WAITS = ("page", "load to first answer, s", "slowest")
VISITS = 5  # of each page whose first answer is waited for
IN_PAGE = """async ([picture, text, calls]) => {
  const image = await (await fetch(`data:image/jpeg;base64,${picture}`)).blob();
  const begun = performance.now();
  const { load } = await import("/model/tfvl.js");
  const model = await load("/model/");
  const load_ms = performance.now() - begun, answers_ms = [];
  for (let call = 0; call < calls; call++) {
    const start = performance.now();
    await model.ask({ image, text });
    answers_ms.push(performance.now() - start);
  }
  return { load_ms, answers_ms };
}"""
# Runs in the worker; returns how many threads the runtime has, and the bytes of its heap.
HEAP = """() => {
  const { liteRtWasm } = core.getGlobalLiteRt();
  return { threads: liteRtWasm.getThreadCount(), heap: liteRtWasm.HEAPU8.buffer.byteLength };
}"""
# Runs in a separate process, which lives until its memory has been read.
IN_PYTHON = """
import json, sys, time
picture, text, calls, threads = open(sys.argv[2], "rb").read(), *sys.argv[3:4], *map(int, sys.argv[4:])
begun, answers_ms = time.perf_counter(), []
from tfvl.lite import Runner
runner = Runner(sys.argv[1], threads=threads)
load_ms = (time.perf_counter() - begun) * 1e3
for _ in range(calls):
    start = time.perf_counter()
    runner(picture, text)
    answers_ms.append((time.perf_counter() - start) * 1e3)
print(json.dumps({"load_ms": load_ms, "answers_ms": answers_ms, "threads": threads}), flush=True)
sys.stdin.read()
"""
# Returns the milliseconds from the start of the page's load to the answer to its first example.
FIRST_ANSWER = """async () => {
  const seen = (selector) => new Promise((found) => {
    const look = () => {
      const element = document.querySelector(selector);
      if (element) found(element);
      else setTimeout(look, 1);
    };
    look();
  });
  (await seen("#examples button")).click();
  await seen("#results .name");
  return performance.now();
}"""
ADDRESS = re.compile(r"the page is at (\S+)")


def progress(words: str) -> None:
    console(stderr=True).print(words, soft_wrap=True)


def shapes_vilt(path: Path) -> None:
    tfvl.export.web(*tfvl.auto.load("shapes-vilt"), path)


def base_size(path: Path) -> None:
    with tempfile.TemporaryDirectory() as checkpoint:
        vilt.make_checkpoint(Path(checkpoint), vilt.FORMATS[:1])
        tfvl.export.web(*tfvl.auto.load(str(Path(checkpoint, vilt.FORMATS[0]))), path)


MODELS = {"shapes-vilt": shapes_vilt, "ViLT-B/32, random weights": base_size}


def in_page(folder: Path, isolated: bool, calls: int) -> dict:
    """Asks the folder's model in a fresh Chromium; returns times, threads, memory of the process and of the runtime."""
    picture = web.text_of(vilt.photograph())
    with (
        tempfile.TemporaryDirectory() as directory,
        web.site(folder, Path(directory), isolated=isolated, module="") as address,
        browser.chromium() as opened,
        browser.visit(opened) as visit,
    ):
        visit.page.goto(address)
        said = visit.page.evaluate(IN_PAGE, [picture, vilt.QUESTION, calls])
        (worker,) = [each for each in visit.page.workers if each.url.endswith("/worker.js")]
        said |= worker.evaluate(HEAP)
        processes = opened.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        # Chromium may hold another one ready, for a next page.
        said["memory"] = max(memory(each["id"]) for each in processes if each["type"] == "renderer")
    return said


def in_python(folder: Path, threads: int, calls: int) -> dict:
    """Asks the same file in `Runner`, in a separate process; returns times, threads and memory."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as picture:
        Path(picture.name).write_bytes(vilt.photograph())
        arguments = [str(folder / MODEL), picture.name, vilt.QUESTION, str(calls), str(threads)]
        command = [sys.executable, "-c", IN_PYTHON, *arguments]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
            said = json.loads(process.stdout.readline())
            said["memory"] = memory(process.pid)
            process.stdin.close()
    return said


@contextmanager
def demo() -> Iterator[str]:
    """Yields the address of the page that `tfvl demo --page` serves."""
    command = [sys.executable, "-m", "tfvl", "demo", "--page", "--seed", "5"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            yield next(found[1] for line in process.stdout if (found := ADDRESS.search(line)))
        finally:
            process.terminate()


@contextmanager
def exported(folder: Path, isolated: bool) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name, web.served(folder, Path(name), isolated=isolated) as address:
        yield address


def first_answers(address: str) -> list[float]:
    """Returns the seconds of several visits, each with nothing stored from the one before."""
    seconds = []
    with browser.chromium() as opened:
        for _ in range(VISITS):
            with browser.visit(opened) as visit:
                visit.page.goto(address)
                seconds.append(visit.page.evaluate(FIRST_ANSWER) / 1e3)
    return seconds


def row_of(model: str, where: str, said: dict) -> tuple[str, ...]:
    first, *later = said["answers_ms"]
    heap = f"{said['heap'] / 1e6:.0f}" if "heap" in said else ""
    times = f"{said['load_ms'] / 1e3:.2f}", f"{first:.0f}", f"{median(later):.0f}"
    return model, where, str(said["threads"]), *times, f"{said['memory'] / 1e6:.0f}", heap


def speeds(folders: dict[str, Path], calls: int) -> Iterator[tuple[str, ...]]:
    """Yields the rows of each model: page and Python, with threads and without."""
    for name, folder in folders.items():
        for isolated in (True, False):
            progress(f"{name}: {'threads' if isolated else 'one thread'}")
            page = in_page(folder, isolated, calls)
            yield row_of(name, "page", page)
            yield row_of(name, "Python", in_python(folder, page["threads"], calls))


def waits(folders: dict[str, Path]) -> Iterator[tuple[str, ...]]:
    """Yields a row for each page: how long a visitor waits for the first answer."""
    pages: dict[str, Callable] = {"`tfvl demo --page`": demo}
    for name, folder in folders.items():
        pages[f"{name}, threads"] = partial(exported, folder, True)
        pages[f"{name}, one thread"] = partial(exported, folder, False)
    for name, page in pages.items():
        progress(f"{name}: first answer")
        with page() as address:
            seconds = first_answers(address)
        yield name, f"{median(seconds):.2f}", f"{max(seconds):.2f}"


def weight(folder: Path) -> str:
    """Counts the files that a browser gets and their bytes, without the model and its description."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (MODEL, DESCRIPTION)]
    return f"{len(files)} files of the page, {sum(path.stat().st_size for path in files):,} bytes"


def main(
    only: Annotated[str, typer.Option(help="Models whose name contains this.")] = "",
    calls: Annotated[int, typer.Option(min=2, help="How often each is asked.")] = 31,
):
    """Prints the tables."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="tfvl-bench-") as place:
        folders = {name: Path(place, str(number)) for number, name in enumerate(MODELS) if only in name}
        for name, folder in folders.items():
            progress(f"{name}: export")
            MODELS[name](folder)
        tables = {COLUMNS: list(speeds(folders, calls)), WAITS: list(waits(folders))}
        with browser.chromium() as opened:
            used = f"{processor()}; Chromium {opened.version}"
        print(f"{used}; load at the start {load:.1f}")
        for columns, rows in tables.items():
            print("", markdown_table(columns, rows), sep="\n")
        print("", weight(next(iter(folders.values()))), sep="\n")


if __name__ == "__main__":
    run_script(lambda: typer.run(main))

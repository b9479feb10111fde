"""Kills every command that writes, at random moments, and checks which files it leaves.

    python tools/check/kills.py 200               # 200 kills, over all commands in turn
    python tools/check/kills.py 20 --as-init      # each as process 1 of a container (by unshare, as root)

After each kill the same command runs to its end: what it has written must then be what a run without a kill writes, and
nothing else may lie beside it. Where the killed run had come to its end, the command may say that all is there.
"""

import argparse
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
INIT = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
EXISTS = "exists already"
KEPT = (".lock",)  # of a training run's directory


class Command(NamedTuple):
    """A command that writes.

    Attributes:
        arguments: those of `tfvl`; "OUT" stands for the path that it writes to.
        target: the name of the file or directory that it writes, in a directory of its own.
        same: the name endings of the files whose bytes are the same in every run.
    """

    arguments: tuple[str, ...]
    target: str
    same: tuple[str, ...]


def commands(sources: Path) -> dict[str, Command]:
    """Returns every command that writes, on small inputs, which are made in `sources`."""
    from tfvl import shapes
    from tfvl.preprocessing.regions.store import RegionStore

    (sources / "photos").mkdir()
    for number in range(40):
        shapes.draw_scene(number).image().save(sources / "photos" / f"{number:02}.png")
    RegionStore.write(sources / "rows.h5", (shapes.regions(shapes.draw_scene(number)) for number in range(400)))
    rows, photos = str(sources / "rows.h5"), str(sources / "photos")
    training = ("--task", "shapes", "--model", "shapes-vilt", "--steps", "4", "--batch-size", "4", "--out", "OUT")
    return {
        "regions to .h5": Command(("regions", rows, "OUT"), "a.h5", (".h5",)),
        "regions to .tfrecord": Command(("regions", rows, "OUT"), "a.tfrecord", (".tfrecord", ".index")),
        "regions of images": Command(("regions", photos, "--detector", "shapes-detector", "--out", "OUT"), "b.h5", ()),
        "port": Command(("port", "shapes-vilt", "OUT"), "model", (".safetensors", ".json", ".txt")),
        "export": Command(("export", "shapes-vilt", "OUT"), "1", ()),
        "export to .tflite": Command(("export", "shapes-vilt", "OUT", "--format", "tflite"), "a.tflite", (".tflite",)),
        "train": Command(("train", *training), "run", ()),
        "eval": Command(
            ("eval", "--task", "shapes", "--model", "shapes-vilt", "--limit", "32", "--out", "OUT"),
            "p.json",
            (".json",),
        ),
    }


def started(command: Command, place: Path, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
    arguments = [str(place / command.target) if each == "OUT" else each for each in command.arguments]
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "tfvl", *arguments],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def written(command: Command, place: Path) -> dict[str, str]:
    """Returns the files that exist, with digests of the contents of those that are the same in every run."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.name.startswith("events.") and path.name not in KEPT:
            same = bool(command.same) and path.name.endswith(command.same)
            found[str(path.relative_to(place))] = hashlib.sha256(content_of(path) if same else b"").hexdigest()[:16]
    return found


def content_of(path: Path) -> bytes:
    """Returns a file's bytes; of an HDF5 file, which also stores the time of writing, only names and arrays."""
    if path.suffix != ".h5":
        return path.read_bytes()
    from tfvl.preprocessing.regions.store import RegionStore

    with RegionStore(path) as store:
        return b"".join(name.encode() + store[name].features.tobytes() + store[name].boxes.tobytes() for name in store)


def killed(command: Command, seconds: float, expected: dict[str, str], prefix: tuple[str, ...]) -> tuple[str, str]:
    """Kills a command and runs it again. Returns how the first run ended, and what is wrong ("" if nothing is)."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        process = started(command, place, prefix)
        try:
            process.wait(random.uniform(0, seconds))
            happened = "came to its end before"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            happened = "killed"
        process.communicate()
        again = started(command, place, prefix)
        _, said = again.communicate()
        there = EXISTS in said
        if again.returncode not in ((0, 2) if there else (0,)):
            return happened, f"exit code {again.returncode}: {said[-300:]}"
        found = written(command, place)
        wrong = sorted(found.items() ^ expected.items())
        return happened + (", all was there" if there else ""), f"differs: {wrong[:4]}" if wrong else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int)
    parser.add_argument("--as-init", action="store_true", help="as process 1 of a container")
    parser.add_argument("--only", action="append", help="a command's name, as it is printed; several may be given")
    options = parser.parse_args()
    prefix = INIT if options.as_init else ()
    with tempfile.TemporaryDirectory() as name:
        known = commands(Path(name))
        chosen = {each: known[each] for each in options.only or known}
        expected, seconds = {}, {}
        for each, command in chosen.items():
            with tempfile.TemporaryDirectory() as place:
                began = time.monotonic()
                _, said = (process := started(command, Path(place))).communicate()
                if process.returncode:
                    sys.exit(f"{each}: exit code {process.returncode}: {said}")
                seconds[each], expected[each] = time.monotonic() - began, written(command, Path(place))
        counts: Counter = Counter()
        with contextlib.suppress(KeyboardInterrupt):  # what was counted until then is said
            for number in range(options.kills):
                each = list(chosen)[number % len(chosen)]
                happened, wrong = killed(chosen[each], seconds[each], expected[each], prefix)
                counts[f"{each}: {'WRONG' if wrong else happened}"] += 1
                if wrong:
                    print(f"{each}, {happened}: {wrong}", flush=True)
                print(f"\r{number + 1} of {options.kills}", end="", file=sys.stderr, flush=True)
        for line, count in sorted(counts.items()):
            print(f"{count:4} {line}")


if __name__ == "__main__":
    main()

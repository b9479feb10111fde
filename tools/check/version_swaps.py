"""Loads and unloads versions of a model in one process, as the embedded server does, and prints the memory it takes.

    python tools/check/version_swaps.py --swaps 200 [DIRECTORY]

Without a directory of an exported model, `shapes-vilt` is exported. The exit code is 1 if the swaps after the first
`--settle` made the process grow by more than 20 MB in all, or those of the second half by more than half of that.
"""

import argparse
import gc
import shutil
import sys
import tempfile
import weakref
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import tfvl  # noqa: E402
from tfvl.serving.server import directories  # noqa: E402
from tfvl.serving.server.loaders import Loader  # noqa: E402
from tfvl.serving.server.repository import Repository  # noqa: E402

ALLOWED = 20.0  # MB


def resident() -> float:
    """Returns the MB of memory that this process holds now."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="directory of an exported model")
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--settle", type=int, default=5, help="swaps before the first measurement")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        base, model = Path(name) / "versions", arguments.model
        base.mkdir()
        if model is None:
            model = str(tfvl.export.saved_model(*tfvl.auto.load("shapes-vilt"), Path(name) / "exported"))
        find = partial(directories.numbered, base)
        batching = {"max_rows": 8, "wait": 0.0, "threads": 1}
        repository = Repository("model", find, Loader(), batching=batching, log=lambda sentence: None)
        curve, alive = [], []
        for swap in range(arguments.swaps + arguments.settle + 1):
            shutil.copytree(model, base / str(swap + 1))
            repository.scan(settled=True)
            shutil.rmtree(base / str(swap), ignore_errors=True)
            alive.append(weakref.ref(repository.versions()[0].servable))
            if swap >= arguments.settle:
                curve.append(resident())
                if (swap - arguments.settle) % 10 == 0:
                    print(f"{swap - arguments.settle:4d} swaps: {curve[-1]:7.1f} MB", flush=True)
        gc.collect()
        print(f"versions that are still referred to: {sum(each() is not None for each in alive)}")
        repository.close()
    grown, late = curve[-1] - curve[0], curve[-1] - curve[len(curve) // 2]
    print(f"grown by {grown:.1f} MB in {arguments.swaps} swaps, by {late:.1f} MB in the second half")
    return int(grown > ALLOWED or late > ALLOWED / 2)


if __name__ == "__main__":
    sys.exit(main())

"""Runs `.tflite` files of every head in one process that never imports TensorFlow.

As a script, `python support/lite_script.py DIRECTORY` runs every file of the directory on the inputs in its `.npz`.
"""

import json
import sys
from pathlib import Path

import numpy as np


def ask_all(directory: Path) -> None:
    """Runs each file on its inputs and its request; writes the outputs (`.out.npz`) and the answers (`.json`)."""
    from tfvl.lite import Runner

    for path in sorted(directory.glob("*.tflite")):
        runner = Runner(path, threads=1)
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as inputs:
            rows = [runner.run({name: inputs[name][row : row + 1] for name in inputs}) for row in range(3)]
        outputs = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        np.savez(path.with_suffix(".out.npz"), **outputs)
        request = json.loads(path.with_suffix(".request.json").read_text())
        for name in ("regions", "boxes"):
            if name in request:
                request[name] = [as_arrays(row) for row in request[name]]
        answers = [
            {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}
            for row in runner(**request)
        ]
        path.with_suffix(".answers.json").write_text(json.dumps({"runtime": runner.runtime, "answers": answers}))
    assert not {"tensorflow", "keras", "torch"} & sys.modules.keys()


def as_arrays(row: list) -> np.ndarray | list[np.ndarray]:
    """Converts regions or boxes of one image to an array, or those of a pair of images to two arrays."""
    pair = isinstance(row[0][0], list)
    return [np.array(image, np.float32) for image in row] if pair else np.array(row, np.float32)


if __name__ == "__main__":
    ask_all(Path(sys.argv[1]))

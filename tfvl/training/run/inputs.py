"""Digests of a run's inputs (its initial model, its examples and images), by which changed ones are noticed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfvl.files.digest import digest_of_files
from tfvl.training.data.loading import Loader
from tfvl.training.run.opening import Opened

MODEL_FILES = (".safetensors", ".bin", ".h5", ".json", ".txt")
SAMPLES = 16  # images of a split whose content is digested; to read all of them would take as long as an epoch


def digests_of(path: Path, opened: Opened) -> dict[str, str]:
    """Returns a digest for each of "model", "training split" and "validation split".

    Args:
        path: the checkpoint that the run begins with.
        opened: the run's model and splits.
    """
    splits = {"training split": opened.training, "validation split": opened.validation}
    found = {name: _of_split(pipeline.loader) for name, pipeline in splits.items() if pipeline}
    return {"model": digest_of_files(path, MODEL_FILES), **found}


def check_inputs(out: Path, begun: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises ValueError if a run was begun with another model or other data than it finds now."""
    changed = [name for name in begun if now.get(name) != begun[name]]
    if changed:
        raise ValueError(
            f"{out} holds a run whose {' and '.join(changed)} had another content when it began; put back what was "
            "there to go on with it, or choose another --out."
        )


def _of_split(loader: Loader) -> str:
    """Returns the digest of a split: of all examples, and of a few of their images."""
    examples = loader.examples
    digest = hashlib.sha256(examples.digest.encode())
    for place in np.linspace(0, len(examples) - 1, min(SAMPLES, len(examples)), dtype=int).tolist():
        for name in examples[place].images:
            try:
                digest.update(loader.visual.content(name))
            except ValueError:  # the image is missing, or torn
                continue
    return digest.hexdigest()

"""Converts heads with random weights and bundled models to `.tflite` files, each once in a run of the tests."""

from pathlib import Path

import tfvl
from support.checkpoint import tiny_processor
from support.export import TOP_K, random_model
from support.export_regions import REGION_HEADS, region_processor
from support.once import once

SIZES = {"image_size": 64, "regions": 5, "choices": 3, "phrases": 2}  # what a file takes; of these, what its head reads


def processor_of(head: str):
    return region_processor(head) if head in REGION_HEADS else tiny_processor()


def head_file(head: str) -> Path:
    """Returns the file of a head of `random_model`, exported with `SIZES`."""

    def make(path: Path) -> None:
        tfvl.export.lite(random_model(head), processor_of(head), path, top_k=TOP_K, **SIZES)

    return once(f"lite/{head}.tflite", make)


def bundled_file(name: str = "shapes-vilt", **options) -> Path:
    """Returns the file of a bundled model, exported with these options of `tfvl.export.lite`."""
    said = "".join(f"-{option}-{value}" for option, value in sorted(options.items()))
    return once(f"lite/{name}{said}.tflite", lambda path: tfvl.export.lite(*tfvl.auto.load(name), path, **options))

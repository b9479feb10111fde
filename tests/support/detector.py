"""Detectors for tests: a tiny one with random weights, and the full one with weights that follow from their names."""

import functools
import math
import tempfile
import zlib
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import load_file

from support.paths import GOLDEN
from tfvl.detector.config import DetectorConfig
from tfvl.detector.model import RegionDetector
from tfvl.porting.safetensors_file import write_safetensors
from tfvl.porting.save import save_weights

SIZES = {
    "min_size": 64,
    "max_size": 107,
    "depth": 14,
    "stem_out_channels": 6,
    "res2_out_channels": 8,
    "width_per_group": 5,
    "rpn_hidden_channels": 7,
    "anchor_sizes": (16, 32),
    "rpn_pre_nms": 50,
    "rpn_post_nms": 20,
    "num_objects": 9,
    "num_attributes": 4,
    "roi_size": 5,
    "min_detections": 3,
    "max_detections": 6,
}


def tiny(seed: int = 0, **changes) -> RegionDetector:
    """Makes a tiny detector, all of whose weights are random, also those of batch norms."""
    keras.utils.set_random_seed(seed)
    detector = RegionDetector(DetectorConfig(**SIZES | changes))
    rng = np.random.default_rng(seed)
    for path, variable in detector.weight_names().items():
        values = rng.standard_normal(variable.shape).astype(np.float32)
        last = path.rpartition("/")[2]
        if last == "norm":
            gamma, beta, mean, variance = np.split(values, 4)
            values = np.concatenate([0.6 + 0.1 * gamma, 0.1 * beta, 0.1 * mean, 1 + 0.2 * abs(variance)])
        elif last == "kernel":
            values *= math.sqrt(2 / math.prod(variable.shape[:-1])) * (0.02 if "stem" in path else 1)
        if last != "cell_anchors":
            variable.assign(values)
    return detector


@functools.cache
def shared() -> RegionDetector:
    """Returns the tiny detector that is shared by tests which do not change it."""
    return tiny()


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """Makes pictures (height, width, 3) uint8 with large shapes in different colours."""
    drawn = []
    for seed, (height, width) in enumerate(sizes):
        rng = np.random.default_rng(seed)
        cells = rng.integers(0, 256, (4, 4, 3), np.uint8)
        rows, columns = (np.arange(side) * 4 // side for side in (height, width))
        drawn.append(cells[rows][:, columns])
    return drawn


def state_dict(detector: RegionDetector) -> dict[str, np.ndarray]:
    """Returns the weights under upstream's names and in torch's layout, and the counters that torch adds."""
    with tempfile.TemporaryDirectory() as directory:
        save_weights(detector, directory)
        state = load_file(Path(directory) / "model.safetensors")
    counters = [name.replace("running_var", "num_batches_tracked") for name in state if name.endswith("running_var")]
    return state | {name: np.zeros((), np.int64) for name in counters}


# --- the full detector ------------------------------------------------------------------------------------------------


def golden_state_shapes() -> dict[str, tuple[int, ...]]:
    """Reads names and shapes of the state dict of `unc-nlp/frcnn-vg-finetuned`."""
    lines = (GOLDEN / "frcnn_state_dict.tsv").read_text().splitlines()
    pairs = (line.split("\t") for line in lines)
    return {name: tuple(int(size) for size in shape.strip("()").split(",") if size) for name, shape in pairs}


def golden_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the tensor of this name with which the golden outputs were made: fixed random numbers."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("cell_anchors.0"):
        sides = [((s * s / r) ** 0.5, r * (s * s / r) ** 0.5) for s in (64, 128, 256, 512) for r in (0.5, 1.0, 2.0)]
        return np.array([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides], np.float32)
    x = rng.standard_normal(shape, dtype=np.float32)
    of_norms = {
        "norm.running_mean": lambda: 0.1 * x,
        "norm.running_var": lambda: 1.0 + 0.2 * np.abs(x),
        "norm.weight": lambda: (0.2 if ".conv3." in name else 1.0) * (1.0 + 0.1 * x),
        "norm.bias": lambda: 0.1 * x,
    }
    for ending, values in of_norms.items():
        if name.endswith(ending):
            return values().astype(np.float32)
    if name.endswith(".bias"):
        return 0.05 * x
    gains = {
        "stem.conv1": 1 / 60,
        "rpn_head.anchor_deltas": 0.3,
        "cls_score": 3.5,
        "bbox_pred": 0.5,
        "cls_embedding": 11.0,
        "attr_score": 3.0,
    }
    scale = (2.0 / int(np.prod(shape[1:]))) ** 0.5 * math.prod(gain for key, gain in gains.items() if key in name)
    if "cls_score" in name:
        x = x - x.mean(axis=1, keepdims=True)
    return (scale * x).astype(np.float32)


def save_golden(directory: Path) -> Path:
    """Writes the full detector's checkpoint (260 MB) with the configuration of the golden run."""
    directory.mkdir(parents=True, exist_ok=True)
    shapes = {name: shape for name, shape in golden_state_shapes().items() if "num_batches" not in name}
    tensors = {name: functools.partial(golden_tensor, name, shape) for name, shape in shapes.items()}
    write_safetensors(directory / "model.safetensors", tensors)
    (directory / "config.yaml").write_text(
        "INPUT: {MIN_SIZE_TEST: 416, MAX_SIZE_TEST: 693}\nMIN_DETECTIONS: 10\nMAX_DETECTIONS: 36\n"
    )
    return directory
